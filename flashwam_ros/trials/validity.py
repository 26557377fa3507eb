# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The second verdict of a rollout: was it run as a deployment would be? From measured data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashwam_ros.trials.study import Validity

TICK_HZ = 250.0
LATE, STALE, LIMIT, HOLD = 'late_chunk', 'stale_camera', 'limit_saturated', 'hold'
STOPPED, SLOW, FAULT = 'operator_stop', 'real_time_factor', 'fault'
REASONS = (LATE, STALE, LIMIT, HOLD, STOPPED, SLOW, FAULT)
_CAMERA_WORDS = ('StreamError', 'no key frame from camera', 'is stale')
CANCELLED = 'cancelled'
"""How a reason begins where the runner took its goal back, for Stop in the console too."""
STOP_WORDS = (CANCELLED, 'interrupted', 'stop', 'remote_stop')
"""How a reason begins where somebody ended the rollout."""


def deployment(summary: Mapping[str, Any], limits: Validity,
               cancelled_is_regular: bool = False) -> dict[str, str]:
    """Why a rollout is not deployment-valid: reason of `REASONS` -> measured; {} if it is.

    A rollout of `sync` holds between chunks by design, so lateness and holds are not judged there.

    Args:
        summary: of the rollout, see `rollout_log.summarise`.
        limits: of the study.
        cancelled_is_regular: an operator scores, and has ended the trial as every trial is ended.
    """
    found: dict[str, str] = {}
    if summary['execution'] != 'sync':
        late = summary['late_chunks']
        if late > limits.late_chunks:
            worst = summary['slack_s'].get('min')
            found[LATE] = f'{late}' + ('' if worst is None else f', worst {1e3 * worst:.0f} ms')
        if summary['hold_s'] > limits.hold_s:
            found[HOLD] = f'{summary["hold_s"]:.2f} s between chunks > {limits.hold_s:g} s'
    ticks = summary['executed_s'] * TICK_HZ
    share = summary['arm_limited_ticks'] / ticks if ticks else 0.0
    if share > limits.arm_limited_share:
        found[LIMIT] = f'{100 * share:.1f} % of ticks > {100 * limits.arm_limited_share:g} %'
    factor = summary['real_time_factor']
    if factor is not None and factor < limits.real_time_factor:
        found[SLOW] = f'{factor:.3f} < {limits.real_time_factor:g}'
    pressed = [text for text in summary.get('events', ()) if text.startswith('stop: ')]
    if pressed:
        found[STOPPED] = pressed[0]
    if not (cancelled_is_regular and summary['reason'].startswith(CANCELLED)):
        found.update(_from_reason(summary))
    return found


def _from_reason(summary: Mapping[str, Any]) -> dict[str, str]:
    """What ended it, where that was not the policy doing or failing its task."""
    if summary['verdict'] != 'invalid':
        return {}
    reason = summary['reason']
    if any(word in reason for word in _CAMERA_WORDS):
        return {STALE: reason}
    if reason.startswith(STOP_WORDS):
        return {STOPPED: reason}
    if reason.startswith('real_time_factor'):
        return {}
    return {FAULT: reason}
