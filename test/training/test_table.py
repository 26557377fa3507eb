# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The table counts what the plan says, compares on shared seeds and skips what is missing."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from evaluation_support import invent_results, tiny_checkpoint

from flashwam_ros.resources import share_path
from flashwam_ros.training import table
from flashwam_ros.training.evaluate import checkpoint_setting
from flashwam_ros.training.results import keep, kept_folder, make_jobs, read_kept, read_tree
from flashwam_ros.training.table import find_row, section_figures, wanted_rows
from flashwam_ros.training.table_plan import RowPlan, find_checkpoint, read_plan
from flashwam_ros.training.table_text import markdown, p_value

REPOSITORY = Path(__file__).resolve().parents[2]
SEEDS = {'red_bottle': 20, 'pot_potato': 10}


@pytest.fixture
def world(tmp_path):
    """A plan with a teacher and a student of LCM form, and their results."""
    teacher = tiny_checkpoint(tmp_path / 'teacher')
    student = tiny_checkpoint(tmp_path / 'student', 'lcm', seed=1)
    values = default_plan()
    values['reference'] = {'checkpoint': str(teacher), 'steps': '10v/20a'}
    values['sections'] = [{
        'name': 'small', 'seeds': SEEDS,
        'rows': [{'name': 'teacher', 'checkpoint': str(teacher), 'steps': ['10v/20a', '1v/2a']},
                 {'name': 'student', 'checkpoint': str(student), 'steps': ['1v/2a'],
                  'samplers': ['own', 'euler']},
                 {'name': 'absent', 'checkpoint': 'absent', 'steps': ['1v/2a']}],
        'compare': [[f'{student} 1v/2a', f'{student} 1v/2a euler'],
                    [f'{student} 1v/2a', f'{teacher} 1v/2a']]}]
    path = tmp_path / 'plan.yaml'
    path.write_text(yaml.safe_dump(values), encoding='utf-8')
    jobs = make_jobs(SEEDS, 'test')
    results = tmp_path / 'results'
    invent_results(results / 'teacher', checkpoint_setting(teacher, '10v/20a'),
                   {job: job.seed % 10 < 8 for job in jobs})
    invent_results(results / 'renamed', checkpoint_setting(student, '1v/2a'),
                   {job: job.seed % 10 < 7 for job in jobs})
    invent_results(results / 'student', checkpoint_setting(student, '1v/2a', 'euler'),
                   {job: False for job in jobs[:25]})
    return path, results, tmp_path


def default_plan():
    """The plan of the repository as plain data."""
    return yaml.safe_load(share_path('config', 'evaluation', 'table.yaml').read_text('utf-8'))


def test_figures_of_a_section(world):
    path, results, _ = world
    plan = read_plan(path)
    figures = section_figures(plan, plan.sections[0], read_tree(results))
    full, short, own, euler, absent = figures['rows']
    assert (full['all']['success'], full['all']['n']) == (24, 30)
    assert short['all']['n'] == absent['all']['n'] == 0
    assert absent['problem'] == 'no such checkpoint'
    assert own['tasks']['red_bottle'] == {'success': 14, 'n': 20,
                                          'interval': pytest.approx((0.481, 0.855), abs=1e-3)}
    assert (euler['all']['n'], euler['wanted']) == (25, 30)
    assert own['chunk_cpu_ms'] == 30.0
    loss = own['non_inferiority']
    assert (loss['count'], loss['margin'], loss['shown']) == (30, 0.08, False)
    assert loss['difference'] == pytest.approx(-0.1)
    assert full['non_inferiority'] is None, '10v/20a has no margin'
    assert euler['non_inferiority'] is None, 'unfinished, so it may have more of one task'
    (test,) = figures['tests']
    assert (test['n'], test['first_only'], test['second_only']) == (25, 19, 0)
    assert test['p'] == pytest.approx(2 / 2 ** 19)
    assert test['p_holm'] == pytest.approx(2 * 2 / 2 ** 19), 'two pairs are planned, one has data'


