# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the driver tells of the robot once a second; a preflight reads these values."""

from __future__ import annotations

import json
from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from flashwam_ros.nodes.control_loop import SIDES, ControlLoop
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.wire.robot_bus import LowStateSample, RobotBus

NAME = 'g1_driver: robot state'
_WINDING = 1


def robot_diagnostics(
    loop: ControlLoop, bus: RobotBus, joints: Sequence[str], where: str, contract_hash: str,
    arms_held: str,
) -> DiagnosticStatus:  # fmt: skip
    """State age, tick lateness, who else is there, and what the robot says of its motors.

    Args:
        loop: the control loop.
        bus: the robot's wire.
        joints: names of the body's joints in motor order.
        where: domain and interface in words.
        contract_hash: of the contract in force.
        arms_held: what to do where another process may hold the arms, '' where none does.
    """
    snapshot, now_ns = loop.snapshot, robot_clock.monotonic_ns()
    age_s = (now_ns - snapshot.sample.arrival_ns) * 1e-9 if snapshot.sample else -1.0
    stale = age_s < 0 or age_s > load_settings().state_hold_s
    p50, p99 = loop.lateness.percentiles()
    values = {
        'state age s': f'{age_s:.4f}',
        'tick lateness p50 ms': f'{p50 * 1e3:.3f}',
        'tick lateness p99 ms': f'{p99 * 1e3:.3f}',
        'ticks skipped': str(loop.lateness.skipped),
        'states received': str(bus.received),
        'states rejected': str(bus.rejected),
        'other writers': json.dumps(loop.other_writers),
        'other robots': json.dumps(loop.other_robots),
        'arms held': arms_held,
        'contract': contract_hash,
        **_grippers(bus),
        **(_motors(snapshot.sample, joints) if snapshot.sample else {}),
    }
    return DiagnosticStatus(
        level=DiagnosticStatus.ERROR if stale else DiagnosticStatus.OK,
        name=NAME,
        hardware_id=where,
        message=f'state is {age_s:.3f} s old' if stale else loop.mode.name,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _grippers(bus: RobotBus) -> dict[str, str]:
    states = {side: bus.gripper_state(side) for side in SIDES}
    now_ns = robot_clock.monotonic_ns()
    heard = {side: state for side, state in states.items() if state is not None}
    ages_s = {side: (now_ns - state.arrival_ns) * 1e-9 for side, state in heard.items()}
    return {
        'gripper ages s': json.dumps(ages_s),
        'gripper rad': json.dumps({side: state.q for side, state in heard.items()}),
    }


def _motors(sample: LowStateSample, joints: Sequence[str]) -> dict[str, str]:
    windings = sample.temperature[: len(joints), _WINDING]
    errors = zip(joints, sample.motorstate[: len(joints)].tolist(), strict=True)
    return {
        'mode machine': str(sample.mode_machine),
        'hottest winding C': str(int(windings.max())),
        'hottest joint': joints[int(windings.argmax())],
        'motor errors': json.dumps({name: word for name, word in errors if word}),
    }
