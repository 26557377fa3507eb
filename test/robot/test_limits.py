# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest
import robot_support as support
from hypothesis import given, settings
from hypothesis import strategies as st

from flashwam_ros.robot.limits import Limiter, LimiterState
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.robot.timeline import ChunkTimeline

CONTRACT = support.contract()
C = len(CONTRACT.channels)
EPS = 1e-9


@functools.cache
def limiter():
    return Limiter(CONTRACT)


def inside(rng):
    return rng.uniform(CONTRACT.lower, CONTRACT.upper)


def nasty(rng, kind):
    """Targets of every kind that a broken sender could produce."""
    if kind == 'inside':
        return inside(rng)
    if kind == 'far':
        return rng.uniform(-20, 20, C)
    if kind == 'huge':
        return rng.choice([1e300, -1e300, 1e18, 0.0], C)
    if kind == 'broken':
        return rng.choice([np.nan, np.inf, -np.inf, 0.3], C)
    return rng.choice([*CONTRACT.lower, *CONTRACT.upper], C)


KINDS = st.lists(
    st.sampled_from(['inside', 'far', 'huge', 'broken', 'edge']), min_size=1, max_size=6
)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=KINDS,
    measured_kinds=KINDS,
    follow=st.booleans(),
)
def test_no_input_leaves_position_velocity_or_acceleration_limits(
    seed, kinds, measured_kinds, follow
):
    rng = np.random.default_rng(seed)
    state = limiter().seed(inside(rng))
    for _ in range(120):
        dt = rng.uniform(0.001, 0.020)
        target = nasty(rng, kinds[rng.integers(len(kinds))])
        drift = nasty(rng, kinds[rng.integers(len(kinds))])
        measured = state.position
        if not follow:
            measured = nasty(rng, measured_kinds[rng.integers(len(measured_kinds))])
        new, _ = limiter().step(state, target, drift, measured, dt)
        velocity = (new.position - state.position) / dt
        assert np.isfinite(new.position).all() and np.isfinite(new.velocity).all()
        assert (new.position >= CONTRACT.lower - EPS).all()
        assert (new.position <= CONTRACT.upper + EPS).all()
        assert (np.abs(velocity) <= CONTRACT.velocity + EPS).all()
        # Velocity is re-derived from positions, so rounding counts 1/dt^2 times.
        assert (np.abs(velocity - state.velocity) <= CONTRACT.acceleration * dt + 1e-8).all()
        assert np.allclose(velocity, new.velocity, atol=1e-8)
        state = new


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), held=st.integers(1, 60))
def test_targets_held_for_a_while_reach_every_speed_without_crossing_a_limit(seed, held):
    # Uncorrelated targets never build up speed; held ones run into the limits at full speed.
    rng = np.random.default_rng(seed)
    state = limiter().seed(inside(rng))
    fastest = 0.0
    for k in range(300):
        if k % held == 0:
            target = rng.choice([-30.0, 30.0], C) if rng.random() < 0.5 else inside(rng)
        dt = rng.uniform(0.001, 0.020)
        new, _ = limiter().step(state, target, rng.uniform(-5, 5, C), np.full(C, np.nan), dt)
        assert (new.position >= CONTRACT.lower - EPS).all()
        assert (new.position <= CONTRACT.upper + EPS).all()
        assert (np.abs(new.velocity) <= CONTRACT.velocity + EPS).all()
        bound = CONTRACT.acceleration * dt + 1e-8
        assert (np.abs(new.velocity - state.velocity) <= bound).all()
        fastest = max(fastest, float(np.abs(new.velocity[:14]).max()))
        state = new
    assert held < 30 or fastest > 1.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kinds=KINDS)
def test_a_start_outside_only_moves_inward(seed, kinds):
    rng = np.random.default_rng(seed)
    start = inside(rng)
    out = rng.random(C) < 0.5
    above = rng.random(C) < 0.5
    far = rng.uniform(0.001, 1.0, C)
    start = np.where(out, np.where(above, CONTRACT.upper + far, CONTRACT.lower - far), start)
    state = limiter().seed(start)
    for _ in range(100):
        dt = rng.uniform(0.001, 0.020)
        target = nasty(rng, kinds[rng.integers(len(kinds))])
        new, _ = limiter().step(state, target, np.zeros(C), np.full(C, np.nan), dt)
        over, was_over = new.position - CONTRACT.upper, state.position - CONTRACT.upper
        under, was_under = CONTRACT.lower - new.position, CONTRACT.lower - state.position
        assert (over <= np.maximum(was_over, 0.0) + EPS).all()
        assert (under <= np.maximum(was_under, 0.0) + EPS).all()
        bound = CONTRACT.acceleration * dt + 1e-8
        assert (np.abs(new.velocity - state.velocity) <= bound).all()
        state = new


def test_a_start_outside_comes_in_without_being_asked_to():
    start = support.home()
    start[0] = CONTRACT.upper[0] + 0.3
    state = limiter().seed(start)
    for _ in range(200):
        state, _ = limiter().step(state, start, np.zeros(C), state.position, 0.004)
    assert state.position[0] == pytest.approx(CONTRACT.upper[0])


