# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A twin server in a process of its own, for tests."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import flashwam_ros

DEADLINE_S = 30.0


def until(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> object:
    """Poll a condition until it holds; fail after the time-out."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError('condition did not come true in time')


def free_ports(count: int) -> list[int]:
    """TCP ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(('127.0.0.1', 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class TwinProcess:
    """Starts `flashwam_ros.twin.server` with arguments and ends it."""

    def __init__(self, domain: int, *arguments: str) -> None:
        root = str(pathlib.Path(flashwam_ros.__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get('PYTHONPATH')])]
        self.process = subprocess.Popen(
            [
                sys.executable, '-m', 'flashwam_ros.twin.server',
                '--domain', str(domain), '--interface', 'lo', *arguments,
            ],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths)},
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; exit status and what it said on stderr."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said
