# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The first verdict of a rollout in the words of the study's store: stage and termination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashwam_ros.trials.validity import STOP_WORDS

_POLICY_WORDS = ('policy', 'no_first_chunk')
"""How a reason begins where an arm's model, its server or the policy node failed."""


@dataclass(frozen=True)
class Score:
    """Outcome of a trial.

    Attributes:
        stage: furthest stage reached, None for none.
        termination: a word of fieldtrial's.
        notes: the rollout's reason.
    """

    stage: str | None
    termination: str
    notes: str


def score(summary: Mapping[str, Any], stages: Sequence[str]) -> Score:
    """Score a rollout by the twin's predicate.

    A stage counts only with all stages before it, the last one only with the predicate itself.
    """
    reached = None
    for name in stages[:-1]:
        if not summary['stages'].get(name):
            break
        reached = name
    if summary['predicate']:
        return Score(stages[-1], 'success', summary['reason'])
    return Score(reached, _termination(summary), summary['reason'])


def _termination(summary: Mapping[str, Any]) -> str:
    reason = summary['reason']
    if reason.startswith('time_limit'):
        return 'timeout'
    if summary['verdict'] == 'invalid' and reason.startswith(STOP_WORDS):
        return 'operator_stop'
    if reason.startswith('tracking'):
        return 'safety_stop'
    if summary['verdict'] == 'invalid' and not reason.startswith(
            (*_POLICY_WORDS, 'real_time_factor')):
        return 'robot_fault'
    return 'other'


def void_reason(summary: Mapping[str, Any]) -> str:
    """Why this was no trial at all: the arms never moved for it, or the machine was stopped.

    Such a trial is voided and its slot run again; '' for a trial that counts, whatever came of it.
    An arm whose model fails to begin has failed: run again until it works, it would look better
    than it is. That is so from a green preflight on, which finds a server that was forgotten.
    """
    if summary['verdict'] != 'invalid' or summary['predicate']:
        return ''
    if summary['first_action_s'] is None and not _failed_to_begin(summary):
        return f'nothing moved: {summary["reason"]}'
    if summary['reason'].startswith('interrupted'):
        return summary['reason']
    return ''


def preflight_passed(summary: Mapping[str, Any]) -> bool:
    """Whether the preflight let it begin; a rig that has none says nothing of it."""
    if 'preflight' not in summary:
        return True
    return bool((summary['preflight'] or {}).get('ok'))


def _failed_to_begin(summary: Mapping[str, Any]) -> bool:
    return preflight_passed(summary) and summary['reason'].startswith(_POLICY_WORDS)
