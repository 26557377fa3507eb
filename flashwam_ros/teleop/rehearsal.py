# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A teleoperated episode in the twin on a simulated clock: no ROS, no wire, no waiting.

The same teleoperator, stream and executor as on the robot. Sending takes no time here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from flashwam_ros.robot.authority import Mode
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.teleop.command import Device
from flashwam_ros.teleop.expert import ExpertDevice
from flashwam_ros.teleop.session import TeleopSession
from flashwam_ros.teleop.settings import TeleopSettings
from flashwam_ros.twin.episode import InProcessRobot, TickEvents
from flashwam_ros.twin.tasks import TASKS

_AFTER_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What an episode came to.

    Attributes:
        success: The task's predicate held at the end or before.
        stages: Stage -> reached.
        elapsed_s: Simulated time.
        chunks: Chunks executed.
        late: Chunks that came after their predecessor's end: the arms held in between.
        limited_ticks: Ticks on which the driver's limiter intervened.
        braked_steps: Steps of the inverse kinematics without a solution.
        latency_s: (chunks,) from the operator's command to the start of its rows.
        plan_s: (chunks,) processor time of planning one chunk.
        least_room_m: Least distance between watched shapes beyond the allowed one.
    """

    success: bool
    stages: dict[str, bool]
    elapsed_s: float
    chunks: int
    late: int
    limited_ticks: int
    braked_steps: int
    latency_s: np.ndarray
    plan_s: np.ndarray
    least_room_m: float


class Rehearsal:
    """One device, one session and one simulated robot, which must have been reset."""

    def __init__(
        self, robot: InProcessRobot, device: Device, settings: TeleopSettings | None = None
    ) -> None:
        """The driver already holds the arms."""
        self.robot = robot
        self.session = TeleopSession(robot.contract, device, settings)
        self.session.driver(Mode.HOLD.name)
        self.session.in_force(robot.measured())
        self.plan_s: list[float] = []
        self.chunks = 0
        self.least_room_m = np.inf

    def tick(self) -> TickEvents:
        """4 ms of the robot, and planning where it is due."""
        begun = time.thread_time()
        chunk = self.session.work(self.robot.now_ns)
        if chunk is not None:
            self.plan_s.append(time.thread_time() - begun)
            self.chunks += 1
            ik = self.session.teleoperator.ik
            rows = chunk.positions[chunk.first_row :]
            self.least_room_m = min(self.least_room_m, *(ik.room(row[:14]) for row in rows))
            self.robot.submit(chunk)
        events = self.robot.tick()
        for account in events.accounts:
            self.session.applied(account)
        return events


def rehearse(task: str, seed: int, settings: TeleopSettings | None = None) -> Outcome:
    """The scripted expert through the teleoperation path, until success or the time limit."""
    contract = RobotContract.load()
    robot = InProcessRobot(task, contract, images=False)
    robot.reset(seed)
    device = ExpertDevice(task, contract, robot.world)
    rehearsal = Rehearsal(robot, device, settings)
    device.begin(robot.measured(), seed, robot.now_ns)
    limit_ns = round(TASKS[task].time_limit_s * 1e9)
    success, end_ns = False, limit_ns
    while robot.now_ns < end_ns:
        rehearsal.tick()
        success = success or robot.status().success
        if success or device.done:
            end_ns = min(end_ns, robot.now_ns + round(_AFTER_S * 1e9))
    status = robot.status()
    return Outcome(
        success=success,
        stages=dict(status.stages),
        elapsed_s=robot.now_ns * 1e-9,
        chunks=rehearsal.chunks,
        late=int(rehearsal.session.late),
        limited_ticks=robot.limited_ticks,
        braked_steps=rehearsal.session.teleoperator.ik.braked_steps,
        latency_s=np.array(rehearsal.session.latency_s),
        plan_s=np.array(rehearsal.plan_s),
        least_room_m=float(rehearsal.least_room_m),
    )
