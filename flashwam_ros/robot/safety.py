# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What makes the driver give the arms back by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashwam_ros.robot.settings import DriverSettings

# The limiter stops the command at the bound, so the fault is being about there.
_TRACKING_SLACK = 0.01


@dataclass(frozen=True)
class ExecutorInput:
    """What the executor sees in one tick.

    Attributes:
        now_ns: Monotonic time (ns).
        measured_q: (C,) rad; NaN where nothing was received yet.
        measured_dq: (C,) rad/s.
        state_age_s: Age of the joint state (s).
        tilt_rad: Angle between the pelvis' z axis and the vertical (rad).
        motor_error: The arm motors' error words, or-ed.
        remote_stop: L2 or B is pressed on the remote.
        other_writer: Someone else writes the arms or the grippers.
        two_robots: More than one program tells the robot's state: whose this one is is not known.
        other_driver: There is another driver that takes the same chunks and requests.
        temperatures: (M,) winding temperatures (deg C), None where unknown.
        gripper_age_s: (2,) ages of the grippers' states (s), infinite before the first.
    """

    now_ns: int
    measured_q: np.ndarray
    measured_dq: np.ndarray
    state_age_s: float
    tilt_rad: float = 0.0
    motor_error: int = 0
    remote_stop: bool = False
    other_writer: bool = False
    two_robots: bool = False
    other_driver: bool = False
    temperatures: np.ndarray | None = None
    gripper_age_s: np.ndarray | None = None


class SafetyMonitor:
    """Turns inputs into the name of a fault; remembers only how long a fault has lasted."""

    def __init__(self, settings: DriverSettings, arms: np.ndarray) -> None:
        """``arms``: (A,) columns of the arm channels."""
        self._settings, self._arms = settings, arms
        self._tracking_s = 0.0
        self._stale_s = 0.0
        self.tracking_error = 0.0

    def reset(self) -> None:
        """Forget how long faults have lasted."""
        self._tracking_s = self._stale_s = self.tracking_error = 0.0

    def fresh(self, inp: ExecutorInput) -> bool:
        """Whether the arm state of this tick can be relied on."""
        young = inp.state_age_s <= self._settings.state_hold_s
        return bool(young and np.isfinite(inp.measured_q[self._arms]).all())

    def grippers_fresh(self, inp: ExecutorInput) -> np.ndarray:
        """(2,) whether the state of each gripper can be relied on."""
        if inp.gripper_age_s is None:
            return np.ones(2, dtype=bool)
        return np.asarray(inp.gripper_age_s) <= self._settings.state_hold_s

    def standing(self, inp: ExecutorInput) -> str:
        """The fault that this input alone shows, '' for none."""
        s = self._settings
        if inp.remote_stop:
            return 'remote_stop'
        # Before what the state says: it may be the other robot's.
        if inp.two_robots:
            return 'two_robots'
        if inp.motor_error:
            return 'motor_error'
        if not abs(inp.tilt_rad) <= s.tilt_rad:
            return 'tilt'
        if inp.other_writer:
            return 'second_writer'
        if inp.other_driver:
            return 'second_driver'
        if inp.temperatures is not None and (np.asarray(inp.temperatures) > s.temperature_c).any():
            return 'overheating'
        return ''

    def check(self, inp: ExecutorInput, command: np.ndarray, dt: float) -> str:
        """The fault of this tick, '' for none.

        Args:
            inp: The tick's input.
            command: (C,) the command in force.
            dt: Time since the last tick (s).
        """
        s = self._settings
        fresh = self.fresh(inp)
        self._stale_s = 0.0 if fresh else self._stale_s + dt
        if not inp.state_age_s <= s.state_release_s or self._stale_s > s.state_release_s:
            return 'state_lost'
        fault = self.standing(inp)
        if fault:
            return fault
        if inp.gripper_age_s is not None and (
            np.asarray(inp.gripper_age_s) > s.state_release_s
        ).any():
            return 'gripper_lost'
        if not fresh:
            return ''
        off = np.abs(command[self._arms] - inp.measured_q[self._arms])
        self.tracking_error = float(off.max())
        beyond = self.tracking_error >= s.tracking_rad - _TRACKING_SLACK
        self._tracking_s = self._tracking_s + dt if beyond else 0.0
        return 'tracking' if self._tracking_s > s.tracking_s else ''
