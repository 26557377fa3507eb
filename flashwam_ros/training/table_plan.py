# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a table compares, read from YAML: rows, seeds, margins and pairs, stated beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flashwam_ros.resources import share_path
from flashwam_ros.training.command import cache_folder
from flashwam_ros.training.results import SAMPLERS, parse_steps
from flashwam_ros.training.seeds import TASKS


@dataclass(frozen=True)
class RowPlan:
    """One checkpoint with one number of steps and one sampler."""

    name: str
    checkpoint: str
    steps: str
    sampler: str = 'own'

    @property
    def id(self) -> str:
        """'<checkpoint> <steps>', with ' euler' for the override."""
        return f'{self.checkpoint} {self.steps}' + (' euler' if self.sampler == 'euler' else '')


@dataclass(frozen=True)
class SectionPlan:
    """Rows on the same seeds. ``seeds``: task -> number; ``compare``: pairs of row ids."""

    name: str
    seeds: Mapping[str, int]
    rows: tuple[RowPlan, ...]
    compare: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Gate:
    """What `flashwam promote` asks for; see config/evaluation/table.yaml."""

    pairs_per_task: int
    parity: float
    latency_share: float
    latency_chunks: int


@dataclass(frozen=True)
class Plan:
    """The whole file.

    Attributes:
        sha256: of the file.
        split: seed split.
        execution: execution mode of every row.
        latency_s: emulated latency, s.
        alpha: one-sided level of the non-inferiority test.
        margins: steps -> share of success that a student may lose.
        reference: the row that margins refer to.
        sections: in order.
        gate: of ``flashwam promote``.
        published: rows printed beside ours: source, and (method, steps, T1, T2, T3 in %).
    """

    sha256: str
    split: str
    execution: str
    latency_s: float
    alpha: float
    margins: Mapping[str, float]
    reference: RowPlan
    sections: tuple[SectionPlan, ...]
    gate: Gate
    published: Mapping


def read_plan(path: Path | None = None) -> Plan:
    """Read a plan (default: the installed config/evaluation/table.yaml).

    Raises:
        ValueError: something is missing, unknown or named twice; the message says what.
    """
    import yaml

    path = path or share_path('config', 'evaluation', 'table.yaml')
    text = path.read_bytes()
    values = yaml.safe_load(text)
    try:
        plan = Plan(
            sha256=hashlib.sha256(text).hexdigest(), split=values['split'],
            execution=values['execution'], latency_s=float(values['latency_s']),
            alpha=float(values['alpha']),
            margins={_steps(steps): float(m) for steps, m in values['margins'].items()},
            reference=RowPlan('reference', **values['reference']),
            sections=tuple(_section(section) for section in values['sections']),
            gate=Gate(**values['promote']), published=values.get('published') or {})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: {type(error).__name__}: {error}') from error
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    return plan


def _steps(text: str) -> str:
    video, action = parse_steps(text)
    return f'{video}v/{action}a'


def _section(values: Mapping) -> SectionPlan:
    name = values['name']
    unknown = set(values['seeds']) - set(TASKS)
    if unknown:
        raise ValueError(f'section {name}: unknown tasks {sorted(unknown)}: {list(TASKS)}')
    rows = [row for entry in values['rows'] for row in _rows(entry)]
    ids = [row.id for row in rows]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise ValueError(f'section {name}: rows {twice} come twice')
    compare = tuple((first, second) for first, second in values.get('compare') or [])
    missing = sorted({one for pair in compare for one in pair} - set(ids))
    if missing:
        raise ValueError(f'section {name}: compared rows {missing} are no rows of it')
    return SectionPlan(name, dict(values['seeds']), tuple(rows), compare)


def _rows(entry: Mapping) -> list[RowPlan]:
    unknown = set(entry) - {'name', 'checkpoint', 'checkpoints', 'steps', 'samplers'}
    if unknown:
        raise ValueError(f'row {entry.get("name")}: unknown keys {sorted(unknown)}')
    checkpoints = entry.get('checkpoints') or [entry['checkpoint']]
    samplers = entry.get('samplers') or ['own']
    if set(samplers) - set(SAMPLERS):
        raise ValueError(f'row {entry["name"]}: samplers {samplers}: only {list(SAMPLERS)}')
    return [RowPlan(entry['name'], checkpoint, _steps(steps), sampler)
            for checkpoint in checkpoints for steps in entry['steps'] for sampler in samplers]


def find_checkpoint(name: str) -> Path | None:
    """Folder of a checkpoint by name or path; None where there is none.

    A name is looked for in models/, then in the places where training exports to.
    """
    places = (Path(name).expanduser(), share_path('models') / name,
              cache_folder('distill', name, 'export'), cache_folder(name, 'export'))
    return next((place for place in places if (place / 'flashwam.json').is_file()), None)
