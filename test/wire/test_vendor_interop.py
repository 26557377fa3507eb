# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Our raw types against the vendor's Python SDK, unmodified, over real DDS, both ways round."""

import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from flashwam_ros.wire import cdr
from flashwam_ros.wire.robot_bus import ArmCommand, RobotBus
from flashwam_ros.wire.robot_server import BodyState, RobotServerBus

pytest.importorskip('unitree_sdk2py')
DEADLINE_S = 20.0
PEER = pathlib.Path(__file__).parent / 'vendor_peer.py'


class Vendor:
    """A vendor process: orders in, events out, in lock step."""

    def __init__(self, role: str, domain: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), role, str(domain)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert json.loads(self.process.stdout.readline())['event'] == 'ready'

    def ask(self, **order: object) -> dict:
        self.process.stdin.write(json.dumps(order) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


def test_vendor_client_reads_our_state_and_commands_us() -> None:
    bus = RobotServerBus(63, 'lo')
    vendor = Vendor('client', 63)
    bus.lowstate.temperature[3] = (41, 52)
    bus.lowstate.wireless_remote[:] = np.frombuffer(cdr.remote_bytes(['L2', 'B']), np.uint8)
    joints = 0.25 + 0.125 * np.arange(14)
    arm = grip = None
    end = time.monotonic() + DEADLINE_S
    answer: dict = {}
    while time.monotonic() < end:
        bus.publish_lowstate(BodyState(0.125 * np.arange(29), np.zeros(29), np.zeros(29), 123))
        bus.publish_gripper('left', 2.5, 0.0, 0.5)
        answer = vendor.ask(weight=0.5, q=joints.tolist(), grip=1.25)
        arm = bus.arm_command() or arm
        grip = bus.gripper_command('left') or grip
        if arm and grip and answer['q'] and answer['gripper']:
            break
    vendor.close()
    bus.close()
    assert answer['q'][:29] == (0.125 * np.arange(29)).tolist()
    assert (answer['tick'], answer['mode_machine'], answer['crc_ok']) == (123, 15, True)
    assert answer['temperature'] == [41, 52]
    assert bytes(answer['remote']) == cdr.remote_bytes(['L2', 'B'])
    assert answer['gripper'] == [2.5, 0.5]
    assert arm.q.tolist() == joints.tolist()
    assert (arm.weight, arm.kp[0]) == (0.5, 80.0)
    assert (grip.q, grip.kp, grip.kd) == (1.25, 5.0, 0.0625)
    assert bus.bad_crc == 0


def test_our_client_reads_the_vendors_state_and_commands_it() -> None:
    bus = RobotBus(64, 'lo')
    vendor = Vendor('robot', 64)
    q = 0.5 + 0.125 * np.arange(14)
    command = ArmCommand(q, np.zeros(14), q, np.full(14, 80.0), np.full(14, 3.0), 0.75)
    end = time.monotonic() + DEADLINE_S
    tick, answer, state = 0, {}, None
    while time.monotonic() < end:
        tick += 1
        answer = vendor.ask(tick=tick)
        state = bus.lowstate()
        if state and answer['q'] and answer['gripper'] and answer['mode_machine'] == 15:
            break
        bus.write_arm(command)
        bus.write_gripper('left', 1.5)
    vendor.close()
    bus.close()
    assert state.q[:29].tolist() == (0.125 * np.arange(29)).tolist()
    assert state.motorstate[20] == 0x80000000
    assert bus.rejected == 0
    assert answer['q'][15:30] == [*q.tolist(), 0.75]
    assert answer['kp'] == 80.0
    assert answer['crc_ok'] is True
    assert answer['gripper'] == [1.5, 5.0]


def test_checksum_is_the_vendor_helpers() -> None:
    from unitree_sdk2py.idl.default import unitree_hg_msg_dds__LowCmd_
    from unitree_sdk2py.utils.crc import CRC

    rng = np.random.default_rng(0)
    theirs = unitree_hg_msg_dds__LowCmd_()
    ours = cdr.LowCmd()
    theirs.mode_machine = ours.mode_machine = 15
    ours.motor_mode = np.ones(35, dtype=np.uint8)
    ours.q[:] = rng.normal(size=35)
    ours.kd[:] = rng.normal(size=35)
    for slot, motor in enumerate(theirs.motor_cmd):
        motor.mode, motor.q, motor.kd = 1, float(ours.q[slot]), float(ours.kd[slot])
        motor.dq = motor.tau = motor.kp = 0.0
        motor.reserve = 0
    theirs.reserve = [0, 0, 0, 0]
    theirs.mode_pr = 0
    assert CRC().Crc(theirs) == ours.computed_crc()
