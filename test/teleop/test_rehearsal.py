# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The expert as an operator solves the tasks through clutch, IK, stream and executor."""

from concurrent.futures import Executor, Future

import numpy as np
import pytest

pytest.importorskip('mink')
pytest.importorskip('daqp')
pytest.importorskip('mujoco')

from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.teleop.expert import ExpertDevice  # noqa: E402
from flashwam_ros.teleop.rehearsal import rehearse  # noqa: E402
from flashwam_ros.teleop.settings import TeleopSettings  # noqa: E402
from flashwam_ros.twin.episode import InProcessRobot  # noqa: E402


@pytest.mark.parametrize('task', ['red_bottle', 'pink_object'])
def test_the_expert_solves_the_task_by_hand_poses(task):
    outcome = rehearse(task, 5)
    assert outcome.success and all(outcome.stages.values()), outcome
    assert outcome.late == 0 and outcome.limited_ticks == 0
    assert outcome.least_room_m > -0.001
    # From the command to the arm: the lead, on a clock without transport.
    assert np.median(outcome.latency_s) < TeleopSettings.load().lead_s + 0.015


def test_the_device_is_idle_before_an_episode_and_after_it():
    contract = RobotContract.load()
    robot = InProcessRobot('red_bottle', contract, images=False)
    robot.reset(3)
    device = ExpertDevice('red_bottle', contract, robot.world)
    assert not any(arm.clutch for arm in device.command(0).arms) and not device.done
    device.begin(robot.measured(), 3, 10**9)
    first = device.command(10**9)
    assert not any(arm.clutch for arm in first.arms), 'open at first, as a hand would be'
    later = device.command(10**9 + 400_000_000)
    assert all(arm.clutch and arm.pose is not None for arm in later.arms)
    device.end()
    assert not any(arm.clutch for arm in device.command(3 * 10**9).arms) and not device.done


class Later(Executor):
    """Runs what it was given when the test says so."""

    def __init__(self):
        self.waiting = []

    def submit(self, function, *args):
        future = Future()
        self.waiting.append((future, function, args))
        return future

    def work(self):
        while self.waiting:
            future, function, args = self.waiting.pop(0)
            future.set_result(function(*args))


def test_planning_ahead_plays_the_same_course_and_keeps_nothing_waiting():
    contract = RobotContract.load()
    robot = InProcessRobot('red_bottle', contract, images=False)
    robot.reset(3)
    planner = Later()
    devices = [ExpertDevice('red_bottle', contract, robot.world, *more) for more in ((), (planner,))]
    for device in devices:
        device.begin(robot.measured(), 3, 0)
    start = 400_000_000
    for device in devices:
        for _ in range(10):  # while the clutch is still open
            device.command(0)
            planner.work()
    for now in range(0, 3 * 10**9, 20_000_000):
        if now % 300_000_000 == 0:  # every sixth row: far behind, and still in time
            for _ in range(4):
                planner.work()
                devices[1].command(start + now)
        at_once, ahead = (device.command(start + now) for device in devices)
        for one, other in zip(at_once.arms, ahead.arms, strict=True):
            assert one == other
    assert not any(device.done for device in devices), 'planned to its end is not yet played'
