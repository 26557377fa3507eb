# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the programs that start or ask a graph share: arguments, log file, lines for people."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from flashwam_ros.bringup.settings import SettingsError

#: What ends a program that an operator started; the last one comes when its terminal is closed.
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOUD = ('[ERROR]', '[FATAL]', 'Traceback', 'not released', 'refused')


class RunError(RuntimeError):
    """No rollout could be run; the message says why."""


def parse(argv: Sequence[str]) -> dict[str, str]:
    """Arguments as `name:=value`, `--name value` or `--name=value`.

    Raises:
        SettingsError: a word that is none of these.
    """
    values: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        for mark in (':=', '='):
            name, found, value = word.removeprefix('--').partition(mark)
            if found:
                break
        if not found and word.startswith('--') and words:
            name, value = word[2:], words.pop(0)
        elif not found:
            raise SettingsError(f'{word!r} is not of the form name:=value or --name value')
        values[name.replace('-', '_')] = value
    return values


class Log:
    """Sink of the supervisor: everything into a file, what is wrong also onto the screen."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open('w', encoding='utf-8')
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        """Take one line of a process."""
        with self._lock:
            self._file.write(f'{datetime.now():%H:%M:%S.%f} [{name}] {line}\n')
            self._file.flush()
        if any(mark in line for mark in _LOUD):
            say(f'  [{name}] {line}')


def say(text: str) -> None:
    """One line for the operator; lost where the terminal was closed, as what runs has to end."""
    with contextlib.suppress(OSError):
        sys.stdout.write(text + '\n')
        sys.stdout.flush()