def test_kept_episodes_stand_for_a_checkpoint_that_is_gone(world):
    path, results, folder = world
    values = yaml.safe_load(path.read_text('utf-8'))
    for row in values['sections'][0]['rows']:
        row['checkpoint'] = row['checkpoint'].removeprefix(f'{folder}/')
    values['sections'][0]['compare'] = [['student 1v/2a', 'student 1v/2a euler']]
    values['reference']['checkpoint'] = 'teacher'
    path.write_text(yaml.safe_dump(values), encoding='utf-8')
    everything = read_tree(results)
    kept, again = folder / 'kept', folder / 'again'
    assert keep(kept, everything) == 30 + 30 + 25
    assert keep(kept, {}) == 0, 'nothing new, nothing written'
    for setting, found in reversed(everything.items()):  # in another order, one after the other
        keep(again, {setting: dict(reversed(found.items()))})
    for file in ('teacher.jsonl.gz', 'student.jsonl.gz'):
        assert (kept / file).read_bytes() == (again / file).read_bytes()
    assert read_tree(folder / 'empty', kept) == everything
    plan = read_plan(path)
    figures = section_figures(plan, plan.sections[0], read_tree(folder / 'empty', kept))
    full, short, own, euler, absent = figures['rows']
    assert (full['all']['n'], own['all']['n'], euler['all']['n']) == (30, 30, 25)
    assert own['sha256'] and own['non_inferiority']['count'] == 30
    assert short['problem'] == absent['problem'] == 'no such checkpoint'
    assert not wanted_rows(plan, plan.sections, read_tree(folder / 'empty', kept), results)


def test_two_checkpoints_of_one_name_are_not_mixed(world):
    path, results, folder = world
    setting = checkpoint_setting(folder / 'student', '1v/2a')
    jobs = make_jobs(SEEDS, 'test')
    for sha256 in ('a' * 64, 'b' * 64):
        invent_results(results / sha256[:1], dataclasses.replace(
            setting, checkpoint='gone', sha256=sha256), dict.fromkeys(jobs, True))
    found = find_row(RowPlan('x', 'gone', '1v/2a'), read_plan(path), read_tree(results))
    assert found.setting is None and 'several checkpoints' in found.problem


def test_the_command_keeps_what_the_table_is_made_of(world):
    path, results, folder = world
    other = checkpoint_setting(folder / 'student', '1v/1a')
    invent_results(results / 'student', other, {make_jobs(SEEDS, 'test')[0]: True})
    assert table.main(['--config', str(path), '--results', str(results), '--out',
                       str(folder / 'out'), '--keep', str(folder / 'kept')]) == 0
    assert other not in read_kept(folder / 'kept' / 'student.jsonl.gz'), 'no row of the plan'
    everything = read_tree(results)
    del everything[other]
    assert read_tree(folder / 'empty', folder / 'kept') == everything


def test_only_what_is_missing_is_run_once(world):
    path, results, _ = world
    plan = read_plan(path)
    rows = wanted_rows(plan, plan.sections * 2, read_tree(results), results)
    assert [(row.setting.label.split(' ')[1:3], len(row.jobs)) for row in rows] == [
        (['1v/2a,', 'sync'], 30), (['1v/2a', 'under'], 5)]
    assert {row.folder for row in rows} == {results / 'teacher', results / 'student'}


def test_what_a_run_finishes_is_found_again(world, monkeypatch):
    """Also of rows that name a folder."""
    path, results, folder = world
    plan = read_plan(path)
    for row in wanted_rows(plan, plan.sections, read_tree(results), results):
        invent_results(row.folder, row.setting, dict.fromkeys(row.jobs, True))
    assert not wanted_rows(plan, plan.sections, read_tree(results), results)
    assert not list(folder.glob('teacher/episodes.jsonl'))


def test_a_student_as_good_as_the_teacher_is_not_inferior(world):
    path, results, folder = world
    plan = read_plan(path)
    setting = find_row(RowPlan('s', str(folder / 'student'), '1v/2a'), plan, {}).setting
    many = make_jobs(dict.fromkeys(SEEDS, 200), 'test')
    invent_results(results / 'teacher', find_row(plan.reference, plan, {}).setting,
                   {job: job.seed % 10 < 8 for job in many})
    invent_results(results / 'student', setting, {job: job.seed % 10 < 8 for job in many})
    wide = section_figures(plan, type(plan.sections[0])(
        'wide', dict.fromkeys(SEEDS, 200), plan.sections[0].rows, ()), read_tree(results))
    assert wide['rows'][2]['non_inferiority']['shown']


