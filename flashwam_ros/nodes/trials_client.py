# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam trials run`: the trials of a study on a running graph, or with a graph of its own."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flashwam_ros.bringup.command import graph_for
from flashwam_ros.bringup.graph import TRIALS
from flashwam_ros.bringup.settings import SettingsError
from flashwam_ros.bringup.supervisor import Supervisor
from flashwam_ros.bringup.terminal import END_SIGNALS, Log, RunError, say
from flashwam_ros.trials import command
from flashwam_ros.trials.compiled import CompiledStudy, open_compiled
from flashwam_ros.trials.rehearsal import find_summary
from flashwam_ros.trials.runner import TrialRequest
from flashwam_ros.trials.study import StudyError

_LOG = 'graph.log'


class GraphRig:
    """Rollouts of a running graph.

    Args:
        folder: of the rollouts, as the graph has it.
        namespace: of the graph.
    """

    def __init__(self, folder: Path, namespace: str):
        from flashwam_ros.nodes.rollout_client import RolloutClient

        self._folder = folder
        self._client = RolloutClient(namespace)

    def close(self) -> None:
        """Leave the graph."""
        self._client.close()

    def run(self, request: TrialRequest, stop: Callable[[], bool]) -> Mapping[str, Any]:
        """One goal; the operator's Start in the console has declared the scene ready."""
        from flashwam_ros.action import RunRollout

        goal = RunRollout.Goal(
            task=request.task, prompt=request.prompt, seed=request.seed,
            time_limit=request.time_limit_s, execution=request.execution,
            arm=request.arm, trial=request.trial,
        )  # fmt: skip

        def on_feedback(message) -> None:
            if message.feedback.stage == 'resetting':
                self._client.declare_ready()

        try:
            result = self._client.run(goal, on_feedback, stop)
        except RunError as error:
            raise StudyError(f'{error}; run again to go on') from error
        return {**json.loads(result.summary_json), 'folder': result.folder}

    def recover(self, trial: str) -> Mapping[str, Any] | None:
        """A rollout goes on when its runner is killed: wait for it, then look for its summary."""
        found = find_summary(self._folder, trial)
        if found is None:
            try:
                self._client.wait_until_idle()
            except RunError as error:
                raise StudyError(f'{error}; run again to go on') from error
            found = find_summary(self._folder, trial)
        return found


def attend(argv: Sequence[str]) -> int:
    """`flashwam trials attend`: the runner as a process of the graph; returns the exit code."""
    parser = command.run_parser('attend')
    parser.add_argument('--namespace', default='', help='of the graph')
    options = parser.parse_args(argv)
    stopped = threading.Event()
    for number in END_SIGNALS:
        signal.signal(number, lambda *_: stopped.set())

    def act() -> int:
        compiled = open_compiled(options.study)
        rig = GraphRig(compiled.folder / 'rollouts', options.namespace)
        try:
            return command.run_trials(compiled, rig, options, stopped.is_set)
        finally:
            rig.close()

    code = command.guarded('attend', act)
    from flashwam_ros.nodes.lifecycle import leave_at_exit

    leave_at_exit(code)
    return code


def run(argv: Sequence[str]) -> int:
    """`flashwam trials run`: compile if need be, start a graph, run, stop; the exit code."""
    words = [word for word in argv if ':=' in word]
    options = command.run_parser('run').parse_args([w for w in argv if ':=' not in w])

    def act() -> int:
        compiled = command.compiled_from(options.study, options.out)
        if options.in_process:
            return command.rehearse(compiled, options)
        values = dict(word.split(':=', 1) for word in words)
        values = {**values, 'study': str(compiled.folder), **_study_words(options)}
        return _supervise(compiled, values)

    try:
        return command.guarded('run', act)
    except SettingsError as error:
        sys.stderr.write(f'flashwam trials run: {error}\n')
        return 2


def _study_words(options) -> dict[str, str]:
    words = [f'--port={options.port}', f'--most={options.most}']
    words += [f'--task={task}' for task in options.task]
    words += [f'--server={options.server}', f'--token={options.token}'] if options.server else []
    return {'study_options': ' '.join(words)}


def _supervise(compiled: CompiledStudy, values: Mapping[str, str]) -> int:
    """Run the graph until the runner in it has ended; its exit code."""
    graph, log = graph_for(dict(values)), Log(compiled.folder / _LOG)

    def sink(name: str, line: str) -> None:
        log(name, line)
        if name == TRIALS:
            say(line)

    supervisor = Supervisor(graph, sink)
    for number in END_SIGNALS:
        name = signal.Signals(number).name
        signal.signal(number, lambda *_, name=name: supervisor.request_stop(name))
    say(f'everything the graph says: {log.path}')
    begun = time.monotonic()
    supervisor.run()
    say(f'{(time.monotonic() - begun) / 60:.1f} min; flashwam trials status {compiled.folder}')
    return supervisor.exit_codes.get(TRIALS, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """`flashwam trials`; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    verb = argv[0] if argv else ''
    if verb == 'run':
        return run(argv[1:])
    if verb == 'attend':
        return attend(argv[1:])
    return command.main(argv)


if __name__ == '__main__':
    sys.exit(main())