def follow_chunks(rows, jitter, start):
    """Largest deviation from the sampled path and whether a tick was limited."""
    rng = np.random.default_rng(0)
    timeline = ChunkTimeline(CONTRACT, load_settings())
    timeline.reset(start, 0)
    for index in range(len(rows) // 16):
        part = rows[16 * index : 16 * index + 16]
        timeline._place(_run(index, part, timeline), 0)
    state, now, worst, limited = limiter().seed(start), 0, 0.0, False
    while now < (len(rows) + 3) * 50_000_000:
        step = int(rng.uniform(2e6, 8e6)) if jitter else 4_000_000
        now += step
        target, drift = timeline.sample(now)
        state, report = limiter().step(state, target, drift, state.position, step * 1e-9)
        worst = max(worst, float(np.abs(state.position - target).max()))
        limited |= report.limited
    return worst, limited


def _run(index, part, timeline):
    from flashwam_ros.robot.timeline import _Run

    start = 100_000_000 if index == 0 else timeline._runs[-1].end_ns
    return _Run(support.make_chunk(index, part), start, 50_000_000, 0.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_nominal_rows_are_followed_without_lag_and_not_flagged(seed):
    rows = support.smooth_rows(support.home(), 64, np.random.default_rng(seed))
    rows = np.clip(rows, CONTRACT.lower, CONTRACT.upper)
    worst, limited = follow_chunks(rows, False, support.home())
    assert not limited and worst < 1e-3


@pytest.mark.parametrize('jitter', [False, True])
@pytest.mark.parametrize('reach', [0.0, 0.1, 0.3])
def test_rows_at_the_limits_of_speed_and_change_are_not_flagged(reach, jitter):
    # Back and forth at 25 rad/s2 up to 2.9 rad/s: the worst that an expert may send.
    arm = np.arange(C) < 14
    fastest, change = np.where(arm, 2.9, 5.8), np.where(arm, 1.25, 2.5)
    start = 0.5 * (CONTRACT.lower + CONTRACT.upper)
    sign = np.where(np.arange(C) % 2, 1.0, -1.0)
    velocity, row, rows = np.zeros(C), start, []
    for k in range(48):
        sign = np.where(np.abs(row - start) > reach, -np.sign(row - start), sign)
        wanted = sign * fastest * (k < 40)
        velocity = velocity + np.clip(wanted - velocity, -change, change)
        row = row + velocity * 0.05
        rows.append(row)
    rows = np.array(rows)
    assert (rows > CONTRACT.lower).all() and (rows < CONTRACT.upper).all()
    worst, limited = follow_chunks(rows, jitter, start)
    assert not limited and worst < 0.01


def test_a_steady_ramp_has_no_lag():
    state = limiter().seed(support.home())
    speed = np.where(np.arange(C) < 14, 1.0, 0.0)
    target = support.home()
    for _ in range(250):
        target = target + speed * 0.004
        state, _ = limiter().step(state, target, speed, state.position, 0.004)
    assert np.abs(state.position - target).max() < 1e-9
    assert np.abs(state.velocity - speed).max() < 1e-9


def test_a_step_is_reached_straight_and_without_overshoot():
    start = support.home()
    goal = start.copy()
    goal[:7] += np.array([1.0, -0.5, 0.25, 0.6, 0.1, -0.2, 0.0])
    state, way = limiter().seed(start), goal[:7] - start[:7]
    for _ in range(400):
        state, _ = limiter().step(state, goal, np.zeros(C), state.position, 0.004)
        part = (state.position[:7] - start[:7])[:6] / way[:6]
        assert part.max() <= 1.0 + 1e-9
        assert np.ptp(part) < 1e-6, 'the arm left the straight path'
    assert np.abs(state.position - goal).max() < 1e-9


def test_one_arm_does_not_slow_the_other_or_the_grippers():
    goal = support.home()
    goal[0] += 1.5
    goal[7] += 0.05
    state = limiter().seed(support.home())
    for _ in range(30):
        state, _ = limiter().step(state, goal, np.zeros(C), state.position, 0.004)
    assert state.position[7] == pytest.approx(goal[7], abs=1e-6)
    assert state.position[0] < goal[0] - 0.5


def test_the_command_waits_for_an_arm_that_does_not_follow():
    start = support.home()
    goal = start.copy()
    goal[3] += 1.0
    state = limiter().seed(start)
    for _ in range(200):
        state, report = limiter().step(state, goal, np.zeros(C), start, 0.004)
    assert state.position[3] - start[3] == pytest.approx(load_settings().tracking_rad, abs=1e-6)
    assert report.limited


@pytest.mark.parametrize('dt', [0.0, -1.0, np.nan])
def test_no_time_moves_nothing(dt):
    state = limiter().seed(support.home())
    new, _ = limiter().step(state, support.home() + 1, np.zeros(C), support.home(), dt)
    assert np.array_equal(new.position, state.position)


def test_a_stall_counts_as_the_longest_step():
    state = LimiterState(support.home(), np.zeros(C))
    goal = support.home() - 0.5
    a, _ = limiter().step(state, goal, np.zeros(C), support.home(), 0.02)
    b, _ = limiter().step(state, goal, np.zeros(C), support.home(), 5.0)
    assert np.array_equal(a.position, b.position)


def test_targets_that_are_not_finite_stay_put_and_are_flagged():
    state = limiter().seed(support.home())
    goal = support.home()
    goal[2] = np.nan
    new, report = limiter().step(state, goal, np.zeros(C), support.home(), 0.004)
    assert np.array_equal(new.position, state.position)
    assert report.limited and not report.finite


def test_a_seed_must_be_finite():
    pose = support.home()
    pose[1] = np.nan
    with pytest.raises(ValueError, match='measured pose'):
        limiter().seed(pose)


@given(
    command=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2),
    measured=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2),
)
def test_gripper_writes_stay_in_the_torque_window(command, measured):
    command, measured = np.array(command), np.array(measured)
    written = limiter().gripper_write(command, measured)
    assert (np.abs(written - measured) <= 0.18 + 1e-9).all()
    near = np.abs(command - measured) <= 0.18
    assert np.array_equal(written[near], command[near])
