# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Retreat paths: a coarse check against table, torso and the other arm, and the motion itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.robot.settings import DriverSettings, load_settings

_POINTS = ('fingertip', 'wrist_yaw_link', 'elbow_link')
_SAMPLES = 48
# Elbow changes (rad; negative lifts the forearm) tried as a first step away from the table.
_LIFTS = (-0.3, -0.6)
_ELBOWS = (3, 10)
# Least distance between points of the two arms (m): two gripper half widths and a margin.
_ARM_DISTANCE = 0.12
# A point that starts too close may stay as close as it was, up to this (m).
_SLIP = 0.002

PathCheck = Callable[[np.ndarray, np.ndarray], bool]


class PathChecker:
    """Whether a straight joint-space path keeps finger tips, wrists and elbows out of trouble.

    Points that already are too close at the start must not come closer.
    """

    def __init__(self, kinematics: Kinematics, settings: DriverSettings | None = None) -> None:
        """Use the table and torso of the settings (default: the installed ones)."""
        self._kinematics = kinematics
        self._settings = load_settings() if settings is None else settings

    def __call__(self, q_from: np.ndarray, q_to: np.ndarray) -> bool:
        """Check the path between two arm poses, (14,) rad each."""
        q_from, q_to = np.asarray(q_from, dtype=float), np.asarray(q_to, dtype=float)
        if not (np.isfinite(q_from).all() and np.isfinite(q_to).all()):
            return False
        part = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
        room = self.clearances(q_from + part * (q_to - q_from))
        allowed = np.minimum(0.0, room[0] - _SLIP)
        return bool((room >= allowed).all())

    def clearances(self, arm_q: np.ndarray) -> np.ndarray:
        """Room left (m, negative: too close) of every point and arm pair, for (S, 14) poses."""
        sides = [
            [self._kinematics.arm_point(arm_q, f'{side}_{point}') for point in _POINTS]
            for side in ('left', 'right')
        ]
        room = [self._point(p) for side in sides for p in side]
        for a in sides[0]:
            for b in sides[1]:
                room.append(np.linalg.norm(a - b, axis=-1) - _ARM_DISTANCE)
        return np.stack(room, axis=-1)

    def _point(self, p: np.ndarray) -> np.ndarray:
        s = self._settings
        above = p[..., 2] - s.table_z
        table = np.where(p[..., 0] > s.table_x, above, np.maximum(s.table_x - p[..., 0], above))
        outside = [
            np.abs(p[..., 0]) - s.torso_half[0],
            np.abs(p[..., 1]) - s.torso_half[1],
            p[..., 2] - s.torso_top,
        ]
        torso = np.max(outside, axis=0)
        return np.minimum(table, torso) - s.clearance


class RetreatPath:
    """A path through arm poses, at rest in each, with a velocity limit."""

    def __init__(self, poses: list[np.ndarray], velocity: float) -> None:
        """Plan through ``poses`` ((14,) rad) at no more than ``velocity`` (rad/s) per joint."""
        self._poses = poses
        # A cubic from rest to rest peaks at 1.5 times its mean velocity.
        self._times = [
            max(1.5 * float(np.abs(b - a).max()) / velocity, 1e-3)
            for a, b in zip(poses[:-1], poses[1:], strict=True)
        ]
        self.duration_s = sum(self._times)

    def sample(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Position (14,) and velocity (14,) at a time after the start (s)."""
        for a, b, span in zip(self._poses[:-1], self._poses[1:], self._times, strict=True):
            if time_s < span:
                u = max(time_s, 0.0) / span
                way = b - a
                return a + (3.0 - 2.0 * u) * u * u * way, 6.0 * u * (1.0 - u) / span * way
            time_s -= span
        return self._poses[-1], np.zeros_like(self._poses[-1])


def plan_retreat(
    q_from: np.ndarray,
    q_to: np.ndarray,
    path_is_free: PathCheck,
    velocity: float,
    limits: tuple[np.ndarray, np.ndarray],
) -> RetreatPath | None:
    """A free path between two arm poses, direct or by lifting the forearms first; None if neither.

    Args:
        q_from: (14,) rad.
        q_to: (14,) rad.
        path_is_free: Says whether a straight joint-space path is free.
        velocity: Largest joint velocity (rad/s).
        limits: Lower and upper limits, (14,) rad each.
    """
    if path_is_free(q_from, q_to):
        return RetreatPath([q_from, q_to], velocity)
    for lift in _LIFTS:
        raised = np.array(q_from)
        raised[list(_ELBOWS)] += lift
        raised = np.clip(raised, *limits)
        if path_is_free(q_from, raised) and path_is_free(raised, q_to):
            return RetreatPath([q_from, raised, q_to], velocity)
    return None
