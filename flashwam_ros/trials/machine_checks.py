# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of the policy, the clocks and the disk."""

from __future__ import annotations

from flashwam_ros.policy.handshake import is_server
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.trials.check_result import CheckResult
from flashwam_ros.trials.observations import Observations

CLOCK_STEP_S = 0.005
STATE_LAG_S = 0.2
FREE_GIB = 2.0
SILENT = (
    'the server does not say which contract it serves: nothing shows that order, units and rate '
    "of its rows are this robot's"
)
SILENT_IN_TWIN = f'{SILENT}; only the simulated robot may find out'
_EARLY_S = 0.025
_FRAME_S = 0.05


def latency_budget_s(execution: str) -> float:
    """Longest chunk latency (s) that leaves no hold (async) or a short one (sync).

    async: a chunk's duration less one camera period and the time by which it should be early;
    sync: half the time that the driver waits for a chunk before it lets go.
    """
    if execution == 'sync':
        return load_settings().no_chunk_timeout_s / 2.0
    return RobotContract.load().chunk_duration_s - _FRAME_S - _EARLY_S


def policy_ready(seen: Observations) -> CheckResult:
    """The backend is loaded and has run once."""
    policy = seen.policy
    ready = policy.state in ('ready', 'running') and policy.latency_s is not None
    said = None if policy.state is None else f'{policy.state} {policy.reason}'.strip()
    return CheckResult(
        'policy_warm', ready, said, 'ready, warmed up',
        remedy='see the log of the policy node; configure it again',
    )  # fmt: skip


def policy_latency(seen: Observations) -> CheckResult:
    """A chunk is there before it is needed."""
    latency, budget = seen.policy.latency_s, latency_budget_s(seen.execution)
    return CheckResult(
        'chunk_latency', latency is not None and latency <= budget,
        None if latency is None else 1e3 * latency,
        f'<= {1e3 * budget:.0f} ms ({seen.execution})', 'ms',
        'fewer sampler steps (video_steps, action_steps), a GPU, or execution:=sync',
    )  # fmt: skip


def contract(seen: Observations) -> CheckResult:
    """The checkpoint was made for this robot contract; a silent server only warns in the twin."""
    differences = seen.policy.contract_differences
    measured = None
    if differences is not None:
        measured = '; '.join(differences[:3]) or 'equal'
        measured += f'; and {len(differences) - 3} more' if len(differences) > 3 else ''
    warned = differences == (SILENT_IN_TWIN,)
    silent = warned or SILENT in (differences or ())
    return CheckResult(
        'contract', differences == (), measured, 'equal in driver and checkpoint',
        remedy='serve the model with flashwam serve, or have its server send the entry '
        '`flashwam` of docs/serving.md' if silent else
        'use a checkpoint trained for this robot, or its config/robot/g1_dex1.yaml',
        warning=warned,
    )  # fmt: skip


def promoted(seen: Observations) -> CheckResult:
    """The checkpoint has been promoted; only a warning otherwise."""
    policy = seen.policy
    remote = is_server(policy.checkpoint)
    fine = not remote and (policy.backend != 'wam' or policy.promoted is True)
    words = {True: 'promoted', False: 'not promoted', None: 'does not apply'}[policy.promoted]
    words = 'see what the server said in the log of the policy node' if remote else words
    return CheckResult(
        'promoted', fine, words, 'promoted', warning=True,
        remedy='`flashwam promote` compares it with its predecessor on held-out scenes',
    )  # fmt: skip


def clock_step(seen: Observations) -> CheckResult:
    """The system clock did not jump while it was looked at."""
    step = seen.clock_step_s
    return CheckResult(
        'clock_step', step is not None and abs(step) <= CLOCK_STEP_S,
        None if step is None else 1e3 * step, f'<= {1e3 * CLOCK_STEP_S:g} ms', 'ms',
        'wait until NTP has settled (chronyc tracking), then let it slew, not step',
    )  # fmt: skip


def state_lag(seen: Observations) -> CheckResult:
    """Joint states carry stamps of this clock."""
    lag = seen.state_lag_s
    return CheckResult(
        'state_lag', lag is not None and -CLOCK_STEP_S <= lag <= STATE_LAG_S,
        None if lag is None else 1e3 * lag,
        f'{-1e3 * CLOCK_STEP_S:g} .. {1e3 * STATE_LAG_S:g} ms', 'ms',
        'driver and rollout must run on one machine or on clocks set by PTP',
    )  # fmt: skip


def disk(seen: Observations) -> CheckResult:
    """There is room for what a rollout leaves."""
    free = seen.free_gib
    return CheckResult(
        'disk', free is not None and free >= FREE_GIB, free, f'>= {FREE_GIB:g} GiB free', 'GiB',
        'delete old rollouts or give another output_dir:=FOLDER',
    )  # fmt: skip
