# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The teacher's program: what a run starts with, keeps and exports."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from training_support import make_latents, tiny_recipe

from flashwam_ros.training.codec_trainer import save_codec
from flashwam_ros.training.command import load_paraphrases
from flashwam_ros.training.dataset import WindowSampler
from flashwam_ros.training.objectives.registry import build_objective
from flashwam_ros.training.recipes import PRESETS, TeacherRecipe, read_teacher_recipe
from flashwam_ros.training.run_state import load_state, read_log, save_state
from flashwam_ros.training.teacher import TeacherRun, fit_normaliser
from flashwam_ros.training.windows import WindowSource
from flashwam_ros.twin.tasks import TASKS
from flashwam_ros.wam.checkpoint import load_checkpoint
from flashwam_ros.wam.codec import NanoCodec, NanoCodecConfig
from flashwam_ros.wam.text import NanoTextEncoder
from flashwam_ros.wam.transformer import WanTransformer3DModel


@pytest.fixture(autouse=True)
def one_thread():
    """Small products are slower on many threads, and exactness wants one."""
    torch.set_num_threads(1)


def quiet(_line):
    """No progress lines in tests."""


@pytest.fixture(scope='module')
def codec_folder(tmp_path_factory):
    """A codec that fits the synthetic latents."""
    folder = tmp_path_factory.mktemp('codec')
    save_codec(NanoCodec(NanoCodecConfig(4, (8, 8, 8), (8, 8, 8))), folder)
    return folder


def averaged(run):
    return dict(run.trainer.networks.averaged_model().named_parameters())


def test_loss_falls_on_repeated_windows(tmp_path):
    recipe = tiny_recipe(steps=60, peak_learning_rate=3e-3, head_dim=32, ffn_dim=64)
    episodes = make_latents(2, frames=4)
    for episode in episodes:
        episode.latents[:] = 1.0
    run = TeacherRun(episodes, tmp_path, recipe)
    before = run.trainer.held_out_figures()
    run.trainer.run(quiet)
    after = run.trainer.held_out_figures()
    assert after['video'] + after['action'] < 0.8 * (before['video'] + before['action'])
    rows = read_log(tmp_path / 'teacher.csv')
    assert [int(row['step']) for row in rows] == list(range(0, 60, recipe.log_every))


def test_perturbed_frames_get_no_loss():
    episodes, recipe = make_latents(), tiny_recipe(text_dropout=0.0)
    source = WindowSource(episodes, recipe, fit_normaliser(episodes), NanoTextEncoder(),
                          torch.device('cpu'))
    objective = build_objective('flow_matching', recipe.objective_options())
    networks = type('N', (), {'student': WanTransformer3DModel(recipe.transformer(4, 64))})
    batch = WindowSampler(episodes, (4,), 0.5, {'red_bottle': 1.0}).batch(0, 2)

    def values(perturbed):
        windows = source.windows(dataclasses.replace(batch, perturbed=perturbed))
        losses = objective.losses(networks, windows, 0, torch.Generator().manual_seed(0))
        return [float(losses.figures[name]) for name in ('video', 'action')]

    assert min(values(np.zeros((2, 4), bool))) > 0
    assert values(np.ones((2, 4), bool)) == [0.0, 0.0]


def test_windows_are_normalised_and_clipped():
    episodes, recipe = make_latents(), tiny_recipe()
    normaliser = fit_normaliser(episodes)
    source = WindowSource(episodes, recipe, normaliser, NanoTextEncoder(), torch.device('cpu'))
    windows = source.training(0, 0)
    assert windows.video.shape == (2, 4, 4, 12, 8)
    assert windows.action.shape == (2, 30, 4, 8, 1)
    assert windows.action.abs().max() <= 1.5
    assert not windows.action[:, windows.channel_mask == 0].any()


def test_a_share_of_the_windows_is_said_in_other_words():
    episodes, recipe = make_latents(), tiny_recipe(paraphrase_share=0.5)
    text, said = NanoTextEncoder(), {episodes[0].prompt: ['do it', 'please do it']}

    def source():
        return WindowSource(episodes, recipe, fit_normaliser(episodes), text,
                            torch.device('cpu'), said)

    def matches(windows, prompts):
        rows = [text.encode(prompt) for prompt in prompts]
        return [any(torch.equal(window, row) for row in rows) for window in windows.text]

    batches = [source().training(step, 0) for step in range(30)]
    share = np.mean([matches(windows, ['do it', 'please do it']) for windows in batches])
    assert 0.2 < share < 0.8
    own = np.mean([matches(windows, [episodes[0].prompt]) for windows in batches])
    assert share + own == 1
    again = source()
    assert all(torch.equal(windows.text, again.training(step, 0).text)
               for step, windows in enumerate(batches)), 'a resumed run must see the same'
    assert all(matches(source().held_out(0), [episodes[0].prompt]))


