# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a study's runner is about to do and has done, on the disk before anything else happens.

One JSON object per line: `begun` before the robot moves, `finished` with everything measured as
soon as it is known, `recorded` or `voided` when the study's store has it. A line that a kill cut
short was never acted upon and is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

BEGUN, FINISHED, RECORDED, VOIDED, SESSION = 'begun', 'finished', 'recorded', 'voided', 'session'
FILE = 'journal.jsonl'
_POLL_S = 0.2


class JournalError(RuntimeError):
    """The journal belongs to another process, or holds what it cannot hold."""


class Journal:
    """Append-only; one process at a time.

    Args:
        folder: of the study.
        wait_s: how long another runner may still have it. One whose graph was killed takes half a
            minute to bring its rollout to an end.

    Attributes:
        entries: in the order of their writing.

    Raises:
        JournalError: another runner has it, or a line in its middle is damaged.
    """

    def __init__(self, folder: Path, wait_s: float = 0.0):
        self._file = open(folder / FILE, 'ab+')  # noqa: SIM115 (kept open for its lock)
        deadline = time.monotonic() + wait_s
        while not self._take():
            if time.monotonic() > deadline:
                self._file.close()
                raise JournalError(f'{folder}: another runner is at work in this study')
            time.sleep(_POLL_S)
        self.entries = self._read()

    def _take(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _read(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b'\n') + 1]
        if len(whole) < len(content):
            self._file.truncate(len(whole))
        return _parse(whole, self._file.name)

    def add(self, kind: str, **values: Any) -> None:
        """Append one entry; it is on the disk when this returns."""
        entry = {'kind': kind, 'time': round(time.time(), 3), **values}
        self._file.write(json.dumps(entry).encode() + b'\n')
        self._file.flush()
        os.fsync(self._file.fileno())
        self.entries.append(entry)

    def of(self, trial: str, kind: str) -> dict[str, Any] | None:
        """The newest entry of this kind for a trial, None for none."""
        return next((entry for entry in reversed(self.entries)
                     if entry['kind'] == kind and entry.get('trial') == trial), None)

    def close(self) -> None:
        """Let others have it."""
        self._file.close()


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """All entries, without taking the journal; [] where there is none yet."""
    path = folder / FILE
    content = path.read_bytes() if path.exists() else b''
    return _parse(content[: content.rfind(b'\n') + 1], path)


def _parse(content: bytes, path: object) -> list[dict[str, Any]]:
    entries = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise JournalError(f'{path}, line {number}: {error}; repair it by hand') from None
    return entries
