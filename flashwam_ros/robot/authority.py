# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who commands the arms: the hand-over weight and the modes around it.

PASSIVE -> ENGAGE (weight 0 to 1) -> HOLD <-> EXECUTE, and out of any of them
HOLD -> RETREAT (where possible) -> RELEASE (weight to 0) -> PASSIVE.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from flashwam_ros.robot.settings import DriverSettings

# Faults after which the arms must not be moved any more.
NO_RETREAT = frozenset(
    {
        'state_lost',
        'remote_stop',
        'motor_error',
        'tilt',
        'tracking',
        'second_writer',
        'two_robots',
    }
)


class Mode(str, enum.Enum):
    """What the driver does with the arms."""

    PASSIVE = 'passive'
    ENGAGE = 'engage'
    HOLD = 'hold'
    EXECUTE = 'execute'
    RETREAT = 'retreat'
    RELEASE = 'release'

    def __str__(self) -> str:
        """The value, as messages carry it."""
        return self.value


class Authority:
    """Mode, weight and reason; everything moves in :meth:`advance`, once per tick."""

    def __init__(self, settings: DriverSettings) -> None:
        """Start passive."""
        self._rate = 1.0 / settings.ramp_s
        self._hold_s = settings.hold_s
        self.mode = Mode.PASSIVE
        self.weight = 0.0
        self.reason = ''
        self.exiting = False
        self._may_retreat = False
        self._hold_left = 0.0

    @property
    def ready(self) -> bool:
        """Whether chunks can be executed."""
        return self.mode in (Mode.HOLD, Mode.EXECUTE) and not self.exiting

    def refuse(self, why: str) -> None:
        """Stay passive and say why."""
        self.reason = f'refused: {why}'

    def engage(self) -> None:
        """Begin to take over, from PASSIVE."""
        self.mode, self.weight, self.reason, self.exiting = Mode.ENGAGE, 0.0, '', False

    def release_again(self) -> None:
        """The ramp from full weight once more, from PASSIVE."""
        self.mode, self.weight, self.exiting = Mode.RELEASE, 1.0, True
        self.reason = 'released_again'
        self._may_retreat = False

    def exit(self, reason: str) -> bool:
        """Begin to give back; True where this call began it.

        The first reason stays. A further one that forbids moving cuts the retreat short.
        """
        if self.mode is Mode.PASSIVE:
            return False
        began = not self.exiting
        if began:
            self.exiting, self.reason = True, reason
            # At a partial weight the built-in controller pulls too: no path is ours to check.
            self._may_retreat = self.weight >= 1.0
            self._hold_left = self._hold_s
            self.mode = Mode.HOLD
        if reason in NO_RETREAT:
            self._may_retreat = False
        return began

    def hurry(self) -> None:
        """Leave out or cut short the retreat."""
        self._may_retreat = False
        self._hold_left = 0.0

    def advance(
        self, dt: float, fresh: bool, executing: bool, retreat: Callable[[], bool], arrived: bool
    ) -> None:
        """One tick.

        Args:
            dt: Time since the last tick (s).
            fresh: Whether the joint state can be relied on.
            executing: Whether a chunk is to be executed now.
            retreat: Plans the retreat; False when there is no free path. Called once.
            arrived: Whether the retreat is over.
        """
        if self.mode is Mode.ENGAGE:
            if fresh:
                self.weight = min(1.0, self.weight + dt * self._rate)
            if self.weight >= 1.0:
                self.mode = Mode.HOLD
        elif self.mode is Mode.RELEASE:
            # The tick that wrote weight 0 was the last one to write.
            if self.weight == 0.0:
                self.mode = Mode.PASSIVE
            self.weight = max(0.0, self.weight - dt * self._rate)
        elif self.mode is Mode.RETREAT:
            if arrived or not (self._may_retreat and fresh):
                self.mode = Mode.RELEASE
        elif self.mode is not Mode.PASSIVE and self.exiting:
            self._hold_left -= dt
            if self._hold_left <= 0.0:
                free = self._may_retreat and fresh and retreat()
                self.mode = Mode.RETREAT if free else Mode.RELEASE
        elif self.mode is not Mode.PASSIVE:
            self.mode = Mode.EXECUTE if executing else Mode.HOLD
