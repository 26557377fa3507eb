# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All that the report says, as plain data: from the store's outcomes and the runner's journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flashwam_ros.training.statistics import Pairs, holm, mcnemar, non_inferiority, wilson
from flashwam_ros.trials import power
from flashwam_ros.trials.study import Study
from flashwam_ros.trials.validity import REASONS, TICK_HZ

ALL = 'all tasks'


@dataclass(frozen=True)
class Trial:
    """One trial that counts.

    Attributes:
        task: name of the task.
        arm: its id.
        seed: of the scene.
        stage: index of the furthest stage, -1 for none.
        success: whether the last stage was reached.
        duration_s: from the first row to the end.
        termination: why it ended, in fieldtrial's words.
        notes: the rollout's reason, or the operator's note.
        not_deployment: reason -> measured; {} for a deployment-valid rollout.
        summary: of the rollout.
    """

    task: str
    arm: str
    seed: int
    stage: int
    success: bool
    duration_s: float
    termination: str
    notes: str
    not_deployment: Mapping[str, str]
    summary: Mapping[str, Any]

    @property
    def valid(self) -> bool:
        """Deployment-valid."""
        return not self.not_deployment


def figures(study: Study, trials: Sequence[Trial], voids: Sequence[Mapping[str, Any]]) -> dict:
    """All figures of a report.

    Args:
        study: as stated.
        trials: those that count.
        voids: task, arm and reason of those that do not.
    """
    groups = [*study.tasks, ALL] if len(study.tasks) > 1 else list(study.tasks)
    cells = {
        group: {arm.id: _cell(study, group, _of(trials, group, arm.id)) for arm in study.arms}
        for group in groups
    }
    return {
        'name': study.name, 'title': study.title, 'score': study.score,
        'arms': [asdict(arm) for arm in study.arms], 'reference': study.reference,
        'tasks': {task: dict(stages) for task, stages in study.tasks.items()},
        'planned': study.count, 'done': len(trials), 'groups': groups, 'cells': cells,
        'validity_limits': asdict(study.validity),
        'clock_factors': sorted({trial.summary.get('clock_factor', 1.0) for trial in trials}),
        'void': [dict(void) for void in voids],
        'tests': _tests(study, trials),
        'non_inferiority': [_inferiority(study, trials, arm, valid)
                            for arm in study.non_inferiority.arms for valid in (False, True)],
        'power': _power(study, trials),
    }  # fmt: skip


def _of(trials: Iterable[Trial], group: str, arm: str) -> list[Trial]:
    return [trial for trial in trials if trial.arm == arm and group in (trial.task, ALL)]


def _share(trials: Sequence[Trial]) -> dict[str, Any]:
    success = sum(trial.success for trial in trials)
    return {'n': len(trials), 'success': success, 'interval': wilson(success, len(trials))}


def _cell(study: Study, group: str, trials: Sequence[Trial]) -> dict[str, Any]:
    reasons = Counter(name for trial in trials for name in trial.not_deployment)
    return {
        **_share(trials),
        'valid': _share([trial for trial in trials if trial.valid]),
        'reasons': {name: reasons[name] for name in REASONS if reasons[name]},
        'stages': {} if group == ALL else {
            name: sum(trial.stage >= index for trial in trials)
            for index, name in enumerate(study.tasks[group])
        },
        'success_times_s': sorted(round(t.duration_s, 2) for t in trials if t.success),
        **_timing(trials),
        'limited_share': _limited(trials, 'limited_ticks'),
        'arm_limited_share': _limited(trials, 'arm_limited_ticks'),
    }  # fmt: skip


