# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Both ways to start a graph give the same processes, parameters and shutdown."""

import os
import signal
import sys
import types

import pytest

from flashwam_ros.bringup import command
from flashwam_ros.bringup.settings import ARGUMENTS, TASKS, SettingsError
from flashwam_ros.resources import share_path

VALUES = {'task': 'pink_object', 'policy': 'expert', 'seed': '3', 'namespace': 'second'}


def launch_file(name):
    """Loads a launch file as launch does: a module from its path."""
    path = share_path('launch', f'{name}.launch.py')
    module = types.ModuleType(name)
    module.__file__ = str(path)
    exec(compile(path.read_text(), str(path), 'exec'), vars(module))
    return module


def graph_actions(values):
    """The actions of g1_task for the given launch arguments, the rest at their defaults."""
    description = launch_file('g1_task').generate_launch_description()
    *declared, opaque = description.args[0]
    context = {a.args[0]: a.kwargs['default_value'] for a in declared} | values
    return opaque.kwargs['function'](context)


def processes(actions):
    return {a.kwargs['name']: a for a in actions if a.kind in ('Node', 'ExecuteProcess')}


def handlers(actions):
    """Process name -> what its end leads to."""
    found = {}
    for action in actions:
        if action.kind == 'RegisterEventHandler':
            exit_ = action.args[0].kwargs
            found[exit_['target_action'].kwargs['name']] = exit_['on_exit']
    return found


def test_arguments_are_declared_with_description_and_choices(recording_launch):
    *declared, _ = launch_file('g1_task').generate_launch_description().args[0]
    assert [d.args[0] for d in declared] == [a.name for a in ARGUMENTS]
    for action, argument in zip(declared, ARGUMENTS, strict=True):
        assert action.kwargs['description'] == argument.description
        assert tuple(action.kwargs['choices'] or ()) == argument.choices


def test_same_processes_parameters_and_time_outs(recording_launch):
    launched = processes(graph_actions(VALUES))
    graph = command.graph_for(VALUES)
    assert list(launched) == [p.name for p in graph.processes]
    for process in graph.processes:
        action = launched[process.name]
        assert action.kwargs['prefix'].split() == list(process.prefix)
        assert action.kwargs['additional_env'] == dict(process.environment)
        assert float(action.kwargs['sigkill_timeout']) == process.kill_timeout_s
        assert float(action.kwargs['sigterm_timeout']) >= process.stop_timeout_s
        if not process.is_node:
            assert action.kwargs['cmd'] == list(process.command)
            continue
        # What launch_ros makes of a Node, against the supervisor's command line.
        words = ['--ros-args', '-r', f'__node:={action.kwargs["name"]}',
                 '-r', f'__ns:=/{action.kwargs["namespace"]}']  # fmt: skip
        for source, target in action.kwargs['remappings']:
            words += ['-r', f'{source}:={target}']
        own = list(process.command)
        assert own[3:3 + len(words)] == words
        assert own[3 + len(words)::2] == ['-p'] * len(process.parameters)
        assert action.kwargs['parameters'] == [dict(process.parameters)]
        assert action.kwargs['executable'] == process.executable
        assert action.kwargs['package'] == 'flashwam_ros'


def test_an_end_stops_the_graph_at_once_or_after_the_verdict(recording_launch):
    on_exit = handlers(graph_actions(VALUES))
    context = types.SimpleNamespace(is_shutdown=False)
    event = types.SimpleNamespace(returncode=0)
    assert [a.kind for a in on_exit['twin'](event, context)] == ['Shutdown']
    policy = on_exit['policy'](event, context)
    assert [a.kind for a in policy] == ['LogInfo', 'TimerAction']
    assert policy[1].kwargs['period'] == 15.0


def test_a_crashed_driver_is_followed_by_the_release(recording_launch, monkeypatch):
    calls = []

    def run(words, **options):
        calls.append(words)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(recording_launch.subprocess, 'run', run)
    on_exit = handlers(graph_actions(VALUES))['g1_driver']
    for shutting_down, returncode in ((False, 0), (False, -9), (True, -9)):
        context = types.SimpleNamespace(is_shutdown=shutting_down)
        on_exit(types.SimpleNamespace(returncode=returncode), context)
    assert calls == [command.graph_for(VALUES)['g1_driver'].on_crash] * 2


def test_the_twin_is_terminated_when_the_others_are_gone(recording_launch):
    actions = graph_actions(VALUES)
    on_exit = handlers(actions)
    context = types.SimpleNamespace(is_shutdown=True)
    following = [a for name in ('policy', 'rollout', 'camera', 'recorder', 'console',
                                 'g1_driver')
                 for a in on_exit[name](types.SimpleNamespace(returncode=0), context)]  # fmt: skip
    assert [a.kind for a in following] == ['EmitEvent']
    event = following[0].kwargs['event']
    assert event.kwargs['signal_number'] == signal.SIGTERM
    assert event.kwargs['process_matcher'].args[0] is processes(actions)['twin']


@pytest.mark.parametrize(('values', 'message'), [
    ({'robot': 'real'}, 'network_interface:=NAME'),
    ({'robot': 'real', 'network_interface': 'eth0'}, 'checkpoint:=FOLDER'),
    ({'network_interface': 'eth0', 'unitree_domain': '0', 'device': 'joy'}, 'say robot:=real'),
])  # fmt: skip
def test_what_a_real_robot_needs_is_no_default(recording_launch, values, message):
    """`ros2 launch` hands all defaults over, `flashwam launch` only what was written."""
    for start in (graph_actions, command.graph_for):
        with pytest.raises(SettingsError, match=message):
            start(values)


@pytest.mark.parametrize('task', TASKS)
def test_task_files_include_the_common_one(recording_launch, task):
    include = launch_file(task).generate_launch_description().args[0][0]
    assert include.args[0].args[0].endswith(os.path.join('launch', 'g1_task.launch.py'))
    assert dict(include.kwargs['launch_arguments']) == {'task': task}
    assert command.parse([task, 'seed:=3']) == {'task': task, 'seed': '3'}


def test_with_the_real_packages():
    pytest.importorskip('launch.actions', reason='the ROS launch packages are not installed')
    pytest.importorskip('launch_ros.actions', reason='launch_ros is not installed')
    from launch import LaunchContext

    from flashwam_ros.bringup.launch_adapter import actions_for

    graph = command.graph_for(VALUES)
    actions = [a for a in actions_for(graph) if hasattr(a, 'cmd')]
    assert len(actions) == len(graph.processes)
    for action in actions:
        action._perform_substitutions(LaunchContext())
    nodes = [a for a in actions if hasattr(a, 'node_name')]
    assert [n.node_name for n in nodes] == [
        f'/second/{p.name}' for p in graph.processes if p.is_node]


def test_without_the_packages_the_error_names_the_other_way(monkeypatch):
    monkeypatch.setitem(sys.modules, 'launch', None)
    monkeypatch.delitem(sys.modules, 'flashwam_ros.bringup.launch_adapter', raising=False)
    with pytest.raises(ImportError, match='flashwam launch g1_task'):
        __import__('flashwam_ros.bringup.launch_adapter')
