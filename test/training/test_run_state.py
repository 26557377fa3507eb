# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Budget, learning rate, logs."""

import pytest

from flashwam_ros.training.run_state import Budget, CsvLog, learning_rate, read_log


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
