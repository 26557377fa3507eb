# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Motion of one arm in rows of 50 ms: quintic moves in joint space, straight lines of the hand.

Every primitive is a generator that yields one joint vector (7,) per row and ends at rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flashwam_ros.twin.ik import ArmKinematics

ROW_S = 0.05
MAX_SPEED = 1.75
"""Planned joint speed (rad/s): well inside the limiter's 3."""
MAX_ACCELERATION = 9.0
"""Planned joint acceleration (rad/s2): a third of the limiter's, so that corners fit too."""
_HAND_SPEED = 0.26
_GRIPPER_SPEED = 5.0
_GRIPPER_ACCELERATION = 20.0
_LINE_ITERATIONS = 10
_BUMP_OUT_ROWS, _BUMP_BACK_ROWS = 8, 10


def quintic(t):
    """Minimum-jerk course from 0 to 1 over ``t`` in 0 .. 1 (clipped outside)."""
    t = np.clip(t, 0.0, 1.0)
    return t**3 * (10 + t * (6 * t - 15))


@dataclass(frozen=True)
class HandPose:
    """Where the tool centre point should be (world, m) and how it points (rotation matrix)."""

    position: np.ndarray
    rotation: np.ndarray

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> HandPose:
        """The same hand, displaced in the world frame (m)."""
        return HandPose(self.position + np.array([x, y, z]), self.rotation)

    def advanced(self, distance: float) -> HandPose:
        """The same hand, moved along its own pointing direction (m)."""
        return HandPose(self.position + distance * self.rotation[:, 0], self.rotation)


