# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses, timing and safety thresholds of the driver, from the contract file.

They are not part of the contract's hash: a policy does not depend on them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashwam_ros.robot.contract import load_choices


@dataclass(frozen=True)
class DriverSettings:
    """See the comments in ``config/robot/g1_dex1.yaml``; rad, rad/s, s, Hz, deg C, m."""

    home_arm: tuple[float, ...]
    home_gripper: tuple[float, ...]
    builtin_arm: tuple[float, ...]
    request_port: int
    tick_rate_hz: float
    ramp_s: float
    retreat_velocity: float
    gripper_window: float
    chunk_queue: int
    chunk_age_s: float
    chunk_future_s: float
    state_hold_s: float
    state_release_s: float
    no_chunk_timeout_s: float
    tilt_rad: float
    tracking_rad: float
    tracking_s: float
    temperature_c: float
    hold_s: float
    table_z: float
    table_x: float
    clearance: float
    torso_half: tuple[float, float]
    torso_top: float

    @property
    def home(self) -> np.ndarray:
        """The start pose of an episode as a row, (16,)."""
        return np.array(self.home_arm + self.home_gripper, dtype=np.float64)


def _plain(value: Any) -> Any:
    return tuple(float(v) for v in value) if isinstance(value, list) else value


@functools.cache
def load_settings(path: str | None = None) -> DriverSettings:
    """Read the settings (default ``config/robot/g1_dex1.yaml``).

    Raises:
        TypeError: An entry is missing or unknown; the message names it.
    """
    choices = load_choices(path)
    entries = {**choices['poses'], **choices['driver'], **choices['safety']}
    entries['request_port'] = choices['request_port']
    return DriverSettings(**{name: _plain(value) for name, value in entries.items()})
