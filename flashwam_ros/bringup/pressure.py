# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a machine had processors enough for what ran on it."""

from __future__ import annotations

import re
import time
from pathlib import Path

_PRESSURE = Path('/proc/pressure/cpu')
OVERLOADED = 0.6


class ProcessorWait:
    """Share of the time since its making in which something waited for a processor.

    Linux counts it (pressure stall information, line ``some``); elsewhere it is not known.
    """

    def __init__(self, source: Path = _PRESSURE) -> None:
        self._source = source
        self._begun_s, self._waited_s = time.monotonic(), self._read()

    def _read(self) -> float | None:
        try:
            found = re.search(r'some .*total=(\d+)', self._source.read_text(encoding='ascii'))
        except OSError:
            return None
        return int(found[1]) * 1e-6 if found else None

    def share(self) -> float | None:
        """0..1, or None where the kernel does not tell."""
        waited_s, past_s = self._read(), time.monotonic() - self._begun_s
        if waited_s is None or self._waited_s is None or past_s <= 0.0:
            return None
        return min(1.0, (waited_s - self._waited_s) / past_s)

    def advice(self) -> str:
        """What to tell somebody whose rollout did not count; '' where this was not the reason."""
        share = self.share()
        if share is None or share < OVERLOADED:
            return ''
        return (f'for {share:.0%} of the rollout something waited for a processor: this machine '
                'is too slow, or too busy, to simulate in real time. End other programs, draw '
                'fewer pictures (camera_rate:=10, if it was more), run in slow motion '
                '(real_time_factor:=0.5), or take more or faster cores')
