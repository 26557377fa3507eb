# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All checks before a motion; pure: observations in, report out."""

from __future__ import annotations

from collections.abc import Callable

from flashwam_ros.trials import camera_checks, machine_checks, robot_checks
from flashwam_ros.trials.check_result import CheckResult, Report
from flashwam_ros.trials.observations import Observations

Check = Callable[[Observations], CheckResult | list[CheckResult]]

CHECKS: tuple[Check, ...] = (
    robot_checks.robot_mode,
    robot_checks.mode_machine,
    robot_checks.state_rate,
    robot_checks.state_age,
    robot_checks.second_writer,
    robot_checks.two_robots,
    robot_checks.second_driver,
    robot_checks.arms_held,
    robot_checks.grippers,
    robot_checks.start_pose,
    robot_checks.battery,
    robot_checks.temperature,
    robot_checks.motor_errors,
    camera_checks.cameras,
    camera_checks.wrists,
    camera_checks.stamp_skew,
    machine_checks.clock_step,
    machine_checks.state_lag,
    machine_checks.policy_ready,
    machine_checks.policy_latency,
    machine_checks.contract,
    machine_checks.promoted,
    machine_checks.disk,
)

OF_POLICY: tuple[Check, ...] = (
    machine_checks.policy_ready,
    machine_checks.policy_latency,
    machine_checks.promoted,
)


def preflight(seen: Observations) -> Report:
    """Run every check; one that fails itself is red, with what went wrong.

    Where an operator steers (no policy backend), nothing is asked of a policy.
    """
    results: list[CheckResult] = []
    for check in CHECKS:
        if check in OF_POLICY and not seen.policy.backend:
            continue
        try:
            outcome = check(seen)
        except Exception as error:  # noqa: BLE001 (a broken check must forbid the motion, not stop)
            outcome = _broken(check.__name__, error)
        results += outcome if isinstance(outcome, list) else [outcome]
    return Report(tuple(results))


def not_observed(error: Exception) -> Report:
    """The report where looking itself failed."""
    return Report((_broken('preflight', error),))


def _broken(name: str, error: Exception) -> CheckResult:
    return CheckResult(
        name, False, f'{type(error).__name__}: {error}', 'a check that runs',
        remedy='this is a defect of the preflight or of its files: report it',
    )  # fmt: skip
