# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The robot's clock: stamps, ages, deadlines and paces of the robot are read from it.

It is this machine's monotonic clock. Only a simulated robot may have a slower one (launch argument
`real_time_factor`), on a machine that cannot simulate in real time: every process of the graph
reads the same slow clock, so that robot, policy and limits keep their proportions to each other
and the machine seems faster than it is.

Time-outs that guard programs (one that starts, a service that answers) are no business of the
robot and stay with the module `time`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = 'FLASHWAM_SLOW_CLOCK'
"""Environment variable `FACTOR@ANCHOR_NS` that slows the clock of a process."""
SLOWEST = 0.25
"""Lowest factor: below it a release of the arms, 3.2 s, outlasts the time-out that guards it."""


@dataclass(frozen=True)
class RobotClock:
    """A clock that agrees with the machine's at its anchor and runs `factor` times as fast.

    Attributes:
        factor: robot seconds per second of the machine, `SLOWEST`..1; 1: the machine's own clock.
        anchor_ns: the machine's monotonic time at which both agree, ns.

    Raises:
        ValueError: a factor out of range.
    """

    factor: float = 1.0
    anchor_ns: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and SLOWEST <= self.factor <= 1.0):
            raise ValueError(f'real-time factor {self.factor} is not in {SLOWEST}..1')

    @classmethod
    def starting_now(cls, factor: float) -> RobotClock:
        """Slow from now on."""
        return cls(factor, time.monotonic_ns())

    @classmethod
    def of_process(cls, environment: Mapping[str, str]) -> RobotClock:
        """The clock that this process was started with.

        Raises:
            ValueError: the variable is there and no clock.
        """
        text = environment.get(VARIABLE, '')
        if not text:
            return cls()
        factor, _, anchor = text.partition('@')
        try:
            return cls(float(factor), int(anchor))
        except ValueError as error:
            raise ValueError(f'{VARIABLE}={text!r} is not FACTOR@ANCHOR_NS: {error}') from None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that give another process the same clock; none for the machine's own."""
        return {} if self.factor == 1.0 else {VARIABLE: f'{self.factor}@{self.anchor_ns}'}

    def behind_ns(self, machine_ns: int) -> int:
        """How far this clock is behind at a monotonic time of the machine, ns."""
        if self.factor == 1.0:
            return 0
        return round((1.0 - self.factor) * (machine_ns - self.anchor_ns))

    def monotonic_ns(self) -> int:
        """Monotonic time, ns."""
        now_ns = time.monotonic_ns()
        return now_ns - self.behind_ns(now_ns)

    def monotonic(self) -> float:
        """Monotonic time, s."""
        return self.monotonic_ns() * 1e-9

    def time_ns(self) -> int:
        """System time, ns; on a slow clock it falls behind as the monotonic time does."""
        return self.from_system_ns(time.time_ns())

    def from_system_ns(self, system_ns: int) -> int:
        """A reading of the system's clock taken just now, as this clock would have had it, ns."""
        return system_ns - self.behind_ns(time.monotonic_ns())

    def of_past_system_ns(self, system_ns: int) -> int:
        """What this clock's system time was at a past reading of the machine's system clock, ns.

        One that lies ahead, because the system clock was set back since, counts as taken just now.
        """
        # In this order: a pause between the two readings makes the result late, never too early.
        machine_ns, now_ns = time.monotonic_ns(), time.time_ns()
        age_ns = max(0, now_ns - system_ns)
        return now_ns - self.behind_ns(machine_ns) - round(age_ns * self.factor)

    def machine_s(self, seconds: float) -> float:
        """How long so many seconds of this clock take on the machine, s."""
        return seconds / self.factor

    def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds of this clock."""
        time.sleep(self.machine_s(seconds))


robot_clock = RobotClock.of_process(os.environ)
"""The clock of this process."""
