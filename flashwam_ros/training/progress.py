# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Progress of a run: a bar on a terminal, lines now and then in a log, with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

LINE_EVERY_S = 20.0
BAR_EVERY_S = 0.5
BAR_WIDTH = 24


def duration(seconds: float) -> str:
    """'3 s', '4 min 05 s', '2 h 03 min'."""
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60:02d} s'
    return f'{whole // 3600} h {whole % 3600 // 60:02d} min'


class Progress:
    """Tells how far a run is.

    Args:
        report: gets the lines.
        done: share of the budget that was used before.
        stream: where a bar is drawn, if it is a terminal.
        clock: seconds.
    """

    def __init__(self, report: Callable[[str], None], done: float, stream: TextIO | None = None,
                 clock: Callable[[], float] = time.monotonic):
        self._report, self._done, self._clock = report, done, clock
        self._stream = stream or sys.stderr
        self._begin = clock()
        self._period_s = BAR_EVERY_S if self._stream.isatty() else LINE_EVERY_S
        self._last_s = float('-inf')

    def tell(self, step: int, elapsed_s: float, progress: float, figures: str) -> None:
        """Show a step, if the last one shown is long enough ago."""
        now = self._clock()
        if now - self._last_s < self._period_s:
            return
        self._last_s = now
        line = f'step {step}, {duration(elapsed_s)}: {figures}'
        if progress > self._done:
            left = (now - self._begin) * (1 - progress) / (progress - self._done)
            line += f'; {100 * progress:.0f} %, about {duration(left)} left'
        if not self._stream.isatty():
            self._report(line)
            return
        filled = round(BAR_WIDTH * progress)
        self._stream.write(f'\r\x1b[K[{"#" * filled}{"." * (BAR_WIDTH - filled)}] {line}')
        self._stream.flush()
