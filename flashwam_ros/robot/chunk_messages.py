# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks and accounts of chunks out of messages, with ROS or decoded from a file without it."""

from __future__ import annotations

from typing import Any

import numpy as np

from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk, ChunkRejected

SECOND_NS = 1_000_000_000


def time_ns(stamp: Any) -> int:
    """A `builtin_interfaces/Time` in ns."""
    return stamp.sec * SECOND_NS + stamp.nanosec


def _matrix(msg: Any) -> np.ndarray:
    if len(msg.positions) != msg.rows * msg.channels:
        raise ChunkRejected(
            f'message of chunk {msg.index}: {len(msg.positions)} values, but {msg.rows} rows of '
            f'{msg.channels} channels'
        )
    return np.array(msg.positions, dtype=np.float64).reshape(msg.rows, msg.channels)


def chunk_from_msg(msg: Any, offset_ns: int = 0) -> ActionChunk:
    """The chunk in a message, not yet validated against a contract.

    Args:
        msg: `ActionChunk`.
        offset_ns: taken off every stamp.

    Raises:
        ChunkRejected: the number of values does not fit rows and channels.
    """
    return ActionChunk(
        session=msg.session,
        contract_hash=msg.contract_hash,
        index=msg.index,
        predecessor=msg.predecessor,
        row_duration_s=msg.row_duration,
        positions=_matrix(msg),
        channel_names=tuple(msg.channel_names),
        first_row=msg.first_row,
        stamp_ns=time_ns(msg.header.stamp) - offset_ns,
        video_steps=msg.video_steps,
        action_steps=msg.action_steps,
        seed=msg.seed,
        latency_s=dict(zip(msg.latency_names, msg.latency, strict=False)),
        key_frame_stamps_ns=tuple(time_ns(stamp) - offset_ns for stamp in msg.key_frame_stamps),
    )


def applied_from_msg(msg: Any) -> AppliedChunk:
    """The account of a chunk in an `AppliedActions`, stamps in ROS time (ns).

    Raises:
        ChunkRejected: the number of values does not fit rows and channels.
    """
    return AppliedChunk(
        session=msg.session,
        index=msg.index,
        first_row=msg.first_row,
        start_ns=time_ns(msg.start),
        row_duration_s=msg.row_duration,
        positions=_matrix(msg),
        row_stamps_ns=tuple(time_ns(stamp) for stamp in msg.row_stamps),
        key_frame_due_ns=tuple(time_ns(stamp) for stamp in msg.key_frame_due),
        complete=msg.complete,
        slack_s=msg.slack,
        boundary_jump_rad=msg.boundary_jump,
        limited_ticks=msg.limited_ticks,
        # Recordings from before there was such a field say no more than the sum.
        arm_limited_ticks=getattr(msg, 'arm_limited_ticks', msg.limited_ticks),
    )
