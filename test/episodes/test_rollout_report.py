# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Verdicts, numbers and files of a rollout report, from made-up logs."""

import json

import numpy as np
import pytest

from flashwam_ros.episodes import rollout_drawing, rollout_file
from flashwam_ros.episodes.film_strip import FilmStrip
from flashwam_ros.episodes.rollout_drawing import VIEW_SIZE
from flashwam_ros.episodes.rollout_log import (
    Outcome,
    RolloutLog,
    RolloutSetting,
    judge,
    summarise,
)
from flashwam_ros.episodes.rollout_report import draw, write_report
from flashwam_ros.imaging import decode_jpeg, encode_jpeg
from flashwam_ros.robot.chunk import AppliedChunk
from flashwam_ros.robot.contract import RobotContract

NAMES = RobotContract.load().channel_names
START = 1_700_000_000_000_000_000
MS = 1_000_000


@pytest.mark.parametrize(
    ('success', 'failure', 'fault', 'factor', 'expected'),
    [
        (True, None, '', 0.999, ('success', 'success')),
        (True, None, '', None, ('success', 'success')),
        (True, None, '', 0.97, ('invalid', 'real_time_factor 0.970 < 0.98')),
        (False, 'time_limit', '', 1.0, ('failure', 'time_limit')),
        (False, 'yellow_touched', '', 1.0, ('failure', 'yellow_touched')),
        (False, None, 'tracking', 1.0, ('failure', 'tracking')),
        (False, None, 'state_lost', 1.0, ('invalid', 'state_lost')),
        (False, None, 'policy: HistoryError: x', 1.0, ('invalid', 'policy: HistoryError: x')),
        (False, None, 'no_chunk', 0.9, ('invalid', 'no_chunk (real_time_factor 0.900 < 0.98)')),
    ],
)
def test_judge(success, failure, fault, factor, expected):
    assert judge(success, failure, fault, factor) == expected


def account(index, start_ms, rows, slack_s, complete):
    return AppliedChunk(
        session='s',
        index=index,
        first_row=16 - rows,
        start_ns=START + start_ms * MS,
        row_duration_s=0.05,
        positions=np.zeros((rows, 16)),
        row_stamps_ns=(),
        key_frame_due_ns=(),
        complete=complete,
        slack_s=slack_s,
        boundary_jump_rad=0.01 * index,
        limited_ticks=index,
        arm_limited_ticks=index // 2,
    )


def make_log(execution='async'):
    log = RolloutLog(
        RolloutSetting('red_bottle', 'pick it', 7, 'wam', execution, 'twin', 's', 10.0)
    )
    log.activated_ns, log.ended_ns = START - 300 * MS, START + 2000 * MS
    log.lateness_s, log.real_time_factor = (1e-4, 2e-3, 5e-3), 0.995
    for index, start, rows, slack in ((0, 0, 8, 0.0), (1, 400, 16, 0.2), (2, 1250, 16, -0.05)):
        log.starts.append(account(index, start, rows, slack, False))
        log.accounts.append(account(index, start, rows, slack, True))
        log.latencies.append({'encode': 0.01, 'predict': 0.03 * (index + 1)})
    log.events = [(START, 'late_chunk: chunk 2'), (START, 'mode: EXECUTE')]
    for i in range(100):
        stamp = START + i * 20 * MS
        log.measured.append((stamp, np.full(16, np.sin(i / 9))))
        log.commanded.append((stamp, np.full(16, np.sin(i / 8)), min(1.0, i / 50)))
    rng = np.random.default_rng(0)
    for camera in ('head', 'left_wrist', 'right_wrist'):
        image = rng.integers(0, 255, (160, 214, 3), dtype=np.uint8)
        log.frames[camera] = [(START + i * 100 * MS, encode_jpeg(image)) for i in range(20)]
    log.sim = [(START + i * 100 * MS, np.full(3, float(i))) for i in range(20)]
    return log


def test_numbers():
    summary = summarise(make_log(), Outcome('failure', 'time_limit', {'reached': True}, 10.0))
    assert summary['first_action_s'] == 0.3
    assert summary['chunks'] == 3
    assert summary['chunk_latency_s']['p50'] == pytest.approx(0.07)
    assert summary['chunk_latency_s']['max'] == pytest.approx(0.1)
    assert summary['slack_s']['min'] == -0.05
    assert summary['late_chunks'] == 1
    assert summary['hold_s'] == pytest.approx(0.05)
    assert summary['executed_s'] == pytest.approx(2.0)
    assert summary['limited_ticks'] == 3 and summary['arm_limited_ticks'] == 1
    assert summary['tick_lateness_s'] == {'p50': 1e-4, 'p99': 2e-3, 'max': 5e-3}
    assert 'late_chunk: chunk 2' in summary['events']


def test_a_hold_in_sync_mode_is_not_late():
    summary = summarise(make_log('sync'), Outcome('success', 'success', {}, 1.0))
    assert summary['late_chunks'] == 0
    assert summary['events'] == ['mode: EXECUTE']


