# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What runs inside the robot: the arms' own controller, weight blending, the gripper service."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.wire.robot_bus import ArmCommand
from flashwam_ros.wire.robot_server import GripperCommand

GRIPPER_TIMEOUT_S = 1.0
BRAKE_KD = 0.05


class ArmAuthority:
    """Blends the user's command with the built-in controller, which holds a pose of its own.

    `motor = weight * user + (1 - weight) * builtin`, field by field. When the user's publisher
    disappears its last command stays in force, as users of the robot report.

    Args:
        pose: (14,) arm pose that the built-in controller holds, rad.
        kp: (14,) its position gains. kd: (14,) its velocity gains.
        kinematics: for its gravity compensation.
    """

    def __init__(
        self, pose: np.ndarray, kp: np.ndarray, kd: np.ndarray, kinematics: Kinematics
    ) -> None:
        self._pose, self._kp, self._kd = np.array(pose, float), np.array(kp), np.array(kd)
        self._kinematics = kinematics
        self._user: ArmCommand | None = None

    @property
    def weight(self) -> float:
        """Share of the user's command, 0..1."""
        return 0.0 if self._user is None else self._user.weight

    def take(self, command: ArmCommand) -> None:
        """Accept a user's command."""
        self._user = command

    def hold(self, pose: np.ndarray) -> None:
        """Hold another pose from now on, (14,) rad."""
        self._pose = np.array(pose, float)

    def forget(self) -> None:
        """Drop the user's command: the built-in controller has the arms."""
        self._user = None

    def command(self, measured: np.ndarray) -> ArmCommand:
        """What the motors get, given the (14,) measured arm positions (for gravity)."""
        user, weight = self._user, self.weight
        if user is not None and weight == 1.0:
            return user
        still = np.zeros(len(self._pose))
        torque = self._kinematics.gravity_torque(measured)
        own = ArmCommand(self._pose, still, torque, self._kp, self._kd, 0.0)
        if user is None or weight == 0.0:
            return own
        fields = ('q', 'dq', 'tau', 'kp', 'kd')
        mixed = (weight * getattr(user, f) + (1 - weight) * getattr(own, f) for f in fields)
        return ArmCommand(*mixed, weight=weight)


@dataclass(frozen=True)
class GripperDrive:
    """What both gripper motors get: (2,) target rad and gains; braked ones have kp = 0."""

    q: np.ndarray
    kp: np.ndarray
    kd: np.ndarray


class GripperService:
    """The Dex1-1 service: a motor without a command for 1 s goes to brake.

    The brake is the shorted motor: no stiffness, a little damping (estimate).
    """

    def __init__(self) -> None:
        self._q = np.zeros(2)
        self._kp, self._kd = np.zeros(2), np.full(2, BRAKE_KD)
        self._deadline = np.full(2, -np.inf)

    def take(self, side: int, command: GripperCommand, now_s: float) -> None:
        """Accept a command for gripper 0 (left) or 1 (right)."""
        self._q[side], self._kp[side], self._kd[side] = command.q, command.kp, command.kd
        self._deadline[side] = now_s + GRIPPER_TIMEOUT_S

    def forget(self) -> None:
        """Brake both."""
        self._deadline[:] = -np.inf

    def drive(self, now_s: float) -> GripperDrive:
        """What the motors get now."""
        late = now_s > self._deadline
        kp, kd = np.where(late, 0.0, self._kp), np.where(late, BRAKE_KD, self._kd)
        return GripperDrive(self._q.copy(), kp, kd)
