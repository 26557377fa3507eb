# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics of one arm: damped least squares with joint limits as an active set.

Plain clipping at a joint limit makes the arm wind up and flip (the wrist pitch limit is a
frequent guest);
here a limiting joint is fixed at its limit and the rest is solved again.
"""

from __future__ import annotations

import mujoco
import numpy as np

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.twin.model import robot_model

_DAMPING = 0.02
_ROTATION_WEIGHT = 0.35
_NULL_GAIN = 0.10
_STEP_RAD = 0.15
_MAX_POSITION_M, _MAX_ROTATION = 0.08, 0.45
_LIMIT_MARGIN = 0.01
_REST = np.array([[-0.2, 0.6, -0.3, 0.6, 0, 0, 0], [-0.2, -0.6, 0.3, 0.6, 0, 0, 0]])
"""Posture that the free direction of each arm is drawn to: elbows out."""


class ArmKinematics:
    """Pose and inverse kinematics of both tool centre points in the world frame.

    ``arm`` is 0 for left, 1 for right; joint vectors have 7 entries.
    """

    def __init__(self, contract: RobotContract | None = None):
        """Limits are the operational limits of the contract."""
        self._twin = robot_model()
        self._data = mujoco.MjData(self._twin.model)
        contract = contract or RobotContract.load()
        self._lower = contract.lower[:14].reshape(2, 7) + _LIMIT_MARGIN
        self._upper = contract.upper[:14].reshape(2, 7) - _LIMIT_MARGIN
        self._jacp = np.zeros((3, self._twin.model.nv))
        self._jacr = np.zeros((3, self._twin.model.nv))

    def _columns(self, arm: int) -> slice:
        return slice(7 * arm, 7 * arm + 7)

    def pose(self, arm: int, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) and rotation (3, 3) of the tool centre point."""
        self._data.qpos[self._twin.arm_qpos[self._columns(arm)]] = q
        mujoco.mj_kinematics(self._twin.model, self._data)
        mujoco.mj_comPos(self._twin.model, self._data)
        site = self._twin.tcp_sites[arm]
        return self._data.site_xpos[site].copy(), self._data.site_xmat[site].reshape(3, 3).copy()

    def jacobian(self, arm: int) -> np.ndarray:
        """Jacobian (6, 7) at the joints of the last ``pose`` call: position over rotation."""
        site = self._twin.tcp_sites[arm]
        mujoco.mj_jacSite(self._twin.model, self._data, self._jacp, self._jacr, site)
        columns = self._twin.arm_dof[self._columns(arm)]
        return np.vstack([self._jacp[:, columns], self._jacr[:, columns]])

    def solve(
        self,
        arm: int,
        position: np.ndarray,
        rotation: np.ndarray,
        start: np.ndarray,
        iterations: int = 60,
    ) -> tuple[np.ndarray, float]:
        """Joints (7,) that put the tool centre point at a pose, from ``start``.

        The number of iterations is fixed, so that the answer is a smooth function of the pose.

        Returns:
            The joints and the remaining position error (m).
        """
        q = np.clip(start, self._lower[arm], self._upper[arm])
        for _ in range(iterations):
            q = self._iterate(arm, position, rotation, q)
        return q, float(np.linalg.norm(self.pose(arm, q)[0] - position))

    def _iterate(self, arm: int, position, rotation, q: np.ndarray) -> np.ndarray:
        here, turn = self.pose(arm, q)
        error = np.concatenate(
            [
                _shorten(position - here, _MAX_POSITION_M),
                _shorten(rotation_vector(rotation @ turn.T), _MAX_ROTATION) * _ROTATION_WEIGHT,
            ]
        )
        jacobian = self.jacobian(arm)
        jacobian[3:] *= _ROTATION_WEIGHT
        drawn = _NULL_GAIN * (_REST[arm] - q)
        return q + _limited_step(
            jacobian, error, drawn, self._lower[arm] - q, self._upper[arm] - q
        )


def _limited_step(jacobian, error, drawn, lower, upper) -> np.ndarray:
    """Damped least squares step within ``lower .. upper``; limiting joints are fixed."""
    step = np.zeros(7)
    free = np.ones(7, bool)
    for _ in range(4):
        j = jacobian[:, free]
        rest = error - jacobian[:, ~free] @ step[~free]
        inverse = j.T @ np.linalg.inv(j @ j.T + _DAMPING**2 * np.eye(6))
        pull = drawn[free]
        step[free] = np.clip(
            inverse @ rest + pull - inverse @ (j @ pull), -_STEP_RAD, _STEP_RAD
        )
        broken = free & ((step < lower - 1e-12) | (step > upper + 1e-12))
        if not broken.any():
            break
        step[broken] = np.clip(step, lower, upper)[broken]
        free &= ~broken
    return np.clip(step, lower, upper)


def _shorten(vector: np.ndarray, length: float) -> np.ndarray:
    size = np.linalg.norm(vector)
    return vector * (length / size) if size > length else vector


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (3,) of a rotation matrix; exact below half a turn."""
    twist = 0.5 * np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = np.linalg.norm(twist)
    if sine < 1e-9:
        return twist
    return twist * (np.arctan2(sine, 0.5 * (np.trace(rotation) - 1)) / sine)


def hand_rotation(yaw: float, pitch: float) -> np.ndarray:
    """Rotation (3, 3) of a hand that points ``yaw`` left and ``pitch`` down, jaws level (rad)."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[cy * cp, -sy, cy * sp], [sy * cp, cy, sy * sp], [-sp, 0, cp]])