def test_an_empty_log_still_has_a_summary():
    log = RolloutLog(RolloutSetting('red_bottle', '', 0, 'wam', 'sync', 'real', 's', 10.0))
    summary = summarise(log, Outcome('invalid', 'state_lost', {}, 0.0))
    assert summary['chunks'] == 0
    assert summary['first_action_s'] is None
    json.dumps(summary)


def test_what_is_drawn_survives_the_file(tmp_path):
    log, outcome = make_log(), Outcome('failure', 'time_limit', {'reached': True}, 10.0)
    rollout_file.save(tmp_path / 'r.npz', log, outcome, NAMES)
    again, told, names = rollout_file.load(tmp_path / 'r.npz')
    assert (again.setting, told, names) == (log.setting, outcome, NAMES)
    assert again.frames == log.frames
    assert (again.activated_ns, again.ended_ns) == (log.activated_ns, log.ended_ns)
    assert [(a.index, a.start_ns, a.slack_s) for a in again.starts] == [
        (a.index, a.start_ns, a.slack_s) for a in log.starts]  # fmt: skip
    for name in ('measured', 'commanded', 'sim'):
        for ours, theirs in zip(getattr(log, name), getattr(again, name), strict=True):
            assert ours[0] == theirs[0] and ours[2:] == theirs[2:]
            np.testing.assert_array_equal(ours[1], theirs[1])


def test_the_film(tmp_path):
    av = pytest.importorskip('av')
    shown = []

    def view(states):
        for state in states:
            shown.append(state[0])
            yield np.full((VIEW_SIZE[1], VIEW_SIZE[0], 3), 80, np.uint8)

    log = make_log()
    rollout_drawing.video(tmp_path / 'film.mp4', log, Outcome('failure', 'x', {}, 10.0), view)
    with av.open(str(tmp_path / 'film.mp4')) as container:
        frames = list(container.decode(video=0))
        assert container.streams.video[0].codec_context.name == 'h264'
    assert len(frames) == len(shown) == 20
    assert (frames[0].width, frames[0].height) == (854, 480)
    assert shown == sorted(shown) and shown[-1] == 19.0
    pixels = frames[10].to_ndarray(format='rgb24')
    assert abs(int(pixels[240, 320, 0]) - 80) < 8, 'the outside view is on the left'


def test_the_folder(tmp_path):
    """A robot without an outside view; drawn by a child, which leaves nothing else behind."""
    pytest.importorskip('av')
    log = make_log()
    log.sim = []
    folder = tmp_path / 'a' / 'b'
    outcome = Outcome('failure', 'time_limit', {'reached': True}, 10.0)
    summary = write_report(folder, log, outcome, NAMES, {'extra': 1})
    assert json.loads((folder / 'summary.json').read_text()) == summary
    assert summary['extra'] == 1 and 'report_error' not in summary
    assert {path.name for path in folder.iterdir()} == {
        'summary.json', 'plot.png', 'rollout.mp4'}  # fmt: skip
    assert (folder / 'plot.png').stat().st_size > 10_000
    assert (folder / 'rollout.mp4').stat().st_size > 1000


def test_without_a_film_the_recording_stays_and_can_be_drawn_later(tmp_path):
    pytest.importorskip('av')
    log = make_log()
    log.sim = []
    outcome = Outcome('success', 'success', {}, 1.0)
    assert 'report_error' not in write_report(tmp_path, log, outcome, NAMES, film=False)
    assert {path.name for path in tmp_path.iterdir()} == {'summary.json', 'recording.npz'}
    assert draw(tmp_path) == ''
    assert {path.name for path in tmp_path.iterdir()} == {
        'summary.json', 'plot.png', 'rollout.mp4'}  # fmt: skip


def test_a_drawing_that_fails_leaves_the_verdict_and_the_recording(tmp_path):
    log = make_log()
    log.sim = []
    log.frames['head'] = [(START, b'no picture')]
    summary = write_report(tmp_path, log, Outcome('success', 'success', {}, 1.0), NAMES)
    assert summary['verdict'] == 'success'
    assert 'not a JPEG' in summary['report_error']
    assert json.loads((tmp_path / 'summary.json').read_text()) == summary
    assert (tmp_path / 'recording.npz').exists(), 'it can be drawn again'


def test_a_folder_that_cannot_be_written_leaves_the_verdict(tmp_path):
    (tmp_path / 'file').write_text('')
    summary = write_report(
        tmp_path / 'file' / 'x', make_log(), Outcome('success', 'success', {}, 1.0), NAMES)
    assert summary['verdict'] == 'success'
    assert summary['report_error'].startswith('NotADirectoryError')


def test_a_film_strip_covers_any_time_with_a_bounded_number_of_pictures():
    strip, image = FilmStrip(kept=16), np.zeros((48, 64, 3), np.uint8)
    for i in range(400):
        if strip.wants(START + i * 50 * MS):
            strip.add(START + i * 50 * MS, image)
        assert len(strip.frames) < 16
    stamps = np.array([stamp for stamp, _ in strip.frames])
    assert stamps[0] == START and stamps[-1] > START + 15_000 * MS
    assert np.ptp(np.diff(stamps)) <= 200 * MS, 'about evenly spaced'
    assert decode_jpeg(strip.frames[0][1]).shape == (160, 214, 3)
