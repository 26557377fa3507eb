# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The codec trainer learns, resumes, and encodes what it says it encodes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import make_episode

from flashwam_ros.training import codec_data, codec_trainer
from flashwam_ros.training.codec_trainer import CodecRecipe, CodecTraining
from flashwam_ros.training.dataset import load_folder
from flashwam_ros.training.episode_file import write_episode
from flashwam_ros.wam.checkpoint import load_checkpoint
from flashwam_ros.wam.codec import NanoCodec, NanoCodecConfig, canvas_to_tensor

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = NanoCodecConfig(4, (8, 8, 8), (8, 8, 8))


@pytest.fixture(autouse=True)
def one_thread():
    """Exactness wants one thread."""
    torch.set_num_threads(1)


def quiet(_line):
    """No progress lines in tests."""


@pytest.fixture
def demos(tmp_path):
    folder = tmp_path / 'demos'
    (folder / 'red_bottle').mkdir(parents=True)
    for seed in (100_000, 100_001):
        write_episode(folder / 'red_bottle' / f'episode_{seed:06d}.npz', make_episode(seed, 4))
    return folder


def test_resumed_run_equals_uninterrupted_run(demos, tmp_path):
    groups = codec_data.load_groups(codec_data.split_files(demos)[0], 4)
    recipe = CodecRecipe(steps=4, seconds=1e9, batch=2, bf16=False)
    whole = CodecTraining(groups, tmp_path / 'whole', recipe, TINY)
    whole.run(quiet)
    CodecTraining(groups, tmp_path / 'parts', recipe, TINY).run(quiet, until=2)
    resumed = CodecTraining(groups, tmp_path / 'parts', recipe, TINY)
    resumed.run(quiet)
    for one, other in zip(whole.codec.parameters(), resumed.codec.parameters(), strict=True):
        assert torch.equal(one, other)


def test_split_holds_out_every_twentieth_seed(demos):
    training, held_out = codec_data.split_files(demos)
    assert [path.stem for path in training] == ['episode_100001']
    assert [path.stem for path in held_out] == ['episode_100000']


def test_encoding_matches_streaming(demos, tmp_path):
    torch.manual_seed(0)
    codec = NanoCodec(TINY).eval()
    assert codec_trainer.encode_demonstrations(codec, demos, tmp_path / 'latents', quiet) == 2
    assert codec_trainer.encode_demonstrations(codec, demos, tmp_path / 'latents', quiet) == 0
    episode = make_episode(100_000, 4)
    canvases = canvas_to_tensor(codec_data.episode_canvases(episode))
    with torch.no_grad():
        second = codec.encode_group(canvases[None, 5:9])[0]
    loaded = load_folder(tmp_path / 'latents')[0]
    np.testing.assert_allclose(loaded.latents[2], second.numpy(), atol=2e-3)


def test_latents_that_a_crash_tore_are_made_again(demos, tmp_path):
    torch.manual_seed(0)
    codec, out = NanoCodec(TINY).eval(), tmp_path / 'latents'
    codec_trainer.encode_demonstrations(codec, demos, out, quiet)
    whole, empty = sorted(out.rglob('*.npz'))
    whole.write_bytes(whole.read_bytes()[:-100])
    empty.write_bytes(b'')
    assert codec_trainer.encode_demonstrations(codec, demos, out, quiet) == 2
    assert len(load_folder(out)) == 2


def test_demonstrations_are_encoded_with_the_codec_of_a_checkpoint(demos, tmp_path, capsys):
    model, out = REPOSITORY / 'models' / 'g1-nano-teacher', tmp_path / 'codec'
    options = ['--demos', str(demos), '--out', str(out), '--codec']
    assert codec_trainer.main([*options, str(model)]) == 0
    mark = codec_trainer.codec_hash(load_checkpoint(model).codec)
    assert len(load_folder(out / 'latents', mark)) == 2
    assert not (out / 'codec.json').exists(), 'nothing was trained'
    with pytest.raises(SystemExit):
        codec_trainer.main([*options, str(tmp_path)])
    assert 'give a checkpoint folder' in capsys.readouterr().err


def test_weights_favour_what_differs_from_the_mean():
    images = torch.zeros(1, 4, 3, 192, 128)
    images[..., 60:70, 60:70] = 1.0
    weight = codec_trainer.pixel_weights(images, torch.zeros(3, 192, 128), CodecRecipe())
    assert weight.mean() == pytest.approx(1.0, abs=1e-5)
    assert weight[0, 0, 0, 65, 65] > 5 * weight[0, 0, 0, 10, 10]


def test_card_reports_centimetres(demos):
    groups = codec_data.load_groups(codec_data.split_files(demos)[0], 2)
    codec = NanoCodec(TINY)
    probe = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 96, 27))
    torch.nn.init.zeros_(probe[1].weight)
    torch.nn.init.zeros_(probe[1].bias)
    card = codec_trainer.report_card(codec, probe, groups)
    centre = 100 * np.linalg.norm(
        groups.positions[:, 3] - np.array([0.3, 0.0, 0.84]), axis=1).mean()
    assert card['red_bottle_cm'] == pytest.approx(centre, rel=1e-5)
    assert 'pot_cm' not in card
