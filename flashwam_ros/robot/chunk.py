# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Action chunks as the policy sends them and as the driver really executed them.

Row ``i`` is the target to be reached at ``start + (i + 1) * row_duration``, linear from the row
before; for the first executed row, linear from the command in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from flashwam_ros.robot.contract import RobotContract


class ChunkRejected(ValueError):
    """A chunk that must not be executed; ``reason`` says why in one sentence."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


def _read_only(values: np.ndarray) -> np.ndarray:
    out = np.array(values, dtype=np.float64)
    out.setflags(write=False)
    return out


@dataclass(frozen=True)
class ActionChunk:
    """A predicted chunk.

    Attributes:
        session: Name of the rollout that it belongs to.
        contract_hash: ``RobotContract.sha256`` that it was predicted for.
        index: Number of the chunk in the session, from 0.
        predecessor: Index of the chunk before it, -1 for none.
        row_duration_s: Time from row to row (s).
        positions: (R, C) targets in channel units, copied and made read-only.
        channel_names: C names in column order.
        first_row: First row to execute.
        stamp_ns: Capture time of the newest observation that caused it (ns).
        video_steps: Denoising steps of the video.
        action_steps: Denoising steps of the actions.
        seed: Seed of its noise.
        latency_s: Where the prediction time went (s), by name.
        key_frame_stamps_ns: Capture stamps of the key frames that grounded it (ns).
    """

    session: str
    contract_hash: str
    index: int
    predecessor: int
    row_duration_s: float
    positions: np.ndarray
    channel_names: tuple[str, ...]
    first_row: int
    stamp_ns: int
    video_steps: int = 0
    action_steps: int = 0
    seed: int = 0
    latency_s: Mapping[str, float] = field(default_factory=dict)
    key_frame_stamps_ns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Freeze the arrays."""
        object.__setattr__(self, 'positions', _read_only(self.positions))
        object.__setattr__(self, 'channel_names', tuple(self.channel_names))
        object.__setattr__(self, 'latency_s', MappingProxyType(dict(self.latency_s)))

    def validate(self, contract: RobotContract) -> None:
        """Check everything that does not depend on the moment.

        Raises:
            ChunkRejected: Naming the first thing that is wrong.
        """
        if self.contract_hash != contract.sha256:
            raise ChunkRejected(
                f'wrong contract: the chunk was made for {self.contract_hash[:12] or "none"}, '
                f'the robot is {contract.sha256[:12]} ({contract.name})'
            )
        if self.channel_names != contract.channel_names:
            raise ChunkRejected('wrong channels: names or order differ from the contract')
        shape = (contract.rows_per_chunk, len(contract.channels))
        if self.positions.shape != shape:
            raise ChunkRejected(f'wrong shape: {self.positions.shape}, the contract says {shape}')
        if not np.isfinite(self.positions).all():
            row, column = np.argwhere(~np.isfinite(self.positions))[0]
            raise ChunkRejected(
                f'not finite: row {row}, channel {self.channel_names[column]} is '
                f'{self.positions[row, column]}'
            )
        stride = contract.rows_per_key_frame
        if not 0 <= self.first_row < shape[0] or self.first_row % stride:
            raise ChunkRejected(
                f'wrong first row: {self.first_row}, must be a multiple of {stride} in '
                f'0..{shape[0] - stride}'
            )
        if not abs(self.row_duration_s - contract.row_duration_s) < 1e-6:
            raise ChunkRejected(
                f'wrong row duration: {self.row_duration_s} s, the contract says '
                f'{contract.row_duration_s} s'
            )
        if self.index < 0:
            raise ChunkRejected(f'wrong index: {self.index}')


@dataclass(frozen=True)
class AppliedChunk:
    """A chunk as executed.

    Attributes:
        session: Name of the rollout.
        index: Number of the chunk.
        first_row: First executed row.
        start_ns: When its first executed row's interval began (ns, the executor's clock).
        row_duration_s: Time from row to row (s).
        positions: (R - first_row, C) commanded at each row's instant, after limits; at the start
            (``complete`` false) the targets stand in.
        row_stamps_ns: The instant of each executed row (ns).
        key_frame_due_ns: Capture instants of the key frames that the model's history expects (ns).
        complete: False at the start, True once every row was commanded.
        slack_s: End of the predecessor minus arrival (s); negative means late.
        boundary_jump_rad: Largest |first target - command in force| of an arm joint at the start.
        limited_ticks: Ticks on which the limiter intervened.
        arm_limited_ticks: Those on which it did for a joint of an arm.
    """

    session: str
    index: int
    first_row: int
    start_ns: int
    row_duration_s: float
    positions: np.ndarray
    row_stamps_ns: tuple[int, ...]
    key_frame_due_ns: tuple[int, ...]
    complete: bool
    slack_s: float
    boundary_jump_rad: float
    limited_ticks: int
    arm_limited_ticks: int

    def __post_init__(self) -> None:
        """Freeze the array."""
        object.__setattr__(self, 'positions', _read_only(self.positions))
