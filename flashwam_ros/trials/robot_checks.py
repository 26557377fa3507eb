# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of the robot, its grippers and the way to the start pose."""

from __future__ import annotations

import numpy as np

from flashwam_ros.robot.clearance import PathChecker, plan_retreat
from flashwam_ros.robot.contract import RobotContract, load_choices
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.trials.check_result import CheckResult
from flashwam_ros.trials.observations import Observations

STATE_RATE_HZ = 250.0
STATE_AGE_S = 0.05
GRIPPER_AGE_S = 0.2
GRIPPER_MARGIN_RAD = 0.15
BATTERY_PERCENT = 20.0
WINDING_C = 80.0
ARM_SDK_FSM = (500, 501)
"""States of the built-in motion service in which it obeys `rt/arm_sdk` and keeps the balance."""
_ARMS = 14

#: Bits of a motor's error word, as in the vendor's headers.
MOTOR_BITS = {
    0x1: 'over-current', 0x2: 'transient over-voltage', 0x4: 'over-voltage',
    0x8: 'under-voltage', 0x10: 'chip too hot', 0x20: 'MOSFET too hot', 0x40: 'MOSFET sensor',
    0x80: 'casing too hot', 0x100: 'casing sensor', 0x200: 'winding too hot',
    0x400: 'rotor encoder 1', 0x800: 'rotor encoder 2', 0x1000: 'output encoder',
    0x2000: 'calibration data', 0x4000: 'abnormal reset', 0x8000: 'locked',
    0x10000: 'chip verification', 0x20000: 'calibration mode', 0x40000: 'communication',
    0x80000: 'driver version', 0x40000000: 'time-out to PC', 0x80000000: 'time-out from PC',
}  # fmt: skip


def robot_mode(seen: Observations) -> CheckResult:
    """The built-in motion service runs and is in a walking state: debug mode has no balance."""
    robot = seen.robot
    if robot.mode_name is None:
        measured = None
    elif not robot.mode_name:
        measured = 'no motion service (debug mode)'
    else:
        measured = f'{robot.mode_name}, state {robot.fsm_id}'
    return CheckResult(
        'robot_mode', bool(robot.mode_name) and robot.fsm_id in ARM_SDK_FSM, measured,
        f'a motion service in state {" or ".join(map(str, ARM_SDK_FSM))}',
        remedy='on the remote: L2+B, then L1+UP, then R1+X; no answer at all: `flashwam doctor`',
    )  # fmt: skip


def mode_machine(seen: Observations) -> CheckResult:
    """The machine is the one that limits, inertias and wrist lengths were made for."""
    wanted = int(load_choices()['variant'].removeprefix('mode_'))
    machine = seen.robot.mode_machine
    return CheckResult(
        'mode_machine', machine == wanted, None if machine is None else str(machine),
        str(wanted),
        remedy='another variant of the robot: set `variant` in config/robot/g1_dex1.yaml and use '
        'a checkpoint that was trained for it',
    )  # fmt: skip


def state_rate(seen: Observations) -> CheckResult:
    """Robot states come at least as often as the control loop ticks."""
    rate = seen.robot.state_rate_hz
    return CheckResult(
        'state_rate', rate is not None and rate >= STATE_RATE_HZ, rate,
        f'>= {STATE_RATE_HZ:g} Hz', 'Hz',
        'use a cable, not Wi-Fi; stop what loads this machine or the robot\'s network',
    )  # fmt: skip


def state_age(seen: Observations) -> CheckResult:
    """The newest robot state is fresh."""
    age = seen.robot.state_age_s
    return CheckResult(
        'state_age', age is not None and 0.0 <= age <= STATE_AGE_S,
        None if age is None else 1e3 * age, f'<= {1e3 * STATE_AGE_S:g} ms', 'ms',
        '`flashwam doctor` says which topic is silent, and where',
    )  # fmt: skip


def second_writer(seen: Observations) -> CheckResult:
    """Nobody else commands arms or grippers."""
    others = seen.robot.other_writers
    return CheckResult(
        'second_writer', others == (),
        None if others is None else ', '.join(others) or 'nobody', 'nobody else',
        remedy='stop the other program (teleoperation, a vendor example); one that was killed '
        'stays in DDS discovery for about 10 s',
    )  # fmt: skip


def two_robots(seen: Observations) -> CheckResult:
    """One program tells the state of body and grippers: of two, nobody knows whose pose it is."""
    others = seen.robot.other_robots
    return CheckResult(
        'two_robots', others == (),
        None if others is None else ', '.join(others) or 'one', 'one program per state topic',
        remedy='end the simulator or the other robot on this wire; a gripper service that was '
        'killed and started again looks like two for about 10 s',
    )  # fmt: skip


