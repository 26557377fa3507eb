# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The world-action model over the whole line: chunks flow, limits hold, the arms are released."""

import contextlib
import re
import subprocess
import sys
import threading

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
        f'execution:={execution}', 'time_limit:=6', 'film:=false',
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
    assert summary['clock_factor'] == 0.5 and 'slowed to 0.5' in run.text
    assert summary['real_time_factor'] >= 0.98, 'by the slowed clock'
    assert 'ended with signal' not in run.log


@contextlib.contextmanager
def policy_server(port=0):
    """`flashwam serve`: its process and its address."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'flashwam_ros.cli', 'serve', str(CHECKPOINT), '--port', str(port)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = ''
    try:
        while 'serving at' not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        yield process, re.search(r'ws://\S+', said)[0]
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_model_on_another_machine(rollout):
    """The robot's side holds no model, the model's side no robot."""
    with policy_server() as (process, address):
        run = rollout(
            'task:=red_bottle', f'checkpoint:={address}', 'seed:=1', 'execution:=async_grounded',
            'time_limit:=6', 'film:=false',
        )  # fmt: skip
    assert process.returncode == 0
    summary = run.summary
    assert summary.get('verdict') in ('success', 'failure'), run.text + run.log
    assert summary['chunks'] >= 3
    assert set(summary['chunk_latency_parts_s']) == {'ground', 'imagine', 'network', 'predict'}
    assert [e for e in summary['events'] if e.startswith('exit: ')] == ['exit: deactivated']
    assert run.shared == set()


def test_the_arms_are_given_back_when_the_server_dies(rollout):
    with policy_server() as (_, address):
        port = int(address.rsplit(':', 1)[1])

    @contextlib.contextmanager
    def dying_server(folder):
        done = threading.Event()

        def kill_it(process):
            while not done.wait(0.2):
                if list(folder.glob('episodes/*.part')):
                    process.kill()

        with policy_server(port) as (process, _):
            killer = threading.Thread(target=kill_it, args=(process,))
            killer.start()
            yield
            done.set()
            killer.join()

    run = rollout('task:=pot_potato', f'checkpoint:={address}', 'seed:=1', 'film:=false',
                  around=dying_server)
    assert run.summary.get('verdict') == 'invalid', run.text + run.log
    assert 'policy server' in run.summary['reason'], run.summary['reason']
    assert 'ended with signal' not in run.log
