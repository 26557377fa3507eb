# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the console listens, who may use it, and what it shows."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_LOCAL = ('localhost', '127.0.0.1', '::1')
_SHORTEST_TOKEN = 8


class ConsoleError(ValueError):
    """A setting or a request that cannot be served; the message says what to do."""


@dataclass(frozen=True)
class ConsoleSettings:
    """The console's settings, checked.

    Attributes:
        task: name of the task at hand.
        robot: 'twin' or 'real'.
        device: teleoperation device, '' while a policy moves the robot.
        episodes: folder of the recordings.
        host: address to listen at.
        port: TCP port, 0 for any free one.
        token: secret that a browser must show; '' for none, on the loopback only.
        study_url: fieldtrial's own console, '' while no study runs.
    """

    task: str
    robot: str
    device: str
    episodes: Path
    host: str = '127.0.0.1'
    port: int = 8090
    token: str = ''
    study_url: str = ''

    def __post_init__(self) -> None:
        """Make a token where one is needed and none is given.

        Raises:
            ConsoleError: token too short, or a study's address that no browser can open.
        """
        if not self.token and not is_loopback(self.host):
            object.__setattr__(self, 'token', secrets.token_urlsafe(12))
        if self.token and len(self.token) < _SHORTEST_TOKEN:
            raise ConsoleError(f'console_token: give at least {_SHORTEST_TOKEN} characters')
        parts = urlsplit(self.study_url)
        if self.study_url and (parts.scheme not in ('http', 'https') or not parts.netloc):
            raise ConsoleError(f'study_url: {self.study_url!r} is no http address')

    def address(self, port: int) -> str:
        """What an operator opens, token included; `port` is the one really listened at."""
        anywhere = self.host in ('0.0.0.0', '::')
        host = 'ADDRESS-OF-THIS-MACHINE' if anywhere else self.host
        host = f'[{host}]' if ':' in host else host
        return f'http://{host}:{port}/' + (f'?token={self.token}' if self.token else '')


def is_loopback(host: str) -> bool:
    """Whether an address (or a host name) leads to this machine only."""
    if host in _LOCAL:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
