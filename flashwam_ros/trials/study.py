# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A study as its author writes it: arms, tasks, scenes, margins, all stated beforehand."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashwam_ros.policy.handshake import is_server
from flashwam_ros.policy.loop import LOOKAHEAD
from flashwam_ros.resources import share_path
from flashwam_ros.training.results import SAMPLERS, parse_steps
from flashwam_ros.training.seeds import seeds
from flashwam_ros.twin.tasks import TASKS

PREDICATE, OPERATOR = 'predicate', 'operator'
SCORES = (PREDICATE, OPERATOR)
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,40}')


class StudyError(ValueError):
    """A study that cannot be read, compiled or run; the message says what and what to do."""


@dataclass(frozen=True)
class Arm:
    """One thing that is compared.

    Attributes:
        id: name in the report; nobody at the robot sees it before the study is unblinded.
        checkpoint: folder, or a name under models/; '' for the expert and for a server.
        steps: like '3v/10a'; '' for the expert and for a server.
        sampler: 'own', or 'euler' where that replaces what the checkpoint stores.
        execution: 'sync', 'async' or 'async_grounded'.
        policy: 'wam' or 'expert'.
        server: address of a policy server (`ws://host:port`), which decides checkpoint, steps and
            sampler itself.
    """

    id: str
    checkpoint: str = ''
    steps: str = ''
    sampler: str = 'own'
    execution: str = 'async'
    policy: str = 'wam'
    server: str = ''

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if not _NAME.fullmatch(self.id):
            raise StudyError(f'arm {self.id!r}: a name has letters, digits, _ . -, at most 41')
        if self.server and not is_server(self.server):
            raise StudyError(f'arm {self.id}: server {self.server!r}: write ws://host:port')
        if self.server and (self.checkpoint or self.steps or self.sampler != 'own'):
            raise StudyError(f'arm {self.id}: checkpoint, steps and sampler are the server\'s: '
                             'give them to flashwam serve, and here its address alone')
        if self.policy not in ('wam', 'expert'):
            raise StudyError(f'arm {self.id}: policy {self.policy!r} is not wam or expert')
        if self.execution not in LOOKAHEAD:
            raise StudyError(f'arm {self.id}: execution {self.execution!r} is not one of '
                             f'{", ".join(LOOKAHEAD)}')
        if self.sampler not in SAMPLERS:
            raise StudyError(f'arm {self.id}: sampler {self.sampler!r} is not one of '
                             f'{", ".join(SAMPLERS)}')
        if (self.policy == 'wam') != bool(self.checkpoint or self.server):
            raise StudyError(f'arm {self.id}: give a checkpoint or a server to a wam, none to the '
                             'expert')
        if self.checkpoint:
            try:
                parse_steps(self.steps)
            except ValueError as error:
                raise StudyError(f'arm {self.id}: {error}') from None

    @property
    def step_counts(self) -> tuple[int, int]:
        """Denoising steps of video and action, (0, 0) for the expert and for a server."""
        return parse_steps(self.steps) if self.steps else (0, 0)


@dataclass(frozen=True)
class Validity:
    """From when on a rollout says nothing about a deployment; see `validity.deployment`.

    Attributes:
        late_chunks: how many may come after the end of the one before (not with sync).
        hold_s: how long the arms may have waited between chunks (not with sync), s.
        arm_limited_share: share of control ticks in which the limiter may have changed the command
            of an arm joint. Grippers do not count: a jaw closes at its limit of speed.
        real_time_factor: lowest of the twin.
    """

    late_chunks: int = 0
    hold_s: float = 0.1
    arm_limited_share: float = 0.25
    real_time_factor: float = 0.98


@dataclass(frozen=True)
class NonInferiority:
    """Which arms shall be shown to lose less than ``margin`` of success, one-sided ``alpha``."""

    arms: tuple[str, ...]
    margin: float
    alpha: float = 0.05


