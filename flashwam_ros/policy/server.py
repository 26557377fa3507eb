# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A server of one policy for robots on other machines.

Speaks the websocket protocol of the LingBot-VA server (docs/serving.md has the table), so that
its stock clients work: `reset`, then `infer` and `compute_kv_cache` in turn. Three things go
beyond it, and only for clients that ask: the handshake in the metadata, a `seed` in reset, and
predicting ahead (two `infer` before the first `compute_kv_cache`; `imagine` with the rows that
execute).
"""

from __future__ import annotations

import contextlib
import http
import logging
import math
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from flashwam_ros.imaging import ImageError, decode_jpeg, to_policy_size
from flashwam_ros.policy.handshake import Handshake
from flashwam_ros.policy.msgpack_numpy import LIMIT_BYTES, MessageError, pack, unpack
from flashwam_ros.policy.protocol import HistoryError, KeyFrame, Policy, PolicyError
from flashwam_ros.policy.wire_chunk import IMAGE, from_wire, to_wire

log = logging.getLogger(__name__)

PORT = 29536
_FAULT, _BUSY = 1011, 1013
# Whoever comes back at once may find that its own last connection is still being closed.
_TURN_S = 2.0
# A tunnel hides that a client vanished: its near end is alive. Robots ask every second.
_SILENT_S = 15.0
# A client whose cable was pulled must not hold the server for ever; the protocol has no pings.
_KEEPALIVE_S = 5


class ServedEpisode:
    """Requests of one client in, replies out; owns the policy while it is in use.

    Args:
        policy: any policy.
    """

    def __init__(self, policy: Policy):
        self._policy, self._contract = policy, policy.contract
        self._prompted = self._started = False
        self._grounded = self._frames = 0
        self._previous_ms: float | None = None

    def handle(self, request: Any) -> dict[str, Any]:
        """The reply to one request.

        Raises:
            PolicyError: the request does not fit the protocol or the history.
        MessageError: `state` is not a chunk.
        """
        begun = time.perf_counter()
        if not isinstance(request, Mapping):
            raise HistoryError(f'a request is a map, not {type(request).__name__}')
        reply = self._answer(request)
        spent_ms = 1e3 * (time.perf_counter() - begun)
        reply['server_timing'] = {'infer_ms': spent_ms}
        if self._previous_ms is not None:
            reply['server_timing']['prev_total_ms'] = self._previous_ms
        self._previous_ms = spent_ms
        return reply

    def _answer(self, request: Mapping) -> dict[str, Any]:
        if request.get('reset'):
            return self._reset(request)
        if not self._prompted:
            raise HistoryError('the first request of an episode is reset, with a prompt')
        if request.get('compute_kv_cache'):
            rows = from_wire(request, 'state', self._contract)
            if not np.isfinite(rows).all():
                raise HistoryError('state holds values that are not finite')
            if request.get('imagine'):
                self._policy.imagine(rows)
            else:
                self._ground(request.get('obs'), rows)
            return {}
        return self._infer(request.get('obs'))

    def _reset(self, request: Mapping) -> dict[str, Any]:
        prompt, seed = request.get('prompt', ''), request.get('seed', 0)
        if not isinstance(prompt, str) or not isinstance(seed, int) or seed < 0:
            raise HistoryError(f'reset with prompt {prompt!r} and seed {seed!r}')
        self._policy.reset(prompt, seed)
        self._prompted, self._started = True, False
        self._grounded = self._frames = 0
        return {}

    def _infer(self, obs: Any) -> dict[str, Any]:
        """Only the first observation of an episode counts; the history holds all later ones."""
        if not self._started:
            first = obs[0] if isinstance(obs, list) and len(obs) == 1 else obs
            self._observe(first)
            self._started = True
        return {'action': to_wire(self._policy.predict().positions, self._contract)}

    def _ground(self, obs: Any, rows: np.ndarray) -> None:
        for entry in obs if isinstance(obs, list) else [obs]:
            self._observe(entry)
        # The first frame of an episode is the observed one: its rows were not executed.
        first = self._contract.actions_per_frame if self._grounded == 0 else 0
        self._policy.ground(rows[first:])
        self._grounded += 1

    def _observe(self, obs: Any) -> None:
        if not isinstance(obs, Mapping):
            raise HistoryError(f'an observation is a map of images, not {type(obs).__name__}')
        images = {}
        for camera in self._contract.cameras:
            name = f'{IMAGE}{camera.dataset_key}'
            image = obs.get(name)
            try:
                if isinstance(image, bytes):
                    image = decode_jpeg(image)
                images[camera.key] = to_policy_size(image, camera)
            except ImageError as error:
                raise HistoryError(f'{name}: {error}') from error
        # The protocol has no stamps; the client looks after time, here only the order counts.
        self._frames += 1
        self._policy.observe(KeyFrame(images, dict.fromkeys(images, self._frames), self._frames))


class PolicyServer:
    """Serves one policy; one client at a time holds the episode, until it is gone or silent.

    Args:
        policy: what is served; used in the thread of whoever holds the episode.
        handshake: what every client is told first.
        host: address to listen at.
        port: TCP port, 0 for any free one.

    Raises:
        PolicyError: the address cannot be used.
    """

    def __init__(self, policy: Policy, handshake: Handshake, host: str = '127.0.0.1',
                 port: int = PORT):
        from websockets.sync.server import serve

        self._policy, self._metadata = policy, pack(handshake.to_metadata())
        self._held = threading.Lock()
        self._holder, self._asked_at = None, 0.0
        self._open: set = set()
        try:
            self._server = serve(
                self._client, host, port, compression=None, max_size=LIMIT_BYTES,
                ping_interval=None, process_request=_health,
                origins=[None],  # browsers send one: no web page may take the robot's model
            )  # fmt: skip
        except OSError as error:
            raise PolicyError(f'cannot listen at {host}:{port}: {error.strerror}') from error
        self.address = 'ws://{}:{}'.format(*self._server.socket.getsockname()[:2])

    def run(self) -> None:
        """Serve until `close`."""
        self._server.serve_forever()

    def close(self) -> None:
        """Listen no more and cut every connection; a prediction in hand is finished first."""
        for stop in (self._cut, self._server.shutdown, self._cut):
            stop()

    def _cut(self) -> None:
        """Older releases of websockets leave this to us, newer ones wait for polite clients."""
        for connection in tuple(self._open):
            cut(connection)

    def _take(self, connection) -> bool:
        """Whether this connection holds the episode now; a holder that is silent loses it."""
        if not self._held.acquire(timeout=_TURN_S):
            if time.monotonic() - self._asked_at < _SILENT_S:
                return False
            log.warning('a client that was silent for %.0f s loses its place', _SILENT_S)
            cut(self._holder)
            if not self._held.acquire(timeout=_TURN_S):
                return False
        self._holder, self._asked_at = connection, time.monotonic()
        return True

    def _serve(self, episode: ServedEpisode, data: str | bytes) -> bytes:
        """The reply to one message of the holder, who is not silent meanwhile."""
        self._asked_at = math.inf
        try:
            return pack(episode.handle(unpack(_binary(data))))
        finally:
            self._asked_at = time.monotonic()

    def _client(self, connection) -> None:
        """One connection; it holds the episode from its first request on."""
        from websockets.exceptions import ConnectionClosed

        _keep_alive(connection.socket)
        who = '{}:{}'.format(*connection.remote_address[:2])
        held = False
        self._open.add(connection)
        try:
            connection.send(self._metadata)
            episode = ServedEpisode(self._policy)
            for data in connection:
                if not held and not self._take(connection):
                    _refuse(connection, _BUSY, 'another client is using this server: it holds one '
                            'episode at a time')
                    return
                if not held:
                    log.info('%s: begins', who)
                held = True
                connection.send(self._serve(episode, data))
        except ConnectionClosed:
            pass
        except (PolicyError, MessageError) as error:
            log.error('%s: %s', who, error)
            _refuse(connection, _FAULT, f'{type(error).__name__}: {error}')
        except Exception as error:
            log.exception('%s: the policy failed', who)
            _refuse(connection, _FAULT, f'{type(error).__name__}: {error}')
        finally:
            self._open.discard(connection)
            if held:
                self._held.release()
                log.info('%s: gone', who)


def cut(connection) -> None:
    """Closing alone would send nothing while the connection's own thread reads."""
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def _binary(data: str | bytes) -> bytes:
    if isinstance(data, str):
        raise MessageError('requests are binary msgpack messages, this one is text')
    return data


def _refuse(connection, code: int, reason: str) -> None:
    """As the protocol has it: the error as text, then the end."""
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        connection.send(reason)
        connection.close(code)


def _health(connection, request):
    """Answers GET /healthz; everything else becomes a websocket."""
    if request.path == '/healthz':
        return connection.respond(http.HTTPStatus.OK, 'OK\n')
    return None


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ('TCP_KEEPIDLE', 'TCP_KEEPINTVL', 'TCP_KEEPCNT'):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE_S)
