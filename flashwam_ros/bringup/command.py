# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam launch FILE [name:=value ...]`: the launch files without the launch packages."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from flashwam_ros.bringup.graph import Graph, build_graph
from flashwam_ros.bringup.settings import (
    ARGUMENTS,
    TASKS,
    Settings,
    SettingsError,
    check_domains,
)
from flashwam_ros.bringup.supervisor import Supervisor
from flashwam_ros.bringup.terminal import END_SIGNALS
from flashwam_ros.resources import share_path

COMMON = 'g1_task'
TELEOP, TRIALS = 'teleop', 'trials'
TELEOP_DEVICE = 'web'


def graph_for(values: dict[str, str]) -> Graph:
    """The graph for launch arguments as text, with this process's environment.

    Raises:
        SettingsError: an argument is wrong; the message says which and what to do.
    """
    settings = Settings.parse(values)
    check_domains(settings, os.environ)
    return build_graph(settings, os.environ, share_path('config', 'fastdds.xml'))


def usage() -> str:
    """Help text: the launch files and every argument with description, choices and default."""
    lines = [
        'usage: flashwam launch FILE [name:=value ...]',
        '',
        f'FILE: {COMMON}, {TELEOP} (with device:={TELEOP_DEVICE} if none is given), '
        f'{TRIALS} (with study:=FOLDER), or a task: '
        f'{", ".join(TASKS)}',
        '',
        'arguments:',
    ]
    for argument in ARGUMENTS:
        choices = f' [{"|".join(argument.choices)}]' if argument.choices else ''
        lines += [f'  {argument.name}:={argument.default or "..."}{choices}',
                  f'      {argument.description}']  # fmt: skip
    return '\n'.join(lines) + '\n'


def parse(argv: Sequence[str]) -> dict[str, str]:
    """Launch arguments from a command line `FILE [name:=value ...]`.

    Raises:
        SettingsError: no or unknown file, or a word that is not `name:=value`.
    """
    file = argv[0].removesuffix('.launch.py') if argv else ''
    files = (COMMON, TELEOP, TRIALS, *TASKS)
    if file not in files:
        raise SettingsError(f'name a launch file first: {", ".join(files)}')
    values = {'task': file} if file in TASKS else {}
    if file == TELEOP:
        values['device'] = TELEOP_DEVICE
    for word in argv[1:]:
        name, separator, value = word.partition(':=')
        if not separator:
            raise SettingsError(f'{word!r} is not of the form name:=value')
        values[name] = value
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Starts the graph and stays until it has ended; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if {'-h', '--help', '-s', '--show-args'} & set(argv):
        sys.stdout.write(usage())
        return 0
    try:
        supervisor = Supervisor(graph_for(parse(argv)))
    except SettingsError as error:
        sys.stderr.write(f'flashwam launch: {error}\n')
        return 2
    for number in END_SIGNALS:
        name = signal.Signals(number).name
        signal.signal(number, lambda *_, name=name: supervisor.request_stop(name))
    return supervisor.run()


if __name__ == '__main__':
    sys.exit(main())
