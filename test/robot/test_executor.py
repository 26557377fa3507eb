# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import numpy as np
import pytest
import robot_support as support
from hypothesis import given, settings
from hypothesis import strategies as st
from robot_support import Rig, make_chunk, smooth_rows

from flashwam_ros.robot.authority import NO_RETREAT
from flashwam_ros.robot.chunk import ChunkRejected
from flashwam_ros.robot.executor import Mode
from flashwam_ros.robot.settings import load_settings

CONTRACT = support.contract()
C = len(CONTRACT.channels)
# Short ramps where many runs matter more than the time they take.
QUICK = dataclasses.replace(load_settings(), ramp_s=0.2)
ARM = slice(0, 14)


def always_free(q_from, q_to):
    return True


def never_free(q_from, q_to):
    return False


def modes(outputs):
    names = [str(out.mode) for out in outputs]
    return [n for i, n in enumerate(names) if i == 0 or n != names[i - 1]]


# ---- taking over and giving back ---------------------------------------------------------------


def test_nothing_is_written_while_passive():
    rig = Rig()
    assert not any(out.write or out.weight for out in rig.run(0.5))


def test_engage_ramps_the_weight_from_the_measured_pose():
    rig = Rig(pose=support.home() + 0.02 * np.array([1.0] * 14 + [-1.0] * 2))
    pose = rig.measured
    rig.executor.activate(rig.now)
    outputs = rig.until(Mode.HOLD)
    weights = np.array([out.weight for out in outputs])
    assert weights[0] == 0.0 and outputs[0].write
    assert (np.diff(weights) >= 0).all() and weights[-1] == 1.0
    assert len(outputs) == pytest.approx(2.0 / 0.004, abs=3)
    assert all(np.allclose(out.command, pose) for out in outputs)


def test_a_start_outside_the_limits_is_taken_over_where_it_is_and_brought_in():
    pose = support.home()
    pose[3] = CONTRACT.lower[3] - 0.04
    rig = Rig(pose=pose)
    rig.executor.activate(rig.now)
    assert rig.tick().command[3] == pose[3]
    rig.until(Mode.HOLD)
    assert rig.out.command[3] == pytest.approx(CONTRACT.lower[3])


def test_release_ramps_down_over_two_seconds_and_only_then_stops_writing():
    rig = Rig().engaged()
    rig.executor.deactivate()
    outputs = rig.until(Mode.PASSIVE)
    assert modes(outputs) == ['hold', 'retreat', 'release', 'passive']
    ramp = [out.weight for out in outputs if out.mode is Mode.RELEASE]
    assert len(ramp) == pytest.approx(2.0 / 0.004, abs=3)
    assert (np.diff(ramp) <= 0).all() and ramp[-1] == 0.0
    assert outputs[-2].write and outputs[-2].weight == 0.0 and not outputs[-1].write
    assert rig.out.reason == 'deactivate'


def test_the_arms_return_to_the_pose_they_were_taken_in():
    rig = Rig(path_is_free=always_free).engaged()
    start = rig.out.command
    rig.send(0, smooth_rows(start, 16))
    rig.run(1.5)
    assert np.abs(rig.out.command - start)[ARM].max() > 0.05
    rig.executor.deactivate('sigterm')
    outputs = rig.until(Mode.RELEASE)
    assert np.allclose(rig.out.command[ARM], start[ARM], atol=1e-6)
    speed = max(np.abs(out.arm_dq).max() for out in outputs if out.mode is Mode.RETREAT)
    assert 0.3 < speed <= 0.5 + 1e-6


def test_the_callers_retreat_pose_is_used():
    pose = support.home()[ARM] + 0.1
    rig = Rig(retreat_pose=pose, path_is_free=always_free).engaged()
    rig.executor.deactivate()
    rig.until(Mode.PASSIVE)
    assert np.allclose(rig.measured[ARM], pose, atol=1e-5)


def test_no_retreat_when_the_path_is_not_free():
    rig = Rig(path_is_free=never_free).engaged()
    rig.executor.deactivate('error')
    assert modes(rig.until(Mode.PASSIVE)) == ['hold', 'release', 'passive']
    assert any(e.startswith('no_retreat') for e in rig.events)


