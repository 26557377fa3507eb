# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Predicted video: the right frames, decoded in the right place, and a picture."""

import numpy as np
import pytest
import torch
from evaluation_support import tiny_checkpoint
from training_support import make_episode

from flashwam_ros.training.codec_data import episode_canvases
from flashwam_ros.training.episode_file import write_episode
from flashwam_ros.training.strips import decode, draw_all, imagine, real_chunk, strip
from flashwam_ros.wam.checkpoint import load_checkpoint
from flashwam_ros.wam.codec import canvas_to_tensor, tensor_to_canvas

EPISODE = make_episode(100_000, 7)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp('models') / 'tiny')


def test_real_latents_decode_to_the_images_of_their_chunk(folder):
    checkpoint = load_checkpoint(folder)
    latents = real_chunk(checkpoint, EPISODE, 1)
    assert latents.shape[1] == 4
    shown = decode(checkpoint, latents, latents[:, 2:], 1)
    group = canvas_to_tensor(episode_canvases(EPISODE)[5:9])
    expected = tensor_to_canvas(checkpoint.codec.decode_group(
        checkpoint.codec.encode_group(group[None]))[0])
    assert shown.shape == (8, 192, 128, 3)
    # A batch of another size rounds otherwise.
    np.testing.assert_allclose(shown[:4].astype(int), expected.astype(int), atol=1)
    with pytest.raises(ValueError, match='latent frames'):
        real_chunk(checkpoint, EPISODE, 4)


def test_prediction_depends_on_history_and_seed_alone(folder):
    checkpoint = load_checkpoint(folder)
    one = imagine(checkpoint, EPISODE, 1, (1, 1))
    np.testing.assert_array_equal(one, imagine(checkpoint, EPISODE, 1, (1, 1)))
    assert (one != imagine(checkpoint, EPISODE, 1, (1, 1), seed=1)).any()
    assert (one != imagine(checkpoint, make_episode(100_020, 7), 1, (1, 1))).any()


def test_strip_of_a_short_episode_shows_its_last_chunk(folder, tmp_path):
    checkpoint = load_checkpoint(folder)
    errors = strip([('tiny 1v/1a', checkpoint, (1, 1))], make_episode(100_000, 5),
                   tmp_path / 'strip.png')
    assert set(errors) == {'codec', 'tiny 1v/1a'}
    assert all(0 < error < 1 for error in errors.values())
    assert (tmp_path / 'strip.png').stat().st_size > 5_000


def test_a_strip_for_every_task(folder, tmp_path):
    demos = tmp_path / 'demos' / 'red_bottle'
    demos.mkdir(parents=True)
    write_episode(demos / 'episode_100000.npz', EPISODE)
    errors = draw_all({'tiny': folder}, demos.parent, tmp_path, lambda _line: None)
    assert set(errors['red_bottle']) == {'codec', 'tiny\n10v/20a', 'tiny\n1v/1a'}
    assert (tmp_path / 'strip_red_bottle.png').exists()
