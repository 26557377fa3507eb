# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A policy that runs in a server on another machine: ours, or a stock LingBot-VA one."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from flashwam_ros.policy.handshake import Handshake, describe
from flashwam_ros.policy.msgpack_numpy import LIMIT_BYTES, MessageError, pack, unpack
from flashwam_ros.policy.protocol import HistoryError, KeyFrame, PolicyError, Prediction
from flashwam_ros.policy.server import cut
from flashwam_ros.policy.wire_chunk import IMAGE, from_wire, to_wire
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract

CONNECT_S = 5.0
ANSWER_S = 20.0
"""Longer than any chunk that a robot could wait for; the driver lets go long before."""

UNHEARD_MS = 20_000
"""How long what was sent may stay unacknowledged by the other machine."""


def ask_handshake(address: str) -> Handshake:
    """What a server says of itself; nobody who is using it is disturbed.

    Raises:
        PolicyError: it cannot be reached or understood.
    """
    connection, handshake = _connect(address)
    connection.close()
    return handshake


class RemotePolicy:
    """Client of a policy server; not thread-safe.

    Key frames are kept here and go out with the chunk that they ground. A connection that was lost
    is made again by the next `reset`.

    Args:
        address: `ws://host:port`.
        contract: the robot contract in force, taken for granted where the server says nothing.
        model: what is expected of `Handshake.model`, as much of its beginning as is known.

    Attributes:
        model: what it turned out to be: from then on this one and no other.

    Raises:
        PolicyError: the server cannot be reached, or serves another model or the same otherwise.
    """

    name = 'remote'

    def __init__(self, address: str, contract: RobotContract, model: Sequence = ()):
        self._address, self.model = address, tuple(model)
        self._connection = None
        self._open()
        self.model = self._handshake.model
        self.contract = self._handshake.contract or contract
        self.warnings = self._handshake.warnings
        self.mode_problems = self._handshake.mode_problems
        self._begin(0)

    def reset(self, prompt: str, seed: int) -> None:
        """Start an episode there; whoever was there before may have gone and come back."""
        from websockets.protocol import State

        if self._connection is not None and self._connection.state is not State.OPEN:
            self._drop()
        if self._connection is None:
            self._open()
        self._begin(int(seed))
        self._ask({'reset': True, 'prompt': prompt, 'seed': self._seed})

    def _begin(self, seed: int) -> None:
        self._seed = seed
        self._group: list[dict[str, np.ndarray]] = []
        self._initial: dict[str, np.ndarray] | None = None
        self._last_due_ns = None
        self._predicted = self._grounded = 0
        self._unexecuted: deque[np.ndarray] = deque()
        self._spent: defaultdict[str, float] = defaultdict(float)

    def observe(self, key_frame: KeyFrame) -> None:
        """Keep the frame until its chunk is grounded."""
        if self._last_due_ns is not None and key_frame.due_ns <= self._last_due_ns:
            raise HistoryError(
                f'key frame due at {key_frame.due_ns} ns after one due at {self._last_due_ns} ns'
            )
        images = {}
        for camera in self.contract.cameras:
            image = key_frame.images.get(camera.key)
            if getattr(image, 'shape', None) != (camera.height, camera.width, 3):
                raise HistoryError(
                    f'camera {camera.key}: a key frame without its picture, or with one that is '
                    f'not {camera.width}x{camera.height}'
                )
            images[f'{IMAGE}{camera.dataset_key}'] = image
        self._last_due_ns = key_frame.due_ns
        if self._initial is None:
            self._initial = images
        else:
            self._group.append(images)

    def predict(self) -> Prediction:
        """Ask for the next chunk; `latency_s` tells the server's time from the way there."""
        if self._initial is None:
            raise HistoryError('predict before the initial key frame was observed')
        newest = self._group[-1] if self._group else self._initial
        positions = self._positions(self._timed('predict', {'obs': newest}))
        latency_s, self._spent = dict(self._spent), defaultdict(float)
        first_row = self.contract.actions_per_frame if self._predicted == 0 else 0
        self._unexecuted.append(positions[:first_row])
        self._predicted += 1
        return Prediction(
            positions=positions,
            first_row=first_row,
            video_steps=self._handshake.video_steps,
            action_steps=self._handshake.action_steps,
            seed=self._seed,
            latency_s=latency_s,
        )

    def ground(self, applied: np.ndarray) -> None:
        """Send the executed rows of the oldest forecast with the key frames of that time."""
        if not self._unexecuted:
            raise HistoryError('there is no chunk to be grounded')
        contract = self.contract
        frames = contract.frames_per_chunk - (self._grounded == 0)
        count = frames * contract.key_frames_per_frame
        if len(self._group) < count:
            raise HistoryError(
                f'chunk {self._grounded} cannot be grounded: {len(self._group)} of its {count} '
                'key frames were observed'
            )
        # The protocol counts whole chunks: the rows of the first frame, which nobody executed, go
        # back as they came.
        rows = np.concatenate([self._unexecuted[0], np.asarray(applied, np.float64)])
        self._update('ground', rows, self._group[:count], imagine=False)
        self._unexecuted.popleft()
        self._group = self._group[count:]
        self._grounded += 1

    def imagine(self, rows: np.ndarray) -> None:
        """Have the outcome of these rows (R, C) imagined there."""
        problem = self.mode_problems.get('async_grounded')
        if problem:
            raise PolicyError(problem)
        self._update('imagine', rows, [], imagine=True)

    def warm_up(self) -> float:
        """Two chunks executed on grey images, and the prediction after each.

        Returns:
            Seconds from grounding the second one to having the chunk after it: the key frames of a
            whole chunk are on their way then, as they are whenever a robot moves.
        """
        contract = self.contract
        images = {
            camera.key: np.full((camera.height, camera.width, 3), 128, np.uint8)
            for camera in contract.cameras
        }
        due_ns = itertools.count()

        def observe() -> None:
            at_ns = next(due_ns)
            self.observe(KeyFrame(images, dict.fromkeys(images, at_ns), at_ns))

        self.reset('', 0)
        observe()
        chunk = self.predict()
        for _ in range(2):
            rows = chunk.positions[chunk.first_row :]
            for _ in range(len(rows) * contract.key_frames_per_frame
                           // contract.actions_per_frame):
                observe()
            begun = robot_clock.monotonic()
            self.ground(rows)
            chunk = self.predict()
            spent_s = robot_clock.monotonic() - begun
        self.reset('', 0)
        return spent_s

    def close(self) -> None:
        """Leave the server to others; the next `reset` would connect again."""
        self._drop()

    # -- the wire ---------------------------------------------------------------------------------

    def _open(self) -> None:
        connection, handshake = _connect(self._address)
        if self.model != handshake.model[:len(self.model)]:
            connection.close()
            raise PolicyError(
                f'{self._address} serves {handshake.checkpoint or "an unknown model"} '
                f'({describe(handshake.model)}), not the one that was asked for '
                f'({describe(self.model)})'
            )
        self._connection, self._handshake = connection, handshake

    def _update(self, part: str, rows: np.ndarray, obs: list, imagine: bool) -> None:
        wanted = (self.contract.rows_per_chunk, len(self.contract.channels))
        if rows.shape != wanted or not np.isfinite(rows).all():
            raise HistoryError(f'chunk {self._grounded}: rows of shape {rows.shape} or not finite')
        self._timed(part, {
            'obs': obs, 'compute_kv_cache': True, 'imagine': imagine,
            'state': to_wire(rows, self.contract),
        })  # fmt: skip

    def _timed(self, part: str, request: dict[str, Any]) -> dict[str, Any]:
        """Ask; the server's time counts for this part of the latency, the rest as network."""
        begun = robot_clock.monotonic()
        reply = self._ask(request)
        spent_s = robot_clock.monotonic() - begun
        there_s = min(_server_s(reply) * robot_clock.factor, spent_s)
        self._spent[part] += there_s
        self._spent['network'] += spent_s - there_s
        return reply

    def _positions(self, reply: dict[str, Any]) -> np.ndarray:
        try:
            return from_wire(reply, 'action', self.contract)
        except MessageError as error:
            self._drop()
            raise PolicyError(f'{self._address}: {error}: its model was made for another robot') \
                from error

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request and its reply; after any trouble the connection is gone."""
        if self._connection is None:
            raise PolicyError(f'{self._address}: the connection was lost in this episode')
        try:
            self._connection.send(pack(request))
            reply = _reply(self._connection, ANSWER_S)
            if not isinstance(reply, dict):
                raise PolicyError(f'it answered with {type(reply).__name__}, not with a map')
        except PolicyError as error:
            self._drop()
            raise PolicyError(f'{self._address}: {error}') from error
        except Exception as error:
            self._drop()
            raise PolicyError(f'{self._address}: the policy server is gone '
                              f'({type(error).__name__}: {error})') from error
        return reply

    def _drop(self) -> None:
        """A late reply must not be taken for the next one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            cut(connection)


def _connect(address: str):
    """A connection and what the server said first."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    try:
        # Entered and not left: the connection lives as long as the policy.
        connection = connect(
            address, compression=None, max_size=LIMIT_BYTES, ping_interval=None, proxy=None,
            open_timeout=CONNECT_S, close_timeout=CONNECT_S,
        ).__enter__()  # fmt: skip
    except (OSError, ValueError, WebSocketException) as error:
        raise PolicyError(f'there is no policy server at {address} ({error}): start it there with '
                          'flashwam serve CHECKPOINT, or open the tunnel to it') from error
    # A send has no limit of its own: a server that vanished would hold the policy's thread.
    if hasattr(socket, 'TCP_USER_TIMEOUT'):
        with contextlib.suppress(OSError):  # closed by now: what it said first is still to be read
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
    try:
        return connection, Handshake.from_metadata(_reply(connection, CONNECT_S))
    except PolicyError as error:
        connection.close()
        raise PolicyError(f'{address}: {error}') from error
    except (OSError, WebSocketException) as error:
        raise PolicyError(f'{address}: no policy server ({type(error).__name__}: {error})') \
            from error


def _reply(connection, limit_s: float) -> Any:
    """The next message; text is an error, as the protocol has it."""
    try:
        data = connection.recv(limit_s)
    except TimeoutError:
        raise PolicyError(f'no answer within {limit_s:.0f} s') from None
    if isinstance(data, str):
        raise PolicyError(data.strip().splitlines()[-1] if data.strip() else 'an error')
    try:
        return unpack(data)
    except MessageError as error:
        raise PolicyError(str(error)) from error


def _server_s(reply: dict[str, Any]) -> float:
    """What the server says that it took, 0 where it says nothing."""
    timing = reply.get('server_timing')
    spent = timing.get('infer_ms') if isinstance(timing, dict) else None
    return float(spent) * 1e-3 if isinstance(spent, int | float) and spent >= 0 else 0.0
