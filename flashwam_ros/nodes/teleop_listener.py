# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Device `xr`: the vendor's program moves the robot; what it commands is told as the action."""

from __future__ import annotations

import threading
import time
from array import array

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from flashwam_ros.nodes.clock import ros_offset_ns, to_msg
from flashwam_ros.nodes.g1_driver import WEIGHT_NAME
from flashwam_ros.nodes.lifecycle import SENSOR_QOS
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.wire.command_tap import CommandedRow, WireCommandTap

POLL_S = 0.004


class CommandListener:
    """Publishes `joint_commands` as the driver does for its own commands; writes nothing else.

    Nothing is told before arms and both grippers have been commanded: a row with holes is no
    action.

    Args:
        node: owner.
        contract: channels.
        wire: DDS domain and interface of the robot.
    """

    def __init__(self, node: Node, contract: RobotContract, wire: tuple[int, str]):
        self._node, self._names = node, contract.channel_names
        self._tap = WireCommandTap(*wire)
        self._heard: CommandedRow | None = None
        self._commands = node.create_publisher(JointState, 'joint_commands', SENSOR_QOS)

    def run(self, closing: threading.Event) -> None:
        """Listen until the event is set."""
        while not closing.wait(POLL_S):
            row = self._tap.poll()
            if row is None:
                continue
            self._heard = row
            if np.isfinite(row.positions).all():
                self._publish(row)

    def _publish(self, row: CommandedRow) -> None:
        msg = JointState(name=[*self._names, WEIGHT_NAME])
        msg.header.stamp = to_msg(row.stamp_ns + ros_offset_ns(self._node.get_clock()))
        msg.position = array('d', [*row.positions.tolist(), row.weight])
        self._commands.publish(msg)

    def status(self) -> dict:
        """What the operator should know, in JSON types."""
        heard, missing, age_s = self._heard, [], None
        if heard is not None:
            age_s = round((time.monotonic_ns() - heard.stamp_ns) * 1e-9, 3)
            missing = [
                name
                for name, q in zip(self._names, heard.positions, strict=True)
                if not np.isfinite(q)
            ]
        note = 'nobody commands rt/arm_sdk yet' if heard is None else ''
        if missing:
            note = f'not recorded: nobody commands {", ".join(missing)}'
        return {
            'state': 'listening',
            'note': note,
            'device': 'xr',
            'command_age_s': age_s,
            'weight': None if heard is None else heard.weight,
            'refused': self._tap.rows.refused,
        }

    def close(self) -> None:
        """Leave the robot's wire."""
        self._tap.close()