FAULTS = {
    'remote_stop': {'remote_stop': True},
    'motor_error': {'motor_error': 0x200},
    'tilt': {'tilt_rad': 0.6},
    'second_writer': {'other_writer': True},
    'two_robots': {'two_robots': True},
    'second_driver': {'other_driver': True},
    'overheating': {'temperatures': np.array([40.0, 101.0])},
    'state_lost': {'state_age_s': 1.1},
    'gripper_lost': {'gripper_age_s': np.array([0.0, 1.1])},
}


@pytest.mark.parametrize('reason', FAULTS)
@pytest.mark.parametrize('moving', [False, True])
def test_every_fault_gives_the_arms_back_with_its_name(reason, moving):
    rig = Rig(path_is_free=always_free).engaged()
    if moving:
        rig.send(0, smooth_rows(support.home(), 16))
        rig.run(0.4)
        assert rig.out.mode is Mode.EXECUTE
    rig.tick(**FAULTS[reason])
    assert rig.out.mode is Mode.HOLD and rig.out.reason == reason
    outputs = rig.until(Mode.PASSIVE)
    assert ('retreat' in modes(outputs)) == (reason not in NO_RETREAT)
    assert rig.out.reason == reason and rig.out.weight == 0.0
    assert sum(e.startswith('exit:') for e in rig.events) == 1


@pytest.mark.parametrize('reason', FAULTS)
def test_a_standing_fault_refuses_activation(reason):
    rig = Rig()
    rig.executor.activate(rig.now)
    rig.run(0.1, **FAULTS[reason])
    assert rig.out.mode is Mode.PASSIVE
    assert rig.events and rig.events[0].startswith('activation_refused')
    assert rig.out.reason.startswith('refused: ')
    rig.run(0.1)
    assert rig.out.mode is Mode.PASSIVE, 'a refused activation must not linger'


def test_what_may_be_another_robots_pose_is_not_followed():
    rig = Rig(path_is_free=always_free).engaged()
    elsewhere = rig.measured + np.where(np.arange(C) < 14, 0.6, -3.0)
    before = rig.out
    rig.tick(two_robots=True, measured_q=elsewhere)
    outputs = rig.until(Mode.PASSIVE, follow=False, two_robots=True, measured_q=elsewhere)
    assert rig.out.reason == 'two_robots' and not rig.out.unheard
    written = [out for out in outputs if out.write]
    assert np.ptp([out.command for out in written], axis=0).max() < 1e-9
    np.testing.assert_allclose(written[-1].gripper_q, before.gripper_q)


def test_a_gripper_that_was_never_seen_refuses_activation():
    rig = Rig()
    rig.measured = rig.measured.copy()
    rig.measured[15] = np.nan
    rig.executor.activate(rig.now)
    rig.tick()
    assert rig.events == ['activation_refused: never measured: right_gripper']


def test_giving_back_wins_over_taking_over():
    rig = Rig()
    rig.executor.activate(rig.now)
    rig.executor.deactivate('sigint')
    rig.run(0.1)
    assert rig.out.mode is Mode.PASSIVE


def test_the_first_reason_stays_and_a_fault_cuts_the_retreat():
    rig = Rig(retreat_pose=support.home()[ARM] + 0.5, path_is_free=always_free).engaged()
    rig.executor.deactivate('sigint')
    rig.until(Mode.RETREAT)
    rig.run(0.2)
    rig.tick(other_writer=True)
    assert rig.out.mode is Mode.RELEASE and rig.out.reason == 'sigint'
    rig.until(Mode.PASSIVE)
    assert np.abs(rig.measured - support.home())[ARM].max() < 0.4


def test_an_exit_while_engaging_goes_down_from_the_weight_reached():
    rig = Rig()
    rig.executor.activate(rig.now)
    rig.run(1.0)
    weight = rig.out.weight
    rig.executor.deactivate('sigterm')
    outputs = rig.until(Mode.PASSIVE)
    assert modes(outputs) == ['hold', 'release', 'passive']
    assert max(out.weight for out in outputs) <= weight


