# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The expert as an operator solves the tasks through clutch, IK, stream and executor."""

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

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


@pytest.mark.parametrize('late_s', [0.0, 0.4])
def test_planning_ahead_plays_the_same_course(late_s):
    """Also where the planner is too slow, and a command has to wait for it."""
    contract = RobotContract.load()
    robot = InProcessRobot('red_bottle', contract, images=False)
    robot.reset(3)
    with SlowPlanner(late_s) as planner:
        devices = [ExpertDevice('red_bottle', contract, robot.world, *more)
                   for more in ((), (planner,))]
        for device in devices:
            device.begin(robot.measured(), 3, 0)
        for now in range(0, 2 * 10**9, 20_000_000):
            at_once, ahead = (device.command(now) for device in devices)
            assert at_once.arms == ahead.arms
    assert not any(device.done for device in devices), 'planned to its end is not yet played'


class SlowPlanner(ThreadPoolExecutor):
    """A thread that takes its time for the first rows."""

    def __init__(self, late_s):
        super().__init__(1)
        self._late_s = late_s

    def submit(self, function, /, *args):
        late_s, self._late_s = self._late_s, 0.0
        return super().submit(lambda: time.sleep(late_s) or function(*args))


def test_a_planner_that_is_busy_keeps_nothing_waiting_that_is_planned():
    contract = RobotContract.load()
    robot = InProcessRobot('red_bottle', contract, images=False)
    robot.reset(3)
    with ProcessPoolExecutor(1, get_context('spawn')) as planner:
        device = ExpertDevice('red_bottle', contract, robot.world, planner)
        device.begin(robot.measured(), 3, 0)
        while not len(device._rows) > 8:
            device.command(0)
        planner.submit(time.sleep, 10.0)
        begun = time.monotonic()
        for now in range(0, 600_000_000, 20_000_000):  # the first 0.3 s are before the start
            device.command(now)
        assert time.monotonic() - begun < 5.0, 'waited for the planner'
