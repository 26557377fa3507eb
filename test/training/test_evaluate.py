# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation resumes, keeps settings apart and reads what older versions wrote."""

import json
import queue

import pytest
from evaluation_support import invent_results, tiny_checkpoint

from flashwam_ros.policy.wam_policy import with_sampler
from flashwam_ros.training import episode_pool, evaluate
from flashwam_ros.training.episode_pool import Row, run_rows
from flashwam_ros.training.evaluate import (
    checkpoint_setting,
    expert_setting,
    markdown,
    summarise,
)
from flashwam_ros.training.results import (
    Job,
    Setting,
    make_jobs,
    parse_steps,
    read_all,
    read_results,
)
from flashwam_ros.wam.checkpoint import load_checkpoint

SETTING = Setting('c', 'f' * 64)


def quiet(_line):
    """No progress lines in tests."""


def test_steps_are_parsed():
    assert parse_steps('3v/10a') == (3, 10)
    for bad in ('3/10', '0v/1a', 'v/a', '1v', '-1v/2a', 'xv/2a'):
        with pytest.raises(ValueError, match='steps'):
            parse_steps(bad)


def test_jobs_of_a_smaller_run_are_part_of_a_larger_one():
    small = make_jobs({'red_bottle': 3, 'pot_potato': 2}, 'test')
    assert set(small) < set(make_jobs({'red_bottle': 5, 'pot_potato': 5}, 'test'))
    with pytest.raises(ValueError, match='unknown tasks'):
        make_jobs({'juggle': 1}, 'test')


def test_lines_without_newer_keys_and_cut_lines_are_read(tmp_path):
    old = {'setting': {'checkpoint': 'c', 'sha256': 'f' * 64, 'execution': 'sync',
                       'video_steps': 3, 'action_steps': 10, 'latency_s': 0.1},
           'job': {'task': 'red_bottle', 'seed': 10_000, 'blank': False},
           'result': {'success': True}}
    (tmp_path / 'episodes.jsonl').write_text(json.dumps(old) + '\n' + json.dumps(old)[:50])
    job = Job('red_bottle', 10_001)
    invent_results(tmp_path, SETTING, {job: False})
    found = read_results(tmp_path, SETTING)
    assert {j.seed: r['success'] for j, r in found.items()} == {10_000: True, 10_001: False}
    assert len((tmp_path / 'episodes.jsonl').read_text().splitlines()) == 3


def test_settings_are_told_apart_by_what_matters(tmp_path):
    job = Job('red_bottle', 10_000)
    others = [Setting('c', 'f' * 64, sampler='euler'), Setting('c', 'f' * 64, 'async'),
              Setting('c', 'f' * 64, video_steps=1), Setting('c', 'e' * 64),
              Setting('c', 'f' * 64, latency_s=0.2),
              Setting('c', 'f' * 64, prompts='held_out')]
    for setting in [SETTING, *others]:
        invent_results(tmp_path, setting, {job: setting == SETTING})
    assert len(read_all(tmp_path)) == 1 + len(others)
    renamed = Setting('moved', 'f' * 64)
    assert read_results(tmp_path, renamed)[job]['success']


def test_lines_of_a_newer_program_are_refused(tmp_path):
    line = {'setting': {'checkpoint': 'c', 'sha256': '', 'gravity': 1}, 'job': {}, 'result': {}}
    (tmp_path / 'episodes.jsonl').write_text(json.dumps(line) + '\n')
    with pytest.raises(ValueError, match='gravity'):
        read_all(tmp_path)


def test_euler_is_an_override_only_where_there_is_another_sampler(tmp_path):
    student = tiny_checkpoint(tmp_path / 'student', 'lcm')
    setting = checkpoint_setting(student, '1v/2a', 'euler')
    assert (setting.sampler, setting.steps) == ('euler', '1v/2a')
    loaded = load_checkpoint(student)
    assert with_sampler(loaded, 'own').sampler.video.sampler == 'consistency'
    changed = with_sampler(loaded, 'euler')
    assert {changed.sampler.video.sampler, changed.sampler.action.sampler} == {'euler'}
    assert changed.sampler.video.parametrisation == 'lcm'
    with pytest.raises(ValueError, match='nothing to override'):
        checkpoint_setting(tiny_checkpoint(tmp_path / 'teacher'), '1v/2a', 'euler')
    with pytest.raises(ValueError, match='is not a checkpoint'):
        checkpoint_setting(tmp_path / 'none', '1v/2a')


def test_grounded_execution_needs_a_model_that_imagines(tmp_path):
    folder = tiny_checkpoint(tmp_path / 'teacher')
    with pytest.raises(ValueError, match='forward dynamics'):
        checkpoint_setting(folder, '1v/1a', execution='async_grounded')
    with pytest.raises(ValueError, match='imagines nothing'):
        expert_setting('async_grounded')


def test_a_worker_keeps_the_model_while_steps_and_sampler_change(tmp_path):
    folder = tiny_checkpoint(tmp_path / 'student', 'lcm')
    stage = episode_pool._Stage()

    def policy(steps, sampler='own'):
        setting = checkpoint_setting(folder, steps, sampler)
        return stage.policy(Row(setting, folder, (), tmp_path))

    first = policy('1v/2a')
    assert policy('1v/2a') is first
    second = policy('1v/1a', 'euler')
    assert second is not first
    assert second._checkpoint.transformer is first._checkpoint.transformer
    old = checkpoint_setting(folder, '1v/2a')
    tiny_checkpoint(folder, 'lcm', seed=1)
    with pytest.raises(RuntimeError, match='replaced'):
        episode_pool._Stage().policy(Row(old, folder, (), tmp_path))


@pytest.mark.timeout(400)  # a new interpreter on a busy machine
def test_the_pool_runs_what_is_missing_and_the_same_again_elsewhere(tmp_path):
    done, missing = make_jobs({'red_bottle': 2}, 'selection')
    row = Row(expert_setting(), None, (done, missing), tmp_path / 'expert')
    invent_results(row.folder, row.setting, {done: False})
    lines = []
    run_rows([row], 1, lines.append)
    assert lines[0].startswith('1 of 2 episodes to run')
    found = read_results(row.folder, row.setting)
    assert not found[done]['success']
    assert 'cores of' in found[missing]['machine']
    assert 0 < found[missing]['cpu_s'] < 60
    jobs, results = queue.Queue(), queue.Queue()
    for item in ((0, missing), None):
        jobs.put(item)
    episode_pool.work([row], jobs, results)
    _, _, again = results.get()
    for key in ('success', 'duration_s', 'chunks', 'stages', 'limited_ticks', 'reason'):
        assert found[missing][key] == again[key]


def test_summary_counts_stages_and_separates_blanked_images(tmp_path):
    jobs = make_jobs({'red_bottle': 4}, 'test', 'both')
    invent_results(tmp_path, SETTING, {job: not job.blank and job.seed % 2 == 0 for job in jobs})
    summary = summarise(Row(SETTING, None, tuple(jobs), tmp_path))
    seen, blank = summary['rows']
    assert (seen['success'], seen['n'], seen['stages']['reached']) == (2, 4, 4)
    assert (blank['success'], blank['blank_images']) == (0, True)
    assert 'blanked' in markdown(summary)
    assert seen['machines'] == ['a test']


def test_the_command_explains_what_is_missing(capsys, tmp_path):
    assert evaluate.main([]) == 1
    assert '--checkpoint' in capsys.readouterr().err
    assert evaluate.main(['--checkpoint', str(tmp_path), '--steps', '3/10']) == 1
    assert 'is not a checkpoint' in capsys.readouterr().err
