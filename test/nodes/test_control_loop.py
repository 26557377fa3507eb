# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The control thread on a bus that moves at once: modes, rejections, late and failing ticks."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from flashwam_ros.nodes.control_loop import TICK_NS, ControlLoop, Lateness
from flashwam_ros.robot.chunk import ActionChunk
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.executor import Executor, Mode
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.robot.settings import load_settings

CONTRACT = RobotContract.load()
SETTINGS = load_settings()
ARMS = slice(15, 29)
LIMIT_S = 20.0


class PerfectRobot:
    """A bus whose arms are where the last command sent them."""

    def __init__(self):
        self.q = np.zeros(35)
        self.q[ARMS] = SETTINGS.home[:14]
        self.grippers = {'left': 5.4, 'right': 5.4}
        self.arm_commands = []
        self.buttons = frozenset()
        self.gripper_age_ns = 0
        self.fault = None

    def lowstate(self):
        return SimpleNamespace(
            q=self.q.copy(),
            dq=np.zeros(35),
            tau_est=np.zeros(35),
            motorstate=np.zeros(35, np.uint32),
            temperature=np.full((35, 2), 30),
            quaternion=np.array([1.0, 0.0, 0.0, 0.0]),
            buttons=self.buttons,
            arrival_ns=time.monotonic_ns(),
        )

    def wait_lowstate(self, timeout_s, newer_than_ns=0):
        return self.lowstate()

    def gripper_state(self, side):
        return SimpleNamespace(
            q=self.grippers[side], dq=0.0, arrival_ns=time.monotonic_ns() - self.gripper_age_ns
        )

    def write_arm(self, command):
        if self.fault and len(self.arm_commands) > 50:
            fault, self.fault = self.fault, None
            raise fault
        self.arm_commands.append((time.monotonic(), command))
        self.q[ARMS] = command.q

    def write_gripper(self, side, q, kp, kd):
        self.grippers[side] = q


@pytest.fixture
def robot():
    return PerfectRobot()


@pytest.fixture
def loop(robot):
    executor = Executor(
        CONTRACT,
        Kinematics(load_description()),
        np.array(SETTINGS.builtin_arm),
        time.monotonic_ns(),
    )
    loop = ControlLoop(robot, executor, CONTRACT)
    loop.start()
    yield loop
    loop.stop()


def chunk(index=0, session='s', **changes):
    values = {
        'session': session,
        'contract_hash': CONTRACT.sha256,
        'index': index,
        'predecessor': index - 1,
        'row_duration_s': CONTRACT.row_duration_s,
        'positions': np.tile(SETTINGS.home, (CONTRACT.rows_per_chunk, 1)),
        'channel_names': CONTRACT.channel_names,
        'first_row': 8 if index == 0 else 0,
        'stamp_ns': time.monotonic_ns(),
    }
    return ActionChunk(**{**values, **changes})


def wait_for(condition):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, 'timed out'
        time.sleep(0.005)


def test_nothing_is_written_before_activation(loop, robot):
    wait_for(lambda: loop.snapshot.now_ns > 0 and loop.lateness.percentiles()[1] > 0)
    assert loop.mode is Mode.PASSIVE
    assert not robot.arm_commands


def test_one_episode_from_ramp_to_release(loop, robot):
    loop.activate()
    assert loop.wait_mode((Mode.HOLD,), LIMIT_S)
    weights = [command.weight for _, command in robot.arm_commands]
    assert weights[0] < 0.05 and weights[-1] == 1.0
    assert max(np.diff(weights)) < 0.05, 'a ramp, no jump'
    loop.submit(chunk(0))
    loop.submit(chunk(1))
    wait_for(lambda: len(loop.accounts) == 4)
    assert [(a.index, a.complete) for a in loop.accounts] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    assert loop.accounts[2].slack_s > 0.2
    loop.deactivate('over')
    assert loop.wait_mode((Mode.PASSIVE,), LIMIT_S)
    assert robot.arm_commands[-1][1].weight == 0.0
    assert loop.snapshot.output.reason == 'over'
    written = len(robot.arm_commands)
    wait_for(lambda: loop.snapshot.output.mode is Mode.PASSIVE)
    assert len(robot.arm_commands) == written


def test_a_rejected_chunk_is_an_event_with_its_reason(loop):
    loop.submit(chunk(0))
    wait_for(lambda: loop.events)
    assert loop.events[0].startswith('chunk_rejected: chunk 0: not executing')


def test_the_remote_stops(loop, robot):
    loop.activate()
    assert loop.wait_mode((Mode.HOLD,), LIMIT_S)
    robot.buttons = frozenset({'L2'})
    assert loop.wait_mode((Mode.PASSIVE,), LIMIT_S)
    assert loop.snapshot.output.reason == 'remote_stop'
    assert robot.arm_commands[-1][1].weight == 0.0


