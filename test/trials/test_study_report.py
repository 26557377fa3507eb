# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Figures, power and pages of a report."""

import itertools
import random
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
from study_support import small_study, summary_of

from flashwam_ros.imaging import decode_jpeg, encode_jpeg
from flashwam_ros.training.statistics import Pairs, mcnemar
from flashwam_ros.trials import charts, pages, power
from flashwam_ros.trials.failures import CELL, COLUMNS, contact_sheet
from flashwam_ros.trials.figures import Trial, figures
from flashwam_ros.trials.report import gather
from flashwam_ros.trials.report_text import blocks
from flashwam_ros.trials.runner import TrialRequest


def trial(arm, seed, success, reasons=(), folder=''):
    request = TrialRequest('t', 'red_bottle', '', seed, 10.0, '', 'async')
    summary = summary_of(request, success=success, folder=str(folder))
    return Trial('red_bottle', arm, seed, 2 if success else 0, success, 4.0 + seed % 7,
                 'success' if success else 'timeout', summary['reason'],
                 dict.fromkeys(reasons, 'x'), summary)  # fmt: skip


@pytest.fixture
def study():
    return small_study(rollouts=10)


@pytest.fixture
def trials(study):
    seeds = study.task_seeds('red_bottle')
    return [trial('waits', seed, i < 7) for i, seed in enumerate(seeds)] + [
        trial('ahead', seed, i < 5, ['late_chunk'] if i == 4 else [])
        for i, seed in enumerate(seeds)]  # fmt: skip


def test_counts_and_comparisons(study, trials):
    trials[10].summary.update(limited_ticks=220, arm_limited_ticks=110)
    found = figures(study, trials, [{'task': 'red_bottle', 'arm': 'ahead', 'reason': 'x: y'}])
    cell = found['cells']['red_bottle']['ahead']
    assert (cell['success'], cell['n']) == (5, 10)
    assert (cell['valid']['success'], cell['valid']['n']) == (4, 9)
    assert cell['reasons'] == {'late_chunk': 1}
    assert cell['stages'] == {'reached': 10, 'grasped': 5, 'lifted': 5}
    assert cell['latency_s']['p50'] == 0.1
    limited = cell['limited_share'], cell['arm_limited_share']
    assert limited == pytest.approx((0.02, 0.01)), 'of 10 rollouts of 4.4 s at 250 Hz'
    (test,) = found['tests']
    assert (test['both'], test['first'], test['second'], test['neither']) == (5, 0, 2, 3)
    assert test['p'] == test['p_holm'] == 0.5
    everything, valid = found['non_inferiority']
    assert everything['difference'] == pytest.approx(-0.2)
    assert (everything['count'], valid['count']) == (10, 9)
    assert not everything['shown']


@pytest.mark.parametrize(('score', 'termination', 'changes', 'reasons'), [
    ('operator', 'success', {}, set()),
    ('operator', 'stuck', {}, set()),
    ('operator', 'operator_stop', {}, {'operator_stop'}),
    ('operator', 'safety_stop', {}, {'operator_stop'}),
    ('operator', 'success', {'events': ['stop: console']}, {'operator_stop'}),
    ('operator', 'success', {'hold_s': 3.0}, {'hold'}),
    ('operator', 'success', {'reason': 'state_lost'}, {'fault'}),
    ('predicate', 'success', {}, {'operator_stop'}),
])  # fmt: skip
def test_the_operators_stop_is_how_a_trial_ends(score, termination, changes, reasons):
    (found,) = gathered(score, termination, **{'reason': 'cancelled', **changes})
    assert set(found.not_deployment) == reasons


def test_time_to_success_is_that_of_the_rollout(study):
    (found,) = gathered('operator', 'success', reason='cancelled', elapsed_s=4.5)
    assert found.duration_s == 4.5, 'not with preflight, ramps and film'
    (found,) = gathered('operator', 'success', summary={})
    assert found.duration_s == 31.0


def gathered(score, termination, summary=None, **changes):
    request = TrialRequest('t', 'red_bottle', '', 1, 10.0, '', 'async')
    if summary is None:
        summary = summary_of(request, success=False, **{'verdict': 'invalid', **changes})
    row = {'trial_id': 't', 'arm': 'ahead', 'status': 'completed', 'condition': 'seed=1',
           'stage_index': 2, 'success': True, 'duration_s': 31.0, 'termination': termination,
           'notes': ''}  # fmt: skip
    compiled = SimpleNamespace(study=small_study(score=score))
    return gather(compiled, {'red_bottle': [row]},
                  [{'kind': 'finished', 'trial': 't', 'summary': summary}])