def test_an_arm_that_does_not_follow_is_a_tracking_fault():
    rig = Rig().engaged()
    rig.send(0, smooth_rows(support.home(), 16) - 0.4 * (np.arange(C) == 3))
    stuck = rig.measured.copy()
    outputs = rig.run(1.0, follow=False, measured_q=stuck)
    assert rig.out.reason == 'tracking'
    apart = [np.abs(out.command - stuck)[ARM].max() for out in outputs]
    assert max(apart) <= load_settings().tracking_rad + 0.02
    late = [out for out in outputs if out.reason]
    assert len(late) < len(outputs) - 50, 'it must last a while'


def test_stop_holds_at_once_and_again_releases():
    rig = Rig(path_is_free=always_free).engaged()
    rig.send(0, smooth_rows(support.home(), 16))
    rig.run(0.4)
    rig.executor.stop()
    rig.tick()
    assert rig.out.mode is Mode.HOLD and not rig.out.reason
    rig.run(0.2)
    still = rig.out.command
    rig.run(8.0)
    assert rig.out.mode is Mode.HOLD and np.allclose(rig.out.command, still, atol=1e-9)
    with pytest.raises(ChunkRejected, match='stopped'):
        rig.send(1, smooth_rows(support.home(), 16))
    rig.executor.stop()
    rig.until(Mode.PASSIVE)
    assert rig.out.reason == 'stop'


def test_stop_before_the_arms_are_held_refuses_the_next_take_over():
    rig = Rig(path_is_free=always_free)
    rig.tick()
    rig.executor.stop('page')
    rig.run(5.0)
    rig.executor.activate(rig.now)
    rig.tick()
    assert rig.out.mode is Mode.PASSIVE and 'page: STOP came first' in rig.out.reason
    assert any(event.startswith('activation_refused') for event in rig.events)
    # Whoever asks once more has read it.
    rig.engaged()
    assert rig.out.mode is Mode.HOLD


def test_stop_in_the_tick_of_the_take_over_refuses_it():
    rig = Rig(path_is_free=always_free)
    rig.tick()
    rig.executor.activate(rig.now)
    rig.executor.stop()
    rig.tick()
    assert rig.out.mode is Mode.PASSIVE


def test_stop_brakes_without_turning_back():
    rig = Rig().engaged()
    rows = support.home() + np.outer(np.arange(1, 17) * 0.05, [1.0] + [0.0] * 15)
    rig.send(0, rows)
    rig.run(0.4)
    rig.executor.stop()
    path = [out.command[0] for out in rig.run(0.5)]
    assert (np.diff(path) >= -1e-9).all()
    assert path[-1] - path[0] < 0.05


# ---- lost state --------------------------------------------------------------------------------


def test_a_gap_in_the_state_holds_then_follows_the_measured_pose():
    rig = Rig().engaged()
    rig.send(0, smooth_rows(support.home(), 16))
    rig.run(0.4)
    rig.run(0.3, state_age_s=0.2)
    assert rig.out.mode is Mode.HOLD and not rig.out.reason
    frozen = rig.out.command
    rig.tick(state_age_s=0.2)
    assert np.allclose(rig.out.command, frozen, atol=1e-9)
    assert any(e.startswith('chunk_abandoned: chunk 0') for e in rig.events)
    assert 'session_lost: state gap' in rig.events
    elsewhere = frozen + np.where(np.arange(C) == 1, 0.1, 0.0)
    rig.run(0.5, follow=False, measured_q=elsewhere)
    assert np.allclose(rig.out.command[ARM], elsewhere[ARM], atol=1e-6)
    with pytest.raises(ChunkRejected, match='has ended: state gap'):
        rig.send(1, smooth_rows(support.home(), 16))
    rig.executor.begin('again')
    rig.send(0, smooth_rows(rig.out.command, 16), session='again')


def test_a_gap_before_the_first_chunk_costs_no_session():
    rig = Rig().engaged()
    rig.run(0.3, state_age_s=0.2)
    rig.run(0.3)
    assert not any(e.startswith('session_lost') for e in rig.events)
    rig.send(0, smooth_rows(rig.out.command, 16))


