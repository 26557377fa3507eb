# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A policy without authority: it sees what the robot sees, somebody else moves the robot.

The `Witness` stands where the driver stands. It starts a shadow's chunks by the driver's rule, and
when the time of a chunk is over, its account holds the rows that were *really* executed meanwhile,
whoever commanded them. So the model's history stays true, and each chunk can be held against what
was done in its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flashwam_ros.policy.protocol import StreamError
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.contract import RobotContract

COMMANDED, MEASURED = 'commanded', 'measured'
MAX_GAP_NS = 100_000_000
"""Longest time between two samples of which a row in between is taken."""
PATIENCE_NS = 1_000_000_000
"""How long after the end of a chunk what was executed may take to arrive."""
_KEPT_NS = 10_000_000_000
_ARMS, _GRIPPERS = ('left_arm', 'right_arm'), ('left_gripper', 'right_gripper')


@dataclass(frozen=True)
class ChunkDistance:
    """One predicted chunk against what was executed in its place, all in rad.

    Attributes:
        index: of the chunk.
        start_ns: beginning of its first executed row.
        source: 'commanded', or 'measured' where nobody commanded all of the time.
        arm_mean: mean of |predicted - executed| over rows and arm channels.
        arm_max: largest of them.
        arm_channel: name of the channel where it is largest.
        gripper_mean: mean over rows and grippers (motor rad).
        still_arm_mean: the same as `arm_mean` for a policy that would have stayed where it was.
        still_gripper_mean: the same for the grippers.
    """

    index: int
    start_ns: int
    source: str
    arm_mean: float
    arm_max: float
    arm_channel: str
    gripper_mean: float
    still_arm_mean: float
    still_gripper_mean: float


@dataclass(frozen=True)
class DistanceSummary:
    """Distances of one session, rad.

    Attributes:
        chunks: how many were compared.
        measured: how many of them against measured instead of commanded rows.
        arm_mean: mean over chunks. arm_p95: of the chunks' means. arm_max: of any row.
        gripper_mean: mean over chunks.
        still_arm_mean: of a policy that never moves. still_gripper_mean: the same.
    """

    chunks: int
    measured: int
    arm_mean: float
    arm_p95: float
    arm_max: float
    gripper_mean: float
    still_arm_mean: float
    still_gripper_mean: float

    def text(self) -> str:
        """One line for people."""
        return (
            f'{self.chunks} chunks: arms {self.arm_mean:.4f} rad from what was executed '
            f'(p95 {self.arm_p95:.4f}, max {self.arm_max:.4f}; standing still: '
            f'{self.still_arm_mean:.4f}), grippers {self.gripper_mean:.3f} rad (standing still: '
            f'{self.still_gripper_mean:.3f})'
        )


def summarise(distances: Sequence[ChunkDistance]) -> DistanceSummary | None:
    """All chunks of a session in one; None for no chunk."""
    if not distances:
        return None
    arm = np.array([d.arm_mean for d in distances])
    return DistanceSummary(
        chunks=len(distances),
        measured=sum(d.source == MEASURED for d in distances),
        arm_mean=float(arm.mean()),
        arm_p95=float(np.percentile(arm, 95)),
        arm_max=max(d.arm_max for d in distances),
        gripper_mean=float(np.mean([d.gripper_mean for d in distances])),
        still_arm_mean=float(np.mean([d.still_arm_mean for d in distances])),
        still_gripper_mean=float(np.mean([d.still_gripper_mean for d in distances])),
    )