class ArmMotion:
    """The commanded course of one arm and its gripper.

    Args:
        kinematics: Shared inverse kinematics.
        arm: 0 left, 1 right.
        q: Joints (7,) at the start (rad).
        gripper: Motor angle at the start (rad).
        speed: Factor on all speeds, about 1.
    """

    def __init__(self, kinematics: ArmKinematics, arm: int, q, gripper: float, speed: float):
        self.kinematics = kinematics
        self.arm = arm
        self.q = np.array(q, float)
        self.speed = speed
        self._grip, self._grip_speed = float(gripper), 0.0
        self.grip_target = float(gripper)
        self._bump_row: int | None = None

    @property
    def side(self) -> float:
        """1 for the left arm, -1 for the right."""
        return 1.0 if self.arm == 0 else -1.0

    def gripper_row(self) -> float:
        """Advance the gripper by one row towards its target: bounded speed and acceleration."""
        gap = self.grip_target - self._grip
        # Fastest speed from which the target can still be met with rows of constant acceleration.
        step = _GRIPPER_ACCELERATION * ROW_S
        brake = -step / 2 + np.sqrt((step / 2) ** 2 + 2 * _GRIPPER_ACCELERATION * abs(gap))
        wanted = np.sign(gap) * min(_GRIPPER_SPEED, brake, abs(gap) / ROW_S)
        speed = self._grip_speed + np.clip(wanted - self._grip_speed, -step, step)
        if speed * gap > 0:
            speed = np.sign(gap) * min(abs(speed), abs(gap) / ROW_S)
        self._grip_speed = float(speed)
        self._grip += self._grip_speed * ROW_S
        return self._grip

    def solve(self, pose: HandPose, start: np.ndarray | None = None) -> np.ndarray:
        """Joints (7,) of a hand pose, from ``start`` (default: where the arm is)."""
        start = self.q if start is None else start
        return self.kinematics.solve(self.arm, pose.position, pose.rotation, start)[0]

    def wait(self, seconds: float) -> Iterator[np.ndarray]:
        """Stand still."""
        for _ in range(max(1, round(seconds / self.speed / ROW_S))):
            yield self.q

    def move(self, goal: np.ndarray, via: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Joint move to ``goal`` (7,), past ``via`` where given (overlapping moves)."""
        start = self.q
        if via is None:
            yield from self._follow(self._timed([(start, goal)]))
        else:
            yield from self._follow(self._timed([(start, via), (via, goal)]))

    def line(self, pose: HandPose) -> Iterator[np.ndarray]:
        """Straight line of the tool centre point to a pose (the hand should already point so)."""
        position, _ = self.kinematics.pose(self.arm, self.q)
        distance = float(np.linalg.norm(pose.position - position))
        seconds = max(0.35, 1.875 * distance / (_HAND_SPEED * self.speed))
        for _ in range(3):
            rows = self._line_rows(position, pose, round(seconds / ROW_S))
            excess = self._excess(rows)
            if excess <= 1.0:
                break
            seconds *= 1.05 * min(excess, 1.5)
        else:
            # The joints turn over somewhere on the line: go to its end another way.
            rows = self._timed([(self.q, rows[-1])])
        yield from self._follow(rows)

    def _line_rows(self, start: np.ndarray, pose: HandPose, count: int) -> np.ndarray:
        rows, q = [], self.q
        for s in quintic(np.arange(1, count + 1) / count):
            point = start + s * (pose.position - start)
            q, _ = self.kinematics.solve(self.arm, point, pose.rotation, q, _LINE_ITERATIONS)
            rows.append(q)
        return np.array(rows)

    def _timed(self, legs: list) -> np.ndarray:
        spans = []
        for start, goal in legs:
            largest = float(np.abs(goal - start).max())
            by_speed = 1.875 * largest / (MAX_SPEED * self.speed)
            by_acceleration = np.sqrt(5.77 * largest / MAX_ACCELERATION)
            spans.append(max(0.3, by_speed, by_acceleration))
        for _ in range(6):
            rows = self._overlapped(legs, spans)
            excess = self._excess(rows)
            if excess <= 1.0:
                break
            spans = [1.05 * excess * span for span in spans]
        return rows

    def _overlapped(self, legs: list, spans: list) -> np.ndarray:
        begins = [0.0] if len(legs) == 1 else [0.0, 0.5 * spans[0]]
        end = max(b + s for b, s in zip(begins, spans, strict=True))
        time = np.arange(1, max(2, round(end / ROW_S)) + 1) * ROW_S
        time *= end / time[-1]
        rows = np.tile(legs[0][0], (len(time), 1))
        for (start, goal), begin, span in zip(legs, begins, spans, strict=True):
            rows = rows + quintic((time - begin) / span)[:, None] * (goal - start)
        return rows

    def _excess(self, rows: np.ndarray) -> float:
        """How much slower the rows must be to keep speed and acceleration: 1 = fits."""
        speed = np.diff(np.vstack([self.q, rows]), axis=0) / ROW_S
        zero = np.zeros((1, 7))
        jump = np.diff(np.vstack([zero, speed, zero]), axis=0) / ROW_S
        by_speed = np.abs(speed).max() / (1.1 * MAX_SPEED)
        return float(max(by_speed, np.sqrt(np.abs(jump).max() / (1.2 * MAX_ACCELERATION))))

    def _follow(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for row in rows:
            self.q = row
            yield row

    def schedule_bump(self, delay_rows: int, displacement: np.ndarray) -> None:
        """In ``delay_rows``, push the hand off its course by ``displacement`` (3,) m."""
        self._bump_row = -int(delay_rows)
        self._bump_m, self._bump_rad = np.array(displacement, float), np.zeros(7)

    def bump_row(self) -> tuple[np.ndarray, bool]:
        """Offset (7,) of the bump for the next row, and whether it still goes outward."""
        if self._bump_row is None:
            return np.zeros(7), False
        self._bump_row += 1
        row = self._bump_row
        if row <= 0:
            return np.zeros(7), False
        if row == 1:
            self._bump_rad = self._joint_offset(self._bump_m)
        if row <= _BUMP_OUT_ROWS:
            return self._bump_rad * quintic(row / _BUMP_OUT_ROWS), True
        back = (row - _BUMP_OUT_ROWS) / _BUMP_BACK_ROWS
        if back >= 1.0:
            self._bump_row = None
        return self._bump_rad * (1 - quintic(back)), False

    def _joint_offset(self, displacement: np.ndarray) -> np.ndarray:
        self.kinematics.pose(self.arm, self.q)
        jacobian = self.kinematics.jacobian(self.arm)[:3]
        return jacobian.T @ np.linalg.solve(
            jacobian @ jacobian.T + 0.05**2 * np.eye(3), displacement
        )

    def recovered(self) -> Iterator[np.ndarray]:
        """Stand still until a bump has gone."""
        while self._bump_row is not None:
            yield self.q