def test_a_release_that_nobody_heard_is_repeated_when_the_robot_is_back():
    """A cut cable: the ramp went nowhere, the robot still holds the last target at weight 1."""
    rig = Rig().engaged()
    cut = {'state_age_s': 5.0, 'follow': False}
    rig.until(Mode.PASSIVE, **cut)
    assert rig.out.unheard and not rig.out.write
    rig.executor.activate(rig.now)
    rig.tick(**cut)
    assert rig.out.mode is Mode.PASSIVE, 'not taken over by a jump of the weight to 0'
    rig.measured = rig.measured + 0.02
    rig.executor.activate(rig.now)
    first = rig.tick()
    assert (first.mode, first.weight, first.reason) == (Mode.RELEASE, 1.0, 'released_again')
    assert np.allclose(first.command[ARM], rig.measured[ARM])
    ramp = [out.weight for out in rig.until(Mode.PASSIVE)]
    assert ramp[0] > 0.99 and (np.diff(ramp) <= 0).all()
    assert len(ramp) == pytest.approx(2.0 / 0.004, abs=3)
    assert not rig.out.unheard
    rig.executor.activate(rig.now)
    assert rig.tick().mode is Mode.ENGAGE


@pytest.mark.parametrize(('silent_s', 'fault'), [(40.0, {}), (1.0, {'tilt_rad': 0.6})])
def test_nothing_is_commanded_after_a_long_silence_or_to_a_fallen_robot(silent_s, fault):
    rig = Rig().engaged()
    rig.until(Mode.PASSIVE, state_age_s=5.0, follow=False)
    rig.tick(step_ns=int(silent_s * 1e9), state_age_s=5.0, follow=False)
    rig.run(0.2, **fault)
    assert rig.out.mode is Mode.PASSIVE and rig.out.unheard
    rig.executor.activate(rig.now)
    rig.tick(**fault)
    assert rig.out.mode is Mode.PASSIVE and 'refused' in rig.out.reason


def test_a_release_is_not_repeated_where_somebody_else_commands_by_now():
    rig = Rig().engaged()
    rig.until(Mode.PASSIVE, state_age_s=5.0, follow=False)
    rig.run(0.1, other_writer=True)
    rig.run(0.1)
    assert rig.out.mode is Mode.PASSIVE


def test_a_gripper_that_comes_back_does_not_slam():
    rig = Rig().engaged()
    rows = np.tile(support.home(), (16, 1))
    rows[:, 14:] -= np.linspace(0.1, 1.5, 16)[:, None]
    rig.send(0, rows)
    stuck = support.home()[15]
    away = {'gripper_age_s': np.array([0.0, 0.5])}
    rig.run(0.8, **away)
    rig.measured = rig.measured.copy()
    rig.measured[15] = stuck
    before = rig.out.command[14]
    rig.tick(gripper_age_s=np.zeros(2))
    assert 'gripper_back: the command follows the measured position' in rig.events
    assert abs(rig.out.command[15] - stuck) <= CONTRACT.velocity[15] * 0.004 + 1e-9
    assert abs(rig.out.command[14] - before) < 0.1, 'the other one goes on'


def test_a_closed_session_does_not_hold_the_arms_for_ever():
    rig = Rig().engaged()
    rig.send(0, smooth_rows(support.home(), 16))
    rig.run(0.3)
    rig.run(0.3, state_age_s=0.4)
    assert any(event.startswith('session_lost') for event in rig.events)
    rig.run(4.0)
    assert rig.out.mode is Mode.HOLD
    rig.until(Mode.PASSIVE, limit_s=20.0)
    assert rig.out.reason == 'no_chunk'


def test_values_that_are_not_finite_count_as_lost_state():
    rig = Rig().engaged()
    broken = rig.measured.copy()
    broken[5] = np.nan
    outputs = rig.run(1.2, follow=False, measured_q=broken)
    assert rig.out.reason == 'state_lost'
    outputs += rig.until(Mode.PASSIVE, follow=False, measured_q=broken)
    assert modes(outputs) == ['hold', 'release', 'passive']
    assert all(np.isfinite(out.command).all() for out in outputs)
    assert np.ptp([out.command for out in outputs if out.write], axis=0).max() < 1e-9


# ---- chunks ------------------------------------------------------------------------------------