def test_a_study_that_has_just_begun_can_be_reported(study, trials):
    found = figures(study, trials[:1], [])
    assert found['non_inferiority'][0]['count'] == 0
    assert found['tests'] == []


def test_fewest_discordant_is_what_the_test_says():
    assert power.fewest_discordant() == 6
    assert mcnemar(Pairs(0, 6, 0, 4)) < 0.05 < mcnemar(Pairs(0, 5, 0, 5))


def test_power_agrees_with_drawing():
    draw = random.Random(1)
    n, discordant, difference, hits, tries = 20, 0.6, 0.5, 0, 3000
    first, second = (discordant + difference) / 2, (discordant - difference) / 2
    for _ in range(tries):
        kinds = draw.choices('bcr', (first, second, 1 - discordant), k=n)
        hits += mcnemar(Pairs(0, kinds.count('b'), kinds.count('c'), 0)) <= 0.05
    assert power.difference_share(n, discordant, difference, 0.05) == pytest.approx(
        hits / tries, abs=0.03)


def test_outcomes_are_a_distribution():
    assert sum(p for *_, p in power._outcomes(12, 0.2, 0.1)) == pytest.approx(1.0)
    assert sum(p for *_, p in power._outcomes(7, 0.0, 0.0)) == pytest.approx(1.0)


def test_more_pairs_show_smaller_things():
    few, many = (power.smallest_margin(n, 0.2, 0.05) for n in (10, 30))
    assert many < few
    assert power.shown_share(30, 0.2, many, 0.05) >= power.POWER
    assert power.shown_share(30, 0.2, round(many - 0.02, 3), 0.05) < power.POWER
    few, many = (power.smallest_difference(n, 0.3) for n in (10, 30))
    assert many < few
    assert power.smallest_difference(5, 0.3) is None


def test_pages_have_every_part_in_both_forms(study, trials, tmp_path):
    found = figures(study, trials, [])
    pictures = {}
    for name, chart in (('success', charts.success_chart), ('funnel', charts.funnel_chart),
                        ('time', charts.time_chart)):
        ElementTree.fromstring(chart(found))
        pictures[name] = tmp_path / f'{name}.svg'
        pictures[name].write_text(chart(found))
    sheet = tmp_path / 'failures.jpg'
    sheet.write_bytes(encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    page = blocks(found, {'study': '<b>'}, pictures, {'red_bottle': sheet}, {'red_bottle': 'r'})
    text, html = pages.markdown(page), pages.html(page, 'T')
    for part in ('5/10', 'not shown', 'late_chunk 1', 'lifted', '-20.0', 'Latency', 'Failures'):
        assert part in text and part in html
    assert '<b>' not in html.replace('&lt;b&gt;', '')
    assert html.count('<svg') == 3 and 'base64' in html
    assert 'NOT COMPLETE' not in text


def test_voids_are_told_per_arm(study, trials, tmp_path):
    reasons = ['nothing moved: preflight: battery 12 %', 'nothing moved: preflight: battery 11 %',
               'the runner was stopped']
    found = figures(study, trials, [{'task': 'red_bottle', 'arm': 'ahead', 'reason': reason}
                                    for reason in reasons])
    page = blocks(found, {}, dict.fromkeys(('success', 'funnel', 'time'), tmp_path), {}, {})
    (table,) = [block for block in page if isinstance(block, pages.Table)
                and block.columns[0].startswith('void')]
    assert table.columns[1] == 'arm'
    assert table.rows == [['red_bottle', 'ahead', 'nothing moved: preflight', 2],
                          ['red_bottle', 'ahead', 'the runner was stopped', 1]]


def test_an_incomplete_study_says_so(study, trials, tmp_path):
    found = figures(study, trials[:-1], [])
    page = blocks(found, {'rehearsal': True}, dict.fromkeys(('success', 'funnel', 'time'),
                                                            tmp_path), {}, {})  # fmt: skip
    text = pages.markdown(page)
    assert 'NOT COMPLETE' in text and 'REHEARSAL' in text


def test_contact_sheet(tmp_path):
    seeds = itertools.count(1)
    failed = []
    for number in range(COLUMNS + 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / 'last.jpg').write_bytes(encode_jpeg(np.full((90, 120, 3), 200, np.uint8)))
        failed.append(trial('ahead', next(seeds), False, folder=folder))
    failed.append(trial('waits', 1, False, folder=tmp_path / 'none'))
    assert contact_sheet(tmp_path / 's.jpg', ['waits', 'ahead'], failed)
    assert decode_jpeg((tmp_path / 's.jpg').read_bytes()).shape[1] == COLUMNS * CELL[0]
    assert not contact_sheet(tmp_path / 'no.jpg', ['waits'], [trial('waits', 1, True)])
