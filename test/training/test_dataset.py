# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rows and frames keep their places from the episode file to the trainer's batch."""

import dataclasses

import numpy as np
import pytest
from training_support import make_episode, make_latents

from flashwam_ros.training import dataset
from flashwam_ros.training.codec_data import group_indices
from flashwam_ros.training.episode_file import read_episode, write_episode


def test_rows_survive_file_and_batch(tmp_path):
    episode = make_episode(frames=10)
    write_episode(tmp_path / 'episode_100001.npz', episode)
    read = read_episode(tmp_path / 'episode_100001.npz')
    np.testing.assert_array_equal(read.applied, episode.applied)
    np.testing.assert_array_equal(read.images['head'], episode.images['head'])
    latents = dataset.latent_episode(read, np.zeros((10, 4, 12, 8), np.float16))
    folder = tmp_path / 'latents' / 'red_bottle'
    folder.mkdir(parents=True)
    dataset.write_latents(folder / 'episode_100001.npz', latents, 'abc')
    loaded = dataset.load_folder(tmp_path / 'latents', 'abc')
    sampler = dataset.WindowSampler(loaded, (10,), 0.5, {'red_bottle': 1.0})
    batch = sampler.batch(0, 1)
    assert batch.at_start[0]
    assert not batch.rows[0, 0].any()
    np.testing.assert_array_equal(batch.rows[0, 1:].reshape(-1, 16), episode.applied)


def test_latents_of_another_codec_are_refused(tmp_path):
    path = tmp_path / 'episode_1.npz'
    dataset.write_latents(path, make_latents(1)[0], 'one')
    with pytest.raises(ValueError, match='encode the demonstrations again'):
        dataset.read_latents(path, 'other')


def test_batches_depend_on_seed_step_and_rank_alone():
    sampler = dataset.WindowSampler(make_latents(), (4, 6), 0.3, {'red_bottle': 1.0}, seed=5)
    first, again = sampler.batch(7, 3, rank=1), sampler.batch(7, 3, rank=1)
    np.testing.assert_array_equal(first.latents, again.latents)
    np.testing.assert_array_equal(first.rows, again.rows)
    assert not np.array_equal(first.rows.sum(), sampler.batch(7, 3, rank=0).rows.sum())


def test_window_rows_belong_to_window_frames():
    episodes = make_latents(1, frames=12)
    episodes[0].latents[:] = np.arange(12)[:, None, None, None]
    sampler = dataset.WindowSampler(episodes, (5,), 0.0, {'red_bottle': 1.0})
    for step in range(20):
        batch = sampler.batch(step, 2)
        for latents, rows in zip(batch.latents, batch.rows, strict=True):
            start = int(latents[0, 0, 0, 0])
            np.testing.assert_array_equal(rows, episodes[0].rows[start:start + 5])


def test_groups_of_a_latent_frame():
    assert group_indices(0).tolist() == [0, 0, 0, 0]
    assert group_indices(1).tolist() == [1, 2, 3, 4]
    assert group_indices(3).tolist() == [9, 10, 11, 12]


def test_quantiles_keep_the_grippers_extremes():
    rows = np.random.default_rng(0).normal(0, 1, (1000, 16))
    rows[0, 14], rows[:, 3] = 9.0, 0.25
    low, high = dataset.row_quantiles(rows)
    assert high[14] == 9.0
    assert high[0] < rows[:, 0].max()
    assert high[3] - low[3] == pytest.approx(0.05)


def test_torn_episode_is_refused():
    episode = make_episode()
    torn = dataclasses.replace(episode, applied=episode.applied[:-1])
    with pytest.raises(ValueError, match='rows for'):
        torn.check()
