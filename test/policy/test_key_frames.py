# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Key-frame picking: nearest within half a period + 5 ms, or a named error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.policy.key_frames import KeyFrameBuffer
from flashwam_ros.policy.protocol import HistoryError, StreamError

MS = 1_000_000
IMAGE = np.zeros((2, 2, 3), np.uint8)


def buffer_with(stamps_ms, camera='head'):
    frames = KeyFrameBuffer([camera], frame_period_s=0.05, stale_after_s=0.5)
    for stamp in stamps_ms:
        frames.add(camera, IMAGE, int(stamp * MS))
    return frames


@pytest.mark.parametrize(
    ('stamps', 'due', 'expected'),
    [([0, 50, 100], 60, 50), ([0, 50, 100], 80, 100), ([0, 50, 100], 100, 100), ([88], 60, 88)],
)
def test_nearest_frame_is_picked(stamps, due, expected):
    picked = buffer_with(stamps).pick(due * MS, 200 * MS)
    assert picked.stamps_ns == {'head': expected * MS}
    assert picked.due_ns == due * MS


def test_waits_while_a_nearer_frame_may_come():
    frames = buffer_with([0, 50])
    assert frames.pick(90 * MS, 95 * MS) is None
    frames.add('head', IMAGE, 100 * MS)
    assert frames.pick(90 * MS, 105 * MS).stamps_ns['head'] == 100 * MS


def test_settles_early_when_no_later_frame_can_be_nearer():
    assert buffer_with([0, 50]).pick(70 * MS, 71 * MS).stamps_ns['head'] == 50 * MS


def test_every_camera_is_needed():
    frames = KeyFrameBuffer(['head', 'left_wrist'])
    frames.add('head', IMAGE, 0)
    assert frames.pick(0, 10 * MS) is None
    frames.add('left_wrist', IMAGE, 10 * MS)
    assert frames.pick(0, 20 * MS).stamps_ns == {'head': 0, 'left_wrist': 10 * MS}


def test_a_gap_names_camera_due_time_and_nearest_stamp():
    with pytest.raises(
        HistoryError, match=r"'head' for due time 100000000 ns.*140000000.*40.0 ms"
    ):
        buffer_with([0, 50, 140]).pick(100 * MS, 200 * MS)


def test_a_camera_that_stopped_is_an_error_after_the_limit():
    frames = buffer_with([0])
    assert frames.pick(100 * MS, 500 * MS) is None
    with pytest.raises(HistoryError, match='nearest stamp 0 ns'):
        frames.pick(100 * MS, 700 * MS)


def test_a_camera_that_never_started_is_an_error_after_the_limit():
    with pytest.raises(HistoryError, match='it has sent no frame'):
        KeyFrameBuffer(['head']).pick(0, 600 * MS)


def test_freshness_names_missing_and_stale_cameras():
    frames = KeyFrameBuffer(['head', 'left_wrist'])
    frames.add('head', IMAGE, 0)
    with pytest.raises(StreamError, match="'head' is stale.*'left_wrist' has sent no frame"):
        frames.check_fresh(800 * MS)
    frames.add('head', IMAGE, 700 * MS)
    frames.add('left_wrist', IMAGE, 700 * MS)
    frames.check_fresh(800 * MS)


def test_the_first_set_needs_no_exact_time_but_every_camera():
    frames = KeyFrameBuffer(['head', 'left_wrist'])
    frames.add('head', IMAGE, 100 * MS)
    assert frames.pick_first(60 * MS, 110 * MS) is None
    frames.add('left_wrist', IMAGE, 20 * MS)
    assert frames.pick_first(60 * MS, 110 * MS) is None, 'older than the start'
    frames.add('left_wrist', IMAGE, 95 * MS)
    picked = frames.pick_first(60 * MS, 110 * MS)
    assert picked.due_ns == 95 * MS
    assert picked.stamps_ns == {'head': 100 * MS, 'left_wrist': 95 * MS}


def test_the_first_set_names_the_camera_that_sends_nothing():
    frames = KeyFrameBuffer(['head', 'left_wrist'])
    frames.add('head', IMAGE, 5000 * MS)
    assert frames.pick_first(0, 4900 * MS) is None, 'streams connect one after the other'
    with pytest.raises(StreamError, match="camera 'left_wrist' has sent no frame"):
        frames.pick_first(0, 5100 * MS)


def test_unknown_camera_and_old_frames():
    frames = buffer_with([50])
    with pytest.raises(StreamError, match='"tail" is not in the contract'):
        frames.add('tail', IMAGE, 0)
    frames.add('head', IMAGE, 40 * MS)
    assert frames.newest_ns('head') == 50 * MS


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=60, unique=True).map(sorted),
    st.integers(0, 2000),
)
def test_a_pick_is_always_the_nearest_and_in_tolerance(stamps, due):
    frames = buffer_with(stamps)
    distance = min(abs(stamp - due) for stamp in stamps)
    try:
        picked = frames.pick(due * MS, 10_000 * MS)
    except HistoryError:
        assert distance > 30 or (due > stamps[-1] and distance > 25)
    else:
        assert abs(picked.stamps_ns['head'] - due * MS) == distance * MS
        assert distance <= 30
