# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the application in a thread of a program that does something else as well."""

from __future__ import annotations

import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from flashwam_ros.console.settings import ConsoleError

_PING_S = 5.0
_END_S = 3
_LONGEST_TEXT = 16384


class Server:
    """Listens from the constructor on, serves between `start` and `close`.

    Args:
        app: the application.
        host: address to listen at.
        port: 0 for any free one.

    Raises:
        ConsoleError: the address cannot be listened at.

    Attributes:
        port: the one listened at.
    """

    def __init__(self, app: ASGIApp, host: str, port: int):
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConsoleError(f'cannot listen at {host}, port {port}: {error}. Another console? '
                               'Give console_port:=N, or console:=false') from error  # fmt: skip
        self.port = self._socket.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(
            app, log_config=None, log_level='warning', access_log=False, lifespan='off',
            server_header=False, ws='websockets-sansio', ws_max_size=_LONGEST_TEXT,
            ws_per_message_deflate=False, ws_ping_interval=_PING_S, ws_ping_timeout=_PING_S,
            timeout_graceful_shutdown=_END_S,
        ))  # fmt: skip
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name='console', daemon=True
        )

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Serve no more."""
        self._server.should_exit = True
        self._thread.join(2.0 * _END_S)
        self._socket.close()
