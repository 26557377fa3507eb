# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What was seen of robot, cameras, policy and machine before a motion; None means: not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class RobotSeen:
    """The robot, as the driver and its services tell.

    Attributes:
        mode_name: of the built-in motion service, '' when none runs.
        fsm_id: its state.
        mode_machine: machine type in the robot's state.
        state_rate_hz: states received per second.
        state_age_s: age of the newest state.
        other_writers: who else writes `rt/arm_sdk` or the gripper topics; None: not told.
        other_robots: who tells a robot state that another program tells, too; None: not told.
        second_driver: what shows that the ROS graph has more than one driver, '' for nothing.
        arms_held: what to do about arms that another process may hold, '' where none does.
        winding_c: hottest winding.
        hottest: name of its joint.
        motor_errors: joint -> error word, of those that are not 0; None: not told.
        battery_percent: charge.
        arm_q: (14,) rad, measured.
        gripper_q: side -> motor rad.
        gripper_age_s: side -> age of its newest state.
    """

    mode_name: str | None = None
    fsm_id: int | None = None
    mode_machine: int | None = None
    state_rate_hz: float | None = None
    state_age_s: float | None = None
    other_writers: tuple[str, ...] | None = None
    other_robots: tuple[str, ...] | None = None
    second_driver: str | None = None
    arms_held: str | None = None
    winding_c: float | None = None
    hottest: str = ''
    motor_errors: Mapping[str, int] | None = None
    battery_percent: float | None = None
    arm_q: np.ndarray | None = None
    gripper_q: Mapping[str, float] = field(default_factory=dict)
    gripper_age_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CameraSeen:
    """One camera during the time of looking.

    Attributes:
        key: of the contract.
        rate_hz: frames per second.
        age_s: median of arrival minus capture stamp; negative: stamps from the future.
        size: (width, height), pixels.
        skew_s: least age here against least age of the head camera: their stamps disagree by that.
        estimated: the server sends no stamps.
        image: the newest, (height, width, 3) uint8 RGB.
    """

    key: str
    rate_hz: float | None = None
    age_s: float | None = None
    size: tuple[int, int] | None = None
    skew_s: float | None = None
    estimated: bool = False
    image: np.ndarray | None = None


@dataclass(frozen=True)
class PolicySeen:
    """The policy, as its node and its checkpoint folder tell.

    Attributes:
        backend: 'wam' or 'expert'; '' where an operator steers.
        state: of the policy node.
        reason: why it is not ready.
        latency_s: of the last (or the warming) chunk.
        contract_differences: field by field, driver v checkpoint; None: not known.
        promoted: the checkpoint carries a promotion that fits it; None: does not apply.
        checkpoint: folder.
    """

    backend: str = 'wam'
    state: str | None = None
    reason: str = ''
    latency_s: float | None = None
    contract_differences: tuple[str, ...] | None = None
    promoted: bool | None = None
    checkpoint: str = ''


@dataclass(frozen=True)
class Observations:
    """Everything that the checks look at.

    Attributes:
        robot: see `RobotSeen`.
        cameras: one per camera of the contract, seen or not.
        policy: see `PolicySeen`.
        clock_step_s: largest step of the system clock against the monotonic one meanwhile.
        state_lag_s: ROS time minus stamp of the newest joint state.
        free_gib: space where rollouts are written.
        execution: 'sync' or 'async'.
        frame_period_s: nominal time between camera frames that the policy counts on.
    """

    robot: RobotSeen
    cameras: tuple[CameraSeen, ...]
    policy: PolicySeen
    clock_step_s: float | None = None
    state_lag_s: float | None = None
    free_gib: float | None = None
    execution: str = 'async'
    frame_period_s: float = 0.05
