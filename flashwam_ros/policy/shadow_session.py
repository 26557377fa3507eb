# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A policy that looks on while somebody else moves the robot: when it begins, when it ends."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from flashwam_ros.policy.protocol import Policy, StreamError
from flashwam_ros.policy.shadow import DistanceSummary, Witness, summarise
from flashwam_ros.policy.worker import PolicyWorker
from flashwam_ros.robot.authority import Mode
from flashwam_ros.robot.chunk import ActionChunk
from flashwam_ros.robot.contract import RobotContract

SILENCE_NS = 500_000_000
"""After so long without a command nobody moves the robot any more."""
_WHOLE_WEIGHT = 0.999
_ON_THE_WAY = frozenset((Mode.ENGAGE.name, Mode.RETREAT.name, Mode.RELEASE.name))


class ShadowSession:
    """Worker and witness together; every method returns at once.

    A session begins when somebody commands the robot with full authority, and ends when nobody
    does or the driver is on its way home. Nothing that is predicted leaves this object.

    Args:
        contract: the robot contract in force.
        now_ns: the clock of all stamps, ns.
        execution: mode of the predict-execute loop.
        frame_period_s: nominal camera frame period, s.

    Attributes:
        prompt: instruction of the next session.
        seed: of the noise of the next session.
        last: distances of the last session that ended with any; None before.
    """

    def __init__(
        self,
        contract: RobotContract,
        now_ns: Callable[[], int],
        execution: str = 'sync',
        frame_period_s: float = 0.05,
    ):
        self.prompt, self.seed = '', 0
        self.last: DistanceSummary | None = None
        self._now_ns, self._execution = now_ns, execution
        self._worker = PolicyWorker(contract, self._on_chunk, now_ns, frame_period_s)
        self._witness = Witness(contract)
        self._chunks: deque[tuple[ActionChunk, int]] = deque()
        self._loaded = False
        self._mode = ''
        self._commanded: tuple[int, float] | None = None
        self._session, self._count = '', 0

    def load(self, make_policy: Callable[[], Policy]) -> Future:
        """Build and warm the policy up; the future gives a `Loaded` or raises what went wrong."""
        future = self._worker.load(make_policy)
        future.add_done_callback(self._on_loaded)
        return future

    def _on_loaded(self, future: Future) -> None:
        self._loaded = future.exception() is None

    def close(self) -> None:
        """End the worker's thread."""
        self._worker.close()

    # -- what is seen -----------------------------------------------------------------------------

    def frame(self, camera: str, image: np.ndarray, stamp_ns: int) -> None:
        """One camera frame at policy size."""
        self._worker.add_frame(camera, image, stamp_ns)

    def measured(self, stamp_ns: int, positions: np.ndarray) -> None:
        """The channels as measured, (C,) rad."""
        self._witness.measured(stamp_ns, positions)

    def commanded(self, stamp_ns: int, positions: np.ndarray, weight: float) -> None:
        """The command in force, (C,) rad, NaN where there is none; weight of authority 0..1."""
        self._witness.commanded(stamp_ns, positions)
        self._commanded = int(stamp_ns), float(weight)

    def mode(self, mode: str) -> None:
        """The driver's mode."""
        self._mode = mode

    # -- sessions ---------------------------------------------------------------------------------

    @property
    def _moved(self) -> bool:
        if self._commanded is None or self._mode in _ON_THE_WAY:
            return False
        stamp_ns, weight = self._commanded
        return weight >= _WHOLE_WEIGHT and self._now_ns() - stamp_ns < SILENCE_NS

    def step(self) -> DistanceSummary | None:
        """Do what is due; the summary of a session that has just ended with at least one chunk."""
        moved = self._moved
        if moved and self._loaded and not self._session:
            self._begin()
        elif self._session and not moved:
            return self._end()
        if self._session:
            self._advance()
        return None

    def _begin(self) -> None:
        self._count += 1
        self._session = f'shadow-{self._count}'
        self._chunks.clear()
        self._witness.begin()
        self._worker.begin(self._session, self.prompt, self.seed, self._execution)

    def _end(self) -> DistanceSummary | None:
        self._session = ''
        self._worker.end()
        found = summarise(self._witness.distances)
        self.last = found or self.last
        return found

    def _advance(self) -> None:
        while self._chunks:
            chunk, arrival_ns = self._chunks.popleft()
            if chunk.session == self._session:
                self._witness.submit(chunk, arrival_ns)
        try:
            accounts = self._witness.advance(self._now_ns())
        except StreamError as error:
            self._witness.begin()
            self._worker.fail(f'StreamError: {error}')
            return
        for account in accounts:
            self._worker.applied(account)

    def _on_chunk(self, chunk: ActionChunk) -> None:
        """In the worker's thread."""
        self._chunks.append((chunk, self._now_ns()))

    def status(self) -> dict:
        """What is going on: state, reason, session, latency, distances of this or the last one."""
        worker = self._worker.state
        found = summarise(self._witness.distances) if self._session else self.last
        return {
            'state': worker.state,
            'reason': worker.reason,
            'session': self._session,
            'chunk_latency_s': worker.chunk_latency_s,
            'distance': None if found is None else dataclasses.asdict(found),
        }
