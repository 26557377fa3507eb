# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The vendor's SDK, unmodified, in a process of its own: one line of JSON per event on stdout.

Run as `python vendor_peer.py <role> <domain>`; lines on stdin are orders.
"""

import json
import sys

from unitree_sdk2py.core.channel import (
    ChannelFactoryInitialize,
    ChannelPublisher,
    ChannelSubscriber,
)
from unitree_sdk2py.idl.default import (
    unitree_go_msg_dds__MotorCmd_,
    unitree_hg_msg_dds__LowCmd_,
    unitree_hg_msg_dds__LowState_,
)
from unitree_sdk2py.idl.unitree_go.msg.dds_ import MotorCmds_, MotorStates_
from unitree_sdk2py.idl.unitree_hg.msg.dds_ import LowCmd_, LowState_
from unitree_sdk2py.utils.crc import CRC


def say(**event: object) -> None:
    """One event for the test."""
    sys.stdout.write(json.dumps(event) + '\n')
    sys.stdout.flush()


def client() -> None:
    """Send what is ordered (`{"weight": w, "q": [14], "grip": q}`), report the state."""
    crc = CRC()
    newest = {}

    def on_state(state: LowState_) -> None:
        newest['state'] = state

    def on_gripper(state: MotorStates_) -> None:
        newest['gripper'] = state

    subscriber = ChannelSubscriber('rt/lowstate', LowState_)
    subscriber.Init(on_state, 10)
    gripper = ChannelSubscriber('rt/dex1/left/state', MotorStates_)
    gripper.Init(on_gripper, 10)
    publisher = ChannelPublisher('rt/arm_sdk', LowCmd_)
    publisher.Init()
    gripper_publisher = ChannelPublisher('rt/dex1/left/cmd', MotorCmds_)
    gripper_publisher.Init()
    command = unitree_hg_msg_dds__LowCmd_()
    grip = unitree_go_msg_dds__MotorCmd_()
    say(event='ready')
    for line in sys.stdin:
        order = json.loads(line)
        if 'q' in order:
            command.motor_cmd[29].q = order['weight']
            for joint, q in enumerate(order['q']):
                motor = command.motor_cmd[15 + joint]
                motor.mode, motor.q, motor.kp, motor.kd = 1, q, 80.0, 3.0
            command.crc = crc.Crc(command)
            publisher.Write(command)
            grip.mode, grip.q, grip.kp, grip.kd = 1, order['grip'], 5.0, 0.0625
            gripper_publisher.Write(MotorCmds_([grip]))
        state, hand = newest.get('state'), newest.get('gripper')
        say(
            event='state',
            q=[motor.q for motor in state.motor_state] if state else None,
            tick=state.tick if state else None,
            mode_machine=state.mode_machine if state else None,
            crc_ok=crc.Crc(state) == state.crc if state else None,
            temperature=list(state.motor_state[3].temperature) if state else None,
            remote=list(state.wireless_remote) if state else None,
            gripper=[hand.states[0].q, hand.states[0].tau_est] if hand else None,
        )


def robot() -> None:
    """Play the robot: publish a state per order, report the newest command received."""
    crc = CRC()
    newest = {}

    def on_command(command: LowCmd_) -> None:
        newest['arm'] = command

    def on_gripper(command: MotorCmds_) -> None:
        newest['gripper'] = command

    arm = ChannelSubscriber('rt/arm_sdk', LowCmd_)
    arm.Init(on_command, 10)
    gripper = ChannelSubscriber('rt/dex1/left/cmd', MotorCmds_)
    gripper.Init(on_gripper, 10)
    publisher = ChannelPublisher('rt/lowstate', LowState_)
    publisher.Init()
    state = unitree_hg_msg_dds__LowState_()
    say(event='ready')
    for line in sys.stdin:
        order = json.loads(line)
        state.tick, state.mode_machine = order['tick'], 15
        for joint in range(29):
            state.motor_state[joint].q = 0.125 * joint
        state.motor_state[20].motorstate = 0x80000000
        state.crc = crc.Crc(state)
        publisher.Write(state)
        command, hand = newest.get('arm'), newest.get('gripper')
        say(
            event='command',
            q=[motor.q for motor in command.motor_cmd] if command else None,
            kp=command.motor_cmd[15].kp if command else None,
            mode_machine=command.mode_machine if command else None,
            crc_ok=crc.Crc(command) == command.crc if command else None,
            gripper=[hand.cmds[0].q, hand.cmds[0].kp] if hand else None,
        )


if __name__ == '__main__':
    ChannelFactoryInitialize(int(sys.argv[2]), 'lo')
    {'client': client, 'robot': robot}[sys.argv[1]]()
