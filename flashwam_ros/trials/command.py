# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam trials`: blind, randomised studies of several policies.

usage: flashwam trials compile STUDY        check and lock it; STUDY: a file, or a name under
                                            config/studies
       flashwam trials run STUDY [name:=value ...]    run it, or go on with it
       flashwam trials status STUDY         how far it is; nothing about any arm
       flashwam trials films STUDY          draw what `run ... film:=false` left for later
       flashwam trials report STUDY         the report; while blinded, only with --unblind

STUDY may also be the folder that `compile` made (default: studies/NAME). `run` starts the graph of
`flashwam launch` with these arguments and stops it at the end; after a kill of whatever process,
the same command goes on. --help after a verb tells its options.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from flashwam_ros.bringup.settings import STUDY_PORT
from flashwam_ros.bringup.terminal import say
from flashwam_ros.trials import journal as entries
from flashwam_ros.trials.compile import compile_study
from flashwam_ros.trials.compiled import STUDY, TASKS, CompiledStudy, open_compiled
from flashwam_ros.trials.fieldtrial_program import Server
from flashwam_ros.trials.journal import Journal, JournalError, read_journal
from flashwam_ros.trials.rehearsal import RehearsalRig
from flashwam_ros.trials.runner import Rig, StudyRunner
from flashwam_ros.trials.store import Store, StoreError
from flashwam_ros.trials.study import find_study, read_study

ROOT = Path('studies')
OTHER_RUNNER_S = 60.0
_ERRORS = (ValueError, JournalError, StoreError)


def run_parser(verb: str) -> argparse.ArgumentParser:
    """Options of `run` and `attend`."""
    parser = argparse.ArgumentParser(prog=f'flashwam trials {verb}')
    parser.add_argument('study', type=Path if verb == 'attend' else str)
    parser.add_argument('--task', action='append', default=[], help='only this one (repeatable)')
    parser.add_argument('--most', type=int, default=0, help='end after so many trials, 0: all')
    parser.add_argument('--port', type=int, default=STUDY_PORT,
                        help='of fieldtrial\'s console and API')
    parser.add_argument('--server', default='', help='a running `fieldtrial serve` of the '
                                                     'study\'s tasks/ instead of one of its own')
    parser.add_argument('--token', default='', help='of that server')
    if verb == 'run':
        parser.add_argument('--out', type=Path, default=ROOT, help='folder of compiled studies')
        parser.add_argument('--in-process', action='store_true',
                            help='rehearse on a simulated clock, without ROS')
    return parser


def compiled_from(text: str, root: Path) -> CompiledStudy:
    """A compiled study by its folder, or compiled now from a file or a name.

    Raises:
        StudyError: see `read_study` and `compile_study`.
    """
    if (Path(text) / STUDY).is_file():
        return open_compiled(Path(text).absolute())
    study = read_study(find_study(text))
    return compile_study(study, (root / study.name).absolute())


def guarded(verb: str, act: Callable[[], int]) -> int:
    """Run, and turn what can go wrong into a message and exit code 1."""
    try:
        return act()
    except _ERRORS as error:
        sys.stderr.write(f'flashwam trials {verb}: {error}\n')
        return 1


def run_trials(compiled: CompiledStudy, rig: Rig, options, stop: Callable[[], bool]) -> int:
    """Run trials until all are done or `stop()`; the exit code (0: nothing is left or asked for).

    Raises:
        JournalError, StoreError, StudyError: the study cannot go on; run again.
    """
    folder = compiled.folder
    with contextlib.ExitStack() as stack:
        journal = Journal(folder, OTHER_RUNNER_S)
        stack.callback(journal.close)
        url = options.server or stack.enter_context(Server(folder / TASKS, options.port)).url
        say(f'console: {url}')
        stores = {task: Store(url, task, options.token) for task in compiled.study.tasks}
        runner = StudyRunner(compiled, stores, rig, journal, say, stop)
        runner.run(options.task, options.most)
    say(progress(compiled))
    return 130 if stop() else 0


def rehearse(compiled: CompiledStudy, options) -> int:
    """`run --in-process`."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with contextlib.closing(RehearsalRig(compiled)) as rig:
        return run_trials(compiled, rig, options, stopped.is_set)


def progress(compiled: CompiledStudy) -> str:
    """How far a study is, from its journal alone; nothing about any arm."""
    study, done = compiled.study, read_journal(compiled.folder)
    per_task = len(study.arms) * study.rollouts
    lines = [f'{study.name}  {compiled.sha256[:12]}  {study.count} trials, {len(study.arms)} arms']
    # The last word on each: an operator may void what was recorded, or undo it.
    last = {entry['trial']: entry for entry in done
            if entry['kind'] in (entries.RECORDED, entries.VOIDED)}
    for task in study.tasks:
        kinds = [entry['kind'] for entry in last.values() if entry['task'] == task]
        lines.append(f'  {task:<13}{kinds.count(entries.RECORDED):>4} of {per_task} done, '
                     f'{kinds.count(entries.VOIDED)} void and repeated')
    return '\n'.join(lines)


def _compile(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog='flashwam trials compile')
    parser.add_argument('study')
    parser.add_argument('--out', type=Path, default=ROOT, help='folder of compiled studies')
    options = parser.parse_args(argv)

    def act() -> int:
        compiled = compiled_from(options.study, options.out)
        say(f'{compiled.folder}\n{progress(compiled)}')
        return 0

    return guarded('compile', act)


def _status(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog='flashwam trials status')
    parser.add_argument('study', type=Path, help='compiled folder')
    options = parser.parse_args(argv)

    def act() -> int:
        say(progress(open_compiled(options.study)))
        return 0

    return guarded('status', act)


def _films(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog='flashwam trials films')
    parser.add_argument('study', type=Path, help='compiled folder')
    options = parser.parse_args(argv)

    def act() -> int:
        from flashwam_ros.episodes.rollout_report import draw, undrawn

        left = undrawn(open_compiled(options.study.absolute()).folder / 'rollouts')
        failed = 0
        for count, folder in enumerate(left, 1):
            error = draw(folder)
            failed += bool(error)
            say(f'{count} of {len(left)}: {folder.name}{f": {error}" if error else ""}')
        say(f'{len(left) - failed} films; the next `flashwam trials run` attaches them')
        return 1 if failed else 0

    return guarded('films', act)


def _report(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog='flashwam trials report')
    parser.add_argument('study', type=Path, help='compiled folder')
    parser.add_argument('--unblind', action='store_true',
                        help='reveal the arms; fieldtrial logs it, and when')
    options = parser.parse_args(argv)

    def act() -> int:
        from flashwam_ros.trials.report import write_report

        path = write_report(open_compiled(options.study.absolute()), options.unblind)
        say(f'{path}\n{path.with_suffix(".md")}')
        return 0

    return guarded('report', act)


def main(argv: Sequence[str]) -> int:
    """The verbs that need no graph; returns the exit code."""
    verbs = {'compile': _compile, 'status': _status, 'films': _films, 'report': _report}
    verb = argv[0] if argv else ''
    if verb not in verbs:
        asked = verb in ('-h', '--help', 'help')
        (sys.stdout if asked else sys.stderr).write(__doc__)
        return 0 if asked else 2
    return verbs[verb](argv[1:])
