# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A study over the whole line: killed in mid-trial, taken up again, reported."""

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(1800)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')

from benchmarks._stack import Place  # noqa: E402
from benchmarks.kill_study import StudyUnderFire  # noqa: E402
from flashwam_ros.trials.compiled import open_compiled  # noqa: E402
from flashwam_ros.trials.fieldtrial_program import fieldtrial_path  # noqa: E402
from flashwam_ros.trials.report import write_report  # noqa: E402
from flashwam_ros.trials.study import StudyError  # noqa: E402

try:
    fieldtrial_path()
except StudyError:
    pytest.skip('no fieldtrial here', allow_module_level=True)


def test_nothing_finished_is_lost_and_nothing_runs_twice(tmp_path):
    study = StudyUnderFire(tmp_path, Place(47, 48, 25700), rollouts=1)
    study.kill('trials')
    study.kill('rollout')
    assert study.finish() == 0, (study.compiled / 'graph.log').read_text()[-3000:]
    found = study.verdict()
    assert found['recorded'] == found['planned'] == 2
    assert found['finished but not recorded'] == 0
    assert found['run twice'] == found['recorded twice'] == 0
    log = (study.compiled / 'graph.log').read_text()
    assert 'ahead' not in log and 'waits' not in log, 'the log tells which arm runs'
    page = write_report(open_compiled(study.compiled), unblind=True)
    assert 'deployment-valid' in page.read_text()
    films = list((study.compiled / 'tasks').glob('*/media/*/rollout.mp4'))
    assert len(films) == 2
