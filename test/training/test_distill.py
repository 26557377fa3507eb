# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every method trains, resumes, exports, and loads again; recipes and program."""

import dataclasses
import signal

import pytest
import torch
from trainer_process import quiet
from training_support import make_latents, tiny_recipe

from flashwam_ros.resources import share_path
from flashwam_ros.training import distill
from flashwam_ros.training.codec_trainer import codec_hash, load_codec, save_codec
from flashwam_ros.training.dataset import write_latents
from flashwam_ros.training.distill import Distillation
from flashwam_ros.training.objectives.registry import METHODS
from flashwam_ros.training.recipes import PRESETS, read_distill_recipe
from flashwam_ros.training.run_state import read_log
from flashwam_ros.training.teacher import TeacherRun
from flashwam_ros.wam.checkpoint import load_checkpoint
from flashwam_ros.wam.codec import NanoCodec, NanoCodecConfig

STUDENTS = [name for name in METHODS if name != distill.NOT_DISTILLING]
TINY = {'batch': 2, 'micro_batches': 1, 'lengths': [4], 'steps': 3, 'warmup_steps': 1}


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Small products are slower on many threads, and exactness wants one."""
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def codec_folder(tmp_path_factory):
    """A codec that fits the synthetic latents."""
    folder = tmp_path_factory.mktemp('codec')
    save_codec(NanoCodec(NanoCodecConfig(4, (8, 8, 8), (8, 8, 8))), folder)
    return folder


@pytest.fixture(scope='module')
def teacher_folder(tmp_path_factory, codec_folder):
    """An untrained teacher that knows forward dynamics by name."""
    folder = tmp_path_factory.mktemp('teacher')
    run = TeacherRun(make_latents(2), folder, tiny_recipe(forward_dynamics_share=0.5))
    run.export(codec_folder, folder / 'export')
    return folder / 'export'


@pytest.fixture
def teacher(teacher_folder):
    return load_checkpoint(teacher_folder)


@pytest.mark.parametrize('method', STUDENTS)
def test_method_trains_resumes_exports_and_loads(method, tmp_path, teacher):
    episodes = make_latents(2)
    recipe = read_distill_recipe(method, 'nano', **TINY)
    Distillation(method, teacher, episodes, tmp_path, recipe).trainer.run(quiet, until=2)
    run = Distillation(method, teacher, episodes, tmp_path, recipe)
    assert run.trainer.step == 2
    run.trainer.run(quiet)
    assert [row['step'] for row in read_log(tmp_path / f'{method}.csv')] == ['0', '1', '2']
    sha256 = run.export(tmp_path / 'export', 'nano', f'flashwam distill --method {method}')
    student = load_checkpoint(tmp_path / 'export')
    record = student.training
    assert student.sha256 == sha256
    assert record['parent']['sha256'] == teacher.sha256
    assert (record['method'], record['preset'], record['steps']) == (method, 'nano', 3)
    assert record['weights'].startswith('moving average of the student')
    assert record['codec'] == teacher.training['codec']
    assert student.sampler == run.objective.sampler(teacher.sampler)
    assert student.sampler.forward_dynamics
    assert (student.sampler.video.steps, student.sampler.action.steps) == (1, 2)
    assert student.contract == teacher.contract and student.normaliser == teacher.normaliser


def test_student_moves_and_teacher_does_not(tmp_path, teacher):
    recipe = read_distill_recipe('flashwam', 'nano', **TINY)
    run = Distillation('flashwam', teacher, make_latents(2), tmp_path, recipe)
    run.trainer.run(quiet)
    networks = run.trainer.networks
    start = dict(teacher.transformer.named_parameters())
    name = 'blocks.0.ffn.net.2.weight'
    assert torch.equal(networks.teacher.get_parameter(name), start[name])
    student, average = networks.student.get_parameter(name), networks.average.get_parameter(name)
    assert not torch.equal(student, start[name])
    distance = (average - start[name]).abs().max() / (student - start[name]).abs().max()
    assert 0 < distance < 0.1


def test_teacher_without_forward_dynamics_teaches_none(tmp_path, teacher):
    plain = dataclasses.replace(
        teacher, sampler=dataclasses.replace(teacher.sampler, forward_dynamics=False))
    recipe = read_distill_recipe('linear_substeps', 'nano', **TINY)
    run = Distillation('linear_substeps', plain, make_latents(2), tmp_path, recipe)
    assert recipe.options['forward_dynamics_share'] > 0
    assert run.recipe.options['forward_dynamics_share'] == 0
    assert not run.sampler.forward_dynamics


def test_folder_of_another_teacher_is_refused(tmp_path, teacher):
    recipe = read_distill_recipe('flashwam', 'nano', **TINY)
    Distillation('flashwam', teacher, make_latents(2), tmp_path, recipe).trainer.save()
    other = dataclasses.replace(teacher, sha256='f' * 64)
    with pytest.raises(ValueError, match='choose another --out'):
        Distillation('flashwam', other, make_latents(2), tmp_path, recipe)


def test_another_recipe_does_not_continue_a_run(tmp_path, teacher):
    """Forgetting --out with a variant must not file old weights under a new recipe."""
    first = read_distill_recipe('linear_substeps', 'nano', **TINY)
    Distillation('linear_substeps', teacher, make_latents(2), tmp_path, first).trainer.save()
    variant = share_path('config', 'training', 'variants', 'linear_substeps_plain.yaml')
    plain = read_distill_recipe('linear_substeps', 'nano', variant, **TINY)
    with pytest.raises(ValueError, match="'substeps': 4.*not.*'substeps': 1.*another --out"):
        Distillation('linear_substeps', teacher, make_latents(2), tmp_path, plain)


def test_online_weights_of_a_finished_run(tmp_path, teacher):
    recipe = read_distill_recipe('flashwam', 'nano', **TINY)
    run = Distillation('flashwam', teacher, make_latents(2), tmp_path / 'run', recipe)
    run.trainer.run(quiet)
    again = Distillation('flashwam', teacher, make_latents(2), tmp_path / 'run', recipe)
    again.export(tmp_path / 'online', weights='online')
    student = load_checkpoint(tmp_path / 'online')
    assert student.training['weights'] == 'the student itself'
    wanted = dict(run.trainer.networks.student.named_parameters())
    for name, value in student.transformer.named_parameters():
        torch.testing.assert_close(value, wanted[name].float(), atol=1e-3, rtol=1e-3)


def test_a_student_of_an_lcm_form_is_no_teacher(tmp_path, teacher):
    recipe = read_distill_recipe('naive_joint', 'nano', **TINY)
    run = Distillation('naive_joint', teacher, make_latents(2), tmp_path / 'run', recipe)
    run.export(tmp_path / 'export')
    with pytest.raises(ValueError, match='is a student .lcm form., not a teacher'):
        Distillation('flashwam', load_checkpoint(tmp_path / 'export'), make_latents(2),
                     tmp_path / 'other', recipe)


@pytest.mark.parametrize('preset', PRESETS)
@pytest.mark.parametrize('method', STUDENTS)
def test_every_preset_reads_and_builds(method, preset, teacher):
    recipe = read_distill_recipe(method, preset)
    options = {name: value for name, value in recipe.options.items()}
    objective = distill.build_objective(method, options)
    assert objective.sampler(teacher.sampler).video.steps == 1
    assert recipe.critic_learning_rate > 0 if 'critic' in objective.roles else True
    if preset == 'paper':
        assert recipe.steps == 2000 and recipe.batch * recipe.micro_batches == 48
    else:
        assert recipe.steps == 350 and recipe.batch * recipe.micro_batches == 16


def test_every_method_has_its_recipe():
    files = {path.stem for path in share_path('config', 'training', 'distill').glob('*.yaml')}
    assert files == {'common', *STUDENTS}


def test_recipe_layers(tmp_path):
    own = tmp_path / 'own.yaml'
    own.write_text('nano: {ema: 0.9, options: {stride: 100}}\n')
    recipe = read_distill_recipe('flashwam', 'nano', own, seed=7, steps=None)
    assert (recipe.ema, recipe.seed, recipe.steps) == (0.9, 7, 350)
    assert recipe.options['stride'] == 100 and recipe.options['sigma_data'] == 0.5
    own.write_text('nano: {emma: 0.9}\n')
    with pytest.raises(ValueError, match='unknown keys.*emma'):
        read_distill_recipe('flashwam', 'nano', own)
    with pytest.raises(ValueError, match='no such preset'):
        read_distill_recipe('flashwam', 'huge')


def test_program(tmp_path, monkeypatch, teacher_folder, codec_folder, capsys):
    mark = codec_hash(load_codec(codec_folder))
    for episode in make_latents(2):
        folder = tmp_path / 'latents' / episode.task
        folder.mkdir(parents=True, exist_ok=True)
        write_latents(folder / f'episode_{episode.seed}.npz', episode, mark)
    small = tmp_path / 'small.yaml'
    small.write_text('nano: {batch: 2, lengths: [4]}\n')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = distill.main([
            '--method', 'linear_substeps', '--teacher', str(teacher_folder), '--latents',
            str(tmp_path / 'latents'), '--recipe', str(small), '--seed', '3', '--steps', '1'])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    out = tmp_path / 'cache/flashwam/distill/linear_substeps-nano-seed3'
    record = load_checkpoint(out / 'export').training
    assert code == 0 and record['seed'] == 3 and record['steps'] == 1
    assert record['command'].startswith('flashwam distill --method linear_substeps')
    assert str(tmp_path) not in record['command']
    for other in make_latents(2):
        write_latents(tmp_path / 'latents' / other.task / f'episode_{other.seed}.npz', other, 'x')
    assert distill.main(['--method', 'flashwam', '--teacher', str(teacher_folder), '--latents',
                         str(tmp_path / 'latents'), '--out', str(tmp_path / 'b')]) == 1
    assert 'encode the demonstrations again' in capsys.readouterr().err
