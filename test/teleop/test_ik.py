# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reachable targets are reached; limits and distances are kept whatever is asked for."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

mink = pytest.importorskip('mink')
pytest.importorskip('daqp')

from flashwam_ros.teleop.ik import ArmState  # noqa: E402
from flashwam_ros.twin.ik import ArmKinematics  # noqa: E402
from flashwam_ros.twin.scenes import PELVIS_Z  # noqa: E402

DT = 0.05 / 3
ZERO = (np.zeros(6), np.zeros(6))
QUICK = hypothesis_settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
LINEARISED_M = 0.0015
"""What braking and steps of 17 ms may lose of a distance, which is kept to first order; half of
the least distance to the table, a tenth of that to the robot itself."""


def unit(low, high):
    return st.floats(low, high, allow_nan=False)


def towards(ik, state, goals, speed=0.3, turning=1.5):
    """Targets that go to the goals at the speed of a hand, and their leads."""
    targets, leads = [], []
    for here, goal in zip(ik.poses(state.q), goals, strict=True):
        way = goal.translation() - here.translation()
        turn = (goal.rotation() @ here.rotation().inverse()).log()
        lead = np.concatenate([
            way * min(1.0, speed * DT / max(np.linalg.norm(way), 1e-9)),
            turn * min(1.0, turning * DT / max(np.linalg.norm(turn), 1e-9)),
        ])  # fmt: skip
        targets.append(here)
        leads.append(lead)
    return tuple(targets), tuple(leads)


def test_poses_agree_with_the_twins_kinematics(ik, home):
    twin = ArmKinematics()
    for arm, pose in enumerate(ik.poses(home[:14])):
        position, rotation = twin.pose(arm, home[7 * arm : 7 * arm + 7])
        np.testing.assert_allclose(pose.translation(), position - [0, 0, PELVIS_Z], atol=1e-9)
        np.testing.assert_allclose(pose.rotation().as_matrix(), rotation, atol=1e-9)


@QUICK
@given(st.tuples(unit(0.29, 0.37), unit(0.12, 0.24), unit(0.09, 0.20)), unit(-0.2, 0.3),
       unit(0.0, 0.4))  # fmt: skip
def test_reachable_poses_in_front_of_the_robot_are_reached(ik, home, place, yaw, pitch):
    """Left and right mirrored, the hands pointing forward, as in the tasks."""
    goals = []
    for side in (1.0, -1.0):
        rotation = mink.SO3.exp(np.array([0, 0, -side * yaw])) @ mink.SO3.exp(
            np.array([0, pitch, 0]))  # fmt: skip
        position = np.array([place[0], side * place[1], place[2]])
        goals.append(mink.SE3.from_rotation_and_translation(rotation, position))
    state = ArmState.at_rest(home[:14])
    for _ in range(110):
        state = ik.step(state, *towards(ik, state, goals), DT)
    for goal, pose in zip(goals, ik.poses(state.q), strict=True):
        assert np.linalg.norm(goal.translation() - pose.translation()) < 0.01
        assert np.linalg.norm((goal.rotation() @ pose.rotation().inverse()).log()) < 0.05


@QUICK
@given(st.lists(
    st.tuples(*[st.tuples(unit(-0.2, 0.7), unit(-0.5, 0.5), unit(-0.4, 0.6))] * 2,
              st.tuples(*[unit(-3.0, 3.0)] * 3), st.integers(0, 3)),
    min_size=2, max_size=4))  # fmt: skip
