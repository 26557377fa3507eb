# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is collected during a rollout, and the numbers that it comes to."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flashwam_ros.robot.chunk import AppliedChunk

REAL_TIME_FACTOR_MIN = 0.98
"""Below this the twin was not a real-time robot, and the rollout proves nothing."""
VERDICTS = ('success', 'failure', 'invalid')
POLICY_FAULTS = ('tracking',)


@dataclass(frozen=True)
class RolloutSetting:
    """What was run; `arm` (by blind code) and `trial` only for a trial of a study.

    All times of a rollout are by the robot's clock, which ran `clock_factor` times as fast as the
    machine's (`robot.clock`): below 1, latencies are those of a machine so much faster.
    """

    task: str
    prompt: str
    seed: int
    policy: str
    execution: str
    robot: str
    session: str
    time_limit_s: float
    arm: str = ''
    trial: str = ''
    clock_factor: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes:
        verdict: 'success', 'failure' or 'invalid' (it says nothing about the policy).
        reason: named reason.
        stages: stage name -> reached.
        elapsed_s: time from the first executed row to the end, s.
    """

    verdict: str
    reason: str
    stages: Mapping[str, bool]
    elapsed_s: float

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.verdict == 'success'

    def __str__(self) -> str:
        """For people: a success has no other reason than itself."""
        return self.verdict if self.reason == self.verdict else f'{self.verdict}: {self.reason}'


@dataclass
class RolloutLog:
    """Everything that a report is made of; all stamps are ROS time in ns.

    Attributes:
        setting: what was run.
        lock: held by whoever appends or reads.
        measured: (stamp, (C,) rad) at about 50 Hz.
        commanded: (stamp, (C,) rad, weight) at about 50 Hz.
        starts: accounts of chunks at their start.
        accounts: accounts of completed chunks.
        latencies: latency split (s) of each predicted chunk.
        events: (stamp, text).
        lateness_s: (p50, p99, max) tick lateness as last reported by the driver, s.
        tracking_rad: largest |commanded - measured| reported at full weight.
        frames: camera key -> [(stamp, JPEG)].
        sim: (stamp, positions of the simulated world) at about 10 Hz, twin only.
        sim_seed: seed of the simulated scene.
        real_time_factor: of the episode, None without a twin.
        activated_ns: when the session began.
        ended_ns: when the verdict was known.
    """

    setting: RolloutSetting
    lock: threading.Lock = field(default_factory=threading.Lock)
    measured: list[tuple[int, np.ndarray]] = field(default_factory=list)
    commanded: list[tuple[int, np.ndarray, float]] = field(default_factory=list)
    starts: list[AppliedChunk] = field(default_factory=list)
    accounts: list[AppliedChunk] = field(default_factory=list)
    latencies: list[Mapping[str, float]] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)
    lateness_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tracking_rad: float = 0.0
    frames: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    sim: list[tuple[int, np.ndarray]] = field(default_factory=list)
    real_time_factor: float | None = None
    activated_ns: int = 0
    ended_ns: int = 0


def judge(
    success: bool,
    failure: str | None,
    fault: str,
    real_time_factor: float | None,
) -> tuple[str, str]:
    """Verdict and named reason of a rollout.

    A fault of the system makes it invalid: it says nothing about the policy. The exception is an
    arm
    that was pushed away from its command, which is what a bad policy does.

    Args:
        success: the task's predicate held.
        failure: what the task's own check calls a failure, or 'time_limit'.
        fault: why driver or policy stopped, '' if they did not.
        real_time_factor: of the twin, None without one.
    """
    if real_time_factor is not None and real_time_factor < REAL_TIME_FACTOR_MIN:
        slow = f'real_time_factor {real_time_factor:.3f} < {REAL_TIME_FACTOR_MIN}'
        return 'invalid', f'{fault} ({slow})' if fault else slow
    if success:
        return 'success', 'success'
    if fault:
        is_failure = fault.split(':')[0] in POLICY_FAULTS
        return ('failure' if is_failure else 'invalid'), fault
    return 'failure', failure or 'unknown'


def _spread(values: Sequence[float], *quantiles: float) -> dict[str, float | int]:
    array = np.asarray(list(values), dtype=float)
    if not array.size:
        return {'n': 0}
    out: dict[str, float | int] = {'n': int(array.size)}
    for q in quantiles:
        out[f'p{q:g}'] = round(float(np.percentile(array, q)), 6)
    out['min'], out['max'] = round(float(array.min()), 6), round(float(array.max()), 6)
    return out


def summarise(log: RolloutLog, outcome: Outcome) -> dict:
    """The content of `summary.json`: setting, outcome, metrics (s, rad) and definitions."""
    setting = log.setting
    later = [account for account in log.starts if account.index > 0]
    parts = sorted({name for split in log.latencies for name in split})
    held_s, executed_s = _held(log)
    events = [text for _, text in log.events]
    if setting.execution == 'sync':
        # The robot holds between chunks by design.
        events = [text for text in events if not text.startswith('late_chunk')]
        late_chunks = 0
    else:
        late_chunks = sum(account.slack_s < 0 for account in later)
    return {
        'task': setting.task,
        'prompt': setting.prompt,
        'seed': setting.seed,
        'policy': setting.policy,
        'execution': setting.execution,
        'robot': setting.robot,
        'session': setting.session,
        'arm': setting.arm,
        'trial': setting.trial,
        'verdict': outcome.verdict,
        'success': outcome.success,
        'reason': outcome.reason,
        'stages': dict(outcome.stages),
        'elapsed_s': round(outcome.elapsed_s, 3),
        'time_limit_s': setting.time_limit_s,
        'first_action_s': _first_action_s(log),
        'chunks': len(log.accounts),
        'chunk_latency_s': _spread([sum(split.values()) for split in log.latencies], 50, 95),
        'chunk_latency_parts_s': {
            name: _spread([split.get(name, 0.0) for split in log.latencies], 50, 95)
            for name in parts
        },
        'slack_s': _spread([account.slack_s for account in later], 1, 50),
        'late_chunks': late_chunks,
        'hold_s': round(held_s, 3),
        'executed_s': round(executed_s, 3),
        'boundary_jump_rad': _spread([a.boundary_jump_rad for a in log.starts], 50, 95),
        'tick_lateness_s': dict(zip(('p50', 'p99', 'max'), log.lateness_s, strict=True)),
        'limited_ticks': sum(account.limited_ticks for account in log.accounts),
        'arm_limited_ticks': sum(account.arm_limited_ticks for account in log.accounts),
        'tracking_error_rad': round(log.tracking_rad, 5),
        'real_time_factor': log.real_time_factor,
        'clock_factor': setting.clock_factor,
        'events': events,
        'definitions': {
            'first_action_s': 'session begun -> first row executed',
            'chunk_latency_s': 'encode + ground + predict since the chunk before',
            'slack_s': 'end of the chunk before - arrival; negative: the robot held',
            'boundary_jump_rad': 'largest |first row - command in force| of an arm joint',
            'limited_ticks': 'ticks of completed chunks in which the limiter intervened',
            'arm_limited_ticks': 'those in which it did for a joint of an arm',
            'tracking_error_rad': 'largest |commanded - measured| of an arm at full weight',
            'tick_lateness_s': 'control tick against its schedule, since the driver was activated',
            'real_time_factor': 'simulated time / time by the robot\'s clock; < 0.98 is invalid',
            'clock_factor': 'speed of the robot\'s clock, by which all times are, to real time',
        },
    }


def _first_action_s(log: RolloutLog) -> float | None:
    if not log.starts:
        return None
    return round((log.starts[0].start_ns - log.activated_ns) * 1e-9, 3)


def _held(log: RolloutLog) -> tuple[float, float]:
    """Seconds without a row between the first chunk's start and the last one's end, and with."""
    if not log.accounts:
        return 0.0, 0.0
    executed = sum(len(a.positions) * a.row_duration_s for a in log.accounts)
    last = log.accounts[-1]
    end_ns = last.start_ns + int(len(last.positions) * last.row_duration_s * 1e9)
    total = (end_ns - log.accounts[0].start_ns) * 1e-9
    return max(0.0, total - executed), executed
