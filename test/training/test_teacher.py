# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The teacher's program: what a run starts with, keeps and exports."""

import argparse
import dataclasses
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import make_latents, tiny_recipe

from flashwam_ros.training import teacher
from flashwam_ros.training.codec_trainer import codec_hash, load_codec, save_codec
from flashwam_ros.training.command import load_paraphrases
from flashwam_ros.training.dataset import WindowSampler, write_latents
from flashwam_ros.training.objectives.registry import build_objective
from flashwam_ros.training.recipes import PRESETS, TeacherRecipe, read_teacher_recipe
from flashwam_ros.training.run_state import load_state, read_log, save_state
from flashwam_ros.training.teacher import TeacherRun, fit_normaliser, read_normaliser
from flashwam_ros.training.windows import WindowSource, usable
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
    return dict(run.trainer.networks.model('average').named_parameters())


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
    first.trainer.save()
    later = TeacherRun(make_latents(4), tmp_path, tiny_recipe())
    assert later.normaliser == first.normaliser


def test_normaliser_of_a_run_that_never_began_is_not_taken(tmp_path, codec_folder):
    first = TeacherRun(make_latents(2), tmp_path / 'first', tiny_recipe())
    first.export(codec_folder, tmp_path / 'export')
    TeacherRun(make_latents(4), tmp_path / 'run', tiny_recipe())  # leaves its file, no state
    recipe = tiny_recipe(init=str(tmp_path / 'export'))
    tuned = TeacherRun(make_latents(4), tmp_path / 'run', recipe)
    assert tuned.normaliser == first.normaliser
    assert read_normaliser(tmp_path / 'run') == first.normaliser


def test_more_demonstrations_later_are_noted(tmp_path, codec_folder):
    first = TeacherRun(make_latents(2), tmp_path, tiny_recipe())
    first.trainer.run(quiet, until=2)
    later = TeacherRun(make_latents(4), tmp_path, tiny_recipe())
    later.trainer.run(quiet)
    later.export(codec_folder, tmp_path / 'export')
    record = load_checkpoint(tmp_path / 'export').training
    assert record['data']['episodes'] == {'red_bottle': 4} and record['data']['from_step'] == 2
    assert [data['episodes'] for data in record['earlier_data']] == [{'red_bottle': 2}]
    # A finished run learns nothing from others, and says so.
    done = TeacherRun(make_latents(3), tmp_path, tiny_recipe())
    done.trainer.run(quiet)
    assert done.trainer.data_entries()['data'] == record['data']


def test_another_recipe_does_not_continue_a_run(tmp_path):
    TeacherRun(make_latents(2), tmp_path, tiny_recipe()).trainer.save()
    TeacherRun(make_latents(2), tmp_path, tiny_recipe(steps=9, log_every=2))
    with pytest.raises(ValueError, match=r'trained with ema 0.998, not 0.5: choose another --out'):
        TeacherRun(make_latents(2), tmp_path, tiny_recipe(ema=0.5))


def test_short_episodes_are_left_out_before_any_are_held_out():
    long, short = make_latents(4), make_latents(1, frames=3)
    recipe = tiny_recipe(task_weights={})
    assert short[0].seed == long[0].seed == 100_000, 'the only one that would be held out'
    source = WindowSource([*short, *long[1:]], recipe, fit_normaliser(long), NanoTextEncoder(),
                          torch.device('cpu'))
    assert [episode.seed for episode in source.episodes] == [100_001, 100_002, 100_003]
    assert source.data_record()['episodes'] == {'red_bottle': 3}
    assert source.held_out(0).video.shape[0] == 8


def test_a_task_does_not_get_lost_in_silence():
    red = make_latents(2)
    lid = [dataclasses.replace(episode, task='lid') for episode in make_latents(2, frames=5)]
    with pytest.raises(ValueError, match='lid: none of its episodes has the 6 .*has 5'):
        usable([*red, *lid], tiny_recipe(lengths=(6,), task_weights={}))
    with pytest.raises(ValueError, match='lid: the recipe gives this task no weight'):
        usable([*red, *lid], tiny_recipe())
    left = usable([*red, *lid], tiny_recipe(task_weights={'red_bottle': 1.0, 'lid': 0.0}))
    assert {episode.task for episode in left} == {'red_bottle'}


def test_the_program_resolves_and_records_its_preset(tmp_path, codec_folder, capsys):
    TeacherRun(make_latents(2), tmp_path / 'first', tiny_recipe()).export(
        codec_folder, tmp_path / 'export')
    mark = codec_hash(load_codec(codec_folder))
    for episode in make_latents(2):
        path = tmp_path / 'latents' / episode.task / f'episode_{episode.seed}.npz'
        path.parent.mkdir(parents=True, exist_ok=True)
        write_latents(path, episode, mark)

    def train(*options):
        small = tmp_path / 'small.yaml'
        small.write_text('{batch: 2, lengths: [4], precision: fp32}\n')
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return teacher.main(['--latents', str(tmp_path / 'latents'), '--steps', '1',
                                 '--recipe', str(small), *options])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Latents of the original codec fit its copy, in half precision, in a checkpoint.
    assert train('--init', str(tmp_path / 'export'), '--out', str(tmp_path / 'tuned')) == 0
    record = load_checkpoint(tmp_path / 'tuned/export').training
    assert record['preset'] == 'finetune' and record['codec'] == mark
    assert train('--init', str(tmp_path / 'export'), '--preset', 'paper', '--out',
                 str(tmp_path / 'paper')) == 0
    assert load_checkpoint(tmp_path / 'paper/export').training['preset'] == 'paper'
    with pytest.raises(SystemExit):
        teacher.main(['--preset', 'paper'])
    assert 'name its folder with --init' in capsys.readouterr().err


def test_a_preset_is_not_replaced_by_another():
    def recipe(*options):
        parsed = argparse.Namespace(preset=None, init=None, recipe=None, steps=None)
        vars(parsed).update(options)
        return teacher._recipe(parsed)

    assert recipe(('init', Path('x'))).peak_learning_rate == 1e-4
    assert recipe(('init', Path('x')), ('preset', 'paper')).peak_learning_rate == 1e-5
    assert recipe().peak_learning_rate == 1e-3


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
