# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Give the arms back to the robot after the driver died: ramp the arm_sdk weight from 1 to 0.

The motors hold the last target of a writer that disappeared. This becomes the new single writer,
commands
the pose that is measured now with gravity compensation, and lowers the weight to 0 over 2 s.
"""

from __future__ import annotations

import argparse
import logging
import time

import numpy as np

from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.wire import endpoints
from flashwam_ros.wire.arms_claim import ArmsClaim
from flashwam_ros.wire.participant import DomainError, open_participant
from flashwam_ros.wire.robot_bus import ARM_SLOTS, ArmCommand, RobotBus

log = logging.getLogger(__name__)

RAMP_S = 2.0
_PERIOD_S = 0.004
_LISTEN_S = 0.3
_STATE_WAIT_S = 3.0
_FINAL_MESSAGES = 10


class ReleaseError(RuntimeError):
    """The arms were not released; the message says why and what to do."""


def ramp_down(
    bus: RobotBus,
    contract: RobotContract,
    start_weight: float = 1.0,
    ramp_s: float = RAMP_S,
) -> None:
    """Command the measured arm pose and ramp the weight to 0; returns when it is done.

    Args:
        bus: the robot's wire; nobody else may write through it meanwhile.
        contract: gives the gains.
        start_weight: weight to start from, 0..1.
        ramp_s: duration of the ramp, s.

    Raises:
        ReleaseError: no robot state arrives, so the pose to hold is not known.
    """
    asked_ns = robot_clock.monotonic_ns()
    sample = bus.wait_lowstate(_STATE_WAIT_S, newer_than_ns=asked_ns)
    if sample is None:
        raise ReleaseError(
            f'no robot state within {_STATE_WAIT_S} s, so the pose is unknown and nothing was '
            'sent. Check domain and interface; on the robot use L2+B on the remote'
        )
    arm_q = np.array(sample.q[ARM_SLOTS], dtype=np.float64)
    arms = len(arm_q)
    torque = Kinematics(load_description()).gravity_torque(arm_q)
    kp, kd = contract.kp[:arms], contract.kd[:arms]
    still = np.zeros(arms)
    begun = robot_clock.monotonic()
    final = 0
    tick = 0
    while final < _FINAL_MESSAGES:
        weight = max(0.0, start_weight * (1.0 - (robot_clock.monotonic() - begun) / ramp_s))
        bus.write_arm(ArmCommand(arm_q, still, torque, kp, kd, weight))
        final += weight == 0.0
        tick += 1
        robot_clock.sleep(max(0.0, begun + tick * _PERIOD_S - robot_clock.monotonic()))


def release(domain: int, interface: str) -> None:
    """Become the writer of `rt/arm_sdk` and give the arms back.

    A writer that died without a farewell stays in DDS discovery for seconds, so only one that
    really
    sends counts as alive.

    Raises:
        ReleaseError: another writer is sending, or the robot's state is not known.
        DomainError: the DDS domain cannot be opened.
    """
    if _hears_commands(domain, interface):
        raise ReleaseError(
            'another program is commanding the arms right now: stop it first (a driver releases '
            'the arms itself when it gets SIGINT, SIGTERM or SIGHUP)'
        )
    bus = RobotBus(domain, interface)
    try:
        ramp_down(bus, RobotContract.load())
    finally:
        bus.close()


def _hears_commands(domain: int, interface: str) -> bool:
    source = endpoints.reader(open_participant(domain, interface), endpoints.ARM_SDK)
    deadline = time.monotonic() + _LISTEN_S
    while time.monotonic() < deadline:
        if endpoints.take_raw(source) is not None:
            return True
        time.sleep(_PERIOD_S)
    return False


def main(argv: list[str] | None = None) -> int:
    """`flashwam release`: 0 when the weight reached 0, 1 when nothing was done."""
    parser = argparse.ArgumentParser(prog='flashwam release', description=__doc__.split('\n')[0])
    parser.add_argument('--domain', type=int, default=1, help='DDS domain: 0 robot, 1 twin')
    parser.add_argument('--interface', default='lo', help='network interface of the robot')
    parser.add_argument('--if-held', action='store_true',
                        help='do nothing where no driver of this machine has left the arms held')
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    claim = ArmsClaim(args.domain, args.interface)
    if args.if_held and not claim.taken:
        log.info('the driver did not hold the arms: nothing to release')
        return 0
    log.info('releasing the arms on domain %d, interface %s', args.domain, args.interface)
    try:
        release(args.domain, args.interface)
    except (ReleaseError, DomainError) as error:
        log.error('not released: %s', error)
        return 1
    claim.clear()
    log.info('released: the weight is 0')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