def test_the_command_writes_text_data_and_pictures(world, capsys):
    path, results, folder = world
    out = folder / 'out'
    assert table.main(['--config', str(path), '--results', str(results), '--out', str(out)]) == 0
    text = capsys.readouterr().out
    assert text == (out / 'table.md').read_text()
    assert '| student |' in text and '21/30 (' in text and '0/25 (0..13 %) (of 30)' in text
    assert '- `absent` 1v/2a: no such checkpoint' in text
    assert 'Published, not measured here' in text and '60.0 %' in text
    assert json.loads((out / 'table.json').read_text())['reference'].endswith('10v/20a')
    for name in ('success_small.png', 'latency_small.png'):
        assert (out / name).stat().st_size < 100_000
    assert table.main(['--config', str(path), '--sections', 'other']) == 1
    assert "no section ['other']" in capsys.readouterr().err


def test_the_plan_of_the_repository():
    plan = read_plan()
    screening, headline = plan.sections
    assert sum(screening.seeds.values()) == 200
    assert set(headline.seeds.values()) == {200}
    assert plan.margins == {'1v/2a': 0.08, '1v/1a': 0.15}
    assert plan.reference.steps == '10v/20a'
    assert plan.reference.id in {row.id for section in plan.sections for row in section.rows}
    means = {(name, steps): sum(values) / 3 for name, steps, *values in plan.published['rows']}
    assert means['Flash-WAM', '1v/2a'] == 60.0
    assert find_checkpoint('g1-nano-teacher').name == 'g1-nano-teacher'
    assert find_checkpoint('no-such') is None


@pytest.mark.parametrize('change, message', [
    ({'seeds': {'juggle': 1}}, 'juggle'),
    ({'compare': [['a 1v/1a', 'b 1v/1a']]}, 'b 1v/1a'),
    ({'rows': [{'name': 'a', 'checkpoint': 'a', 'steps': ['1v/1a', '1v/1a']}]}, 'twice'),
    ({'rows': [{'name': 'a', 'checkpoint': 'a', 'steps': ['1v/1a'], 'samplers': ['x']}]}, 'only'),
    ({'rows': [{'name': 'a', 'checkpoint': 'a', 'steps': ['1v/1a'], 'colour': 1}]}, 'colour'),
    ({'rows': [{'name': 'a', 'checkpoint': 'a', 'steps': ['1/1']}]}, 'write them like'),
])
def test_a_wrong_plan_is_explained(tmp_path, change, message):
    values = default_plan()
    section = {'name': 's', 'seeds': SEEDS,
               'rows': [{'name': 'a', 'checkpoint': 'a', 'steps': ['1v/1a']}], **change}
    path = tmp_path / 'plan.yaml'
    path.write_text(yaml.safe_dump({**values, 'sections': [section]}), encoding='utf-8')
    with pytest.raises(ValueError, match=message):
        read_plan(path)


def test_p_values_are_short():
    assert [p_value(p) for p in (3e-5, 0.00412, 0.0412, 1.0)] == ['<0.0001', '0.0041', '0.041',
                                                                 '1.000']


def test_a_row_of_another_machine_is_starred(world):
    path, results, folder = world
    plan = read_plan(path)
    assert ' *' not in markdown(table.table_figures(plan, plan.sections, read_tree(results)))
    invent_results(results / 'teacher', checkpoint_setting(folder / 'teacher', '10v/20a'),
                   {job: job.seed % 10 < 8 for job in make_jobs(SEEDS, 'test')}, 'another, 1')
    text = markdown(table.table_figures(plan, plan.sections, read_tree(results)))
    assert 'not shown * |' in text and 'run on another machine than the reference' in text


def test_an_empty_table_says_so(world):
    path, _, folder = world
    plan = read_plan(path)
    text = markdown(table.table_figures(plan, plan.sections, read_tree(folder / 'nothing')))
    assert 'not run' in text


def rows_of(text):
    """The rows of the first section of a table."""
    return [line for line in text.split('\n### ')[1].splitlines() if line.startswith('| ')]


def test_the_published_rows_are_what_the_kept_episodes_give(tmp_path, monkeypatch):
    """The screening, and whole rows of the headline, can be counted again in a clone."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))  # no checkpoint or episode of this machine
    plan = read_plan()
    everything = read_tree(tmp_path, kept_folder())
    screening, headline = (
        rows_of(markdown(table.table_figures(plan, [section], everything)))
        for section in plan.sections)
    page = (REPOSITORY / 'docs' / 'table.md').read_text('utf-8')
    assert len(screening) > 20
    assert rows_of(page) == screening
    published = page.splitlines()
    whole = [line for line in headline if ' (of ' not in line]
    assert [row for row in whole if row not in published] == []
