# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the operator is still there: age of the newest command, and honest stamps for it."""

from __future__ import annotations

import enum
from collections import deque

from flashwam_ros.teleop.settings import TeleopSettings

_OFFSETS = 512


class Link(str, enum.Enum):
    """State of the connection to the operator."""

    WAITING = 'waiting'
    LIVE = 'live'
    STALE = 'stale'
    LOST = 'lost'

    def __str__(self) -> str:
        """The value, as messages carry it."""
        return self.value


class LinkWatch:
    """LIVE -> STALE (hold) -> LOST (give the arms back), by the age of the newest command."""

    def __init__(self, settings: TeleopSettings) -> None:
        """No command yet."""
        self._hold_ns = round(settings.hold_after_s * 1e9)
        self._release_ns = round(settings.release_after_s * 1e9)

    def state(self, stamp_ns: int | None, now_ns: int) -> Link:
        """The state for the newest command's stamp (None: none came), both monotonic ns."""
        if stamp_ns is None:
            return Link.WAITING
        age = now_ns - stamp_ns
        if age <= self._hold_ns:
            return Link.LIVE
        return Link.STALE if age <= self._release_ns else Link.LOST


class TransitClock:
    """Stamps of a sender with its own clock on ours: arrival minus what it took too long.

    The shortest transit seen of late counts as none. So a connection that stalls and then delivers
    everything at once gives old commands, not new ones.
    """

    def __init__(self) -> None:
        """Nothing heard yet."""
        self._offsets: deque[int] = deque(maxlen=_OFFSETS)

    def stamp_ns(self, sent_ns: int, arrival_ns: int) -> int:
        """When a message was sent, on our clock (ns), at most its arrival."""
        self._offsets.append(arrival_ns - sent_ns)
        return min(sent_ns + min(self._offsets), arrival_ns)