def second_driver(seen: Observations) -> CheckResult:
    """One driver in the ROS graph: each of two would obey what the other is asked."""
    signs = seen.robot.second_driver
    return CheckResult(
        'second_driver', signs == '', 'one' if signs == '' else signs, 'one driver',
        remedy='end the other graph, or start this one with another ROS_DOMAIN_ID',
    )  # fmt: skip


def arms_held(seen: Observations) -> CheckResult:
    """No other process has left the arms held: a new driver begins at weight 0, like a drop."""
    held = seen.robot.arms_held
    return CheckResult(
        'arms_held', held == '', 'no' if held == '' else held, 'not by another process',
        remedy='stand clear and run that command; it gives the arms back',
    )  # fmt: skip


def grippers(seen: Observations) -> list[CheckResult]:
    """Both gripper services answer, and their angles are such as a zeroed one can have."""
    low = -GRIPPER_MARGIN_RAD
    high = load_description().gripper.motor_open + GRIPPER_MARGIN_RAD
    results = []
    for side in ('left', 'right'):
        age, angle = seen.robot.gripper_age_s.get(side), seen.robot.gripper_q.get(side)
        results.append(CheckResult(
            f'gripper_alive: {side}', age is not None and age <= GRIPPER_AGE_S,
            None if age is None else 1e3 * age, f'<= {1e3 * GRIPPER_AGE_S:g} ms', 'ms',
            'start dex1_1_gripper_server on the robot\'s computer; check its serial board',
        ))  # fmt: skip
        results.append(CheckResult(
            f'gripper_zeroed: {side}', angle is not None and low <= angle <= high, angle,
            f'{low:.2f} .. {high:.2f} rad, 0 = closed', 'rad',
            'calibrate: press the jaws closed by hand, start the service with -c',
        ))  # fmt: skip
    return results


def start_pose(seen: Observations) -> CheckResult:
    """A free path leads from the measured arm pose to the start pose."""
    arm_q, measured, free = seen.robot.arm_q, None, False
    if arm_q is not None and np.isfinite(arm_q).all():
        contract, settings = RobotContract.load(), load_settings()
        home = np.array(settings.home_arm)
        path = plan_retreat(
            np.asarray(arm_q, float), home, PathChecker(Kinematics(load_description())),
            settings.retreat_velocity, (contract.lower[:_ARMS], contract.upper[:_ARMS]),
        )  # fmt: skip
        free = path is not None
        far = float(np.abs(np.asarray(arm_q) - home).max())
        measured = f'{"free" if free else "blocked"}, {far:.2f} rad away'
    return CheckResult(
        'start_pose', free, measured, 'a free path past table, torso and the other arm',
        remedy='move the arms by hand or with the remote above the table, hands apart',
    )  # fmt: skip


def battery(seen: Observations) -> CheckResult:
    """There is charge left; a robot that does not tell gets a warning."""
    percent = seen.robot.battery_percent
    return CheckResult(
        'battery', percent is not None and percent >= BATTERY_PERCENT, percent,
        f'>= {BATTERY_PERCENT:g} %', '%',
        'charge or change the battery' if percent is not None else
        'rt/lf/bmsstate is silent: look at the phone app',
        warning=percent is None,
    )  # fmt: skip


def temperature(seen: Observations) -> CheckResult:
    """No winding is near the temperature at which the driver lets go."""
    hot, limit = seen.robot.winding_c, load_settings().temperature_c
    place = f' ({seen.robot.hottest})' if seen.robot.hottest else ''
    return CheckResult(
        'temperature', hot is not None and hot <= WINDING_C, hot,
        f'hottest winding{place} <= {WINDING_C:g} deg C; the driver lets go at {limit:g}',
        'deg C', 'let the motors cool down, arms hanging',
    )  # fmt: skip


def motor_errors(seen: Observations) -> CheckResult:
    """All error words are 0."""
    errors = seen.robot.motor_errors
    measured = None
    if errors is not None:
        measured = ', '.join(f'{joint}: {describe(word)}' for joint, word in errors.items())
    return CheckResult(
        'motor_errors', errors == {}, measured or (None if errors is None else 'none'), 'none',
        remedy='switch the robot off and on; a motor that goes on reporting needs service',
    )  # fmt: skip


def describe(word: int) -> str:
    """An error word in words."""
    names = [name for bit, name in MOTOR_BITS.items() if word & bit]
    return f'0x{word:x} ({", ".join(names) or "unknown"})'
