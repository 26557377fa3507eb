# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The supervisor with real processes that record the signals they get."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flashwam_ros.bringup import graph as graph_module
from flashwam_ros.bringup.graph import Graph, Process
from flashwam_ros.bringup.supervisor import Supervisor

DEADLINE_S = 20.0


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f'no {what} within {DEADLINE_S:g} s'
        time.sleep(0.01)


class Stack:
    """A supervised graph of stub processes."""

    def __init__(self, folder, *processes):
        self.folder, self.lines = folder, []
        self.supervisor = Supervisor(
            Graph(processes), sink=lambda name, line: self.lines.append((name, line)))
        self.thread = self.supervisor.start_in_background()
        for process in processes:
            wait_until(lambda name=process.name: f'{name} start' in self.events(), process.name)

    def events(self):
        path = self.folder / 'events'
        return path.read_text().splitlines() if path.exists() else []

    def ended(self):
        assert self.supervisor.wait(DEADLINE_S), self.lines
        self.thread.join(DEADLINE_S)
        return self.events()


@pytest.fixture
def stack(stub_folder, monkeypatch):
    monkeypatch.setitem(graph_module.EXECUTABLES, 'stub', 'stub_process')
    started = []

    def start(*processes):
        started.append(Stack(stub_folder, *processes))
        return started[-1]

    yield start
    for one in started:
        one.supervisor.request_stop('test over')
        one.ended()


@pytest.fixture
def process(stub_folder):
    def make(name, mode='plain', **options):
        return Process(
            name=name, executable='stub', is_node=False,
            arguments=(name, mode, str(stub_folder)), **options)  # fmt: skip

    return make


def test_stop_ends_the_driver_before_the_robot_it_needs(stack, process):
    running = stack(process('twin', outlive_others=True), process('g1_driver', 'slow'))
    running.supervisor.request_stop('enough')
    events = running.ended()
    assert events[2:] == ['g1_driver SIGINT', 'g1_driver end', 'twin SIGTERM', 'twin end']
    assert running.supervisor.reason == 'enough'
    assert running.supervisor.exit_codes == {'g1_driver': 0, 'twin': 0}
    assert ('twin', 'hello from twin') in running.lines


def test_a_killed_driver_is_followed_by_the_release_and_then_the_rest(stack, process, stub_folder):
    release = ('python3', '-m', 'stub_process', 'release', 'release', str(stub_folder))
    running = stack(process('twin', outlive_others=True),
                    process('g1_driver', on_crash=release))  # fmt: skip
    os.kill(running.supervisor.pid('g1_driver'), signal.SIGKILL)
    events = running.ended()
    assert events[2:] == ['release start', 'release end', 'twin SIGTERM', 'twin end']
    assert 'SIGKILL' in running.supervisor.reason


def test_a_clean_end_needs_no_release(stack, process):
    release = ('python3', '-c', 'raise SystemExit(1)')
    running = stack(process('g1_driver', on_crash=release))
    running.supervisor.request_stop('enough')
    running.ended()
    assert running.supervisor.exit_codes == {'g1_driver': 0}


def test_a_closed_terminal_costs_no_orderly_stop(stack, process, stub_folder):
    """Closing the window: SIGHUP, and every write to the terminal fails from then on."""
    running = stack(process('twin', outlive_others=True), process('g1_driver', 'slow'))

    def hung_up(name, line):
        raise OSError(5, 'Input/output error')

    running.supervisor._sink = hung_up
    running.supervisor.request_stop('SIGHUP')
    events = running.ended()
    assert events[2:] == ['g1_driver SIGINT', 'g1_driver end', 'twin SIGTERM', 'twin end']
    assert running.supervisor.exit_codes == {'g1_driver': 0, 'twin': 0}


def test_an_error_of_the_supervisor_itself_still_gives_the_arms_back(
    process, stub_folder, monkeypatch
):
    monkeypatch.setitem(graph_module.EXECUTABLES, 'stub', 'stub_process')
    release = ('python3', '-m', 'stub_process', 'release', 'release', str(stub_folder))
    graph = Graph((process('twin', outlive_others=True), process('policy', 'slow'),
                   process('g1_driver', 'stubborn', stop_timeout_s=0.3, on_crash=release)))
    supervisor = Supervisor(graph, sink=lambda name, line: None)

    def broken():
        wait_until(lambda: len((stub_folder / 'events').read_text().split('\n')) > 3, 'start')
        raise RuntimeError('a defect')

    monkeypatch.setattr(supervisor, '_handle_time', broken)
    with pytest.raises(RuntimeError, match='a defect'):
        supervisor.run()
    events = (stub_folder / 'events').read_text().splitlines()[3:]
    assert events.index('g1_driver SIGINT') < events.index('release end')
    assert 'policy end' in events, 'it had time to end by itself'
    assert not any(child.popen.poll() is None for child in supervisor._all())


