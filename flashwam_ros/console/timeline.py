# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The last seconds of chunks: when each was executed, and how much time was left when it came."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk

SPAN_NS = 8_000_000_000
_MOST = 200


@dataclass(frozen=True)
class Bar:
    """One chunk on the line; instants are monotonic ns.

    Attributes:
        index: in its session.
        arrival_ns: when the chunk was heard, 0 if it was not.
        start_ns: begin of its execution, 0 before.
        duration_s: of the rows that are executed.
        slack_s: from its arrival at the driver to the end of its predecessor; negative: late.
        limited: control ticks in which the limiter intervened, so far.
    """

    index: int
    arrival_ns: int = 0
    start_ns: int = 0
    duration_s: float = 0.0
    slack_s: float | None = None
    limited: int = 0


class ChunkLine:
    """Chunks of all sessions in the order in which they were first heard of."""

    def __init__(self) -> None:
        """Empty."""
        self._bars: OrderedDict[tuple[str, int], Bar] = OrderedDict()

    def chunk(self, chunk: ActionChunk, arrival_ns: int) -> None:
        """A chunk was sent to the driver."""
        rows = len(chunk.positions) - chunk.first_row
        self._put(chunk.session, chunk.index, arrival_ns=arrival_ns,
                  duration_s=rows * chunk.row_duration_s)  # fmt: skip

    def applied(self, account: AppliedChunk, start_ns: int) -> None:
        """The driver's account, at its start or at its end."""
        # The first chunk of a session has no predecessor, so nothing that it could be late for.
        slack_s = account.slack_s if account.index > 0 else None
        change = {'start_ns': start_ns, 'slack_s': slack_s, 'limited': account.limited_ticks}
        if account.complete:
            change['duration_s'] = len(account.positions) * account.row_duration_s
        self._put(account.session, account.index, **change)

    def _put(self, session: str, index: int, **change: Any) -> None:
        bar = self._bars.get((session, index), Bar(index))
        self._bars[session, index] = replace(bar, **change)
        while len(self._bars) > _MOST:
            self._bars.popitem(last=False)

    def bars(self, now_ns: int) -> list[dict[str, Any]]:
        """Those of the last seconds, oldest first, times as seconds before `now_ns`."""
        shown = []
        for bar in self._bars.values():
            newest_ns = max(bar.arrival_ns, bar.start_ns)
            if now_ns - newest_ns > SPAN_NS:
                continue
            ago = {
                name: (now_ns - at) * 1e-9 if at else None
                for name, at in (('arrival', bar.arrival_ns), ('start', bar.start_ns))
            }
            shown.append({'index': bar.index, **ago, 'duration': bar.duration_s,
                          'slack': bar.slack_s, 'limited': bar.limited})  # fmt: skip
        return shown
