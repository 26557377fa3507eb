# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The predict-execute loop of a chunk-synchronous policy, without ROS, threads or a clock.

Events go in (camera frames, applied chunks, finished jobs), the next job for the policy's worker
comes
out. The rollout node's policy worker and the in-process episode runner drive the same object, so
both
ground the model with the same frames and the same rows.

Order (LingBot-VA algorithms 1 and 2): `sync` predicts a chunk when its predecessor is grounded,
the robot
holds meanwhile; `async` is one chunk ahead: chunks 0 and 1 are predicted before moving, and chunk
i+2 is
predicted when chunk i is grounded, while chunk i+1 executes. `async_grounded` does the same, but
before that it has the policy imagine the outcome of chunk i+1, rows as sent, on top of the truth
about chunk i: the forecast of chunk i+1 was made before that truth was known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from flashwam_ros.policy.key_frames import KeyFrameBuffer
from flashwam_ros.policy.protocol import HistoryError, KeyFrame, Policy, PolicyError, Prediction
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.contract import RobotContract

LOOKAHEAD = {'sync': 1, 'async': 2, 'async_grounded': 2}
"""Chunks that may be predicted beyond the last grounded one, per execution mode."""


DUE_JITTER_NS = 1_000_000
"""How far the due times in the two accounts of one chunk may lie apart."""


@dataclass(frozen=True)
class Observe:
    """Job: hand this key frame to the policy."""

    key_frame: KeyFrame
    chunk: int  # -1 for the initial frame


@dataclass(frozen=True)
class Predict:
    """Job: predict chunk `index`."""

    index: int


@dataclass(frozen=True)
class Ground:
    """Job: ground chunk `index` with the rows really commanded, (R - first_row, C) rad."""

    index: int
    applied: np.ndarray


@dataclass(frozen=True)
class Imagine:
    """Job: imagine the outcome of chunk `index`, which executes `rows` (R, C) rad."""

    index: int
    rows: np.ndarray


Job = Observe | Predict | Ground | Imagine


def check_mode(policy: Policy, mode: str) -> None:
    """Refuse an execution mode that the policy cannot do.

    Raises:
        PolicyError: it cannot, and why.
    """
    problem = policy.mode_problems.get(mode)
    if problem:
        raise PolicyError(f"execution '{mode}' is refused: {problem}")


def run_job(policy: Policy, job: Job) -> Prediction | None:
    """Do one job with the policy; only `Predict` has a result."""
    if isinstance(job, Observe):
        policy.observe(job.key_frame)
        return None
    if isinstance(job, Ground):
        policy.ground(job.applied)
        return None
    if isinstance(job, Imagine):
        policy.imagine(job.rows)
        return None
    return policy.predict()


@dataclass
class _Execution:
    """What is known about the execution of one chunk."""

    due_ns: tuple[int, ...]
    slack_s: float
    observed: int = 0
    done: AppliedChunk | None = None


@dataclass(frozen=True)
class Slack:
    """Arrival of a chunk against the end of the one before: s, negative when it was late."""

    index: int
    slack_s: float