def test_chunks_are_chained_and_accounted_for():
    rig = Rig().engaged()
    rows = smooth_rows(support.home(), 32)
    rig.send(0, np.concatenate([rows[:8], rows[:8]]), first_row=8)
    rig.send(1, rows[8:24])
    rig.run(2.0)
    starts = [a for a in rig.accounts if not a.complete]
    done = rig.done()
    assert [a.index for a in starts] == [a.index for a in done] == [0, 1]
    assert done[0].first_row == 8 and done[0].positions.shape == (8, C)
    assert done[1].start_ns == done[0].start_ns + 8 * 50_000_000
    assert done[1].row_stamps_ns[0] == done[1].start_ns + 50_000_000
    assert len(done[0].key_frame_due_ns) == 4 and len(done[1].key_frame_due_ns) == 8
    assert done[1].key_frame_due_ns == done[1].row_stamps_ns[1::2]
    assert done[1].slack_s == pytest.approx(0.425, abs=0.01)
    assert np.abs(done[0].positions - rows[:8]).max() < 0.01
    assert np.abs(done[1].positions - rows[8:24]).max() < 0.01
    assert done[1].limited_ticks == 0 and done[0].boundary_jump_rad < 0.05


@functools.cache
def jittered(seed):
    rng = np.random.default_rng(seed)
    rig = Rig(settings=QUICK).engaged()
    rows = smooth_rows(support.home(), 32)
    rig.send(0, rows[:16])
    rig.send(1, rows[16:])
    end = rig.now + 2_000_000_000
    while rig.now < end:
        rig.tick(step_ns=4_000_000 if seed is None else int(rng.uniform(1e6, 12e6)))
    return rig.done()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_jitter_of_the_tick_does_not_shift_the_trajectory(seed):
    for a, b in zip(jittered(None), jittered(seed), strict=True):
        assert a.row_stamps_ns == b.row_stamps_ns
        assert np.abs(a.positions - b.positions).max() < 2e-3


def test_a_late_chunk_is_executed_whole_after_a_hold():
    rig = Rig().engaged()
    rows = smooth_rows(support.home(), 32)
    rig.send(0, rows[:16])
    rig.run(1.5)
    assert rig.out.mode is Mode.HOLD
    rig.send(1, rows[16:])
    rig.run(1.2)
    first, second = rig.done()
    gap = (second.start_ns - first.row_stamps_ns[-1]) * 1e-9
    assert second.slack_s == pytest.approx(-(gap - 0.025), abs=1e-6) and second.slack_s < -0.6
    assert len(second.positions) == 16
    # The first row of the late chunk continues from the hold at the end of the first one.
    assert np.abs(second.positions - rows[16:]).max() < 0.01
    assert any(e.startswith('late_chunk: chunk 1') for e in rig.events)


def test_no_chunk_after_a_hold_gives_the_arms_back():
    rig = Rig().engaged()
    rig.run(7.0)
    assert rig.out.mode is Mode.HOLD, 'before the first chunk there is no hurry'
    rig.send(0, smooth_rows(support.home(), 16))
    rig.run(5.5)
    assert rig.out.mode is Mode.HOLD and not rig.out.reason
    rig.run(0.5)
    assert rig.out.reason == 'no_chunk'


def test_ending_the_session_stops_the_wait_for_chunks():
    rig = Rig().engaged()
    rig.send(0, smooth_rows(support.home(), 16))
    rig.run(1.0)
    rig.executor.begin('')
    rig.run(8.0)
    assert rig.out.mode is Mode.HOLD


REJECTIONS = {
    'wrong contract': {'contract_hash': 'other'},
    'wrong channels': {'channel_names': CONTRACT.channel_names[::-1]},
    'wrong shape': {'positions': np.zeros((15, C))},
    'not finite': {'positions': np.where(np.eye(16, C) > 0, np.nan, 0.0)},
    'wrong first row': {'first_row': 16},
    'wrong row duration': {'row_duration_s': 0.04},
    'wrong session': {'session': 'other'},
    'duplicate': {'index': 0, 'predecessor': -1},
    'out of order': {'index': 2, 'predecessor': 1},
    'stamp in the future': {'stamp_ns': 10**15},
    'too old': {'stamp_ns': -31 * 10**9},
}


