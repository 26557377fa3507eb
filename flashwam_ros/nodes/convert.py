# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks and accounts of chunks as ROS messages; `robot.chunk_messages` is the way back.

Inside a message every stamp is ROS time; `offset_ns` is added to the stamps of the dataclass on
the way out and subtracted on the way in, so each node keeps the clock it likes.
"""

from __future__ import annotations

from array import array

import numpy as np

from flashwam_ros.msg import ActionChunk as ActionChunkMsg
from flashwam_ros.msg import AppliedActions
from flashwam_ros.nodes.clock import to_msg
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk


def _flat(positions: np.ndarray) -> array:
    return array('d', np.ascontiguousarray(positions, dtype=np.float64).tobytes())


def chunk_to_msg(chunk: ActionChunk, offset_ns: int = 0) -> ActionChunkMsg:
    """A chunk as a message."""
    msg = ActionChunkMsg()
    msg.header.stamp = to_msg(chunk.stamp_ns + offset_ns)
    msg.session = chunk.session
    msg.contract_hash = chunk.contract_hash
    msg.index = int(chunk.index)
    msg.predecessor = int(chunk.predecessor)
    msg.row_duration = float(chunk.row_duration_s)
    msg.rows, msg.channels = chunk.positions.shape
    msg.channel_names = list(chunk.channel_names)
    msg.positions = _flat(chunk.positions)
    msg.first_row = int(chunk.first_row)
    msg.video_steps = int(chunk.video_steps)
    msg.action_steps = int(chunk.action_steps)
    msg.seed = int(chunk.seed)
    msg.latency_names = list(chunk.latency_s)
    msg.latency = [float(value) for value in chunk.latency_s.values()]
    msg.key_frame_stamps = [to_msg(stamp + offset_ns) for stamp in chunk.key_frame_stamps_ns]
    return msg


def applied_to_msg(
    applied: AppliedChunk, channel_names: tuple[str, ...], offset_ns: int, now_ns: int
) -> AppliedActions:
    """The account of a chunk as a message; at the start (not complete) it carries no rows yet.

    Args:
        applied: the executor's account, stamps on the monotonic clock.
        channel_names: column order.
        offset_ns: ROS time minus monotonic time.
        now_ns: ROS time of publication.
    """
    msg = AppliedActions()
    msg.header.stamp = to_msg(now_ns)
    msg.session = applied.session
    msg.index = int(applied.index)
    msg.complete = bool(applied.complete)
    msg.first_row = int(applied.first_row)
    msg.start = to_msg(applied.start_ns + offset_ns)
    msg.row_duration = float(applied.row_duration_s)
    msg.channels = len(channel_names)
    msg.channel_names = list(channel_names)
    if applied.complete:
        msg.rows = len(applied.positions)
        msg.positions = _flat(applied.positions)
        msg.row_stamps = [to_msg(stamp + offset_ns) for stamp in applied.row_stamps_ns]
    msg.key_frame_due = [to_msg(stamp + offset_ns) for stamp in applied.key_frame_due_ns]
    msg.slack = float(applied.slack_s)
    msg.boundary_jump = float(applied.boundary_jump_rad)
    msg.limited_ticks = int(applied.limited_ticks)
    msg.arm_limited_ticks = int(applied.arm_limited_ticks)
    return msg