class PredictExecuteLoop:
    """State machine of one episode; create or `begin` a new one per episode.

    All times are ns of one clock (the caller's), the same for frames, applied chunks and `now_ns`.

    Args:
        mode: 'sync', 'async' or 'async_grounded'.
        contract: the robot contract that the policy and the executor agreed on.
        frame_period_s: nominal camera frame period, s.
        stale_after_s: age beyond which a camera counts as dead, s.
    """

    def __init__(
        self,
        mode: str,
        contract: RobotContract,
        frame_period_s: float = 0.05,
        stale_after_s: float = 0.5,
    ):
        if mode not in LOOKAHEAD:
            raise ValueError(f"execution mode '{mode}' is unknown, use one of {sorted(LOOKAHEAD)}")
        self.mode = mode
        self.contract = contract
        self._contract_hash = contract.sha256
        self._lookahead = LOOKAHEAD[mode]
        self.frames = KeyFrameBuffer(
            [camera.key for camera in contract.cameras], frame_period_s, stale_after_s
        )
        self.begin('', 0)

    def begin(self, session: str, now_ns: int) -> None:
        """Start an episode; the initial key frame is the first complete set from `now_ns` on."""
        self.session = session
        self.predicted = 0
        self.grounded = 0
        self.slacks: list[Slack] = []
        self.events: deque[str] = deque()
        self._start_ns = int(now_ns)
        self._initial_observed = False
        self._executions: dict[int, _Execution] = {}
        self._started = 0
        self._held_back: list[ActionChunk] = []
        self._sent: dict[int, np.ndarray] = {}
        self._imagined = 0
        self._in_flight: Job | None = None
        self._fresh_stamps: list[int] = []
        self._newest_stamp_ns = int(now_ns)

    # -- events -----------------------------------------------------------------------------------

    def add_frame(self, camera: str, image: np.ndarray, stamp_ns: int) -> None:
        """Take one camera frame at policy size with its capture stamp."""
        self.frames.add(camera, image, stamp_ns)

    def applied(self, applied: AppliedChunk) -> None:
        """Take the executor's account of a chunk, at its start and again when it is complete.

        Raises:
            HistoryError: chunks were executed out of order or one that was never sent.
        """
        if applied.session != self.session:
            return
        execution = self._executions.get(applied.index)
        if execution is None:
            execution = self._start(applied)
        if not applied.complete or execution.done is not None:
            return
        self._check_due_times(applied, execution)
        execution.done = applied

    @staticmethod
    def _check_due_times(applied: AppliedChunk, execution: _Execution) -> None:
        """Both accounts must mean the same frames; converted stamps may differ by microseconds."""
        before, after = execution.due_ns, tuple(applied.key_frame_due_ns) or execution.due_ns
        same = len(before) == len(after) and all(
            abs(a - b) <= DUE_JITTER_NS for a, b in zip(before, after, strict=True)
        )
        if not same:
            raise HistoryError(
                f'chunk {applied.index}: the due times of its key frames changed while it was '
                'executing, so the frames already observed do not belong to it'
            )

    def _start(self, applied: AppliedChunk) -> _Execution:
        if applied.index != self._started or applied.index >= self.predicted:
            raise HistoryError(
                f'chunk {applied.index} was executed, but {self._started} is the next one in the '
                f'history and {self.predicted} chunks were predicted: an account of a chunk was '
                'lost'
            )
        due_ns = tuple(applied.key_frame_due_ns) or self.due_times(
            applied.start_ns, applied.first_row
        )
        execution = _Execution(due_ns=due_ns, slack_s=float(applied.slack_s))
        self._executions[applied.index] = execution
        self._started += 1
        if applied.index > 0:
            self.slacks.append(Slack(applied.index, execution.slack_s))
            if self._lookahead > 1 and execution.slack_s < 0:
                self.events.append(
                    f'late_chunk: chunk {applied.index} came {-execution.slack_s * 1e3:.0f} ms '
                    'after the end of the one before; the robot held and goes on '
                    'with the whole chunk'
                )
        return execution

    def due_times(self, start_ns: int, first_row: int) -> tuple[int, ...]:
        """Due times of the key frames of a chunk that starts at `start_ns`, ns.

        One per `actions_per_frame / key_frames_per_frame` executed rows, at the end of that row.
        """
        contract = self.contract
        stride = contract.actions_per_frame // contract.key_frames_per_frame
        row_ns = contract.row_duration_s * 1e9
        executed = contract.rows_per_chunk - first_row
        return tuple(
            int(start_ns + round(row * row_ns)) for row in range(stride, executed + 1, stride)
        )

    # -- jobs -------------------------------------------------------------------------------------

    def next_job(self, now_ns: int) -> Job | None:
        """Give out the next job, or None when there is nothing to do yet or one is in flight.

        Grounding goes first (it unblocks the next prediction), then predicting (and imagining
        what it builds on), then encoding frames.

        Raises:
            HistoryError: a key frame that was due cannot come any more.
        """
        if self._in_flight is not None:
            return None
        self._in_flight = (
            self._next_observe(now_ns)
            if not self._initial_observed
            else (
                self._next_ground()
                or self._next_imagine()
                or self._next_predict()
                or self._next_observe(now_ns)
            )
        )
        return self._in_flight

    def _next_ground(self) -> Ground | None:
        execution = self._executions.get(self.grounded)
        if execution is None or execution.done is None:
            return None
        if execution.observed < len(execution.due_ns):
            return None
        return Ground(self.grounded, np.asarray(execution.done.positions, dtype=np.float64))

    def _next_imagine(self) -> Imagine | None:
        """Chunk 0 is never imagined: when chunk 1 is predicted nothing has happened since."""
        index = self.grounded
        if self.mode != 'async_grounded' or index <= self._imagined or index >= self.predicted:
            return None
        return Imagine(index, self._sent[index]) if self._next_predict() else None

    def _next_predict(self) -> Predict | None:
        if self.predicted >= self.grounded + self._lookahead:
            return None
        return Predict(self.predicted)

    def _next_observe(self, now_ns: int) -> Observe | None:
        if not self._initial_observed:
            key_frame = self.frames.pick_first(self._start_ns, now_ns)
            return None if key_frame is None else Observe(key_frame, -1)
        for index in range(self.grounded, self._started):
            execution = self._executions[index]
            if execution.observed < len(execution.due_ns):
                due_ns = execution.due_ns[execution.observed]
                if due_ns > now_ns:
                    return None
                key_frame = self.frames.pick(due_ns, now_ns)
                return None if key_frame is None else Observe(key_frame, index)
        return None

    def finish(self, job: Job, prediction: Prediction | None = None) -> tuple[ActionChunk, ...]:
        """Account for a finished job and give out the chunks that may be sent now, in order.

        In the async modes chunk 0 is held back until chunk 1 exists.

        Raises:
            PolicyError: the job is not the one in flight or the prediction does not fit the
            contract.
        """
        if job is not self._in_flight:
            raise PolicyError(f'{job} was finished but is not the job in flight')
        self._in_flight = None
        if isinstance(job, Observe):
            self._note_observed(job)
            return ()
        if isinstance(job, Ground):
            self.grounded += 1
            self._executions.pop(job.index - 1, None)
            self._sent.pop(job.index, None)
            return ()
        if isinstance(job, Imagine):
            self._imagined = job.index
            return ()
        chunk = self._chunk(job.index, prediction)
        self._held_back.append(chunk)
        self._sent[job.index] = chunk.positions
        self.predicted += 1
        if self.predicted < self._lookahead:
            return ()
        ready, self._held_back = tuple(self._held_back), []
        return ready

    def _note_observed(self, job: Observe) -> None:
        if job.chunk < 0:
            self._initial_observed = True
        else:
            self._executions[job.chunk].observed += 1
        stamps = [int(job.key_frame.stamps_ns[key]) for key in self.frames.cameras]
        self._fresh_stamps.extend(stamps)
        self._newest_stamp_ns = max(stamps)

    def _chunk(self, index: int, prediction: Prediction | None) -> ActionChunk:
        contract = self.contract
        shape = (contract.rows_per_chunk, len(contract.channels))
        if prediction is None or prediction.positions.shape != shape:
            got = None if prediction is None else prediction.positions.shape
            raise PolicyError(f'chunk {index}: the policy gave {got}, the contract wants {shape}')
        if not np.isfinite(prediction.positions).all():
            raise PolicyError(f'chunk {index}: the policy predicted values that are not finite')
        stamps, self._fresh_stamps = tuple(self._fresh_stamps), []
        return ActionChunk(
            session=self.session,
            contract_hash=self._contract_hash,
            index=index,
            predecessor=index - 1,
            row_duration_s=contract.row_duration_s,
            positions=np.asarray(prediction.positions, dtype=np.float64),
            channel_names=contract.channel_names,
            first_row=prediction.first_row,
            stamp_ns=self._newest_stamp_ns,
            video_steps=prediction.video_steps,
            action_steps=prediction.action_steps,
            seed=prediction.seed,
            latency_s=dict(prediction.latency_s),
            key_frame_stamps_ns=stamps,
        )
