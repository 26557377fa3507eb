# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import robot_support as support
from robot_support import make_chunk

from flashwam_ros.robot.chunk import AppliedChunk, ChunkRejected

CONTRACT = support.contract()


def rows():
    return np.tile(support.home(), (16, 1))


def test_a_good_chunk_is_accepted():
    make_chunk(0, rows(), first_row=8).validate(CONTRACT)


@pytest.mark.parametrize('first_row', [-2, 1, 16, 1000])
def test_the_first_row_must_begin_a_key_frame_interval(first_row):
    with pytest.raises(ChunkRejected, match='wrong first row'):
        make_chunk(0, rows(), first_row=first_row).validate(CONTRACT)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_the_value_that_is_not_finite_is_named(value):
    bad = rows()
    bad[3, 15] = value
    with pytest.raises(ChunkRejected, match='row 3, channel right_gripper'):
        make_chunk(0, bad).validate(CONTRACT)


@pytest.mark.parametrize('duration', [0.0, 0.04, np.nan, np.inf])
def test_the_row_duration_must_be_the_contracts(duration):
    with pytest.raises(ChunkRejected, match='wrong row duration'):
        make_chunk(0, rows(), row_duration_s=duration).validate(CONTRACT)


def test_chunks_cannot_be_changed_after_they_are_made():
    source = rows()
    chunk = make_chunk(0, source, latency_s={'video': 0.1})
    source[:] = 7.0
    assert chunk.positions.max() < 6.0
    with pytest.raises(ValueError, match='read-only'):
        chunk.positions[0, 0] = 1.0
    with pytest.raises(TypeError):
        chunk.latency_s['video'] = 0.2


def test_applied_rows_are_copied():
    source = rows()
    applied = AppliedChunk('s', 0, 0, 0, 0.05, source, (), (), True, 0.0, 0.0, 0, 0)
    source[:] = 7.0
    assert applied.positions.max() < 6.0
