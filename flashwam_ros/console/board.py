# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The newest value of every source, each with its age: what a page is told.

Nothing here decides whether something is fresh: a value always goes out with its age, and the page
lets the age grow while it hears nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_RATE_NS = 2_000_000_000
_DIGITS = 5


@dataclass(frozen=True)
class Frame:
    """A camera's picture: running number, JPEG as it came, capture and arrival (monotonic ns)."""

    number: int
    jpeg: bytes
    stamp_ns: int
    arrival_ns: int


class Board:
    """Thread-safe; all instants are monotonic ns.

    Args:
        clock_ns: the clock.

    Attributes:
        pages: browser pages that are connected now.
        seen_ns: when a page was last connected.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns):
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._values: dict[str, tuple[Any, int]] = {}
        self._frames: dict[str, Frame] = {}
        self._arrivals: dict[str, deque[int]] = {}
        self.pages = 0
        self.seen_ns = 0

    def now_ns(self) -> int:
        """The clock."""
        return self._clock_ns()

    def put(self, name: str, value: Any, stamp_ns: int | None = None) -> None:
        """A source's newest value; `stamp_ns`: when it was so, if that is known."""
        now_ns = self._clock_ns()
        since_ns = now_ns if stamp_ns is None else min(stamp_ns, now_ns)
        with self._lock:
            self._values[name] = (plain(value), since_ns)

    def put_frame(self, camera: str, jpeg: bytes, stamp_ns: int) -> None:
        """A camera's newest picture, captured at `stamp_ns`."""
        now_ns = self._clock_ns()
        with self._lock:
            last = self._frames.get(camera)
            number = last.number + 1 if last else 1
            self._frames[camera] = Frame(number, jpeg, min(stamp_ns, now_ns), now_ns)
            arrivals = self._arrivals.setdefault(camera, deque())
            arrivals.append(now_ns)
            while arrivals[0] < now_ns - _RATE_NS:
                arrivals.popleft()

    def frame(self, camera: str) -> Frame | None:
        """The newest picture, None before the first."""
        return self._frames.get(camera)

    def value(self, name: str) -> Any:
        """A source's newest value whatever its age, None before the first."""
        entry = self._values.get(name)
        return entry[0] if entry else None

    def snapshot(self) -> dict[str, Any]:
        """Everything, as JSON types: `t_ms` of the clock; name -> [age in s, value]."""
        now_ns = self._clock_ns()
        with self._lock:
            parts = {
                name: [_seconds(now_ns - since_ns), value]
                for name, (value, since_ns) in self._values.items()
            }
            for camera, frame in self._frames.items():
                recent = [at for at in self._arrivals[camera] if at >= now_ns - _RATE_NS]
                rate = round(len(recent) / (_RATE_NS * 1e-9), 1)
                age_s = _seconds(now_ns - frame.stamp_ns)
                parts[f'camera {camera}'] = [age_s, {'rate_hz': rate}]
        return {'t_ms': now_ns * 1e-6, 'parts': parts}


def _seconds(duration_ns: int) -> float:
    return round(duration_ns * 1e-9, 3)


def plain(value: Any) -> Any:
    """JSON types only; what is not a finite number becomes None."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(part) for part in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return round(float(value), _DIGITS) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.integer) else value
