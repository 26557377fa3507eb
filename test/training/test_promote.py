# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A student is marked only when all checks pass; each check can fail on its own."""

import copy
import hashlib
import json

import pytest
import torch
import yaml
from evaluation_support import invent_results, tiny_checkpoint

from flashwam_ros.resources import share_path
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import promote
from flashwam_ros.training.evaluate import checkpoint_setting
from flashwam_ros.training.promote import (
    check_contract,
    check_latency,
    check_non_inferiority,
    check_parity,
    main,
)
from flashwam_ros.training.results import make_jobs
from flashwam_ros.training.seeds import TASKS
from flashwam_ros.training.table_plan import Gate, read_plan
from flashwam_ros.wam.checkpoint import load_checkpoint
from flashwam_ros.wam.promotion import promotion_problem
from flashwam_ros.wam.sequential import SequentialEngine

GATE = Gate(pairs_per_task=40, parity=1e-4, latency_share=100.0, latency_chunks=3)
JOBS = make_jobs(dict.fromkeys(TASKS, 40), 'test')


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """A teacher and a student at 1v/1a."""
    folder = tmp_path_factory.mktemp('models')
    return tiny_checkpoint(folder / 'teacher'), tiny_checkpoint(folder / 'student', 'lcm', seed=1)


@pytest.fixture
def world(models, tmp_path):
    """Plan, student and results in which the student is as good as the teacher."""
    teacher, student = models
    values = yaml.safe_load(share_path('config', 'evaluation', 'table.yaml').read_text('utf-8'))
    values.update(sections=[], reference={'checkpoint': str(teacher), 'steps': '10v/20a'},
                  promote=dict(vars(GATE)))
    plan = tmp_path / 'plan.yaml'
    plan.write_text(yaml.safe_dump(values), encoding='utf-8')
    results = tmp_path / 'results'
    for name, setting in (('teacher', checkpoint_setting(teacher, '10v/20a')),
                          ('student', checkpoint_setting(student, '1v/1a'))):
        invent_results(results / name, setting, {job: job.seed % 10 < 8 for job in JOBS})
    return plan, student, results


def run(world):
    plan, student, results = world
    return main([str(student), '--config', str(plan), '--results', str(results)])


def test_a_good_student_is_marked(world, capsys):
    assert run(world) == 0
    student = world[1]
    mark = json.loads((student / 'promotion.json').read_text())
    manifest = (student / 'flashwam.json').read_bytes()
    assert mark['flashwam_sha256'] == hashlib.sha256(manifest).hexdigest()
    assert set(mark['checks']) == {'contract', 'parity', 'latency', 'non_inferiority'}
    assert all(check['passed'] for check in mark['checks'].values())
    assert mark['checks']['non_inferiority']['bound'] == -0.15
    assert 'cores of' in mark['machine'] and mark['date'].endswith('+00:00')
    assert 'promoted' in capsys.readouterr().out
    load_checkpoint(student)  # the mark does not spoil the checkpoint
    assert promotion_problem(student) is None
    (student / 'promotion.json').unlink()


def test_one_failed_check_leaves_no_mark(world, capsys, monkeypatch):
    monkeypatch.setattr(promote, 'check_latency', lambda *_: promote.Check(False, 9.0, 1.0, 's'))
    assert run(world) == 1
    assert 'FAIL latency: 9.0' in capsys.readouterr().out
    assert 'has not passed' in promotion_problem(world[1])


def test_another_contract_is_named_field_by_field(tmp_path):
    changed = copy.deepcopy(RobotContract.load().to_dict())
    changed['channels'][3]['velocity'] *= 0.5
    folder = tiny_checkpoint(tmp_path / 'other', contract=changed)
    check = check_contract(load_checkpoint(folder), RobotContract.load())
    assert not check.passed
    assert 'velocity' in check.detail


def test_parity_is_measured(models, monkeypatch):
    checkpoint = load_checkpoint(models[1])
    good = check_parity(checkpoint, GATE)
    assert good.passed and 0 < good.measured < 1e-4

    class Wrong(SequentialEngine):
        def ground(self, latents, actions):
            super().ground(latents * 1.01, actions)

    monkeypatch.setattr(promote, 'SequentialEngine', Wrong)
    bad = check_parity(checkpoint, GATE)
    assert not bad.passed and bad.measured > 1e-4


