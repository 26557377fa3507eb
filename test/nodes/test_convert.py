# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks and accounts survive the trip through a message, stamps on the other clock."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')

from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402

from flashwam_ros.nodes import convert  # noqa: E402
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk, ChunkRejected  # noqa: E402
from flashwam_ros.robot.chunk_messages import applied_from_msg, chunk_from_msg  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402

CONTRACT = RobotContract.load()
OFFSET_NS = 1_700_000_000_123_456_789
RNG = np.random.default_rng(1)


def over_the_wire(msg):
    return deserialize_message(serialize_message(msg), type(msg))


def make_chunk(**changes):
    values = {
        'session': 's',
        'contract_hash': CONTRACT.sha256,
        'index': 3,
        'predecessor': 2,
        'row_duration_s': CONTRACT.row_duration_s,
        'positions': RNG.normal(size=(CONTRACT.rows_per_chunk, 16)),
        'channel_names': CONTRACT.channel_names,
        'first_row': 8,
        'stamp_ns': 5_000_000_001,
        'video_steps': 1,
        'action_steps': 2,
        'seed': 2**40,
        'latency_s': {'predict': 0.05, 'encode': 0.01},
        'key_frame_stamps_ns': (4_000_000_000, 4_100_000_000),
    }
    return ActionChunk(**{**values, **changes})


def test_a_chunk_comes_back_equal():
    chunk = make_chunk()
    back = chunk_from_msg(over_the_wire(convert.chunk_to_msg(chunk, OFFSET_NS)), OFFSET_NS)
    np.testing.assert_array_equal(back.positions, chunk.positions)
    for name in chunk.__dataclass_fields__:
        if name != 'positions':
            assert getattr(back, name) == getattr(chunk, name), name
    back.validate(CONTRACT)


def test_nan_comes_through_for_the_driver_to_reject():
    positions = np.full((CONTRACT.rows_per_chunk, 16), np.nan)
    msg = over_the_wire(convert.chunk_to_msg(make_chunk(positions=positions)))
    with pytest.raises(ChunkRejected, match='not finite'):
        chunk_from_msg(msg).validate(CONTRACT)


def test_a_message_whose_sizes_disagree_is_rejected():
    msg = convert.chunk_to_msg(make_chunk())
    msg.rows += 1
    with pytest.raises(ChunkRejected, match='256 values, but 17 rows of 16'):
        chunk_from_msg(msg)


@pytest.mark.parametrize('complete', [True, False])
def test_an_account_comes_back_on_ros_time(complete):
    applied = AppliedChunk(
        session='s',
        index=1,
        first_row=8,
        start_ns=7_000_000_000,
        row_duration_s=0.05,
        positions=RNG.normal(size=(8, 16)),
        row_stamps_ns=tuple(7_000_000_000 + 50_000_000 * (i + 1) for i in range(8)),
        key_frame_due_ns=(7_100_000_000, 7_200_000_000, 7_300_000_000, 7_400_000_000),
        complete=complete,
        slack_s=-0.02,
        boundary_jump_rad=0.01,
        limited_ticks=4,
        arm_limited_ticks=3,
    )
    msg = over_the_wire(
        convert.applied_to_msg(applied, CONTRACT.channel_names, OFFSET_NS, OFFSET_NS)
    )
    back = applied_from_msg(msg)
    assert back.start_ns == applied.start_ns + OFFSET_NS
    assert back.key_frame_due_ns == tuple(t + OFFSET_NS for t in applied.key_frame_due_ns)
    assert (back.complete, back.slack_s) == (complete, -0.02)
    assert (back.limited_ticks, back.arm_limited_ticks) == (4, 3)
    if complete:
        np.testing.assert_array_equal(back.positions, applied.positions)
        assert back.row_stamps_ns == tuple(t + OFFSET_NS for t in applied.row_stamps_ns)
    else:
        assert back.positions.shape == (0, 16)
