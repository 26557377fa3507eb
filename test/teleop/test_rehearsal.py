# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The expert as an operator solves the tasks through clutch, IK, stream and executor."""

import numpy as np
import pytest

pytest.importorskip('mink')
pytest.importorskip('daqp')
pytest.importorskip('mujoco')

from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.teleop.expert import ExpertDevice  # noqa: E402
from flashwam_ros.teleop.rehearsal import rehearse  # noqa: E402
from flashwam_ros.twin.episode import InProcessRobot  # noqa: E402


@pytest.mark.parametrize('task', ['red_bottle', 'pink_object'])
def test_the_expert_solves_the_task_by_hand_poses(task):
    outcome = rehearse(task, 5)
    assert outcome.success and all(outcome.stages.values()), outcome
    assert outcome.late == 0 and outcome.limited_ticks == 0
    assert outcome.least_room_m > -0.001
    # From the command to the arm: half a row and the lead, on a clock without transport.
    assert np.median(outcome.latency_s) < 0.06


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