@pytest.mark.parametrize('reason', REJECTIONS)
def test_bad_chunks_are_rejected_with_the_reason_and_change_nothing(reason):
    rig = Rig().engaged()
    rows = smooth_rows(support.home(), 32)
    rig.executor.begin('test')
    rig.send(0, rows[:16])
    good = {'index': 1, 'positions': rows[16:], 'predecessor': 0, 'stamp_ns': rig.now}
    with pytest.raises(ChunkRejected, match=reason) as error:
        rig.submit(make_chunk(**{**good, **REJECTIONS[reason]}))
    assert error.value.reason
    rig.submit(make_chunk(**good))
    rig.run(2.0)
    assert [a.index for a in rig.done()] == [0, 1]


def test_the_queue_is_bounded():
    rig = Rig().engaged()
    rig.send(0, smooth_rows(support.home(), 16))
    rig.send(1, smooth_rows(support.home(), 16))
    with pytest.raises(ChunkRejected, match='queue full'):
        rig.send(2, smooth_rows(support.home(), 16))
    rig.run(0.1)
    rig.send(2, smooth_rows(support.home(), 16))


@pytest.mark.parametrize('mode', ['passive', 'engage', 'release'])
def test_chunks_are_only_taken_while_the_arms_are_held(mode):
    rig = Rig()
    rig.tick()
    if mode != 'passive':
        rig.executor.activate(rig.now)
        rig.run(0.5)
    if mode == 'release':
        rig.executor.deactivate()
        rig.until(Mode.RELEASE)
    with pytest.raises(ChunkRejected, match=mode):
        rig.send(0, smooth_rows(support.home(), 16))


def test_rows_beyond_the_limits_are_cut_and_counted():
    rig = Rig().engaged()
    rig.send(0, np.tile(support.home(), (16, 1)))
    rig.send(1, np.tile(CONTRACT.upper + 0.2, (16, 1)))
    rig.run(3.0)
    _, done = rig.done()
    assert (done.positions <= CONTRACT.upper + 1e-9).all()
    assert done.limited_ticks == done.arm_limited_ticks > 150


ARM_ROOM, JAW_ROOM = 0.3, 0.5 * 5.4


@pytest.mark.parametrize('channel', [0, 6, 10, 14, 15])
@pytest.mark.parametrize('index', [0, 1])
def test_rows_far_beyond_the_limits_are_refused_in_every_chunk(channel, index):
    rig = Rig().engaged()
    if index:
        rig.send(0, np.tile(support.home(), (16, 1)))
    room = JAW_ROOM if channel >= 14 else ARM_ROOM
    for edge, side in ((CONTRACT.upper, 1.0), (CONTRACT.lower, -1.0)):
        rows = np.tile(support.home(), (16, 1))
        rows[9, channel] = edge[channel] + side * (room + 0.01)
        name = CONTRACT.channel_names[channel]
        with pytest.raises(ChunkRejected, match=f'outside the limits: row 9, channel {name} is'):
            rig.send(index, rows)
        assert np.allclose(rig.run(0.05)[-1].command, support.home()), 'nothing has changed'
    rows[9, channel] = edge[channel] + side * (room - 0.01)
    rig.send(index, rows)


def test_a_session_does_not_set_off_to_somewhere_else():
    rig = Rig().engaged()
    rows = np.tile(support.home(), (16, 1))
    far = rows + 0.51 * (np.arange(C) == 9)
    with pytest.raises(ChunkRejected, match='too far: .*right_shoulder_yaw_joint 0.51 rad'):
        rig.send(0, far)
    rig.run(1.0)
    assert rig.out.mode is Mode.HOLD and not rig.out.reason
    assert np.allclose(rig.out.command, support.home()) and rig.out.chunk_index == -1
    rig.send(0, rows + 0.49 * (np.arange(C) == 9))
    rig.send(1, far + 0.5 * (np.arange(C) == 9))  # where a session under way goes is its matter