def test_no_target_breaks_limits_or_distances(ik, contract, settings, home, course):
    """Anywhere, also inside the robot, and arms let go in full motion."""
    state = ArmState.at_rest(home[:14])
    least = ik.room(state.q)
    for left, right, turn, held in course:
        goals = [
            mink.SE3.from_rotation_and_translation(mink.SO3.exp(np.array(turn)), np.array(p))
            for p in (left, right)
        ]
        for _ in range(25):
            targets, leads = towards(ik, state, goals)
            targets = tuple(t if held >> arm & 1 else None for arm, t in enumerate(targets))
            after = ik.step(state, targets, leads, DT)
            assert np.abs(after.v).max() <= settings.velocity + 1e-9
            assert np.abs(after.v - state.v).max() <= settings.acceleration * DT + 1e-6
            np.testing.assert_allclose(after.q, state.q + after.v * DT, atol=1e-12)
            state = after
            assert (state.q >= contract.lower[:14] - 1e-9).all()
            assert (state.q <= contract.upper[:14] + 1e-9).all()
            least = min(least, ik.room(state.q))
    assert least > -LINEARISED_M


def test_arms_that_are_not_held_brake_and_stay(ik, home):
    v = np.zeros(14)
    v[3], v[10] = -1.0, 0.6
    state = ArmState(home[:14], v)
    speeds = []
    for _ in range(6):
        state = ik.step(state, (None, None), ZERO, DT)
        speeds.append(np.abs(state.v).max())
    assert speeds[0] == pytest.approx(1.0 - 20.0 * DT)
    assert speeds[-1] == 0.0
    # One factor for the joints of an arm keeps its direction.
    v[4] = 0.5
    slower = ik.step(ArmState(home[:14], v), (None, None), ZERO, DT)
    assert slower.v[3] / slower.v[4] == pytest.approx(-2.0)
    assert ik.step(state, (None, None), ZERO, DT) is state


def test_a_hand_that_slides_over_the_table_does_not_dip_when_it_is_let_go(ik, settings, home):
    """Its joints stop together: one after the other they would press it down."""
    state = ArmState.at_rest(home[:14])
    down = [
        mink.SE3.from_rotation_and_translation(p.rotation(), p.translation() + [0.05, 0, -0.15])
        for p in ik.poses(state.q)
    ]
    for _ in range(60):
        state = ik.step(state, *towards(ik, state, down), DT)
    aside = [
        mink.SE3.from_rotation_and_translation(p.rotation(), p.translation() + [0, side * 0.3, 0])
        for side, p in zip((1, -1), ik.poses(state.q), strict=True)
    ]
    for _ in range(12):
        state = ik.step(state, *towards(ik, state, aside), DT)
    assert ik.room(state.q) < 0.01 and np.abs(state.v).max() > 0.5
    for _ in range(8):
        state = ik.step(state, (None, None), ZERO, DT)
        assert ik.room(state.q) > -LINEARISED_M


def test_nothing_moves_where_nothing_is_asked_for(ik, home):
    state = ArmState.at_rest(home[:14])
    hands = ik.poses(state.q)
    for _ in range(20):
        state = ik.step(state, hands, ZERO, DT)
    np.testing.assert_allclose(state.q, home[:14], atol=1e-6)


def test_the_other_arm_stays_where_it_is(ik, home):
    state = ArmState.at_rest(home[:14])
    goal = ik.poses(home[:14])[0]
    goal = mink.SE3.from_rotation_and_translation(
        goal.rotation(), goal.translation() + [0.05, 0.0, 0.05])  # fmt: skip
    for _ in range(40):
        targets, leads = towards(ik, state, [goal, goal])
        state = ik.step(state, (targets[0], None), leads, DT)
    np.testing.assert_allclose(state.q[7:], home[7:14], atol=1e-9)
    assert np.linalg.norm(ik.poses(state.q)[0].translation() - goal.translation()) < 0.002


def test_hands_that_are_driven_into_each_other_stop_apart(ik, settings, home):
    state = ArmState.at_rest(home[:14])
    goals = [
        mink.SE3.from_rotation_and_translation(p.rotation(), p.translation() - [0, side * 0.3, 0])
        for side, p in zip((1, -1), ik.poses(home[:14]), strict=True)
    ]
    rooms = []
    for _ in range(90):
        state = ik.step(state, *towards(ik, state, goals), DT)
        rooms.append(ik.room(state.q))
    assert min(rooms) > -LINEARISED_M
    assert rooms[-1] < 0.02, 'they did come close'
    assert np.abs(state.v).max() < 0.1
