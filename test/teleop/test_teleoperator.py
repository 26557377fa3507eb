# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Commands to rows: per-arm selection, home, pause, grippers, and limits that nothing breaks."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

mink = pytest.importorskip('mink')
pytest.importorskip('daqp')

from flashwam_ros.teleop.command import ArmCommand, OperatorCommand  # noqa: E402
from flashwam_ros.teleop.teleoperator import Teleoperator  # noqa: E402

ROWS = 2
UP = (0.0, 0.0, 0.1, 0.0, 0.0, 0.0)
IDLE = OperatorCommand(0)


def moving(left=None, right=None, **more):
    arms = tuple(
        ArmCommand() if twist is None else ArmCommand(True, twist=twist) for twist in (left, right)
    )
    return OperatorCommand(0, arms, **more)


@pytest.fixture(scope='module')
def shared(contract):
    return Teleoperator(contract)


@pytest.fixture
def operator(shared, home):
    shared.begin(home, seen_open=True)
    shared.notes.clear()
    return shared


def run(operator, command, chunks, live=True):
    return np.vstack([operator.plan(command, live, ROWS) for _ in range(chunks)])


def test_the_first_rows_after_engagement_stand_still(operator, home):
    rows = run(operator, moving(left=(0.0,) * 6, right=(0.0,) * 6), 5)
    np.testing.assert_allclose(rows, np.repeat(home[None], 10, axis=0), atol=1e-6)
    assert operator.held == (True, True)


def test_what_was_held_at_the_start_must_be_let_go_first(operator, home):
    operator.begin(home)
    rows = run(operator, moving(left=UP), 5)
    np.testing.assert_array_equal(rows, np.repeat(home[None], 10, axis=0))
    run(operator, IDLE, 1)
    assert np.abs(run(operator, moving(left=UP), 5)[-1] - home).max() > 0.01


@pytest.mark.parametrize('arm', [0, 1])
def test_only_the_selected_arm_moves(operator, home, arm):
    before = [pose.translation() for pose in operator.ik.poses(home[:14])]
    rows = run(operator, moving(**{('left', 'right')[arm]: UP}), 10)
    other = slice(7 * (1 - arm), 7 * (1 - arm) + 7)
    np.testing.assert_allclose(rows[:, other], np.repeat(home[None, other], 20, axis=0), atol=1e-9)
    after = [pose.translation() for pose in operator.ik.poses(rows[-1, :14])]
    risen = after[arm] - before[arm]
    # 0.1 m/s for 1 s, less the time that it takes to get going.
    assert 0.09 < risen[2] < 0.1 and np.abs(risen[:2]).max() < 0.005


@pytest.mark.parametrize('end', ['let go', 'pause', 'link'])
def test_every_end_of_motion_brakes_and_stays(operator, end):
    run(operator, moving(left=UP, right=UP), 5)
    command = {'let go': IDLE, 'pause': moving(left=UP, right=UP, pause=True),
               'link': moving(left=UP, right=UP)}[end]  # fmt: skip
    run(operator, command, 2, live=end != 'link')
    assert operator.at_rest and operator.held == (False, False)
    still = operator.command
    np.testing.assert_array_equal(run(operator, command, 2, live=end != 'link')[-1], still)
    if end == 'let go':
        return
    # And nothing starts by itself afterwards: what is still held must be let go first.
    np.testing.assert_array_equal(run(operator, moving(left=UP, right=UP), 2)[-1], still)


def test_home_is_gone_to_while_the_button_is_held(operator, home):
    lifted = run(operator, moving(left=(0.05, 0.05, 0.2, 0, 0, 0), right=UP), 10)[-1]
    run(operator, IDLE, 3)
    button = OperatorCommand(0, home=True)
    part = run(operator, button, 3)[-1]
    assert 0.0 < np.abs(part - home).max() < np.abs(lifted - home).max()
    # Let go half way: it stays; nothing jumps.
    stayed = run(operator, IDLE, 6)
    np.testing.assert_array_equal(stayed[-1], stayed[-3])
    assert operator.at_rest
    rows = run(operator, button, 40)
    np.testing.assert_allclose(rows[-1, :14], home[:14], atol=1e-9)
    assert np.abs(np.diff(rows[:, :14], axis=0)).max() <= 0.05 * operator.settings.home_velocity
    assert not operator.notes


def test_home_asks_for_arms_at_rest(operator):
    run(operator, moving(left=UP), 4)
    both = moving(left=UP, home=True)
    operator.plan(both, True, ROWS)
    assert any('clutch' in note for note in operator.notes)


def test_a_jaw_closes_while_held_and_stops_when_let_go(operator, contract):
    closing = ArmCommand(True, twist=(0.0,) * 6, opening_rate=-1.0)
    close = OperatorCommand(0, (closing, ArmCommand()))
    rows = run(operator, close, 6)
    assert rows[-1, 14] < 5.3 and rows[-1, 15] == pytest.approx(5.4)
    assert (np.diff(rows[:, 14]) <= 1e-12).all()
    run(operator, IDLE, 4)
    still = operator.command[14]
    assert run(operator, IDLE, 2)[-1, 14] == pytest.approx(still) and still > contract.lower[14]


twists = st.tuples(*[st.floats(-1.0, 1.0)] * 3, *[st.floats(-4.0, 4.0)] * 3)
steps = st.tuples(
    st.one_of(st.none(), twists), st.one_of(st.none(), twists), st.booleans(), st.booleans(),
    st.floats(-3.0, 3.0), st.integers(1, 6),
)  # fmt: skip


@hypothesis_settings(
    max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.lists(steps, min_size=2, max_size=5))
def test_rows_keep_the_drivers_limits_whatever_the_operator_does(shared, contract, home, course):
    """Second differences of the rows, as the driver's limiter sees them: it never intervenes."""
    shared.begin(home, seen_open=True)
    rows = [home, home]
    for left, right, live, button, rate, chunks in course:
        arms = tuple(
            ArmCommand(t is not None, twist=t, opening_rate=rate) for t in (left, right))
        command = OperatorCommand(0, arms, home=button)
        rows += list(run(shared, command, chunks, live))
    rows = np.array(rows)
    assert np.isfinite(rows).all()
    dt = contract.row_duration_s
    assert (rows >= contract.lower - 1e-9).all() and (rows <= contract.upper + 1e-9).all()
    velocity = np.diff(rows, axis=0) / dt
    assert (np.abs(velocity) <= contract.velocity + 1e-6).all()
    assert (np.abs(np.diff(velocity, axis=0)) <= contract.acceleration * dt + 1e-6).all()


def test_following_ties_the_hand_to_what_was_really_commanded(operator, home):
    run(operator, moving(left=UP), 6)
    really = operator.command
    really[:7] = home[:7]
    operator.follow(really)
    assert operator.held == (False, False)
    np.testing.assert_array_equal(run(operator, moving(left=UP), 2)[-1], really)


def test_jaws_close_at_the_drivers_speed_and_no_faster(operator, contract):
    close = OperatorCommand(0, (ArmCommand(True, twist=(0.0,) * 6, opening_rate=-9.0),) * 2)
    rows = run(operator, close, 12)
    speed = np.abs(np.diff(rows[:, 14:], axis=0)).max() / contract.row_duration_s
    assert speed == pytest.approx(contract.velocity[14], rel=1e-3)
