# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One thread that owns a policy and runs the predict-execute loop against live events."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from flashwam_ros.policy.backends import leave
from flashwam_ros.policy.loop import (
    Ground,
    Imagine,
    Predict,
    PredictExecuteLoop,
    check_mode,
    run_job,
)
from flashwam_ros.policy.protocol import Policy, PolicyError
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract

log = logging.getLogger(__name__)

UNSAID = 'the model could not be asked'
AGAIN_S = 5.0
"""How often a policy that could not be warmed up is tried again."""
_IDLE_WAIT_S = 0.01
_KEPT_FRAMES = 4


@dataclass(frozen=True)
class Loaded:
    """A policy that was loaded: what its node has to know of it.

    Attributes:
        name: of the backend.
        warm_s: seconds that a warm prediction takes.
        warnings: see `Policy.warnings`.
        mode_problems: see `Policy.mode_problems`.
        model: of a server, see `Handshake.model`; () for a policy in this process.
    """

    name: str
    warm_s: float
    warnings: tuple[str, ...] = ()
    mode_problems: Mapping[str, str] = field(default_factory=dict)
    model: tuple = ()


@dataclass(frozen=True)
class WorkerState:
    """What the worker is doing.

    Attributes:
        state: 'empty', 'ready', 'running' or 'error'.
        reason: why it is in error, else ''.
        session: current or last session; '' for none, and where it is the policy that is in error.
        predicted: index of the newest predicted chunk, -1 for none.
        grounded: index of the newest grounded chunk, -1 for none.
        chunk_latency_s: time to a chunk from the grounding that let it be predicted, s: the last
            one's while an episode runs, else a fresh one's on grey images (`Policy.warm_up`).
        slack_s: slack of the last started chunk, s.
        events: named events so far in this session.
    """

    state: str = 'empty'
    reason: str = ''
    session: str = ''
    predicted: int = -1
    grounded: int = -1
    chunk_latency_s: float = 0.0
    slack_s: float = 0.0
    events: tuple[str, ...] = ()