def test_every_task_has_paraphrases_that_fit():
    training, held_out = load_paraphrases('training'), load_paraphrases('held_out')
    assert set(training) == set(held_out) == {spec.prompt for spec in TASKS.values()}
    for own in training:
        prompts = [own, *training[own], *held_out[own]]
        assert len(set(prompts)) == len(prompts), 'what is held out must not be trained on'
        for prompt in prompts:
            NanoTextEncoder().encode(prompt)


def test_normaliser_stays_with_the_run(tmp_path):
    first = TeacherRun(make_latents(2), tmp_path, tiny_recipe())
    later = TeacherRun(make_latents(4), tmp_path, tiny_recipe())
    assert later.normaliser == first.normaliser


def test_export_carries_the_average_and_its_record(tmp_path, codec_folder):
    run = TeacherRun(make_latents(), tmp_path / 'run', tiny_recipe(forward_dynamics_share=0.3))
    run.trainer.run(quiet)
    sha256 = run.export(codec_folder, tmp_path / 'export', 'nano', 'flashwam train-teacher')
    checkpoint = load_checkpoint(tmp_path / 'export')
    assert checkpoint.sha256 == sha256
    assert checkpoint.sampler.forward_dynamics
    for name, value in checkpoint.transformer.named_parameters():
        torch.testing.assert_close(value, averaged(run)[name], atol=1e-3, rtol=1e-3)
    record = checkpoint.training
    assert record['method'] == 'flow_matching' and record['steps'] == 6
    assert record['data']['episodes'] == {'red_bottle': 4}
    assert len(record['data']['sha256']) == len(record['codec']) == 64
    assert record['parent'] is None and record['command'] == 'flashwam train-teacher'
    assert TeacherRecipe.read({**record['recipe'], 'seconds': 1.0}).lengths == (4,)


@pytest.mark.parametrize('kind', ['checkpoint', 'state'])
def test_warm_start(tmp_path, codec_folder, kind):
    first = TeacherRun(make_latents(2), tmp_path / 'first', tiny_recipe())
    first.trainer.run(quiet)
    first.export(codec_folder, tmp_path / 'export')
    init = tmp_path / ('export' if kind == 'checkpoint' else 'first/teacher_state.pt')
    second = TeacherRun(make_latents(4), tmp_path / 'second', tiny_recipe(init=str(init)))
    assert second.trainer.step == 0
    assert second.normaliser == first.normaliser
    assert len(second.start.parent['sha256']) == 64
    for name, value in averaged(second).items():
        torch.testing.assert_close(value, averaged(first)[name], atol=1e-3, rtol=1e-3)
    # The average of a warm start is already one: it does not forget its beginning.
    assert second.trainer._decay() == second.recipe.ema


def test_missing_start_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        TeacherRun(make_latents(2), tmp_path, tiny_recipe(init=str(tmp_path / 'nowhere')))


def older_state(recipe):
    """A state as the first trainer wrote it: torch's own optimiser layout, average as a list."""
    torch.manual_seed(1)
    model = WanTransformer3DModel(recipe.transformer(4, 64))
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(
        [{'params': [p for p in parameters if p.ndim == 2], 'weight_decay': 0.01},
         {'params': [p for p in parameters if p.ndim != 2], 'weight_decay': 0.0}],
        betas=(0.9, 0.95))
    for parameter in parameters[:-2]:
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    return model, optimiser, {
        'model': model.state_dict(), 'average': [p.detach() + 1 for p in parameters],
        'optimiser': optimiser.state_dict(), 'step': 3, 'elapsed_s': 7.5}


def test_state_of_the_first_trainer_is_continued(tmp_path, codec_folder):
    recipe = tiny_recipe()
    model, optimiser, state = older_state(recipe)
    TeacherRun(make_latents(), tmp_path, recipe)
    save_state(tmp_path / 'teacher_state.pt', state)
    run = TeacherRun(make_latents(), tmp_path, recipe)
    assert (run.trainer.step, run.trainer.elapsed_s) == (3, 7.5)
    student = run.trainer.networks.student
    moments = run.trainer.networks.optimisers['student'].state
    for (name, mine), old in zip(student.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, old)
        assert torch.equal(averaged(run)[name], old + 1)
        if old.grad is not None:
            assert torch.equal(moments[mine]['exp_avg'], optimiser.state[old]['exp_avg'])
            assert moments[mine]['step'] == 1
    run.trainer.run(quiet)
    assert run.trainer.step == recipe.steps
    run.export(codec_folder, tmp_path / 'export')
    assert load_state(tmp_path / 'teacher_state.pt')['step'] == recipe.steps


@pytest.mark.parametrize('preset', PRESETS)
def test_shipped_recipes(preset):
    recipe = read_teacher_recipe(preset=preset)
    assert recipe.precision == 'bf16' and recipe.objective_options()['seed'] == recipe.seed
    assert build_objective('flow_matching', recipe.objective_options()).name == 'flow_matching'
    assert json.loads(json.dumps(recipe.to_dict()))


def test_older_and_unknown_names():
    assert TeacherRecipe(bf16=False).precision == 'fp32'
    with pytest.raises(ValueError, match='unknown keys.*heat'):
        TeacherRecipe.read({'heat': 1})
