# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Turns the process graph into launch and launch_ros actions.

The only module that imports the ROS launch packages; `flashwam launch` does without it.
"""

from __future__ import annotations

import os
import signal
import subprocess

try:
    from launch import LaunchDescription
    from launch.actions import (
        DeclareLaunchArgument,
        EmitEvent,
        ExecuteProcess,
        LogInfo,
        OpaqueFunction,
        RegisterEventHandler,
        Shutdown,
        TimerAction,
    )
    from launch.event_handlers import OnProcessExit
    from launch.events import matches_action
    from launch.events.process import SignalProcess
    from launch.substitutions import LaunchConfiguration
    from launch_ros.actions import Node
except ImportError as error:
    raise ImportError(
        f'the ROS launch packages are not installed ({error}). Start the same processes with '
        '`flashwam launch g1_task name:=value ...`.'
    ) from error

from flashwam_ros.bringup.command import graph_for
from flashwam_ros.bringup.graph import RELEASE_TIMEOUT_S, Graph, Process
from flashwam_ros.bringup.settings import ARGUMENTS


def describe() -> LaunchDescription:
    """The launch description: every argument declared, the graph built from their values."""
    arguments = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            # launch takes None, not an empty list, for "anything"
            choices=list(argument.choices) or None,
        )
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_from_context)])


def _from_context(context) -> list:
    values = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in ARGUMENTS
    }
    return actions_for(graph_for(values))


def actions_for(graph: Graph) -> list:
    """Launch actions for a graph: first the handlers, then the processes."""
    actions = {process.name: _action(process) for process in graph.processes}
    outliving = [actions[p.name] for p in graph.processes if p.outlive_others]
    others = {p.name for p in graph.processes if not p.outlive_others}
    ended: set[str] = set()

    def on_exit(process: Process):
        def handle(event, context) -> list:
            ended.add(process.name)
            following = []
            if event.returncode != 0 and process.on_crash is not None:
                following += _release(process)
            if not context.is_shutdown:
                following += _shutdown(process, event.returncode)
            if others <= ended:
                following += [_terminate(action) for action in outliving]
            return following

        return RegisterEventHandler(
            OnProcessExit(target_action=actions[process.name], on_exit=handle))

    return [*(on_exit(process) for process in graph.processes), *actions.values()]


def _action(process: Process):
    common = {
        'name': process.name,
        'output': 'screen',
        'additional_env': dict(process.environment),
        'prefix': ' '.join(process.prefix),
        'sigterm_timeout': str(_sigterm_timeout_s(process)),
        'sigkill_timeout': str(process.kill_timeout_s),
    }
    if not process.is_node:
        return ExecuteProcess(cmd=list(process.command), **common)
    return Node(
        package='flashwam_ros',
        executable=process.executable,
        namespace=process.namespace or None,
        parameters=[dict(process.parameters)],
        remappings=list(process.remappings),
        **common,
    )


def _sigterm_timeout_s(process: Process) -> float:
    """Seconds from launch's SIGINT to its SIGTERM.

    One that outlives the others has SIGINT blocked and is terminated by `_terminate`; launch's own
    SIGTERM is only the fallback, after the slowest of the others had its time.
    """
    return process.stop_timeout_s + (60.0 if process.outlive_others else 0.0)


def _release(process: Process) -> list:
    """Runs the crash command and waits for it.

    A plain subprocess, as launch starts no new action once it shuts down, and a blocking one, as
    nothing else may be stopped before the arms are released.
    """
    try:
        done = subprocess.run(
            process.on_crash, stdin=subprocess.DEVNULL, check=False, timeout=RELEASE_TIMEOUT_S,
            env={**os.environ, **dict(process.environment)}, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [LogInfo(msg=f'the release after the end of {process.name} took too long')]
    return [LogInfo(msg=f'release after the end of {process.name}: code {done.returncode}')]


def _shutdown(process: Process, code: int) -> list:
    reason = f'{process.name} ended with code {code}'
    shutdown = Shutdown(reason=reason)
    if process.shutdown_delay_s <= 0.0:
        return [shutdown]
    return [
        LogInfo(msg=f'{reason}: stopping everything in {process.shutdown_delay_s:g} s'),
        TimerAction(period=process.shutdown_delay_s, actions=[shutdown]),
    ]


def _terminate(action) -> EmitEvent:
    return EmitEvent(event=SignalProcess(
        signal_number=signal.SIGTERM, process_matcher=matches_action(action)))