@dataclass(frozen=True)
class Study:
    """The whole file.

    Attributes:
        name: of the study, and of its folder.
        title: for the report.
        score: 'predicate' (the twin's own check) or 'operator' (a person, blind).
        seed: of the order of trials and of the blind codes.
        rollouts: per arm and task.
        scenes: 'split' and 'first': which scenes; every arm gets each of them once.
        tasks: task -> stages in order, id -> label; the last one is success.
        arms: at least two.
        reference: the arm that margins and the primary comparison refer to.
        non_inferiority: see there; its first arm is the primary comparison.
        validity: limits of a deployment-valid rollout.
        time_limits_s: task -> limit where it is not the task's own.
    """

    name: str
    title: str
    score: str
    seed: int
    rollouts: int
    scenes: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, str]]
    arms: tuple[Arm, ...]
    reference: str
    non_inferiority: NonInferiority
    validity: Validity = Validity()
    time_limits_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        _check(self)

    def arm(self, name: str) -> Arm:
        """The arm of this id; StudyError where there is none."""
        for arm in self.arms:
            if arm.id == name:
                return arm
        raise StudyError(f'there is no arm {name!r}: {", ".join(arm.id for arm in self.arms)}')

    def task_seeds(self, task: str) -> list[int]:
        """The scenes of a task."""
        return seeds(self.scenes['split'], task, self.rollouts, int(self.scenes['first']))

    def time_limit_s(self, task: str) -> float:
        """Of one rollout, s."""
        return float(self.time_limits_s.get(task, TASKS[task].time_limit_s))

    @property
    def count(self) -> int:
        """Trials of the whole study."""
        return len(self.tasks) * len(self.arms) * self.rollouts

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the order of stages kept (JSON objects have none)."""
        values = dataclasses.asdict(self)
        values['tasks'] = {task: [[name, label] for name, label in stages.items()]
                           for task, stages in self.tasks.items()}
        return json.loads(json.dumps(values))


def study_from(values: Mapping[str, Any]) -> Study:
    """A study from the plain data of a file, or of `Study.to_dict`.

    Raises:
        StudyError: something is missing, unknown or impossible.
    """
    try:
        values = dict(values)
        values['arms'] = tuple(Arm(**arm) for arm in values['arms'])
        inferiority = dict(values['non_inferiority'])
        inferiority['arms'] = tuple(inferiority['arms'])
        values['non_inferiority'] = NonInferiority(**inferiority)
        values['validity'] = Validity(**(values.get('validity') or {}))
        values['tasks'] = {task: dict(stages) for task, stages in values['tasks'].items()}
        return Study(**values)
    except KeyError as error:
        raise StudyError(f'{error} is missing') from None
    except (TypeError, AttributeError) as error:
        raise StudyError(str(error)) from None


def find_study(text: str) -> Path:
    """File of a study given by path, or by name under config/studies/.

    Raises:
        StudyError: there is none.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    try:
        return share_path('config', 'studies', f'{text.removesuffix(".yaml")}.yaml')
    except FileNotFoundError:
        raise StudyError(f'{text!r} is neither a file nor a study under config/studies') from None


def read_study(path: Path) -> Study:
    """Read a study from YAML.

    Raises:
        StudyError: see `study_from`; the message names the file.
    """
    import yaml

    try:
        return study_from(yaml.safe_load(path.read_text(encoding='utf-8')))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise StudyError(f'{path}: {error}') from error


def sha256_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain data as canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def _check(study: Study) -> None:
    if not _NAME.fullmatch(study.name):
        raise StudyError(f'name {study.name!r}: letters, digits, _ . -, at most 41')
    if study.score not in SCORES:
        raise StudyError(f'score {study.score!r} is not one of {", ".join(SCORES)}')
    ids = [arm.id for arm in study.arms]
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise StudyError(f'arms {ids}: at least two, each with its own id')
    if len({arm.policy for arm in study.arms}) > 1:
        raise StudyError('arms: the expert has no model to be compared with: all or none')
    compared = study.non_inferiority
    for name in (study.reference, *compared.arms):
        study.arm(name)
    if not compared.arms or study.reference in compared.arms:
        raise StudyError('non_inferiority: name at least one arm, not the reference itself')
    if not 0 < compared.margin < 1 or not 0 < compared.alpha < 0.5:
        raise StudyError('non_inferiority: margin in (0, 1), alpha in (0, 0.5)')
    if study.rollouts < 1 or not study.tasks:
        raise StudyError('at least one task and one rollout')
    for task, stages in study.tasks.items():
        _check_task(study, task, stages)


def _check_task(study: Study, task: str, stages: Mapping[str, str]) -> None:
    if task not in TASKS:
        raise StudyError(f'task {task!r} is not one of {", ".join(TASKS)}')
    if study.score == PREDICATE and tuple(stages) != TASKS[task].stages:
        raise StudyError(f'{task}: the twin scores the stages {", ".join(TASKS[task].stages)}, in '
                         f'this order; the file has {", ".join(stages)}')
    if len(stages) < 1:
        raise StudyError(f'{task}: name its stages; the last one is success')
    try:
        study.task_seeds(task)
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f'scenes {dict(study.scenes)}: {error}') from None
