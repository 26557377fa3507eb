# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rows, labels and pictures of episodes; reset pictures and instructions."""

import dataclasses
import errno
import json
import os

import numpy as np
import pytest

from flashwam_ros.console.reset import ResetPictures, draw_in_twin, instructions
from flashwam_ros.console.settings import ConsoleError
from flashwam_ros.console.shelf import SHOWN, Shelf
from flashwam_ros.episodes.sidecar import load_sidecar, save_sidecar, sidecar_path
from flashwam_ros.imaging import decode_jpeg
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.twin.tasks import TASKS

FINDING = {'name': 'gaps', 'stream': 'head', 'text': '0.3 s', 'severity': 'warning'}
QUALITY = {'score': 60, 'level': 'amber', 'streams': {}, 'findings': [FINDING]}


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / 'episodes', RobotContract.load())


@pytest.fixture
def put(shelf, maker):
    def put(name, seconds=1.0, **sidecar):
        shelf.folder.mkdir(exist_ok=True)
        return maker(shelf.folder / f'{name}.mcap', seconds, **sidecar).write()

    return put


def test_an_empty_shelf(shelf):
    assert shelf.rows() == {'total': 0, 'episodes': []}


def test_rows_are_newest_first_with_quality(shelf, put):
    put('20261121-100000_a', quality=QUALITY)
    put('20261121-110000_b')
    (shelf.folder / '20261121-120000_c.mcap.part').write_bytes(b'x')
    told = shelf.rows()
    json.dumps(told, allow_nan=False)
    assert [row['name'][-1] for row in told['episodes']] == ['c', 'b', 'a']
    last = told['episodes'][-1]
    assert (last['score'], last['level'], last['seconds']) == (60, 'amber', 1.0)
    assert last['findings'] == ['gaps (head): 0.3 s'] and last['picture']
    assert told['episodes'][0]['state'] == 'cut off' and not told['episodes'][0]['picture']


def test_only_the_newest_are_shown_of_many(shelf, put):
    path = put('20261121-100000_a')
    sidecar = sidecar_path(path).read_text()
    for number in range(SHOWN + 5):
        name = f'20261122-{number:06d}_x'
        (shelf.folder / f'{name}.mcap').write_bytes(b'')
        (shelf.folder / f'{name}.json').write_text(sidecar)
    told = shelf.rows()
    assert told['total'] == SHOWN + 6 and len(told['episodes']) == SHOWN
    assert told['episodes'][0]['name'].endswith(f'{SHOWN + 4:06d}_x')


def test_labels_are_put_and_taken_back(shelf, put):
    put('20261121-100000_a')
    assert shelf.label('20261121-100000_a', 'discard', 'ann')['disposition'] == 'discard'
    assert shelf.label('20261121-100000_a', 'success', 'ann')['outcome'] == 'success'
    assert shelf.label('20261121-100000_a', 'undo', 'ann')['outcome'] == ''
    for name, label in (('20261121-100000_a', 'great'), ('20261121', 'keep'), ('../a', 'keep')):
        with pytest.raises(ConsoleError):
            shelf.label(name, label, 'ann')


def test_a_label_that_cannot_be_written_is_an_answer_not_a_broken_page(shelf, put, monkeypatch):
    put('20261121-100000_a')

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(ConsoleError, match='No space left'):
        shelf.label('20261121-100000_a', 'discard', 'ann')
    monkeypatch.undo()
    assert shelf.rows()['episodes'][0]['disposition'] == '', 'the label before is still there'


def test_thumbnail_and_sheet(shelf, put, monkeypatch):
    path = put('20261121-100000_a', 2.0)
    strip = decode_jpeg(shelf.thumbnail(path.stem))
    assert strip.shape == (84, 336, 3) and strip.std() > 5
    assert np.abs(strip[:, :112].astype(int) - strip[:, 224:]).max() > 30, 'time goes on'
    assert decode_jpeg(shelf.sheet(path.stem)).shape[1] == 1600
    monkeypatch.setattr(Shelf, '_draw_thumbnail', None)
    assert shelf.thumbnail(path.stem), 'drawn once'


def test_a_damaged_file_is_said_and_nothing_breaks(shelf, put):
    path = put('20261121-100000_a')
    path.write_bytes(b'not an episode')
    with pytest.raises(ConsoleError, match='not an MCAP file'):
        shelf.thumbnail(path.stem)
    with pytest.raises(ConsoleError):
        shelf.sheet(path.stem)
    part = shelf.folder / '20261121-110000_b.mcap.part'
    part.write_bytes(b'x')
    with pytest.raises(ConsoleError, match='not complete'):
        shelf.thumbnail('20261121-110000_b')


def test_labels_change_the_row_not_the_picture(shelf, put):
    path = put('20261121-100000_a')
    before = shelf.thumbnail(path.stem)
    sidecar = load_sidecar(sidecar_path(path))
    save_sidecar(sidecar_path(path), dataclasses.replace(sidecar, task='pot_potato'))
    assert shelf.rows()['episodes'][0]['task'] == 'pot_potato'
    assert shelf.thumbnail(path.stem) is before


def test_every_task_has_instructions():
    for task in TASKS:
        steps = instructions(task)
        assert len(steps) >= 2 and all(isinstance(step, str) for step in steps)
    with pytest.raises(ConsoleError, match='juggle'):
        instructions('juggle')


def test_in_the_twin_each_seed_has_a_picture_drawn_once(tmp_path):
    calls = []

    def draw(task, seed):
        calls.append((task, seed))
        return b'%d' % seed

    pictures = ResetPictures('red_bottle', tmp_path, draw)
    assert [pictures.picture(seed) for seed in (3, 3, 4)] == [b'3', b'3', b'4']
    assert calls == [('red_bottle', 3), ('red_bottle', 4)]
    with pytest.raises(ConsoleError):
        pictures.keep(b'jpeg')


def test_on_a_robot_the_picture_is_the_one_that_was_kept(tmp_path):
    pictures = ResetPictures('red_bottle', tmp_path / 'new', None)
    assert not pictures.seeded
    with pytest.raises(ConsoleError, match='no reset picture'):
        pictures.picture(0)
    pictures.keep(b'one')
    pictures.keep(b'two')
    assert ResetPictures('red_bottle', tmp_path / 'new', None).picture(7) == b'two'
    with pytest.raises(ConsoleError):
        ResetPictures('pot_potato', tmp_path / 'new', None).picture(0)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_twin_draws_the_scene_of_a_seed():
    pytest.importorskip('mujoco')
    try:
        picture = decode_jpeg(draw_in_twin('red_bottle', 3))
    except ConsoleError as error:
        if 'OpenGL' in str(error) or 'not drawn within' in str(error):
            pytest.skip(str(error))
        raise
    assert picture.shape == (240, 320, 3) and picture.std() > 20
    with pytest.raises(ConsoleError, match='unknown task'):
        draw_in_twin('juggle', 3)
