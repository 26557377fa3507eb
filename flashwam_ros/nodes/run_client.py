# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam run`: start everything, run one rollout, say how it went, stop everything.

usage: flashwam run [name:=value ...]     (or --name value)
       flashwam rollout [name:=value ...] asks a graph that is running already; Ctrl-C cancels

Takes the arguments of `flashwam launch g1_task` and time_limit:=SECONDS, prompt:=TEXT.
Exit code: 0 after a valid rollout, success or failure; 1 otherwise; 2 for wrong arguments.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flashwam_ros.bringup.command import graph_for, usage
from flashwam_ros.bringup.graph import Graph
from flashwam_ros.bringup.pressure import ProcessorWait
from flashwam_ros.bringup.settings import Settings, SettingsError
from flashwam_ros.bringup.supervisor import Supervisor
from flashwam_ros.bringup.terminal import END_SIGNALS, Log, RunError, parse, say
from flashwam_ros.trials.check_result import Report

STOP_S = 60.0
VALID = ('success', 'failure')
_OWN = {'time_limit': '0', 'prompt': ''}


def describe(summary: Mapping, folder: str) -> str:
    """The summary of a rollout for people."""

    def ms(entry: Mapping, *keys: str) -> str:
        found = [f'{key} {1e3 * entry[key]:.1f} ms' for key in keys if entry.get(key) is not None]
        return ', '.join(found) or '-'

    stages = ', '.join(
        f'{name} {"yes" if reached else "no"}' for name, reached in summary['stages'].items()
    )
    factor = summary['real_time_factor']
    jump = summary['boundary_jump_rad']
    rows = [
        ('task', f'{summary["task"]} ("{summary["prompt"]}"), seed {summary["seed"]}'),
        ('policy', f'{summary["policy"]}, {summary["execution"]}'),
        ('verdict', summary['verdict'].upper() + (
            '' if summary['reason'] == summary['verdict'] else f': {summary["reason"]}')),
        ('stages', stages or '-'),
        ('time', f'{summary["elapsed_s"]:.1f} s of {summary["time_limit_s"]:.0f} s'),
        ('chunks', f'{summary["chunks"]}, {summary["late_chunks"]} late'),
        ('chunk latency', ms(summary['chunk_latency_s'], 'p50', 'p95', 'max')),
        ('slack', ms(summary['slack_s'], 'min', 'p50')),
        ('holds', f'{summary["hold_s"]:.2f} s between chunks'),
        ('tick lateness', ms(summary['tick_lateness_s'], 'p50', 'p99', 'max')),
        ('boundary jump', f'p95 {jump["p95"]:.4f} rad' if jump.get('n') else '-'),
        ('limited ticks', str(summary['limited_ticks'])),
        ('real-time factor', '-' if factor is None else f'{factor:.3f}' + _slowed(summary)),
        ('folder', folder),
    ]
    if summary.get('preflight') and not summary['preflight']['ok']:
        rows.append(('preflight', '\n' + Report.from_dict(summary['preflight']).table()))
    return '\n'.join(f'  {name:<17}{value}' for name, value in rows)


def _slowed(summary: Mapping) -> str:
    clock = summary['clock_factor']
    return '' if clock == 1.0 else f' by a clock slowed to {clock:g}; so are all times above'


def run_rollout(graph: Graph, settings: Settings, own: Mapping[str, str], log: Log):
    """Start the graph, send one goal, stop the graph.

    Returns:
        The result message of `run_rollout`.

    Raises:
        RunError: no result came.
    """
    supervisor = Supervisor(graph, log)

    def ended() -> str:
        return f'the processes have ended: {supervisor.reason}' if supervisor.wait(0.0) else ''

    client = _Client(graph, settings, own, ended)
    supervisor.start_in_background()
    try:
        return client.result()
    finally:
        say('stopping')
        supervisor.request_stop('the rollout is over')
        if not supervisor.wait(STOP_S):
            say(f'  some processes have not ended within {STOP_S:.0f} s')


