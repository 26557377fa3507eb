# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The world-action model over the whole line: chunks flow, limits hold, the arms are released."""

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')
pytest.importorskip('torch')

from flashwam_ros.resources import share_path  # noqa: E402

CHECKPOINT = share_path('models', 'g1-nano-flash')


@pytest.mark.parametrize('execution', ['sync', 'async', 'async_grounded'])
def test_chunks_flow_and_the_arms_are_released(rollout, execution):
    run = rollout(
        'task:=red_bottle', 'policy:=wam', f'checkpoint:={CHECKPOINT}', 'seed:=1',
        f'execution:={execution}', 'time_limit:=6',
    )  # fmt: skip
    summary = run.summary
    assert summary.get('verdict') in ('success', 'failure'), run.text + run.log
    assert run.code == 0
    assert run.shared == set()
    assert summary['chunks'] >= 3
    assert summary['chunk_latency_s']['n'] >= 4
    parts = set(summary['chunk_latency_parts_s'])
    imagine = {'imagine'} if execution == 'async_grounded' else set()
    assert parts == {'encode', 'ground', 'predict'} | imagine
    events = summary['events']
    # A chunk that was under way when the rollout ended finds the driver giving back.
    rejected = [e for e in events if e.startswith('chunk_rejected') and 'not executing' not in e]
    assert rejected == []
    assert [e for e in events if e.startswith('exit: ')] == ['exit: deactivated']
    assert summary['tracking_error_rad'] < 0.25
    assert 'ended with signal' not in run.log