def test_the_hold_on_the_way_back_is_no_take_over(loop, robot):
    loop.activate()
    assert loop.wait_mode((Mode.ENGAGE,), LIMIT_S)
    robot.buttons = frozenset({'L2'})
    assert not loop.wait_taken_over(LIMIT_S)
    assert loop.snapshot.output.reason == 'remote_stop'
    assert loop.wait_mode((Mode.PASSIVE,), LIMIT_S)
    robot.buttons = frozenset()
    loop.activate()
    assert loop.wait_mode((Mode.ENGAGE,), LIMIT_S) and loop.wait_taken_over(LIMIT_S)
    assert loop.snapshot.output.weight == 1.0 and not loop.snapshot.output.reason


def test_two_robots_and_a_second_driver_end_the_motion(loop):
    for name, value, reason in (
        ('other_robots', ('rt/lowstate (1)',), 'two_robots'),
        ('other_driver', '2 nodes /g1_driver', 'second_driver'),
    ):
        loop.activate()
        assert loop.wait_mode((Mode.HOLD,), LIMIT_S)
        setattr(loop, name, value)
        assert loop.wait_mode((Mode.PASSIVE,), LIMIT_S)
        assert loop.snapshot.output.reason == reason
        setattr(loop, name, type(value)())


def test_a_failing_tick_gives_the_arms_back_and_is_reported(loop, robot):
    robot.fault = RuntimeError('broken')
    loop.activate()
    wait_for(lambda: loop.failure)
    assert loop.failure == 'RuntimeError: broken'
    weights = [command.weight for _, command in robot.arm_commands]
    assert weights[-1] == 0.0, 'whoever sees the failure may close the wire'
    assert np.abs(np.diff(weights)).max() < 0.05, 'down from where it was, not by way of 1'
    assert not loop.holds


def test_a_release_that_fails_too_is_known_to_hold_the_arms(loop, robot):
    loop.activate()
    assert loop.wait_mode((Mode.HOLD,), LIMIT_S)
    robot.wait_lowstate = lambda timeout_s, newer_than_ns=0: None
    robot.fault = RuntimeError('broken')
    wait_for(lambda: loop.failure)
    assert loop.holds


def test_a_gripper_service_that_dies_gives_the_arms_back(loop, robot):
    loop.activate()
    assert loop.wait_mode((Mode.HOLD,), LIMIT_S)
    robot.gripper_age_ns = 2_000_000_000
    assert loop.wait_mode((Mode.PASSIVE,), LIMIT_S)
    assert loop.snapshot.output.reason == 'gripper_lost'
    loop.activate()
    wait_for(lambda: any('is its service running?' in event for event in loop.events))


def test_only_a_tick_that_has_heard_of_it_counts(loop):
    wait_for(lambda: loop.snapshot.now_ns > 0)
    later_ns = time.monotonic_ns() + 100_000_000
    assert loop.wait_mode((Mode.PASSIVE,), LIMIT_S, later_ns)
    assert loop.snapshot.now_ns > later_ns


def test_missed_ticks_are_skipped_not_made_up_for(robot):
    calls = []

    class Slow(ControlLoop):
        def _tick(self, now_ns):
            calls.append(now_ns)
            if len(calls) == 5:
                time.sleep(0.05)

    loop = Slow(robot, executor=None, contract=CONTRACT)
    loop.start()
    wait_for(lambda: len(calls) > 40)
    loop.stop()
    assert loop.lateness.skipped >= 11
    gaps = np.diff(calls[5:])
    assert np.median(gaps) > 0.8 * TICK_NS, 'no burst after the gap'


def test_lateness_percentiles_and_reset():
    lateness = Lateness(kept=10)
    assert lateness.percentiles() == (0.0, 0.0)
    for value in range(20):
        lateness.add(float(value))
    assert lateness.max_s == 19.0
    assert lateness.percentiles()[0] == pytest.approx(14.5)
    lateness.reset()
    assert lateness.percentiles() == (0.0, 0.0)


def test_lateness_percentiles_are_at_most_a_second_behind():
    lateness = Lateness()
    for _ in range(250):
        lateness.add(1.0)
    assert lateness.percentiles() == (1.0, 1.0)
    for _ in range(250):
        lateness.add(3.0)
    assert lateness.percentiles() == (pytest.approx(2.0), pytest.approx(3.0))
    lateness.reset()
    lateness.add(5.0)
    assert lateness.percentiles() == (5.0, 5.0)
