# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole line, twin to verdict, over real DDS, camera stream, ROS and all nodes."""

import pytest
from preflight_support import undisturbed

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')


def in_time(run):
    """A machine that was too busy shows in late chunks, too."""
    return undisturbed(run) and not run.summary.get('late_chunks')


@pytest.mark.parametrize('execution', ['sync', 'async'])
def test_the_expert_takes_the_red_bottle(rollout, execution):
    run = rollout('task:=red_bottle', 'policy:=expert', f'execution:={execution}', 'seed:=5',
                  enough=in_time)
    assert run.summary.get('verdict') == 'success', run.text + run.log
    assert run.code == 0
    assert run.shared == set()
    summary = run.summary
    assert all(summary['stages'].values())
    assert summary['chunks'] >= 4
    # In sync mode the path stops at every boundary, in full motion: the limiter rounds that.
    assert summary['limited_ticks'] <= (0 if execution == 'async' else 60)
    assert summary['real_time_factor'] >= 0.98
    assert summary['tracking_error_rad'] < 0.25
    events = summary['events']
    # A chunk that was under way when the rollout ended finds the driver giving back.
    rejected = [e for e in events if e.startswith('chunk_rejected') and 'not executing' not in e]
    assert rejected == []
    modes = [event for event in events if event.startswith('mode: ')]
    assert modes[-1] in ('mode: RELEASE', 'mode: PASSIVE'), events
    for name in ('summary.json', 'plot.png', 'rollout.mp4'):
        assert (run.folder / name).stat().st_size > 1000
    assert 'SUCCESS' in run.text and str(run.folder) in run.text
    assert 'no reason given' not in run.log and 'ended with signal' not in run.log
    if execution == 'async':
        assert summary['slack_s']['p50'] > 0.1, 'a chunk is there well before it is needed'
