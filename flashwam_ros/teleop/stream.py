# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rows as a stream of short chunks: the driver's own chunks, of which only the end is executed.

A chunk has the contract's shape, but its ``first_row`` leaves one key-frame interval to execute
(2 rows, 100 ms). The driver chains them by time without a gap as long as each arrives half a row
before its predecessor ends; limits, authority and accounts are those of any other chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.teleop.settings import TeleopSettings

_KEPT = 8
_FOLLOW_RAD = 0.02
# After a late chunk the arms start from rest, up to 0.07 rad behind rows that move at 2 rad/s, and
# catch up in the next one.
_FROM_REST_RAD = 0.08
_PAUSE_NS = 1_000_000
_SILENT_NS = 1_000_000_000


class ChunkStream:
    """When the next rows are due, and the chunk that carries them; all times monotonic ns.

    Attributes:
        rows: Rows per chunk.
        session: Name of the session, '' while there is none.
    """

    def __init__(self, contract: RobotContract, settings: TeleopSettings) -> None:
        """No session."""
        self._contract, self._hash = contract, contract.sha256
        self.rows = contract.rows_per_key_frame
        self._row_ns = round(contract.row_duration_s * 1e9)
        self._lead_ns = round(settings.lead_s * 1e9)
        self.end('')

    def begin(self, session: str, now_ns: int) -> None:
        """Start a session: its first chunk is due now."""
        self.session = session
        self._next, self._end_ns = 0, now_ns + self._lead_ns
        self._accounted = -1
        self._sent: deque[tuple[int, np.ndarray]] = deque(maxlen=_KEPT)
        self._starts: dict[int, int] = {}

    def end(self, session: str = '') -> None:
        """Nothing is due any more."""
        self.begin(session, 0)

    @property
    def due_ns(self) -> int:
        """When planning of the next chunk should begin."""
        return self._end_ns - self._lead_ns

    def wanted(self, now_ns: int) -> bool:
        """Whether the next chunk is to be sent now.

        Not before the driver has begun the last one: on a busy machine that may be later than was
        reckoned, and a chunk too many would be refused, and with it all that follow.
        """
        return now_ns >= self.due_ns and self._accounted == self._next - 1

    def silent(self, now_ns: int) -> bool:
        """Whether the driver does not tell of the last chunk: it does not execute it."""
        return self._accounted < self._next - 1 and now_ns - self._end_ns > _SILENT_NS

    def chunk(
        self, rows: np.ndarray, stamp_ns: int, now_ns: int, latency_s: Mapping[str, float]
    ) -> ActionChunk:
        """The next chunk.

        Args:
            rows: (rows, 16) planned from the end of the last chunk.
            stamp_ns: Stamp of the operator's command that it follows.
            now_ns: Time of sending.
            latency_s: Where time went, by name.
        """
        contract, index = self._contract, self._next
        first = contract.rows_per_chunk - self.rows
        positions = np.vstack([np.repeat(rows[:1], first, axis=0), rows])
        self._sent.append((index, rows[-1]))
        self._next += 1
        # Until the driver says better: after its predecessor, or half a row after arrival.
        start_ns = max(self._end_ns if index else 0, now_ns + self._row_ns // 2)
        self._end_ns = start_ns + self.rows * self._row_ns
        return ActionChunk(
            session=self.session,
            contract_hash=self._hash,
            index=index,
            predecessor=index - 1,
            row_duration_s=contract.row_duration_s,
            positions=positions,
            channel_names=contract.channel_names,
            first_row=first,
            stamp_ns=stamp_ns,
            latency_s=latency_s,
        )

    def applied(self, account: AppliedChunk) -> np.ndarray | None:
        """Take the driver's account of a chunk (stamps on our clock).

        Returns:
            What was really commanded at its end, (16,), where that is far from what was sent: the
            arms were held back and the operator's hand must be tied to them anew.
        """
        if account.session != self.session or not self.session:
            return None
        self._accounted = max(self._accounted, account.index)
        length_ns = self.rows * self._row_ns
        waiting = self._next - 1 - account.index
        self._end_ns = account.start_ns + (1 + waiting) * length_ns
        self._starts[account.index] = account.start_ns
        self._starts.pop(account.index - _KEPT, None)
        if not account.complete:
            return None
        before = self._starts.get(account.index - 1, account.start_ns - length_ns)
        rested = account.start_ns - before - length_ns > _PAUSE_NS
        bound = _FROM_REST_RAD if rested else _FOLLOW_RAD
        for index, last in self._sent:
            if index == account.index:
                off = np.abs(account.positions[-1] - last)[:-2]
                return account.positions[-1] if off.max() > bound else None
        return None
