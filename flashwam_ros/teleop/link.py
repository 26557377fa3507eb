# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the operator is still there: age of the newest command, and honest stamps for it."""

from __future__ import annotations

import enum

from flashwam_ros.teleop.settings import TeleopSettings

# Two clocks part by at most this: a quartz is good to 50 parts per million, either way. Allowing
# for more would make a connection that has become slow the new normal; at this rate a lasting
# delay of 3 s takes hours to be forgotten. A clock that is worse seems late: the arms hold.
_DRIFT_PPM = 100


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

    The shortest transit of all counts as none, plus what the clocks may have drifted since. So a
    connection that stalls and then delivers everything at once gives old commands, and one that
    becomes slow and stays so gives old commands for good. One that was slow from the first message
    on cannot be told from a clock that is behind.
    """

    def __init__(self) -> None:
        """Nothing heard yet."""
        self._least: tuple[int, int] | None = None

    def stamp_ns(self, sent_ns: int, arrival_ns: int) -> int:
        """When a message was sent, on our clock (ns), at most its arrival."""
        offset_ns = arrival_ns - sent_ns
        least_ns, since_ns = self._least or (offset_ns, arrival_ns)
        least_ns += (arrival_ns - since_ns) * _DRIFT_PPM // 1_000_000
        if self._least is None or offset_ns <= least_ns:
            least_ns = offset_ns
            self._least = offset_ns, arrival_ns
        return sent_ns + least_ns