class _Client:
    """One goal to `run_rollout`; SIGINT, SIGTERM and SIGHUP cancel it.

    Args:
        graph: the graph that answers (its environment decides whom this process can hear).
        settings: task, seed, execution and namespace.
        own: prompt and time limit.
        ended: says why the graph is gone, '' while it is not.
    """

    def __init__(
        self,
        graph: Graph,
        settings: Settings,
        own: Mapping[str, str],
        ended: Callable[[], str] = lambda: '',
    ):
        os.environ.update(dict(graph['rollout'].environment))
        self._settings = settings
        self._own = own
        self._ended = ended
        self._interrupted = threading.Event()
        for number in END_SIGNALS:
            signal.signal(number, lambda *_: self._interrupted.set())
        self._shown = ''
        self._wait: ProcessorWait | None = None

    def result(self):
        from flashwam_ros.action import RunRollout
        from flashwam_ros.nodes.rollout_client import RolloutClient

        client = RolloutClient(self._settings.namespace, self._check)
        try:
            goal = RunRollout.Goal(
                task=self._settings.task,
                prompt=self._own['prompt'],
                seed=self._settings.seed,
                time_limit=float(self._own['time_limit']),
                execution=self._settings.execution,
            )
            result = client.run(goal, self._show)
            if result.verdict not in VALID and self._wait and (advice := self._wait.advice()):
                say(advice)
            return result
        finally:
            client.close()

    def _check(self) -> None:
        if self._interrupted.is_set():
            raise RunError('interrupted')
        if reason := self._ended():
            raise RunError(reason)

    def _show(self, message) -> None:
        feedback = message.feedback
        line = feedback.stage
        if feedback.stage == 'running':
            self._wait = self._wait or ProcessorWait()
            line += f', chunk {feedback.chunk}' if feedback.chunk >= 0 else ', first chunk'
        if line != self._shown:
            self._shown = line
            say(f'{line}' + (f'   {feedback.elapsed:.1f} s' if feedback.elapsed else ''))


def main(argv: Sequence[str] | None = None) -> int:
    """`flashwam run`; returns the exit code."""

    def start_and_run(graph: Graph, settings: Settings, own: Mapping[str, str]):
        log = Log(Path(settings.output_dir) / 'last_run.log')
        say(f'{settings.task} with {settings.policy}, {settings.execution}; '
             f'all output: {log.path}')  # fmt: skip
        return run_rollout(graph, settings, own, log)

    return _program('run', argv, start_and_run)


def rollout_main(argv: Sequence[str] | None = None) -> int:
    """`flashwam rollout`; returns the exit code."""
    return _program(
        'rollout', argv, lambda graph, settings, own: _Client(graph, settings, own).result()
    )


def _program(verb: str, argv: Sequence[str] | None, act) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if {'-h', '--help'} & set(argv):
        sys.stdout.write(__doc__.split('\n', 2)[2] + '\n' + usage())
        return 0
    try:
        values = {'console': 'false', **parse(argv)}
        own = {name: values.pop(name, default) for name, default in _OWN.items()}
        if not own['time_limit'].replace('.', '', 1).isdigit():
            raise SettingsError(f'time_limit:={own["time_limit"]} is not a number of seconds')
        settings, graph = Settings.parse(values), graph_for(values)
    except SettingsError as error:
        sys.stderr.write(f'flashwam {verb}: {error}\n')
        return 2
    try:
        result = act(graph, settings, own)
    except RunError as error:
        hint = f'; see {settings.output_dir}/last_run.log' if verb == 'run' else ''
        sys.stderr.write(f'flashwam {verb}: {error}{hint}\n')
        code = 1
    else:
        say(describe(json.loads(result.summary_json), result.folder))
        code = 0 if result.verdict in VALID else 1
    from flashwam_ros.nodes.lifecycle import leave_at_exit

    leave_at_exit(code)
    return code


if __name__ == '__main__':
    sys.exit(main())
