# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The camera server's stream (teleimager protocol): JPEG frames over ZMQ.

Configuration: REQ/REP, any request, the reply is a JSON object with one entry per camera. Frames:
one PUB socket per camera, one message is one JPEG. The stock protocol has neither time stamp nor
sequence number; ours rides inside the JPEG as a comment segment, which every decoder skips.
"""

import contextlib
import json
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import zmq

from flashwam_ros.robot.clock import robot_clock

CONFIG_PORT = 60000
_SOI = b'\xff\xd8'
_COMMENT = 0xFE
_START_OF_SCAN = 0xDA
_MAGIC = b'flashwam1'
_STAMP = struct.Struct('<9sQq')
_REQUEST_RETRY_S = 1.0
_REP_POLL_MS = 200
_QUEUE = 16


class CameraTable(Protocol):
    """What this module needs of a camera of the robot contract."""

    key: str
    wire_name: str


class StreamError(ValueError):
    """What the camera server sent cannot be used."""


def encode_stamp(jpeg: bytes, seq: int, stamp_ns: int) -> bytes:
    """Put a sequence number and a capture stamp into a JPEG, as a comment after its first marker.

    Args:
        jpeg: a complete JPEG.
        seq: frame number.
        stamp_ns: capture time, ns since the epoch.

    Raises:
        StreamError: if the bytes are not a JPEG.
    """
    if jpeg[:2] != _SOI:
        raise StreamError(f'not a JPEG: {len(jpeg)} bytes beginning {jpeg[:2].hex()}')
    content = _STAMP.pack(_MAGIC, seq, stamp_ns)
    comment = b'\xff' + bytes([_COMMENT]) + struct.pack('>H', len(content) + 2) + content
    return _SOI + comment + jpeg[2:]


def decode_stamp(jpeg: bytes) -> tuple[int, int] | None:
    """Sequence number and capture stamp (ns since the epoch), None without our comment."""
    at = 2
    while jpeg[:2] == _SOI and at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == _START_OF_SCAN:
            break
        length = int.from_bytes(jpeg[at + 2 : at + 4], 'big')
        content = jpeg[at + 4 : at + 2 + length]
        if marker == _COMMENT and len(content) == _STAMP.size and content.startswith(_MAGIC):
            _, seq, stamp_ns = _STAMP.unpack(content)
            return seq, stamp_ns
        at += 2 + length
    return None


def stream_config(
    ports: Mapping[str, int], height: int, width: int, rate_hz: float, kind: str = 'opencv'
) -> dict:
    """The configuration object of the protocol for plain ZMQ cameras.

    Args:
        ports: PUB port by wire name (`head_camera`, ...).
        height: of the images, pixels.
        width: of the images, pixels.
        rate_hz: frame rate.
        kind: `opencv`, `realsense` or `uvc`.
    """
    return {
        name: {
            'enable_zmq': True, 'zmq_port': port,
            'enable_webrtc': False, 'webrtc_port': None, 'webrtc_codec': None,
            'type': kind, 'image_shape': [height, width], 'binocular': False, 'fps': rate_hz,
            'video_id': None, 'serial_number': None, 'physical_path': None,
        }
        for name, port in ports.items()
    }  # fmt: skip


class CameraServer:
    """Serves frames and the configuration.

    Args:
        ports: PUB port by wire name; 0 lets the system choose (see `ports` afterwards).
        config: reply to configuration requests; `zmq_port` is corrected to the real ports.
        request_port: REP port.
        host: address to bind to.

    Raises:
        StreamError: if a port is taken.
    """

    def __init__(
        self, ports: Mapping[str, int], config: Mapping[str, dict],
        request_port: int = CONFIG_PORT, host: str = '127.0.0.1',
    ) -> None:  # fmt: skip
        self._context = zmq.Context()
        self._sockets: dict[str, zmq.Socket] = {}
        try:
            for name, port in ports.items():
                self._sockets[name] = self._bind(zmq.PUB, host, port)
            self._reply = self._bind(zmq.REP, host, request_port)
        except StreamError:
            self._context.destroy(linger=0)
            raise
        self.ports = {name: _port(socket) for name, socket in self._sockets.items()}
        self.request_port = _port(self._reply)
        self._config = json.dumps(
            {name: {**config[name], 'zmq_port': self.ports[name]} for name in ports}
        ).encode()
        self._closing = False
        self._thread = threading.Thread(target=self._answer, name='camera-config', daemon=True)
        self._thread.start()

    def send(self, wire_name: str, jpeg: bytes) -> None:
        """Publish one frame; it is dropped where no one listens or a listener is slow."""
        self._sockets[wire_name].send(jpeg, zmq.NOBLOCK)

    def close(self) -> None:
        """Stop serving and free the ports."""
        if self._closing:
            return
        self._closing = True
        self._thread.join()
        self._context.destroy(linger=0)

    def _bind(self, kind: int, host: str, port: int) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        if kind == zmq.PUB:
            socket.setsockopt(zmq.SNDHWM, _QUEUE)
        try:
            socket.bind(f'tcp://{host}:{port or "*"}')
        except zmq.ZMQError as error:
            raise StreamError(
                f'camera server cannot bind {host}:{port}: is another one running? ({error})'
            ) from error
        return socket

    def _answer(self) -> None:
        while not self._closing:
            if self._reply.poll(_REP_POLL_MS):
                self._reply.recv()
                self._reply.send(self._config)


@dataclass(frozen=True)
class CameraFrame:
    """One frame: `key` of the camera table, JPEG bytes, sequence number (-1 if unknown).

    `stamp_ns` is the capture time (ns since the epoch), `estimated` when it is arrival minus the
    configured latency; `arrival_ns` is on the monotonic clock.
    """

    key: str
    jpeg: bytes
    seq: int
    stamp_ns: int
    estimated: bool
    arrival_ns: int


class CameraClient:
    """Receives the frames of the cameras; asks the server for its ports until it answers.

    Stamped frames that arrived in a burst all count: their stamps say when they were captured. Of
    frames without a stamp only the newest does, as the arrival is all that dates them, and one
    with the very bytes of that camera's last does not: a stock server goes on sending the newest
    picture that it has when a camera hangs, and no sensor gives the same picture twice.

    Args:
        host: the camera server's address.
        cameras: the cameras wanted (entries of the contract's camera table).
        request_port: the server's configuration port.
        latency_s: capture to arrival of a stock server, to estimate the stamps of its frames.

    Attributes:
        config: the server's configuration, None until it has answered.
        repeated: camera key -> frames without a stamp that were dropped as repeated.
    """

    def __init__(
        self, host: str, cameras: Iterable[CameraTable],
        request_port: int = CONFIG_PORT, latency_s: float = 0.05,
    ) -> None:  # fmt: skip
        self.config: dict | None = None
        self._host = host
        self._cameras = tuple(cameras)
        self.repeated = dict.fromkeys((camera.key for camera in self._cameras), 0)
        self._newest: dict[str, bytes] = {}
        self._request_port = request_port
        self._latency_ns = round(latency_s * 1e9)
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._keys: dict[zmq.Socket, str] = {}
        self._request: zmq.Socket | None = None
        self._asked_at = 0.0

    def poll(self, timeout: float) -> list[CameraFrame]:
        """Frames that arrived since the last call; waits up to `timeout` s for the first.

        Raises:
            StreamError: if the server lacks a wanted camera, serves it without ZMQ, or sends
                messages of several parts.
        """
        if self.config is None:
            self._ask()
        frames = []
        for socket, _ in self._poller.poll(max(0, round(timeout * 1000))):
            if socket is self._request:
                self._subscribe(socket.recv())
            else:
                frames.extend(self._frames(socket))
        return frames

    def close(self) -> None:
        """Close all sockets."""
        self._context.destroy(linger=0)

    def _ask(self) -> None:
        now = time.monotonic()
        if self._request is not None:
            if now - self._asked_at < _REQUEST_RETRY_S:
                return
            # A REQ socket waits for its answer for ever: after a silence only a new one may ask.
            self._drop_request()
        self._request = self._context.socket(zmq.REQ)
        self._request.connect(f'tcp://{self._host}:{self._request_port}')
        self._request.send(b'config')
        self._poller.register(self._request, zmq.POLLIN)
        self._asked_at = now

    def _drop_request(self) -> None:
        self._poller.unregister(self._request)
        self._request.close(linger=0)
        self._request = None

    def _subscribe(self, reply: bytes) -> None:
        self._drop_request()
        config = _checked_config(reply, [camera.wire_name for camera in self._cameras])
        for camera in self._cameras:
            socket = self._context.socket(zmq.SUB)
            socket.setsockopt(zmq.RCVHWM, _QUEUE)
            socket.setsockopt(zmq.SUBSCRIBE, b'')
            socket.connect(f'tcp://{self._host}:{config[camera.wire_name]["zmq_port"]}')
            self._poller.register(socket, zmq.POLLIN)
            self._keys[socket] = camera.key
        self.config = config

    def _frames(self, socket: zmq.Socket) -> list[CameraFrame]:
        frames, key = [], self._keys[socket]
        with contextlib.suppress(zmq.Again):
            for _ in range(_QUEUE):
                frame = self._frame(key, _one_part(key, socket.recv_multipart(zmq.NOBLOCK)))
                if not self._is_repeated(frame):
                    frames.append(frame)
        stamped = [frame for frame in frames if not frame.estimated]
        return stamped or frames[-1:]

    def _is_repeated(self, frame: CameraFrame) -> bool:
        """Whether nothing but its arrival is new; where there is a stamp, that tells the age."""
        if not frame.estimated:
            return False
        repeated = frame.jpeg == self._newest.get(frame.key)
        self._newest[frame.key] = frame.jpeg
        self.repeated[frame.key] += repeated
        return repeated

    def _frame(self, key: str, jpeg: bytes) -> CameraFrame:
        arrival_ns, now_ns = robot_clock.monotonic_ns(), robot_clock.time_ns()
        stamp = decode_stamp(jpeg)
        if stamp is None:
            return CameraFrame(key, jpeg, -1, now_ns - self._latency_ns, True, arrival_ns)
        return CameraFrame(key, jpeg, stamp[0], stamp[1], False, arrival_ns)


def _port(socket: zmq.Socket) -> int:
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(':', 1)[1])


def _one_part(key: str, parts: list[bytes]) -> bytes:
    """The JPEG; parts that are no pictures, or of two eyes, would alternate and hide a freeze."""
    if len(parts) != 1:
        raise StreamError(
            f'camera {key}: a message of {len(parts)} parts, the protocol has one JPEG in each: '
            'serve it as teleimager does (both pictures of a binocular camera in one JPEG)'
        )
    return parts[0]


def _checked_config(reply: bytes, wanted: list[str]) -> dict:
    try:
        config = json.loads(reply)
    except ValueError as error:
        raise StreamError(f'camera server answered {reply[:80]!r}, not JSON') from error
    for name in wanted:
        entry = config.get(name) if isinstance(config, dict) else None
        if not entry:
            raise StreamError(f'camera server has no {name}: it serves {list(config)}')
        if not entry.get('enable_zmq') or not isinstance(entry.get('zmq_port'), int):
            raise StreamError(f'camera server does not serve {name} over ZMQ: {entry}')
    return config