def test_rows_of_another_order_or_unit_move_nothing():
    rig = Rig().engaged()
    rows = smooth_rows(support.home(), 16)
    jaws_between = rows[:, [*range(7), 14, *range(7, 14), 15]]
    normalised = 2.0 * (rows - (support.home() - 0.1)) - 1.0  # by quantiles that are 1 rad apart
    for wrong in (jaws_between, np.degrees(rows), normalised, rows[:, ::-1], rows.T):
        with pytest.raises(ChunkRejected, match='look at the units and the order'):
            rig.send(0, wrong)
        outputs = rig.run(0.3)
        assert all(np.allclose(out.command, support.home()) for out in outputs)
    rig.send(0, rows)


def test_the_start_of_a_session_counts_from_the_command_in_force():
    rig = Rig().engaged()
    away = 0.7 * (np.arange(C) == 0)
    rig.send(0, support.home() + np.linspace(0.0, 1.0, 16)[:, None] * away)
    rig.run(1.5)
    rig.executor.begin('next')
    with pytest.raises(ChunkRejected, match='left_shoulder_pitch_joint 0.70 rad'):
        rig.send(0, np.tile(support.home(), (16, 1)), session='next')
    rig.send(0, np.tile(support.home() + away, (16, 1)), session='next')


def test_a_session_whose_chunk_is_refused_ends_by_giving_the_arms_back():
    rig = Rig(path_is_free=always_free).engaged()
    rig.send(0, np.tile(support.home(), (16, 1)))
    with pytest.raises(ChunkRejected, match='outside the limits'):
        rig.send(1, np.full((16, C), 10.0))
    with pytest.raises(ChunkRejected, match='out of order'):
        rig.send(2, np.tile(support.home(), (16, 1)))
    outputs = rig.until(Mode.PASSIVE)
    assert rig.out.reason == 'no_chunk'
    assert max(np.abs(out.command - support.home())[ARM].max() for out in outputs) < 1e-6


def test_rows_that_are_not_executed_are_not_looked_at():
    rig = Rig().engaged()
    rows = np.tile(support.home(), (16, 1))
    rows[:8] = 9.0
    rig.send(0, rows, first_row=8)
    rig.run(1.0)
    assert np.allclose(rig.out.command, support.home())


def test_a_jaw_at_its_limit_of_speed_is_not_an_arm_that_was_limited():
    rig = Rig().engaged()
    rows = np.tile(support.home(), (16, 1))
    rows[:, 14:] = -0.5  # closes at once, and beyond its end
    rig.send(0, rows)
    rig.run(2.0)
    (done,) = rig.done()
    assert done.limited_ticks > 150 and done.arm_limited_ticks == 0


def test_a_closing_gripper_pushes_with_the_window_but_keeps_its_command():
    rig = Rig().engaged()
    rows = np.tile(support.home(), (16, 1))
    rows[:, 14] = np.maximum(5.4 - 0.25 * np.arange(1, 17), 0.0)
    rig.send(0, rows)
    stalled = rig.measured.copy()
    outputs = rig.run(0.9, follow=False, measured_q=stalled)
    assert outputs[-1].gripper_q[0] == pytest.approx(5.4 - 0.18)
    assert rig.done()[0].positions[-1, 14] == pytest.approx(1.4, abs=0.03)


# ---- anything at all ---------------------------------------------------------------------------

EVENTS = st.sampled_from(
    [
        *('run', 'run', 'run', 'long', 'activate', 'activate', 'chunk', 'chunk', 'chunk'),
        *('bad', 'stop', 'deactivate', 'begin', 'gap', 'broken', 'wild', 'stall'),
        *FAULTS,
    ]
)


