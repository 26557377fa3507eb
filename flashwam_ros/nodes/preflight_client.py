# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam preflight`: ask the running graph whether a motion may begin; nothing is moved.

usage: flashwam preflight [--json] [name:=value ...]

The graph must be running (`flashwam launch g1_task ...`, or teleop with the same device:=NAME);
give it the same namespace:=NAME.
Exit code: 0 all green or amber, 1 red or no answer, 2 wrong arguments.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence

from flashwam_ros.bringup.command import graph_for
from flashwam_ros.bringup.settings import Settings, SettingsError
from flashwam_ros.bringup.terminal import RunError, parse
from flashwam_ros.trials.check_result import Report

READY_S = 15.0
ANSWER_S = 200.0


def ask(namespace: str, asked: str, environment: Mapping[str, str]) -> Report:
    """The report of the running graph.

    Args:
        namespace: of the nodes.
        asked: the node that makes it: rollout, or teleop where an operator steers.
        environment: variables of the graph, which decide whom this process can hear.

    Raises:
        RunError: nobody answers, or the preflight could not be made.
    """
    os.environ.update(environment)
    import rclpy
    from std_srvs.srv import Trigger

    rclpy.init(args=[])
    node = rclpy.create_node('preflight_client', namespace=namespace or None)
    try:
        client = node.create_client(Trigger, f'{asked}/preflight')
        if not client.wait_for_service(READY_S):
            domain = os.environ.get('ROS_DOMAIN_ID') or '0'
            raise RunError(
                f'no {asked} node answers on ROS_DOMAIN_ID {domain}: start the graph with '
                '`flashwam launch`; if the robot does not answer, `flashwam doctor`'
            )
        future = client.call_async(Trigger.Request())
        deadline = time.monotonic() + ANSWER_S
        while not future.done():
            if time.monotonic() > deadline:
                raise RunError(f'no answer within {ANSWER_S:.0f} s')
            rclpy.spin_once(node, timeout_sec=0.1)
        message = future.result().message
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    try:
        return Report.from_dict(json.loads(message))
    except ValueError:
        raise RunError(f'the preflight could not be made: {message}') from None


def main(argv: Sequence[str] | None = None) -> int:
    """`flashwam preflight`; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if {'-h', '--help'} & set(argv):
        sys.stdout.write(__doc__.split('\n', 2)[2])
        return 0
    as_json = '--json' in argv
    try:
        values = parse([word for word in argv if word != '--json'])
        settings, graph = Settings.parse(values), graph_for(values)
    except SettingsError as error:
        sys.stderr.write(f'flashwam preflight: {error}\n')
        return 2
    try:
        asked = 'teleop' if settings.device else 'rollout'
        report = ask(settings.namespace, asked, dict(graph[asked].environment))
    except RunError as error:
        sys.stderr.write(f'flashwam preflight: {error}\n')
        code = 1
    else:
        text = report.to_json() if as_json else report.table(color=sys.stdout.isatty())
        sys.stdout.write(text + '\n')
        code = 0 if report.ok else 1
    from flashwam_ros.nodes.lifecycle import leave_at_exit

    leave_at_exit(code)
    return code


if __name__ == '__main__':
    sys.exit(main())