class PolicyWorker:
    """Runs a policy off the caller's threads; every method returns at once.

    Events are queued and handled in order by the thread that also runs the policy, so the policy
    and the
    loop need no locks. `state` is an immutable snapshot.

    Args:
        contract: the robot contract in force.
        on_chunk: called in the worker's thread with each chunk that may be executed.
        now_ns: the clock of all stamps, ns.
        frame_period_s: nominal camera frame period, s.
        stale_after_s: age beyond which a camera counts as dead, s.
        blind: of a failing policy nothing is said or logged but `UNSAID`; for the arms of a study,
            which their words, and a server's address, would tell apart. Not while loading, when no
            trial runs.
    """

    def __init__(
        self,
        contract: RobotContract,
        on_chunk: Callable[[ActionChunk], None],
        now_ns: Callable[[], int],
        frame_period_s: float = 0.05,
        stale_after_s: float = 0.5,
        blind: bool = False,
    ):
        self.contract = contract
        self.state = WorkerState()
        self._on_chunk = on_chunk
        self._now_ns = now_ns
        self._frame_period_s = frame_period_s
        self._stale_after_s = stale_after_s
        self._blind = blind
        self._policy: Policy | None = None
        self._arms: dict[str, Policy] = {}
        self._warm_s: dict[Policy, float] = {}
        self._loop: PredictExecuteLoop | None = None
        self._before_s, self._warmed_at = 0.0, 0.0
        self._recent = {camera.key: deque(maxlen=_KEPT_FRAMES) for camera in contract.cameras}
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name='policy', daemon=True)
        self._thread.start()

    # -- calls from any thread --------------------------------------------------------------------

    def load(self, make_policy: Callable[[], Policy], arms: Sequence[str] = ('',)) -> Future:
        """Build and warm a policy up in the worker's thread; the last one loaded is in use.

        The future gives a `Loaded` or raises what went wrong.

        Args:
            make_policy: builds it.
            arms: names to `choose` it by, where several stay loaded.
        """
        future: Future = Future()

        def work() -> None:
            policy = None
            try:
                policy = make_policy()
                differences = self.contract.differences(policy.contract)
                if differences:
                    raise PolicyError(
                        'the policy was made for another robot contract: ' + '; '.join(differences)
                    )
                warm_s = policy.warm_up()
                self._policy, self._warm_s[policy] = policy, warm_s
                self._arms.update(dict.fromkeys(arms, policy))
                self.state = WorkerState(state='ready', chunk_latency_s=warm_s)
                future.set_result(
                    Loaded(policy.name, warm_s, policy.warnings, policy.mode_problems,
                           getattr(policy, 'model', ()))
                )
            except Exception as error:
                log.exception('the policy cannot be loaded')
                leave(policy)
                self.state = WorkerState(state='error', reason=f'{type(error).__name__}: {error}')
                future.set_exception(error)

        self._queue.put(work)
        return future

    def choose(self, arm: str) -> None:
        """Use another loaded policy from the next episode on; never while one is running.

        After an error, or where it was not warm any more, it is warmed up first.
        """

        def work() -> None:
            failed, self._policy = self._failed, self._arms[arm]
            if failed or self._cold:
                self._warm_up()
            else:
                self.state = WorkerState('ready', chunk_latency_s=self._warm_s[self._policy])

        self._queue.put(work)

    def begin(self, session: str, prompt: str, seed: int, mode: str) -> None:
        """Start an episode: reset the policy and predict as soon as the first frames are there."""
        self._queue.put(lambda: self._begin(session, prompt, seed, mode))

    def end(self) -> None:
        """End the episode; nothing is predicted any more, the last state stays readable."""
        self._queue.put(self._end)

    def add_frame(self, camera: str, image: np.ndarray, stamp_ns: int) -> None:
        """Hand over one camera frame at policy size with its capture stamp."""
        self._queue.put(lambda: self._add_frame(camera, image, stamp_ns))

    def applied(self, applied: AppliedChunk) -> None:
        """Hand over the driver's account of a chunk."""
        self._queue.put(lambda: self._loop.applied(applied) if self._loop else None)

    def fail(self, reason: str) -> None:
        """Stop the episode with a reason that was found outside."""
        self._queue.put(lambda: self._fail(reason))

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the thread after the job in hand."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    # -- the worker's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                event = self._queue.get(timeout=self._wait_s())
            except queue.Empty:
                self._guarded(self._work)
                continue
            if event is None:
                for policy in {*self._arms.values(), self._policy}:
                    leave(policy)
                return
            self._guarded(event)
            if self._queue.empty():
                self._guarded(self._work)

    def _wait_s(self) -> float | None:
        """How long to wait for an event before going on without one, None: for ever."""
        if self._loop is not None:
            return _IDLE_WAIT_S
        return AGAIN_S if self._failed and self._cold else None

    @property
    def _failed(self) -> bool:
        """Whether there is an error that is not that of a session."""
        return self.state.state == 'error' and not self.state.session

    @property
    def _cold(self) -> bool:
        """Whether the policy could not be warmed up."""
        return self._policy is not None and self._policy not in self._warm_s

    def _guarded(self, call: Callable[[], None]) -> None:
        """Any failure ends the episode with its reason; the thread lives on for the next one."""
        try:
            call()
        except PolicyError as error:
            self._fail(f'{type(error).__name__}: {error}')
        except Exception as error:
            log.exception('the policy failed')
            self._fail(f'{type(error).__name__}: {error}')

    def _fail(self, reason: str) -> None:
        log.error('policy stopped: %s', reason)
        self.state = replace(self.state, state='error', reason=reason)
        self._loop = None

    def _begin(self, session: str, prompt: str, seed: int, mode: str) -> None:
        # First: a failure on the way is one of this session, not of the one before.
        self.state = WorkerState(state='running', session=session)
        if self._policy is None:
            raise PolicyError('no policy is loaded: configure the node first')
        self._call(check_mode, self._policy, mode)
        self._call(self._policy.reset, prompt, seed)
        self._before_s = 0.0
        self._loop = PredictExecuteLoop(
            mode, self.contract, self._frame_period_s, self._stale_after_s
        )
        self._loop.begin(session, self._now_ns())
        for camera, frames in self._recent.items():
            for stamp_ns, image in frames:
                self._loop.add_frame(camera, image, stamp_ns)

    def _end(self) -> None:
        self._loop = None
        if self._policy is not None:
            # One chunk that met a busy moment must not bar every episode that follows.
            self._warm_up()

    def _warm_up(self) -> None:
        """Note the time that it took, or be in error, which is then not that of a session.

        The error of a session stays readable until the next one.
        """
        self._warmed_at = time.monotonic()
        self._warm_s.pop(self._policy, None)
        try:
            latency_s = self._call(self._policy.warm_up)
        except Exception as error:  # noqa: BLE001 (whatever it is: nothing may begin with it)
            reason = f'{type(error).__name__}: {error}'
            if reason != self.state.reason:
                log.error('the policy cannot be warmed up: %s', reason)
            self.state = replace(self.state, state='error', reason=reason, session='')
            return
        self._warm_s[self._policy] = latency_s
        self.state = replace(self.state, chunk_latency_s=latency_s)
        if self.state.state == 'running' or self._failed:
            self.state = replace(self.state, state='ready', reason='')

    def _call(self, call: Callable, *values):
        """Call the policy; blind, its failure says nothing of it."""
        try:
            return call(*values)
        except Exception:
            if self._blind:
                raise PolicyError(UNSAID) from None
            raise

    def _add_frame(self, camera: str, image: np.ndarray, stamp_ns: int) -> None:
        if camera in self._recent:
            self._recent[camera].append((stamp_ns, image))
        if self._loop is not None:
            self._loop.add_frame(camera, image, stamp_ns)

    def _work(self) -> None:
        """Run jobs until events wait or nothing is due."""
        tried_s = time.monotonic() - self._warmed_at
        if self._failed and self._cold and tried_s >= AGAIN_S:
            self._warm_up()  # no episode would end the error; a server may be back by now
        while self._loop is not None and self._queue.empty():
            now_ns = self._now_ns()
            if self._loop.predicted:
                self._loop.frames.check_fresh(now_ns)
            job = self._loop.next_job(now_ns)
            self._refresh()
            if job is None:
                return
            begun = robot_clock.monotonic()
            prediction = self._call(run_job, self._policy, job)
            ready = self._loop.finish(job, prediction)
            spent_s = robot_clock.monotonic() - begun
            if isinstance(job, Ground | Imagine):
                self._before_s += spent_s
            if isinstance(job, Predict):
                self.state = replace(self.state, chunk_latency_s=self._before_s + spent_s)
                self._before_s = 0.0
            for chunk in ready:
                self._on_chunk(chunk)
            self._refresh()

    def _refresh(self) -> None:
        loop = self._loop
        slack_s = loop.slacks[-1].slack_s if loop.slacks else 0.0
        self.state = replace(
            self.state,
            predicted=loop.predicted - 1,
            grounded=loop.grounded - 1,
            slack_s=slack_s,
            events=tuple(loop.events),
        )