def _timing(trials: Sequence[Trial]) -> dict[str, Any]:
    """Latency and slack over all rollouts: medians of their medians, and their worst."""

    def values(entry: str, key: str) -> list[float]:
        found = (trial.summary.get(entry, {}).get(key) for trial in trials)
        return [value for value in found if value is not None]

    def of(function, numbers: list[float]) -> float | None:
        return float(function(numbers)) if numbers else None

    return {
        'latency_s': {'p50': of(np.median, values('chunk_latency_s', 'p50')),
                      'p95': of(np.median, values('chunk_latency_s', 'p95')),
                      'max': of(max, values('chunk_latency_s', 'max'))},
        'slack_s': {'p50': of(np.median, values('slack_s', 'p50')),
                    'min': of(min, values('slack_s', 'min'))},
        'late_chunks': sum(trial.summary.get('late_chunks', 0) for trial in trials),
        'chunks': sum(trial.summary.get('chunks', 0) for trial in trials),
        'hold_s': round(sum(trial.summary.get('hold_s', 0.0) for trial in trials), 3),
        'first_action_s': of(np.median, [t.summary['first_action_s'] for t in trials
                                         if t.summary.get('first_action_s') is not None]),
    }  # fmt: skip


def _limited(trials: Sequence[Trial], which: str) -> float | None:
    """Share of all control ticks in which the limiter was at work; None without any."""
    ticks = TICK_HZ * sum(trial.summary.get('executed_s', 0.0) for trial in trials)
    return sum(trial.summary.get(which, 0) for trial in trials) / ticks if ticks else None


# -- comparisons ----------------------------------------------------------------------------------


def _strata(study: Study, trials: Sequence[Trial], first: str, second: str,
            valid: bool = False) -> list[Pairs]:
    """Outcomes of two arms on the same scenes, task by task."""
    at = {(t.task, t.arm, t.seed): t for t in trials if t.valid or not valid}
    strata = []
    for task in study.tasks:
        pairs = [(at.get((task, first, seed)), at.get((task, second, seed)))
                 for seed in study.task_seeds(task)]
        strata.append(Pairs.of((a.success, b.success) for a, b in pairs if a and b))
    return strata


def _total(strata: Sequence[Pairs]) -> Pairs:
    return Pairs(*(sum(getattr(pairs, name) for pairs in strata)
                   for name in ('both', 'first', 'second', 'neither')))


def _tests(study: Study, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Every arm against the reference on the same scenes, adjusted over this family."""
    found = []
    for arm in study.arms:
        pairs = _total(_strata(study, trials, arm.id, study.reference))
        if arm.id != study.reference and pairs.count:
            found.append({'arm': arm.id, **asdict(pairs), 'n': pairs.count, 'p': mcnemar(pairs)})
    for test, adjusted in zip(found, holm([test['p'] for test in found]), strict=True):
        test['p_holm'] = adjusted
    return found


def _inferiority(study: Study, trials: Sequence[Trial], arm: str, valid: bool) -> dict[str, Any]:
    stated = study.non_inferiority
    strata = _strata(study, trials, arm, study.reference, valid)
    head = {'arm': arm, 'reference': study.reference, 'valid_only': valid,
            'margin': stated.margin, 'alpha': stated.alpha}  # fmt: skip
    if not sum(pairs.count for pairs in strata):
        return {**head, 'count': 0}
    return {**head, **asdict(non_inferiority(strata, stated.margin, stated.alpha))}


def _power(study: Study, trials: Sequence[Trial]) -> dict[str, Any]:
    """For the plan's n, and as many discordant scenes as were seen (at least one)."""
    stated, n = study.non_inferiority, len(study.tasks) * study.rollouts
    rows = []
    for arm in stated.arms:
        pairs = _total(_strata(study, trials, arm, study.reference))
        seen = (pairs.first + pairs.second) / pairs.count if pairs.count else 0.5
        discordant = max(seen, 1 / n)
        rows.append({
            'arm': arm, 'discordant': discordant,
            'shown_if_equal': power.shown_share(n, discordant, stated.margin, stated.alpha),
            'smallest_margin': power.smallest_margin(n, discordant, stated.alpha),
            'smallest_difference': power.smallest_difference(n, discordant),
            'smallest_difference_per_task':
                power.smallest_difference(study.rollouts, discordant),
        })  # fmt: skip
    return {'n': n, 'per_task': study.rollouts, 'rows': rows,
            'fewest_discordant': power.fewest_discordant()}
