# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every device gives: per arm a hand motion, a gripper and a clutch, with one stamp.

Frame: the robot's base (the pelvis: x forward, y left, z up). The hand is the tool centre point
between the jaw's pads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SIDES = ('left', 'right')
_UNIT = 1e-3
_FARTHEST = 100.0


class CommandError(ValueError):
    """A command that cannot be understood or carried out; the message says what is wrong."""


def _numbers(values: Sequence, count: int, what: str, most: float = _FARTHEST) -> tuple:
    """As floats; what numpy would make a number of (texts, truth values) is none here.

    Raises:
        CommandError: another count, not numbers, not finite or beyond ``most``.
    """
    kinds = (int, float, np.integer, np.floating)
    if len(values) != count or not all(
        isinstance(v, kinds) and not isinstance(v, bool) for v in values
    ):
        raise CommandError(f'{what}: {values!r:.120} are not {count} numbers')
    # Not finite compares false; a whole number may be too large for a float.
    if not all(-most <= v <= most for v in values):
        raise CommandError(f'{what}: {values!r:.120} are not all within -{most:g}..{most:g}')
    return tuple(map(float, values))


@dataclass(frozen=True)
class Pose:
    """Position (m) and orientation (unit quaternion w, x, y, z) of a hand or of a device."""

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        """Check the numbers and normalise the quaternion.

        Raises:
            CommandError: no numbers, not finite, beyond 100 m, wrong length, or the quaternion is
                not of unit length.
        """
        position = _numbers(self.position, 3, 'position')
        quaternion = _numbers(self.quaternion, 4, 'quaternion')
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1.0) > _UNIT:
            raise CommandError(f'quaternion: {quaternion} has length {norm:.4f}, not 1')
        object.__setattr__(self, 'position', position)
        object.__setattr__(self, 'quaternion', tuple(q / norm for q in quaternion))


@dataclass(frozen=True)
class ArmCommand:
    """One arm's part of a command. Without ``clutch`` nothing of it moves the arm.

    Attributes:
        clutch: The dead-man switch is held.
        twist: Hand velocity, linear (m/s) then angular (rad/s) about the base's axes; None for a
            device that gives poses.
        pose: Where the device's hand is, any origin: only its motion since the clutch was pressed
            counts.
        opening: Jaw opening wanted, 0 closed to 1 open; it counts once it has changed since the
            clutch was pressed.
        opening_rate: Change of the jaw opening (1/s), positive opens.
        press: Which press of the clutch this is: with another number it was let go in between,
            however short that was.
    """

    clutch: bool = False
    twist: tuple[float, ...] | None = None
    pose: Pose | None = None
    opening: float | None = None
    opening_rate: float = 0.0
    press: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            CommandError: a number is not finite or out of range, or both twist and pose are given.
        """
        if self.twist is not None and self.pose is not None:
            raise CommandError('an arm is moved by a twist or by a pose, not by both')
        if self.twist is not None:
            object.__setattr__(self, 'twist', _numbers(self.twist, 6, 'twist'))
        _numbers([self.opening_rate], 1, 'opening_rate')
        if self.opening is not None:
            _numbers([self.opening], 1, 'opening')
            if not 0.0 <= self.opening <= 1.0:
                raise CommandError(f'opening: {self.opening} is not in 0 (closed) .. 1 (open)')


@dataclass(frozen=True)
class OperatorCommand:
    """Everything that the operator wants at one instant.

    Attributes:
        stamp_ns: When it was given (ns, the monotonic clock of this machine).
        arms: Left, right.
        home: Held down: both arms go to the start pose.
        pause: Nothing moves, whatever else is held.
    """

    stamp_ns: int
    arms: tuple[ArmCommand, ArmCommand] = (ArmCommand(), ArmCommand())
    home: bool = False
    pause: bool = False


class Device(Protocol):
    """What an operator holds."""

    name: str

    def command(self, now_ns: int) -> OperatorCommand | None:
        """The newest command as of ``now_ns`` (monotonic ns), None before the first."""
