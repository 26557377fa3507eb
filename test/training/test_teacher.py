# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The trainer resumes exactly, learns, and averages over processes."""

import dataclasses

import numpy as np
import pytest
import torch
from training_support import make_latents, tiny_recipe

from flashwam_ros.training.dataset import WindowSampler
from flashwam_ros.training.run_state import read_log
from flashwam_ros.training.teacher import LOG_EVERY, TeacherTraining, fit_normaliser
from flashwam_ros.training.teacher_step import Losses
from flashwam_ros.wam.text import NanoTextEncoder
from flashwam_ros.wam.transformer import WanTransformer3DModel


@pytest.fixture(autouse=True)
def one_thread():
    """Small products are slower on many threads, and exactness wants one."""
    torch.set_num_threads(1)


def quiet(_line):
    """No progress lines in tests."""


def test_resumed_run_equals_uninterrupted_run(tmp_path):
    episodes, recipe = make_latents(), tiny_recipe()
    whole = TeacherTraining(episodes, tmp_path / 'whole', recipe)
    whole.run(quiet)
    TeacherTraining(episodes, tmp_path / 'parts', recipe).run(quiet, until=3)
    resumed = TeacherTraining(episodes, tmp_path / 'parts', recipe)
    assert resumed.step == 3
    resumed.run(quiet)
    assert resumed.step == whole.step == 6
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole.average, resumed.average, strict=True):
        assert torch.equal(one, other)


def test_loss_falls_on_repeated_windows(tmp_path):
    recipe = tiny_recipe(steps=60, peak_learning_rate=3e-3, head_dim=32, ffn_dim=64)
    episodes = make_latents(2, frames=4)
    for episode in episodes:
        episode.latents[:] = 1.0
    run = TeacherTraining(episodes, tmp_path, recipe)
    before = run.held_out_losses()
    run.run(quiet)
    after = run.held_out_losses()
    assert sum(after) < 0.8 * sum(before)
    rows = read_log(tmp_path / 'teacher.csv')
    assert [int(row['step']) for row in rows] == list(range(0, 60, LOG_EVERY))


def test_perturbed_frames_get_no_loss():
    episodes, recipe = make_latents(), tiny_recipe(text_dropout=0.0)
    normaliser = fit_normaliser(episodes)
    losses = Losses(recipe, normaliser, NanoTextEncoder(), 2)
    model = WanTransformer3DModel(recipe.transformer(4, 64))
    batch = WindowSampler(episodes, (4,), 0.5, {'red_bottle': 1.0}).batch(0, 2)

    def values(perturbed):
        changed = dataclasses.replace(batch, perturbed=perturbed)
        return [float(v) for v in losses(model, changed, torch.Generator().manual_seed(0))]

    assert min(values(np.zeros((2, 4), bool))) > 0
    assert values(np.ones((2, 4), bool)) == [0.0, 0.0]


def test_normaliser_stays_with_the_run(tmp_path):
    first = TeacherTraining(make_latents(2), tmp_path, tiny_recipe())
    later = TeacherTraining(make_latents(4), tmp_path, tiny_recipe())
    assert later.normaliser == first.normaliser
