# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations go on where a kill stopped them."""

from flashwam_ros.training import demonstrations
from flashwam_ros.training.demonstrations import Outcome
from flashwam_ros.training.seeds import seeds

TASK = 'red_bottle'


def note(folder, seed, success=False):
    demonstrations._append_log(folder, Outcome(TASK, seed, success, 'dropped', 0, 1.0))


def test_a_cut_last_line_costs_one_seed(tmp_path):
    first, second, third, fourth = seeds('training', TASK, 4)
    note(tmp_path, first)
    note(tmp_path, second)
    log = tmp_path / 'log.jsonl'
    log.write_bytes(log.read_bytes()[:-20])  # as a kill leaves it
    assert demonstrations.pending(tmp_path, [TASK], 3) == [(TASK, second), (TASK, third)]
    note(tmp_path, third)  # not glued to the cut one
    assert demonstrations.pending(tmp_path, [TASK], 4) == [(TASK, second), (TASK, fourth)]
    assert len(log.read_text().splitlines()) == 3


def test_failures_and_files_are_not_done_again(tmp_path):
    failed, kept, lost, missing = seeds('training', TASK, 4)
    assert demonstrations.pending(tmp_path, [TASK], 1) == [(TASK, failed)]
    note(tmp_path, failed)
    note(tmp_path, lost, success=True)  # noted, but its file was removed
    path = demonstrations.episode_path(tmp_path, TASK, kept)
    path.parent.mkdir()
    path.touch()
    assert demonstrations.pending(tmp_path, [TASK], 4) == [(TASK, lost), (TASK, missing)]