def test_parity_that_is_no_number_fails(models, monkeypatch):
    class Broken(SequentialEngine):
        def _sample(self, *args):
            latents, actions = super()._sample(*args)
            return latents * float('nan'), actions

    monkeypatch.setattr(promote, 'SequentialEngine', Broken)
    assert not check_parity(load_checkpoint(models[1]), GATE).passed


def test_latency_is_held_against_the_chunk(models):
    checkpoint = load_checkpoint(models[1])
    good = check_latency(checkpoint, GATE)
    assert good.passed and good.bound == pytest.approx(80.0) and '3 chunks' in good.detail
    bad = check_latency(checkpoint, Gate(40, 1e-4, 1e-9, 2))
    assert not bad.passed and 'fewer steps' in bad.detail


def non_inferiority(world):
    plan, student, results = world
    return check_non_inferiority(student, load_checkpoint(student), read_plan(plan), results)


def test_a_worse_student_is_refused(world):
    invent_results(world[2] / 'student', checkpoint_setting(world[1], '1v/1a'),
                   {job: job.seed % 10 < 6 for job in JOBS})
    check = non_inferiority(world)
    assert not check.passed and check.measured < -0.2
    assert '-20.0 points' in check.detail


def test_more_episodes_of_the_easy_tasks_do_not_help(world, models):
    """Looked at once, on the plan's seeds, whatever else was run."""
    plan, student, results = world
    mine, theirs = (checkpoint_setting(student, '1v/1a'),
                    checkpoint_setting(models[0], '10v/20a'))
    weak = {job: job.task != 'pot_potato' and job.seed % 10 < 8 for job in JOBS}
    invent_results(results / 'student', mine, weak)
    before = non_inferiority(world)
    more = make_jobs({'red_bottle': 400, 'pink_object': 400}, 'test')
    for name, setting in (('student', mine), ('teacher', theirs)):
        invent_results(results / name, setting, dict.fromkeys(more[40:400] + more[440:], True))
    assert not before.passed and non_inferiority(world) == before
    assert '120 pairs' in before.detail


def test_another_machine_is_named(world):
    assert 'run on' not in non_inferiority(world).detail
    invent_results(world[2] / 'student', checkpoint_setting(world[1], '1v/1a'),
                   {job: job.seed % 10 < 8 for job in JOBS}, '2 cores of a robot, 1 process')
    assert "run on ['2 cores of a robot'], the reference on ['a test']" in \
        non_inferiority(world).detail


def test_a_student_without_a_record_is_refused(world, tmp_path):
    (world[2] / 'student' / 'episodes.jsonl').unlink()
    check = non_inferiority(world)
    assert not check.passed and 'red_bottle 0' in check.detail
    assert '--steps 1v/1a --seeds 40' in check.detail


def test_seeds_of_another_split_and_blank_images_do_not_count(world):
    setting = checkpoint_setting(world[1], '1v/1a')
    (world[2] / 'student' / 'episodes.jsonl').unlink()
    invent_results(world[2] / 'student', setting, {
        job: True for job in [*make_jobs(dict.fromkeys(TASKS, 50), 'selection'),
                              *make_jobs(dict.fromkeys(TASKS, 50), 'test', 'only')]})
    assert not non_inferiority(world).passed


def test_steps_without_a_margin_and_a_missing_reference_are_refused(world, models):
    plan, student, results = world
    text = plan.read_text()
    plan.write_text(text.replace('1v/1a: 0.15', '7v/7a: 0.15'))
    assert 'no margin for 1v/1a' in non_inferiority(world).detail
    plan.write_text(text.replace(str(models[0]), '/nowhere'))
    assert 'no such checkpoint' in non_inferiority(world).detail


def test_an_unknown_checkpoint_is_an_error(world, capsys):
    assert main(['no-such-model', '--config', str(world[0])]) == 1
    assert 'no such checkpoint' in capsys.readouterr().err