def test_a_stubborn_process_is_terminated_and_then_killed(stack, process):
    running = stack(process('policy', 'stubborn', stop_timeout_s=0.2, kill_timeout_s=0.2))
    running.supervisor.request_stop('enough')
    assert running.ended()[1:] == ['policy SIGINT', 'policy SIGTERM']
    assert running.supervisor.exit_codes == {'policy': -signal.SIGKILL}


def test_the_end_of_a_helper_leaves_time_for_the_verdict(stack, process):
    running = stack(process('rollout'), process('policy', shutdown_delay_s=0.6))
    os.kill(running.supervisor.pid('policy'), signal.SIGKILL)
    wait_until(lambda: 'policy' in running.supervisor.exit_codes, 'end of the policy')
    died = time.monotonic()
    assert running.ended()[2:] == ['rollout SIGINT', 'rollout end']
    assert time.monotonic() - died > 0.5


def test_what_a_process_leaves_behind_is_killed(stack, process, stub_folder):
    running = stack(process('twin', 'orphaning'))
    wait_until((stub_folder / 'orphan').exists, 'orphan')
    orphan = int((stub_folder / 'orphan').read_text())
    running.supervisor.request_stop('enough')
    running.ended()

    def gone():
        stat = Path(f'/proc/{orphan}/stat')
        return not stat.exists() or stat.read_text().split()[2] == 'Z'

    wait_until(gone, 'end of the orphan')


def test_killing_the_supervisor_outright_still_stops_the_driver(process, stub_folder):
    script = (
        'import sys\n'
        'from flashwam_ros.bringup import graph\n'
        'from flashwam_ros.bringup.supervisor import Supervisor\n'
        'graph.EXECUTABLES["stub"] = "stub_process"\n'
        'driver = graph.Process("g1_driver", "stub", is_node=False,\n'
        '                       arguments=("g1_driver", "plain", sys.argv[1]))\n'
        'Supervisor(graph.Graph((driver,))).run()\n'
    )
    supervisor = subprocess.Popen([sys.executable, '-c', script, str(stub_folder)])
    events = stub_folder / 'events'
    wait_until(events.exists, 'start of the driver')
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: 'g1_driver SIGINT' in events.read_text(), 'stop of the driver')


NODE = '''
import json
import sys
from pathlib import Path

import rclpy

rclpy.init()
node = rclpy.create_node('unnamed', automatically_declare_parameters_from_overrides=True)
found = {name: parameter.value for name, parameter in node._parameters.items()}
found['name'] = node.get_fully_qualified_name()
Path(found['output_dir']).write_text(json.dumps(found))
'''


@pytest.mark.ros
def test_a_node_receives_its_parameters_as_declared(stub_folder, monkeypatch):
    pytest.importorskip('rclpy')
    (stub_folder / 'node_process.py').write_text(NODE)
    monkeypatch.setitem(graph_module.EXECUTABLES, 'stub', 'node_process')
    parameters = {'task': 'red_bottle', 'checkpoint': '', 'seed': 3, 'steps': 2.0, 'flag': True,
                  'number_like': '1', 'path': '/a b/"c"', 'colon': 'a: b # c',
                  'output_dir': str(stub_folder / 'found')}  # fmt: skip
    node = Process('policy', 'stub', parameters=tuple(parameters.items()), namespace='second')
    lines = []
    supervisor = Supervisor(Graph((node,)), sink=lambda *line: lines.append(line))
    supervisor.run()
    assert (stub_folder / 'found').exists(), lines
    found = json.loads((stub_folder / 'found').read_text())
    assert {name: found[name] for name in parameters} == parameters
    assert [type(found[name]) for name in parameters] == [type(v) for v in parameters.values()]
    assert found['name'] == '/second/policy'
