# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Both layouts are read to the same rows and images; what is wrong is named."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_support import CAMERAS, NAMES, VENDOR_NAMES, synthetic, write_v21, write_v30

from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.lerobot_meta import LeRobotError, Segment, find_sets, open_set
from flashwam_ros.training.video_file import VideoError, frame_times, read_frames


@pytest.mark.parametrize('write', [write_v21, write_v30])
def test_rows_and_images_of_every_episode(tmp_path, write):
    episodes = [synthetic(0, 33), synthetic(1, 21)]
    dataset = open_set(write(tmp_path / 'set', episodes))
    assert dataset.fps == 20
    assert dataset.names('action') == NAMES
    assert dataset.video_keys == CAMERAS
    for meta, made in zip(dataset.episodes, episodes, strict=True):
        assert meta.length == len(made.action)
        assert meta.segments == (Segment(0, meta.length, made.task),)
        np.testing.assert_array_equal(dataset.table(meta, ['action'])['action'], made.action)
        for index in ([0, 1, 5], [meta.length - 1]):
            images = dataset.frames(meta, CAMERAS[1], index)
            for image, k in zip(images, index, strict=True):
                # chroma is stored at half size: compare means
                np.testing.assert_allclose(image.mean(axis=(0, 1)),
                                           made.images[CAMERAS[1]][k].mean(axis=(0, 1)), atol=2)


def test_segments_are_read_and_checked(tmp_path):
    episode = synthetic(0, 33)
    episode.segments = [(0, 20, 'reach'), (20, 33, 'lift')]
    root = write_v21(tmp_path / 'set', [episode])
    assert open_set(root).episodes[0].segments == (Segment(0, 20, 'reach'),
                                                   Segment(20, 33, 'lift'))
    episode.segments = [(0, 34, 'reach')]
    with pytest.raises(LeRobotError, match=r'segment 0\.\.34 of 33'):
        open_set(write_v21(tmp_path / 'other', [episode]))


def test_sets_below_a_folder_are_found(tmp_path):
    write_v21(tmp_path / 'b' / 'one', [synthetic(0, 5)])
    write_v21(tmp_path / 'a', [synthetic(0, 5)])
    assert find_sets(tmp_path) == [tmp_path / 'a', tmp_path / 'b' / 'one']
    with pytest.raises(LeRobotError, match=r'no meta/info\.json'):
        find_sets(tmp_path / 'a' / 'data')


def test_missing_and_damaged_parts_are_named(tmp_path):
    root = write_v21(tmp_path / 'set', [synthetic(0, 9)])
    dataset = open_set(root)
    with pytest.raises(LeRobotError, match=r"episode_000000\.parquet: no column \['reward'\]"):
        dataset.table(dataset.episodes[0], ['reward'])
    data = dataset.episodes[0].data
    data.write_bytes(data.read_bytes()[:-40])
    with pytest.raises(LeRobotError, match='episode_000000.parquet: cannot be read'):
        dataset.table(dataset.episodes[0], ['action'])
    (root / layout.EPISODES_JSONL).write_text('{"episode_index": 0}\n{torn')
    with pytest.raises(LeRobotError, match='line 2'):
        open_set(root)
    info = json.loads((root / layout.INFO).read_text())
    (root / layout.INFO).write_text(json.dumps({**info, 'codebase_version': 'v1.6'}))
    with pytest.raises(LeRobotError, match=r"v1\.6"):
        open_set(root)


@pytest.mark.parametrize('write', [write_v21, write_v30])
def test_file_without_a_row_is_named(tmp_path, write):
    dataset = open_set(write(tmp_path / 'set', [synthetic(0, 9)]))
    data = dataset.episodes[0].data
    pq.write_table(pq.read_table(data).slice(0, 0), data)
    with pytest.raises(LeRobotError, match='no row of episode 0') as caught:
        dataset.table(dataset.episodes[0], ['action', 'timestamp'])
    assert str(caught.value).startswith(f'{data}: ')


def test_video_without_a_frame_at_a_time(tmp_path):
    root = write_v21(tmp_path / 'set', [synthetic(0, 9)])
    path = open_set(root).episodes[0].videos[CAMERAS[0]].path
    np.testing.assert_allclose(frame_times(path), np.arange(9) / 20, atol=1e-6)
    with pytest.raises(VideoError, match=r'no frame within .* of 0\.450 s'):
        read_frames(path, [0.0, 0.45], 0.02)
    (tmp_path / 'no.mp4').write_bytes(b'not a video')
    with pytest.raises(VideoError, match='no.mp4'):
        frame_times(tmp_path / 'no.mp4')


def test_names_in_all_published_forms():
    names = list(VENDOR_NAMES)
    for form in (names, [names], {'motors': names}, {'motors': [names]}):
        assert layout.flat_names(form) == tuple(names)
    assert layout.flat_names(None) == ()
    assert layout.channel_columns(names, NAMES) == list(range(16))
    assert layout.channel_columns([f'{n}.pos' for n in NAMES], NAMES) == list(range(16))
    mixed = [*names[:7], 'left_ee', *names[7:14], 'gripper_right']
    columns = layout.channel_columns([n.replace('gripper_right', 'right_dex1') for n in mixed],
                                     NAMES)
    assert columns == [*range(7), *range(8, 15), 7, 15]


@pytest.mark.parametrize(('names', 'match'), [
    ((), 'no channel names'),
    (VENDOR_NAMES[:-1], 'right_gripper is missing'),
    ((*VENDOR_NAMES[:-1], 'kLeftGripper'), 'left_gripper is there 2 times'),
    (tuple(f'motor_{i}' for i in range(16)), 'left_shoulder_pitch_joint is missing')])
def test_order_that_cannot_be_known_is_refused(names, match):
    with pytest.raises(ValueError, match=match):
        layout.channel_columns(names, NAMES)
