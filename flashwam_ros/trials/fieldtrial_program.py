# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""fieldtrial's own command: lock, serve, unblind, report. It may live in another environment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from flashwam_ros.trials.store import Store, StoreError
from flashwam_ros.trials.study import StudyError

VARIABLE = 'FLASHWAM_FIELDTRIAL'
_LIMIT_S = 300.0
_START_S = 120.0
_STOP_S = 10.0
_POLL_S = 0.2


def fieldtrial_path() -> str:
    """The executable: the variable, else beside this Python, else on the path.

    Raises:
        StudyError: there is none.
    """
    beside = Path(sys.executable).with_name('fieldtrial')
    for candidate in (os.environ.get(VARIABLE), str(beside), 'fieldtrial'):
        found = shutil.which(candidate) if candidate else None
        if found:
            return found
    raise StudyError(
        f"fieldtrial is not installed here: pip install '.[trials]' (Python 3.11 or newer), or "
        f'install it in an environment of its own and set {VARIABLE} to its executable'
    )


def fieldtrial(*words: str) -> str:
    """Run a command of fieldtrial and return what it wrote.

    Raises:
        StudyError: it failed; the message is what it said.
    """
    try:
        done = subprocess.run(
            [fieldtrial_path(), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_LIMIT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StudyError(f'fieldtrial {words[0]}: {error}') from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise StudyError(f'fieldtrial {words[0]}: {said}')
    return done.stdout


def fieldtrial_json(*words: str) -> Any:
    """As `fieldtrial`, for commands that write JSON."""
    text = fieldtrial(*words)
    try:
        return json.loads(text)
    except ValueError as error:
        raise StudyError(f'fieldtrial {words[0]} wrote no JSON: {text[:200]!r}') from error


class Server:
    """`fieldtrial serve` on loopback, as long as this object lives; use as a context manager.

    Args:
        folder: of studies.
        port: TCP port.

    Attributes:
        url: of console and REST API.
    """

    def __init__(self, folder: Path, port: int):
        self._port = port
        self.url = f'http://127.0.0.1:{port}'
        self._command = [fieldtrial_path(), 'serve', str(folder), '--port', str(port)]
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Server:
        """Start, and wait until it answers.

        Raises:
            StudyError: it does not, or somebody else has the port.
        """
        self._await_port()
        # It must not outlive whoever needs it, not even after SIGKILL.
        prefix = ['setpriv', '--pdeathsig', 'TERM', '--'] if shutil.which('setpriv') else []
        self._process = subprocess.Popen(
            [*prefix, *self._command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while not (self._alive() and self._answers() and self._alive()):
            if time.monotonic() > deadline:
                self.__exit__()
                raise StudyError(f'fieldtrial serve: no answer within {_START_S:.0f} s')
            time.sleep(_POLL_S)
        return self

    def _await_port(self) -> None:
        """Another study's server would take our trials; that of a killed runner needs a moment."""
        deadline = time.monotonic() + _STOP_S
        while self._taken():
            if time.monotonic() > deadline:
                raise StudyError(f'port {self._port} is taken: another study may be running; wait '
                                 'for it, or give --port another one')
            time.sleep(_POLL_S)

    def _taken(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(('127.0.0.1', self._port), 1.0).close()
            return True
        return False

    def _alive(self) -> bool:
        """True; only while it lives is an answer its own.

        Raises:
            StudyError: it has ended; the message is what it said.
        """
        if self._process.poll() is not None:
            raise StudyError(f'fieldtrial serve: {self._process.stderr.read().strip()}')
        return True

    def _answers(self) -> bool:
        with contextlib.suppress(StoreError):
            Store(self.url, '').studies()
            return True
        return False

    def __exit__(self, *_) -> None:
        """Stop it."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()