class Watch:
    """Checks every output against what must always hold."""

    def __init__(self):
        self.last = None
        self.engaged = False

    def __call__(self, out, dt, measured):
        last, self.last = self.last, out
        for values in (out.arm_q, out.arm_dq, out.arm_tau, out.gripper_q, out.kp, out.kd):
            assert np.isfinite(values).all()
        assert 0.0 <= out.weight <= 1.0
        assert out.write == (out.mode is not Mode.PASSIVE)
        if not out.write:
            assert out.weight == 0.0
            self.engaged = False
            return
        again = any(event.startswith('released_again') for event in out.events)
        self.engaged |= out.mode is Mode.ENGAGE or again
        assert self.engaged, 'authority without ENGAGE'
        assert (np.abs(out.gripper_q - measured[14:]) <= 0.18 + 1e-9).all()
        if last is None or not last.write:
            begins = (Mode.RELEASE, 1.0) if again else (Mode.ENGAGE, 0.0)
            assert (out.mode, out.weight) == begins
            return
        change = out.weight - last.weight
        part = dt / QUICK.ramp_s + 1e-9
        assert change <= (part if last.mode is Mode.ENGAGE else 0.0)
        assert change >= (-part if last.mode is Mode.RELEASE else 0.0)
        assert not last.reason or out.reason == last.reason, 'the first reason stays'
        velocity = (out.command - last.command) / dt
        assert (out.command <= np.maximum(CONTRACT.upper, last.command) + 1e-9).all()
        assert (out.command >= np.minimum(CONTRACT.lower, last.command) - 1e-9).all()
        # The command of a gripper that comes back is put to where the gripper is, in one step.
        back = any(event.startswith('gripper_back') for event in out.events)
        smooth = ARM if back or self.back else slice(None)
        self.back = back
        assert (np.abs(velocity) <= CONTRACT.velocity + 1e-6)[smooth].all()
        before = np.concatenate([last.arm_dq, self.gripper_velocity])
        assert (np.abs(velocity - before) <= CONTRACT.acceleration * dt + 1e-6)[smooth].all()
        self.gripper_velocity = velocity[14:]

    gripper_velocity = np.zeros(2)
    back = False


@settings(max_examples=100, deadline=None)
@given(events=st.lists(EVENTS, max_size=30), seed=st.integers(0, 2**32 - 1))
def test_no_sequence_of_events_breaks_the_rules(events, seed):
    rng = np.random.default_rng(seed)
    rig, watch, index = Rig(settings=QUICK), Watch(), 0

    def go(ticks, **inputs):
        for _ in range(ticks):
            step = int(rng.uniform(1e6, 20e6))
            out = rig.tick(step_ns=step, **inputs)
            if not out.write:
                watch.gripper_velocity = np.zeros(2)
            seen = np.where(np.isfinite(rig.executor._measured), rig.executor._measured, 0.0)
            watch(out, step * 1e-9, seen)

    go(1)
    for event in ['activate', 'long', *events]:
        if event == 'activate':
            rig.executor.activate(rig.now)
        elif event == 'deactivate':
            rig.executor.deactivate('error')
        elif event == 'stop':
            rig.executor.stop()
        elif event == 'begin':
            rig.executor.begin(f's{index}')
        elif event in ('chunk', 'bad'):
            session = rig.executor._timeline.session or f's{index}'
            last = rig.executor._timeline._last
            # What is farther away at a session's start is refused.
            rows = rng.uniform(-1, 1, (16, C)) * rng.choice([0.1, 0.3 if last < 0 else 1.0, 100.0])
            rows = rows * np.nan if event == 'bad' else rows + support.home()
            rows[:, 14:] -= 1.0  # at home the jaws stand at their limit
            try:
                rig.send(last + 1, rows, session=session)
            except ChunkRejected as rejected:
                assert rejected.reason
            index += 1
        elif event == 'stall':
            rig.now += 300_000_000
        elif event in FAULTS:
            go(1, **FAULTS[event])
        wild = np.where(rng.random(C) < 0.5, rng.uniform(-30, 30, C), np.nan)
        special = {
            'long': (60, {}),
            'gap': (20, {'state_age_s': 0.3}),
            'broken': (20, {'measured_q': np.full(C, np.nan), 'follow': False}),
            'wild': (5, {'measured_q': wild, 'follow': False}),
        }
        ticks, inputs = special.get(event, (15, {}))
        if event == 'stall':
            # A stall is one long step: real speeds are lower than the accounted ones.
            rig.tick()
            watch.last = None if not rig.out.write else rig.out
            watch.engaged |= rig.out.mode in (Mode.ENGAGE, Mode.RELEASE)
            watch.gripper_velocity = rig.executor._state.velocity[14:]
            continue
        go(ticks, **inputs)
    rig.executor.deactivate('sigterm')
    rig.until(Mode.PASSIVE, step_ns=16_000_000)
    assert rig.out.mode is Mode.PASSIVE and rig.out.weight == 0.0 and not rig.out.write
