# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks on a time line: chained, never trimmed, sampled by clock.

The rows are the corners of a piecewise linear path. It is sampled through a centred moving average
one row long, which rounds the corners: a path whose rows keep the velocity and acceleration limits
(first and second difference) keeps them between the rows too, so the limiter need not intervene,
and a row is met to within an eighth of the change of step around it. The average looks half a row
ahead, so a chunk starts at the end of its predecessor, but no sooner than half a row after its
arrival: what was already sampled never changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np

from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk, ChunkRejected
from flashwam_ros.robot.contract import GRIPPER_GROUPS, RobotContract
from flashwam_ros.robot.limits import FIRST_ROW_RAD, LimitReport, tolerance, widest
from flashwam_ros.robot.settings import DriverSettings

_ORDER = "look at the units and the order of the policy's rows"


class _Path:
    """A piecewise linear path through knots (ns, (C,)), constant before and after."""

    def __init__(self, start_ns: int, value: np.ndarray, window_ns: int) -> None:
        self._times, self._values = [start_ns], [value]
        self._sums = [np.zeros_like(value)]
        self._half_ns = window_ns // 2
        self._rest = np.zeros_like(value)

    @property
    def last(self) -> np.ndarray:
        return self._values[-1]

    @property
    def last_ns(self) -> int:
        return self._times[-1]

    def forget(self, now_ns: int) -> None:
        """Drop the knots that no later sample can see; restart the running integral."""
        keep = max(bisect_right(self._times, now_ns - self._half_ns) - 1, 0)
        base = self._sums[keep]
        self._times, self._values = self._times[keep:], self._values[keep:]
        self._sums = [s - base for s in self._sums[keep:]]

    def append(self, time_ns: int, value: np.ndarray) -> None:
        span = (time_ns - self._times[-1]) * 1e-9
        self._sums.append(self._sums[-1] + 0.5 * span * (self._values[-1] + value))
        self._times.append(time_ns)
        self._values.append(value)

    def sample(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """The averaged position and its velocity."""
        if now_ns - self._half_ns >= self._times[-1]:
            return self._values[-1], self._rest
        before, left = self._integral(now_ns - self._half_ns)
        after, right = self._integral(now_ns + self._half_ns)
        window = 2e-9 * self._half_ns
        return (after - before) / window, (right - left) / window

    def _integral(self, time_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Integral from the first knot and value of the path at an instant."""
        i = bisect_right(self._times, time_ns) - 1
        if i < 0:
            return self._values[0] * ((time_ns - self._times[0]) * 1e-9), self._values[0]
        span = (time_ns - self._times[i]) * 1e-9
        value = self._values[i]
        if i + 1 < len(self._times):
            part = (time_ns - self._times[i]) / (self._times[i + 1] - self._times[i])
            value = value + part * (self._values[i + 1] - value)
        return self._sums[i] + 0.5 * span * (self._values[i] + value), value


class _Run:
    """A chunk with its place in time and what was commanded so far."""

    def __init__(self, chunk: ActionChunk, start_ns: int, row_ns: int, slack_s: float) -> None:
        self.chunk = chunk
        self.rows = chunk.positions[chunk.first_row :]
        self.start_ns = start_ns
        self.stamps = tuple(start_ns + (k + 1) * row_ns for k in range(len(self.rows)))
        self.slack_s = slack_s
        self.outside = self.arm_outside = False
        self.applied = np.array(self.rows)
        self.filled = 0
        self.limited = self.arm_limited = 0
        self.jump = 0.0
        self.started = False

    @property
    def end_ns(self) -> int:
        return self.stamps[-1]

    def account(self, complete: bool, rows_per_key_frame: int) -> AppliedChunk:
        chunk = self.chunk
        due = tuple(
            stamp
            for k, stamp in enumerate(self.stamps)
            if (chunk.first_row + k + 1) % rows_per_key_frame == 0
        )
        return AppliedChunk(
            session=chunk.session,
            index=chunk.index,
            first_row=chunk.first_row,
            start_ns=self.start_ns,
            row_duration_s=chunk.row_duration_s,
            positions=self.applied,
            row_stamps_ns=self.stamps,
            key_frame_due_ns=due,
            complete=complete,
            slack_s=self.slack_s,
            boundary_jump_rad=self.jump,
            limited_ticks=self.limited,
            arm_limited_ticks=self.arm_limited,
        )


class ChunkTimeline:
    """The queue of accepted chunks of one session and the path that they make.

    All times are ns of the executor's clock, which also is the clock of the chunks' stamps.

    Attributes:
        session: the one whose chunks are taken.
        closed: why it cannot go on, '' while it can.
    """

    def __init__(self, contract: RobotContract, settings: DriverSettings) -> None:
        """Start empty; call :meth:`reset` before anything else."""
        self._contract, self._settings = contract, settings
        self._row_ns = round(contract.row_duration_s * 1e9)
        self._arms = np.ones(len(contract.channels), dtype=bool)
        self._arms[contract.group(*GRIPPER_GROUPS)] = False
        self._tolerance = tolerance(contract)
        self._lowest, self._highest = widest(contract)
        self._runs: deque[_Run] = deque()
        self._begin('', fixed=False)
        self.reset(np.zeros(len(contract.channels)), 0)

    # ---- session -----------------------------------------------------------------------------

    def _begin(self, session: str, fixed: bool) -> None:
        self.session = session
        self._fixed = fixed
        self.closed = ''
        self._last = -1
        self._end_ns: int | None = None

    def begin(self, session: str) -> None:
        """Expect the chunks of this session only, from its first; '' ends the session."""
        self._begin(session, fixed=bool(session))

    def renew(self) -> None:
        """Forget a session that cannot go on; one that has not started is still expected."""
        if self.closed:
            self.begin('')

    def reset(self, hold: np.ndarray, now_ns: int, why: str = '') -> str:
        """Stay at ``hold`` (C,) from now on; the session cannot go on.

        Returns:
            What became of the chunk in execution, '' if there was none.
        """
        lost = ''
        if self._runs:
            run = self._runs[0]
            lost = f'chunk_abandoned: chunk {run.chunk.index} after {run.filled} rows ({why})'
        self._runs.clear()
        if self._last >= 0 and not self.closed:
            self.closed, self._end_ns = why or 'reset', now_ns
        self._path = _Path(now_ns, np.array(hold, dtype=np.float64), self._row_ns)
        return lost

    # ---- chunks ------------------------------------------------------------------------------

    def submit(self, chunk: ActionChunk, now_ns: int, command: np.ndarray) -> str:
        """Queue a chunk.

        Args:
            chunk: Its stamp on the executor's clock.
            now_ns: Arrival time (ns).
            command: (C,) the command in force, from which a session's first chunk must lead.

        Returns:
            The event that the chunk was late, '' otherwise.

        Raises:
            ChunkRejected: Saying why; nothing has changed then.
        """
        chunk.validate(self._contract)
        adopted = self._check_session(chunk)
        self._check_order(chunk, -1 if adopted else self._last)
        self._check_stamp(chunk, now_ns)
        self._check_limits(chunk)
        if chunk.index == 0:
            self._check_start(chunk, command)
        if adopted:
            self._begin(chunk.session, fixed=False)
        end_ns = self._end_ns
        late_s = 0.0 if end_ns is None else (now_ns - end_ns) * 1e-9
        start_ns = now_ns + self._row_ns // 2
        if self._runs:
            start_ns = max(start_ns, self._runs[-1].end_ns)
        self._place(_Run(chunk, start_ns, self._row_ns, -late_s), now_ns)
        self._last = chunk.index
        if late_s <= 0.0:
            return ''
        return f'late_chunk: chunk {chunk.index} came {1e3 * late_s:.0f} ms after the last ended'

    def _place(self, run: _Run, now_ns: int) -> None:
        self._path.forget(now_ns)
        if run.start_ns > self._path.last_ns:
            self._path.append(run.start_ns, self._path.last)
        rows = np.clip(run.rows, self._contract.lower, self._contract.upper)
        # Every tick of such a chunk counts as limited.
        outside = np.abs(rows - run.rows) > self._tolerance
        run.outside, run.arm_outside = bool(outside.any()), bool(outside[:, self._arms].any())
        for stamp, row in zip(run.stamps, rows, strict=True):
            self._path.append(stamp, row)
        self._runs.append(run)
        self._end_ns = run.end_ns

    def _check_session(self, chunk: ActionChunk) -> bool:
        if chunk.session and chunk.session == self.session:
            if self.closed:
                raise ChunkRejected(f'session {self.session!r} has ended: {self.closed}')
            return False
        if not chunk.session:
            raise ChunkRejected('wrong session: the chunk names none')
        if self._fixed or chunk.predecessor != -1 or self._runs:
            expected = repr(self.session) if self.session else 'a first chunk'
            raise ChunkRejected(f'wrong session: {chunk.session!r}, expected {expected}')
        return True

    def _check_order(self, chunk: ActionChunk, last: int) -> None:
        if 0 <= chunk.index <= last:
            raise ChunkRejected(f'duplicate: chunk {chunk.index}, the last one was {last}')
        if chunk.predecessor != last or chunk.index != last + 1:
            raise ChunkRejected(
                f'out of order: chunk {chunk.index} after {chunk.predecessor}, expected chunk '
                f'{last + 1} after {last}'
            )
        waiting = sum(not run.started for run in self._runs)
        if waiting >= self._settings.chunk_queue:
            raise ChunkRejected(f'queue full: {waiting} chunks wait to be executed')

    def _check_stamp(self, chunk: ActionChunk, now_ns: int) -> None:
        age = (now_ns - chunk.stamp_ns) * 1e-9
        if age < -self._settings.chunk_future_s:
            raise ChunkRejected(f'stamp in the future by {-age:.3f} s: check the clocks')
        if age > self._settings.chunk_age_s:
            raise ChunkRejected(f'too old: its newest observation is {age:.1f} s old')

    def _check_limits(self, chunk: ActionChunk) -> None:
        rows = chunk.positions[chunk.first_row :]
        beyond = np.maximum(rows - self._highest, self._lowest - rows)
        if (beyond > 0.0).any():
            row, column = np.unravel_index(beyond.argmax(), beyond.shape)
            raise ChunkRejected(
                f'outside the limits: row {chunk.first_row + row}, channel '
                f'{chunk.channel_names[column]} is {rows[row, column]:.2f}, '
                f'{self._lowest[column]:.2f} .. {self._highest[column]:.2f} is taken: {_ORDER}'
            )

    def _check_start(self, chunk: ActionChunk, command: np.ndarray) -> None:
        """Arms that stand do not set off at full speed to somewhere else."""
        first = chunk.positions[chunk.first_row]
        away = np.where(self._arms, np.abs(first - command), 0.0)
        worst = int(away.argmax())
        if away[worst] > FIRST_ROW_RAD:
            raise ChunkRejected(
                f'too far: the first row of the session has {chunk.channel_names[worst]} '
                f'{away[worst]:.2f} rad from the command in force, {FIRST_ROW_RAD} is taken: '
                f'bring the arms to where it starts, or {_ORDER}'
            )

    # ---- time --------------------------------------------------------------------------------

    def sample(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Target position (C,) and velocity (C,) at an instant."""
        return self._path.sample(now_ns)

    def executing(self, now_ns: int) -> bool:
        """Whether the instant lies inside a chunk."""
        return any(run.start_ns <= now_ns < run.end_ns for run in self._runs)

    @property
    def index(self) -> int:
        """Index of the chunk in execution, -1 for none."""
        return self._runs[0].chunk.index if self._runs and self._runs[0].started else -1

    def idle_since_ns(self, now_ns: int) -> int | None:
        """Since when a session has nothing to execute, None before its first chunk.

        From the end of its last chunk, or from when it was closed: nobody will send more.
        """
        if self._runs or self._end_ns is None or now_ns < self._end_ns:
            return None
        return self._end_ns

    def record(
        self,
        before: tuple[int, np.ndarray],
        after: tuple[int, np.ndarray],
        report: LimitReport,
    ) -> tuple[AppliedChunk | None, AppliedChunk | None]:
        """Account for one tick.

        Args:
            before: Time and command of the last tick.
            after: Time and command of this one.
            report: What the limiter did.

        Returns:
            The accounts of a chunk that started and of one that ended, at most one each.
        """
        started = self._start(after)
        done = None
        if self._runs and self._runs[0].started:
            run = self._runs[0]
            run.limited += report.limited or run.outside
            run.arm_limited += report.arm_limited or run.arm_outside
            self._fill(run, before, after)
            if run.filled == len(run.rows):
                done = run.account(True, self._contract.rows_per_key_frame)
                self._runs.popleft()
                started = started or self._start(after)
        return started, done

    def _start(self, after: tuple[int, np.ndarray]) -> AppliedChunk | None:
        if not self._runs or self._runs[0].started or after[0] < self._runs[0].start_ns:
            return None
        run = self._runs[0]
        run.started = True
        run.jump = float(np.abs(run.rows[0] - after[1])[self._arms].max())
        return run.account(False, self._contract.rows_per_key_frame)

    @staticmethod
    def _fill(run: _Run, before: tuple[int, np.ndarray], after: tuple[int, np.ndarray]) -> None:
        span = after[0] - before[0]
        while run.filled < len(run.rows) and run.stamps[run.filled] <= after[0]:
            part = (run.stamps[run.filled] - before[0]) / span if span > 0 else 1.0
            part = min(max(part, 0.0), 1.0)
            run.applied[run.filled] = before[1] + part * (after[1] - before[1])
            run.filled += 1
