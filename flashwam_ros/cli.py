# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam <verb>`: the rooms' programs under one command.

A verb is a name, the function that runs it and one line of help. The function is imported when the
verb is used, so that a verb needs only what its own room needs.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import flashwam_ros


@dataclass(frozen=True)
class Verb:
    """A program.

    Attributes:
        target: 'module:function' below flashwam_ros; the function takes the remaining words and
            returns an exit code.
        help: one line.
    """

    target: str
    help: str


VERBS: dict[str, Verb] = {
    'run': Verb('nodes.run_client:main', 'one rollout in the simulator, with video and summary'),
    'rollout': Verb('nodes.run_client:rollout_main', 'ask the running graph for one rollout'),
    'record': Verb('nodes.record_client:main', 'demonstrations by teleoperation, unattended'),
    'launch': Verb('bringup.command:main', 'start all processes of a task, without ros2 launch'),
    'trials': Verb('nodes.trials_client:main', 'blind studies: compile, run, status, report'),
    'preflight': Verb('nodes.preflight_client:main', 'may the robot move? asks the running graph'),
    'doctor': Verb('wire.doctor:main', 'why the robot\'s wire is silent'),
    'release': Verb('wire.release:main', 'ramp the authority over the arms down, now'),
    'episodes': Verb('episodes.command:main', 'list, show, check, label, recover recordings'),
    'replay': Verb('episodes.replay_command:replay_main',
                   'a recorded episode through its policy again: which chunk differs?'),
    'shadow': Verb('episodes.replay_command:shadow_main',
                   'a model beside a recorded episode: how far from what was executed?'),
    'twin': Verb('twin.server:main', 'the simulated robot alone, on the robot\'s own wire'),
    'demos': Verb('training.demonstrations:main', 'write demonstrations of the scripted experts'),
    'check-dataset': Verb('training.validation:main', 'what is wrong with a LeRobot dataset'),
    'extract-latents': Verb('training.extract_latents:main', 'latents of a LeRobot dataset'),
    'export': Verb('episodes.export_command:main', 'LeRobot dataset of recorded episodes'),
    'import': Verb('episodes.import_demonstrations:main',
                   'demonstrations from LeRobot datasets or raw XR teleoperation'),
    'train-codec': Verb('training.codec_trainer:main', 'train the small video codec'),
    'train-teacher': Verb('training.teacher:main', 'train a world-action model'),
    'distill': Verb('training.distill:main', 'make a student of few steps out of a teacher'),
    'evaluate': Verb('training.evaluate:main', 'success of a policy in the simulator, in process'),
    'serve': Verb('bringup.serve:main', 'a model for a robot on another machine'),
    'table': Verb('training.table:main', 'every policy of a plan: run, intervals, tests, plots'),
    'promote': Verb('training.promote:main', 'check a student and mark it as deployable'),
}


def usage() -> str:
    """The help text."""
    width = max(map(len, VERBS))
    rows = (f'  {name:<{width}}  {verb.help}' for name, verb in VERBS.items())
    return '\n'.join([
        'usage: flashwam <verb> [options]    (flashwam <verb> --help for its options)', '',
        f'{flashwam_ros.__doc__}', '', 'verbs:', *rows, '',
    ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns its exit code, 2 for an unknown verb or a missing package."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ('-h', '--help', 'help'):
        sys.stdout.write(usage())
        return 0 if argv else 2
    name, rest = argv[0], argv[1:]
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=1)
        hint = f' Did you mean {near[0]!r}?' if near else ''
        sys.stderr.write(f'flashwam: unknown verb {name!r}.{hint}\n\n{usage()}')
        return 2
    module_name, function = VERBS[name].target.split(':')
    try:
        module = importlib.import_module(f'flashwam_ros.{module_name}')
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f'flashwam {name}: Python module {error.name!r} is missing. In a checkout, run '
            '`make setup` and `source tools/env.sh`; with pip, install the extras: '
            "pip install '.[wam,twin,wire]'.\n"
        )
        return 2
    return int(getattr(module, function)(rest) or 0)


if __name__ == '__main__':
    sys.exit(main())
