# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The web sockets: the page asks for the next state or picture and gets the newest one.

Because the page asks, a slow connection thins the stream out instead of filling a queue with old
pictures. Commands go the other way on a socket of their own and are passed on untouched.
"""

from __future__ import annotations

import asyncio
import json
import struct

from starlette.websockets import WebSocket, WebSocketDisconnect

from flashwam_ros.console.backend import Backend
from flashwam_ros.console.board import Board

_HEAD = struct.Struct('<Bxxxxxxxdd')
"""Before a JPEG: number of the camera, the clock (ms), age of the picture (s)."""
_POLL_S = 0.015
_LONGEST = 4096


class Live:
    """The three web sockets of the console.

    Args:
        board: what is told.
        backend: takes the commands.
        cameras: keys, in the order of their numbers.
    """

    def __init__(self, board: Board, backend: Backend, cameras: tuple[str, ...]):
        self._board, self._backend, self._cameras = board, backend, cameras

    async def state(self, socket: WebSocket) -> None:
        """Each text asks for one snapshot."""
        await socket.accept()
        self._board.pages += 1
        try:
            while True:
                await socket.receive_text()
                self._board.seen_ns = self._board.now_ns()
                await socket.send_text(json.dumps(self._board.snapshot(), allow_nan=False))
        except (WebSocketDisconnect, RuntimeError, KeyError):
            return
        finally:
            self._board.pages -= 1

    async def video(self, socket: WebSocket) -> None:
        """Each text, the key of a camera, asks for one picture newer than the last one sent."""
        await socket.accept()
        asked: set[str] = set()
        sending = asyncio.create_task(self._send_pictures(socket, asked))
        try:
            while True:
                camera = await socket.receive_text()
                if camera in self._cameras:
                    asked.add(camera)
        except (WebSocketDisconnect, RuntimeError, KeyError):
            return
        finally:
            sending.cancel()

    async def _send_pictures(self, socket: WebSocket, asked: set[str]) -> None:
        sent = dict.fromkeys(self._cameras, 0)
        while True:
            for camera in tuple(asked):
                frame = self._board.frame(camera)
                if frame is None or frame.number == sent[camera]:
                    continue
                sent[camera] = frame.number
                asked.discard(camera)
                now_ns = self._board.now_ns()
                head = _HEAD.pack(self._cameras.index(camera), now_ns * 1e-6,
                                  (now_ns - frame.stamp_ns) * 1e-9)  # fmt: skip
                try:
                    await socket.send_bytes(head + frame.jpeg)
                except (WebSocketDisconnect, RuntimeError):
                    return
            await asyncio.sleep(_POLL_S)

    async def teleop(self, socket: WebSocket) -> None:
        """Each text is an operator's command (see `teleop.web`) and goes on as it is."""
        await socket.accept()
        try:
            while True:
                text = await socket.receive_text()
                if len(text) <= _LONGEST:
                    self._backend.teleop(text)
        except (WebSocketDisconnect, RuntimeError, KeyError):
            return
