# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors per noise level: their identities, repeatability, and the held-out split."""

import pytest
import torch
from evaluation_support import tiny_checkpoint
from training_support import make_episode

from flashwam_ros.training import loss_profile as module
from flashwam_ros.training.episode_file import write_episode
from flashwam_ros.training.loss_profile import held_out_files, loss_profile, profiles
from flashwam_ros.wam.checkpoint import load_checkpoint

EPISODES = [make_episode(100_000, 5), make_episode(100_020, 7)]


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp('models') / 'student', 'lcm')


def test_x0_error_is_sigma_squared_times_the_velocity_error(student):
    profile = loss_profile(load_checkpoint(student), EPISODES, (0.1, 0.5, 1.0))
    assert profile['episodes'] == 2
    for level in profile['levels']:
        for stream in ('video', 'action'):
            assert level[f'{stream}_x0'] == pytest.approx(
                level['sigma'] ** 2 * level[f'{stream}_velocity'], rel=1e-3)
            assert level[f'{stream}_own'] != pytest.approx(level[f'{stream}_x0'], rel=1e-3)


def test_a_network_that_knows_the_answer_has_no_error(student, monkeypatch):
    """x - sigma v is exact then; the plain LCM form is not, which is its known flaw."""
    checkpoint = load_checkpoint(student)

    def oracle(_model, inputs, *_):
        out = []
        for noisy, clean, t in ((inputs.noisy_video, inputs.clean_video, inputs.noisy_video_t),
                                (inputs.noisy_action, inputs.clean_action,
                                 inputs.noisy_action_t)):
            sigma = (t / 1000)[:, None, :, None, None].clamp(min=1e-3)
            out.append((noisy - clean) / sigma)
        return out

    monkeypatch.setattr(module, 'packed_forward', oracle)
    (level,) = loss_profile(checkpoint, EPISODES, (1.0,))['levels']
    assert level['video_x0'] < 1e-9 and level['action_x0'] < 1e-9
    assert level['video_own'] > 0.01


def test_the_same_seed_gives_the_same_figures(student):
    checkpoint = load_checkpoint(student)
    one = loss_profile(checkpoint, EPISODES, (0.5,))
    assert one == loss_profile(checkpoint, EPISODES, (0.5,))
    assert one != loss_profile(checkpoint, EPISODES, (0.5,), seed=1)


def test_only_held_out_demonstrations_and_no_second_time(student, tmp_path, monkeypatch):
    demos = tmp_path / 'demos'
    (demos / 'red_bottle').mkdir(parents=True)
    for seed in (100_000, 100_001):
        write_episode(demos / 'red_bottle' / f'episode_{seed:06d}.npz', make_episode(seed, 5))
    assert [path.stem for path in held_out_files(demos, 3)] == ['episode_100000']
    monkeypatch.setattr(module, 'SIGMAS', (0.5,))
    lines = []
    first = profiles({'student': student}, demos, tmp_path, lines.append)
    assert profiles({'again': student}, demos, tmp_path, lines.append)['again'] == first['student']
    assert len(lines) == 1
    with pytest.raises(ValueError, match='no held-out'):
        held_out_files(tmp_path / 'nothing', 1)
