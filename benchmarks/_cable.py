# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A network cable that can be pulled and plugged in again."""

from __future__ import annotations

import contextlib
import socket
import threading


class Cable:
    """TCP connections through us: pulled, nothing moves on them and nothing is closed.

    Args:
        port: where the server listens on this machine.

    Attributes:
        port: where to connect instead.
    """

    def __init__(self, port: int):
        self._target = ('127.0.0.1', port)
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        self._plugged = threading.Event()
        self._plugged.set()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def pull(self) -> None:
        """Nothing gets through from now on."""
        self._plugged.clear()

    def plug(self) -> None:
        """What waited gets through, and everything after it."""
        self._plugged.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._plugged.wait()
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut all connections."""
        self._plugged.set()
        for one in self._sockets:
            one.close()