class _Samples:
    """The channels over time, in order of stamp; old ones are forgotten."""

    def __init__(self) -> None:
        self.stamps: deque[int] = deque()
        self._values: deque[np.ndarray] = deque()

    def add(self, stamp_ns: int, values: np.ndarray) -> None:
        if self.stamps and stamp_ns <= self.stamps[-1]:
            return
        self.stamps.append(int(stamp_ns))
        self._values.append(np.array(values, np.float64))
        while self.stamps[-1] - self.stamps[0] > _KEPT_NS:
            self.stamps.popleft()
            self._values.popleft()

    @property
    def newest_ns(self) -> int:
        return self.stamps[-1] if self.stamps else -1

    def at(self, instants_ns: np.ndarray) -> np.ndarray | None:
        """Linear between samples; None where two that surround an instant are too far apart."""
        if len(self.stamps) < 2:
            return None
        stamps = np.array(self.stamps, np.int64)
        after = np.searchsorted(stamps, instants_ns)
        if after[0] == 0 and instants_ns[0] < stamps[0] or after[-1] == len(stamps):
            return None
        after = np.maximum(after, 1)
        if (stamps[after] - stamps[after - 1]).max() > MAX_GAP_NS:
            return None
        values = np.array(self._values)
        share = (instants_ns - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        return values[after - 1] + share[:, None] * (values[after] - values[after - 1])


@dataclass
class _Running:
    chunk: ActionChunk
    start_ns: int
    slack_s: float
    instants_ns: np.ndarray


class Witness:
    """Accounts of what was executed while each chunk of a shadow would have run; no threads.

    All stamps are ns of one clock, that of the frames.

    Args:
        contract: the robot contract in force.
    """

    def __init__(self, contract: RobotContract):
        self._contract = contract
        self._arms, self._grippers = contract.group(*_ARMS), contract.group(*_GRIPPERS)
        self._commanded, self._measured = _Samples(), _Samples()
        self.begin()

    def begin(self) -> None:
        """A session begins: forget the chunks; samples of commands and states are kept."""
        self._waiting: deque[tuple[ActionChunk, int]] = deque()
        self._running: _Running | None = None
        self._end_ns = 0
        self.distances: list[ChunkDistance] = []

    def commanded(self, stamp_ns: int, positions: np.ndarray) -> None:
        """The command in force, (C,) rad; NaN where nobody commands that channel."""
        self._commanded.add(stamp_ns, positions)

    def measured(self, stamp_ns: int, positions: np.ndarray) -> None:
        """The channels as measured, (C,) rad."""
        self._measured.add(stamp_ns, positions)

    def submit(self, chunk: ActionChunk, arrival_ns: int) -> None:
        """Take a chunk that was predicted; nothing is moved by it."""
        self._waiting.append((chunk, int(arrival_ns)))

    def advance(self, now_ns: int) -> tuple[AppliedChunk, ...]:
        """Accounts of the chunks that began or ended by now, in order.

        Raises:
            StreamError: what was executed does not arrive.
        """
        accounts = []
        while True:
            account = self._finish(now_ns) if self._running else self._start(now_ns)
            if account is None:
                return tuple(accounts)
            accounts.append(account)

    def _start(self, now_ns: int) -> AppliedChunk | None:
        if not self._waiting:
            return None
        chunk, arrival_ns = self._waiting[0]
        start_ns = max(self._end_ns, arrival_ns)
        if start_ns > now_ns:
            return None
        self._waiting.popleft()
        row_ns = round(chunk.row_duration_s * 1e9)
        count = len(chunk.positions) - chunk.first_row
        # From the start itself on: what a policy that stands still would have said.
        instants_ns = start_ns + row_ns * np.arange(count + 1, dtype=np.int64)
        slack_s = (self._end_ns - arrival_ns) * 1e-9 if self._end_ns else 0.0
        self._running = _Running(chunk, start_ns, slack_s, instants_ns)
        return self._account(chunk.positions[chunk.first_row:], complete=False)

    def _finish(self, now_ns: int) -> AppliedChunk | None:
        running = self._running
        end_ns = int(running.instants_ns[-1])
        executed, source = self._executed(running.instants_ns)
        if executed is None:
            if now_ns - end_ns > PATIENCE_NS:
                raise StreamError(
                    f'chunk {running.chunk.index}: neither joint_commands nor joint_states cover '
                    'its time. Is g1_driver configured?'
                )
            return None
        self.distances.append(self._distance(running, executed, source))
        account = self._account(executed[1:], complete=True)
        self._running, self._end_ns = None, end_ns
        return account

    def _executed(self, instants_ns: np.ndarray) -> tuple[np.ndarray | None, str]:
        """(rows + 1, C) rad at these instants, commanded if somebody commanded, else measured."""
        measured = self._measured.at(instants_ns)
        commanded = self._commanded.at(instants_ns)
        if commanded is not None and np.isfinite(commanded).all():
            return commanded, COMMANDED
        if measured is None:
            return None, ''
        if commanded is not None:
            return np.where(np.isfinite(commanded), commanded, measured), COMMANDED
        # Commands on their way are worth waiting for.
        late_ns = self._measured.newest_ns - int(instants_ns[-1])
        flowing = self._commanded.newest_ns > instants_ns[0]
        if flowing and late_ns < MAX_GAP_NS:
            return None, ''
        return measured, MEASURED

    def _account(self, positions: np.ndarray, complete: bool) -> AppliedChunk:
        running = self._running
        return AppliedChunk(
            session=running.chunk.session, index=running.chunk.index,
            first_row=running.chunk.first_row, start_ns=running.start_ns,
            row_duration_s=running.chunk.row_duration_s, positions=positions,
            row_stamps_ns=tuple(map(int, running.instants_ns[1:])),
            key_frame_due_ns=(), complete=complete, slack_s=running.slack_s,
            boundary_jump_rad=0.0, limited_ticks=0, arm_limited_ticks=0,
        )  # fmt: skip

    def _distance(self, running: _Running, executed: np.ndarray, source: str) -> ChunkDistance:
        predicted = running.chunk.positions[running.chunk.first_row:]
        error, still = np.abs(predicted - executed[1:]), np.abs(executed[:1] - executed[1:])
        worst = int(self._arms[error[:, self._arms].max(axis=0).argmax()])
        return ChunkDistance(
            index=running.chunk.index,
            start_ns=running.start_ns,
            source=source,
            arm_mean=float(error[:, self._arms].mean()),
            arm_max=float(error[:, worst].max()),
            arm_channel=self._contract.channel_names[worst],
            gripper_mean=float(error[:, self._grippers].mean()),
            still_arm_mean=float(still[:, self._arms].mean()),
            still_gripper_mean=float(still[:, self._grippers].mean()),
        )
