# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Budget, learning rate, logs, intervals."""

import pytest

from flashwam_ros.training.evaluate import (
    Job,
    Setting,
    make_jobs,
    markdown,
    parse_steps,
    summarise,
)
from flashwam_ros.training.run_state import Budget, CsvLog, learning_rate, read_log
from flashwam_ros.training.statistics import wilson


def test_learning_rate_rises_stays_and_falls():
    assert learning_rate(1.0, 0, 0.0, 10) == pytest.approx(0.1)
    assert learning_rate(1.0, 50, 0.2, 10, 0.3) == 1.0
    assert learning_rate(1.0, 50, 1.0, 10, 0.3) == pytest.approx(0.02)
    falling = [learning_rate(1.0, 50, p / 10, 10, 0.3) for p in range(3, 11)]
    assert falling == sorted(falling, reverse=True)


def test_budget_is_whichever_ends_first():
    assert Budget(100, 10.0).progress(50, 1.0) == 0.5
    assert Budget(100, 10.0).progress(50, 9.0) == 0.9
    assert Budget(100, 10.0).progress(500, 0.0) == 1.0


def test_log_drops_what_the_checkpoint_does_not_have(tmp_path):
    log = CsvLog(tmp_path / 'log.csv', ('step', 'loss'), 0)
    for step in range(5):
        log.add({'step': step, 'loss': step * 0.5})
    CsvLog(tmp_path / 'log.csv', ('step', 'loss'), 3)
    assert [row['step'] for row in read_log(tmp_path / 'log.csv')] == ['0', '1', '2']


@pytest.mark.parametrize('successes, count, low, high', [
    (0, 100, 0.0, 0.0370), (50, 100, 0.4038, 0.5962), (100, 100, 0.9630, 1.0),
    (8, 10, 0.4902, 0.9433)])
def test_wilson_against_published_values(successes, count, low, high):
    assert wilson(successes, count) == pytest.approx((low, high), abs=1e-4)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError):
        wilson(3, 2)


def test_steps_are_parsed():
    assert parse_steps('3v/10a') == (3, 10)
    for bad in ('3/10', '0v/1a', 'v/a', '1v'):
        with pytest.raises(ValueError):
            parse_steps(bad)


def test_summary_counts_stages_and_separates_blanked_images():
    jobs = make_jobs(['red_bottle'], 'test', 4, 'both')
    results = {job: {'success': not job.blank and job.seed % 2 == 0, 'reason': 'x',
                     'stages': {'reached': True, 'grasped': not job.blank}, 'limited_ticks': 1,
                     'predict_ms': 2.0} for job in jobs}
    summary = summarise(Setting('c', 'f' * 64), results)
    seen, blank = summary['rows']
    assert (seen['success'], seen['n'], seen['stages']['grasped']) == (2, 4, 4)
    assert (blank['success'], blank['blank_images'], blank['stages']['grasped']) == (0, True, 0)
    assert 'blanked' in markdown(summary)
    assert Job('red_bottle', 10_000, False) in results
