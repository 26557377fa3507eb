# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ages, rates and plain values of the board; the line of chunks."""

import json

import numpy as np
import pytest

from flashwam_ros.console.board import Board, plain
from flashwam_ros.console.timeline import ChunkLine
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk

SECOND = 1_000_000_000


class Clock:
    def __init__(self):
        self.now_ns = 100 * SECOND

    def __call__(self):
        return self.now_ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    return Board(clock)


def test_ages_count_from_the_stamp_and_grow(board, clock):
    board.put('driver', {'mode': 'HOLD'}, clock.now_ns - SECOND // 2)
    board.put('recorder', {'state': 'idle'})
    clock.now_ns += SECOND
    told = board.snapshot()
    assert told['t_ms'] == pytest.approx(101_000)
    assert told['parts']['driver'] == [1.5, {'mode': 'HOLD'}]
    assert told['parts']['recorder'] == [1.0, {'state': 'idle'}]


def test_a_stamp_from_the_future_makes_nothing_younger_than_its_arrival(board, clock):
    board.put('joints', [0.0], clock.now_ns + 9 * SECOND)
    board.put_frame('head', b'jpeg', clock.now_ns + 9 * SECOND)
    clock.now_ns += SECOND
    parts = board.snapshot()['parts']
    assert parts['joints'][0] == parts['camera head'][0] == 1.0


def test_pictures_are_numbered_and_their_rate_falls_when_they_stop(board, clock):
    assert board.frame('head') is None
    for _ in range(60):
        clock.now_ns += SECOND // 20
        board.put_frame('head', b'jpeg', clock.now_ns - SECOND // 50)
    assert board.frame('head').number == 60
    age_s, told = board.snapshot()['parts']['camera head']
    assert (age_s, told['rate_hz']) == (0.02, pytest.approx(20, abs=1))
    clock.now_ns += 3 * SECOND
    assert board.snapshot()['parts']['camera head'] == [3.02, {'rate_hz': 0.0}]


def test_everything_told_is_json_without_surprises():
    values = {'a': np.array([1.0, np.nan, np.inf]), 'b': np.int64(3), 'c': (True, np.bool_(False)),
              'd': {1: None, 'e': 'text'}, 'f': 0.123456789}  # fmt: skip
    told = plain(values)
    assert told == {'a': [1.0, None, None], 'b': 3, 'c': [True, False],
                    'd': {'1': None, 'e': 'text'}, 'f': 0.12346}  # fmt: skip
    json.dumps(told, allow_nan=False)


def chunk(index, session='s', first=0):
    return ActionChunk(session, '', index, index - 1, 0.05, np.zeros((16, 16)), ('x',) * 16, first,
                       0)  # fmt: skip


def account(index, slack, complete, session='s', rows=16, limited=0):
    return AppliedChunk(session, index, 0, 0, 0.05, np.zeros((rows if complete else 0, 16)), (),
                        (), complete, slack, 0.0, limited, 0)  # fmt: skip


def test_a_chunk_waits_runs_and_fades():
    line = ChunkLine()
    line.chunk(chunk(0), 10 * SECOND)
    assert line.bars(11 * SECOND) == [{'index': 0, 'arrival': 1.0, 'start': None, 'slack': None,
                                       'duration': pytest.approx(0.8), 'limited': 0}]  # fmt: skip
    line.applied(account(0, -3.0, False), 11 * SECOND)
    line.chunk(chunk(1, first=14), round(11.5 * SECOND))
    line.applied(account(1, 0.3, False), 12 * SECOND)
    first, second = line.bars(13 * SECOND)
    assert first['slack'] is None, 'the first one has nobody to be late for'
    assert (second['slack'], second['start'], second['arrival']) == (0.3, 1.0, 1.5)
    assert second['duration'] == pytest.approx(0.1)
    line.applied(account(1, 0.3, True, rows=2, limited=4), 12 * SECOND)
    assert line.bars(13 * SECOND)[1]['limited'] == 4
    assert [bar['index'] for bar in line.bars(round(19.5 * SECOND))] == [1]
    assert line.bars(30 * SECOND) == []


def test_sessions_are_kept_apart_and_memory_is_bounded():
    line = ChunkLine()
    for index in range(500):
        line.applied(account(index % 250, 0.1, True, session=f's{index // 250}'), SECOND)
    bars = line.bars(SECOND)
    assert len(bars) == 200 and bars[-1]['index'] == 249
