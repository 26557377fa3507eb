# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A helper process of the twin that shares its state and ends with it."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
_EXIT_S = 5.0


class Child:
    """Runs a module in a process of its own.

    Args:
        module: module with a `main`; it gets `--snapshot-fd` and `arguments`.
        snapshot_fd: descriptor of the shared state, inherited.
        arguments: further arguments.
        env: environment variables to set.
    """

    def __init__(
        self, module: str, snapshot_fd: int, arguments: tuple[str, ...], env: Mapping[str, str]
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, '-m', module, '--snapshot-fd', str(snapshot_fd), *arguments],
            stdin=subprocess.PIPE,
            pass_fds=(snapshot_fd,),
            env={**os.environ, **env},
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it: it sees the end of its input; killed if it does not react."""
        self._process.stdin.close()
        try:
            self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def die_with_parent() -> None:
    """In the child: leave Ctrl-C to the parent, and never outlive it, whatever it dies of."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def parent_gone(timeout_s: float) -> bool:
    """In the child: wait, at most until the parent ends; whether it has ended."""
    readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)
