# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""teleop: an operator's device in, short action chunks for g1_driver out.

Device `xr` is passive: the vendor's program moves the robot, this node tells what it commands.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from lifecycle_msgs.msg import State
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from flashwam_ros.bringup.settings import DEVICES
from flashwam_ros.msg import ActionChunk, AppliedActions, DriverStatus
from flashwam_ros.nodes import convert
from flashwam_ros.nodes.clock import from_msg, ros_offset_ns, to_msg
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.g1_driver import WEIGHT_NAME
from flashwam_ros.nodes.lifecycle import (
    CHUNK_QOS,
    COMMAND_QOS,
    SENSOR_QOS,
    STATUS_QOS,
    declare,
    declare_wire,
    run_node,
)
from flashwam_ros.nodes.lifecycle_client import LifecycleClient, NodeUnavailableError
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.teleop.command import CommandError
from flashwam_ros.teleop.joy import JoyDevice, JoyMapping
from flashwam_ros.teleop.session import TeleopSession
from flashwam_ros.teleop.settings import TeleopSettings
from flashwam_ros.teleop.web import WebDevice
from flashwam_ros.twin.tasks import TASKS
from flashwam_ros.twin.world_json import world_from_dict
from flashwam_ros.wire.command_tap import CommandedRow, WireCommandTap
from flashwam_ros.wire.sim_bus import SimBus, SimulatorTimeoutError

STATE_S = 0.1
POLL_S = 0.01
XR_POLL_S = 0.004
CONFIGURE_S = 15.0
ACTIVATE_S = 8.0
DEACTIVATE_S = 15.0
COMMAND_S = 2.0
STARTING_S = 60.0


class TeleopNode(Node):
    """Wires a device, a `TeleopSession` and the driver together."""

    def __init__(self):
        super().__init__('teleop')
        self._wire = declare_wire(self)
        self._robot = declare(self, 'robot', 'twin', 'twin or real')
        self._task = declare(self, 'task', 'red_bottle', f'one of {", ".join(TASKS)}')
        self._seed = declare(
            self, 'seed', 0, 'twin: scene and expert of the next reset', read_only=False
        )
        name = declare(self, 'device', 'web', f'one of {", ".join(DEVICES)}')
        mapping = declare(self, 'mapping', '', 'joy: mapping file, empty for the installed one')
        engage = declare(
            self, 'auto_engage', False, 'take the arms over as soon as the driver can be reached'
        )
        if name not in DEVICES:
            raise ValueError(f'device {name!r} is not one of {", ".join(DEVICES)}')
        self.contract = RobotContract.load()
        self._sim = SimBus(*self._wire) if self._robot == 'twin' else None
        self._driver = LifecycleClient(self, 'g1_driver')
        self._refused = ''
        self.failed = False
        self._lock = threading.Lock()
        self._in_force = threading.Event()
        self._closing = threading.Event()
        self._state = self.create_publisher(String, 'teleop/state', STATUS_QOS)
        self._session = None
        self._tap = None
        if name == 'xr':
            self._tap = WireCommandTap(*self._wire)
            self._heard: CommandedRow | None = None
            self._commands = self.create_publisher(JointState, 'joint_commands', SENSOR_QOS)
        else:
            self._session = TeleopSession(self.contract, self._device(name, mapping))
            self._chunks = self.create_publisher(ActionChunk, 'action_chunk', CHUNK_QOS)
        self._create_entities(name)
        work = self._listen if self._session is None else self._stream
        self._threads = [
            threading.Thread(target=self._work, args=(work,), name='stream', daemon=True),
            threading.Thread(target=self._start, args=(engage,), name='start', daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _device(self, name: str, mapping: str):
        if name == 'web':
            return WebDevice(TeleopSettings.load())
        if name == 'joy':
            return JoyDevice(JoyMapping.load(mapping))
        if self._sim is None:
            raise ValueError('device expert reads the simulator: use it with the twin only')
        from flashwam_ros.teleop.expert import ExpertDevice

        return ExpertDevice(self._task, self.contract, self._world)

    def _create_entities(self, name: str) -> None:
        quick, slow = QuickGroup(), ReentrantCallbackGroup()
        self.create_timer(STATE_S, self._publish_state, callback_group=quick)
        wanted = [(DriverStatus, 'driver_status', self._on_driver, STATUS_QOS)]
        if self._session is not None:
            wanted += [
                (AppliedActions, 'applied_actions', self._on_applied, COMMAND_QOS),
                (JointState, 'joint_commands', self._on_commands, SENSOR_QOS),
            ]
        if name == 'web':
            wanted.append((String, 'teleop/command', self._on_text, COMMAND_QOS))
        if name == 'joy':
            wanted.append((Joy, 'joy', self._on_joy, SENSOR_QOS))
        for kind, topic, callback, profile in wanted:
            self.create_subscription(kind, topic, callback, profile, callback_group=quick)
        for service, callback in (
            ('~/engage', self._on_engage),
            ('~/release', self._on_release),
            ('~/reset', self._on_reset),
        ):
            self.create_service(Trigger, service, callback, callback_group=slow)

    def destroy_node(self) -> None:
        """Stop the stream, leave the robot's wire."""
        self._closing.set()
        self._threads[0].join(1.0)
        for bus in (self._tap, self._sim):
            if bus is not None:
                bus.close()
        super().destroy_node()

    # -- the driver -------------------------------------------------------------------------------

    def _on_driver(self, msg: DriverStatus) -> None:
        if self._session is not None:
            with self._lock:
                self._session.driver(msg.mode, msg.events)

    def _on_applied(self, msg: AppliedActions) -> None:
        account = convert.applied_from_msg(msg)
        start_ns = account.start_ns - ros_offset_ns(self.get_clock())
        account = replace(account, start_ns=start_ns)
        with self._lock:
            self._session.applied(account)

    def _on_commands(self, msg: JointState) -> None:
        position = dict(zip(msg.name, msg.position, strict=False))
        command = np.array([position[name] for name in self.contract.channel_names])
        with self._lock:
            self._session.in_force(command)
        self._in_force.set()

    # -- devices ----------------------------------------------------------------------------------

    def _on_text(self, msg: String) -> None:
        try:
            with self._lock:
                self._session.device.feed(msg.data, time.monotonic_ns())
        except CommandError as error:
            self._refuse(error)

    def _on_joy(self, msg: Joy) -> None:
        now_ns = time.monotonic_ns()
        stamp_ns = from_msg(msg.header.stamp) - ros_offset_ns(self.get_clock())
        try:
            with self._lock:
                self._session.device.feed(msg.axes, msg.buttons, min(stamp_ns, now_ns))
        except CommandError as error:
            self._refuse(error)

    def _refuse(self, error: CommandError) -> None:
        if str(error) != self._refused:
            self.get_logger().warning(f'command refused: {error}')
        self._refused = str(error)

    def _world(self):
        return world_from_dict(self._sim.state())

    # -- threads ----------------------------------------------------------------------------------

    def _work(self, work: Callable[[], None]) -> None:
        """Nobody steers any more when this ends: then the node must end, too."""
        try:
            work()
        finally:
            self.failed = not self._closing.is_set()

    def _stream(self) -> None:
        """Chunks when they are due, until the node ends."""
        while not self._closing.is_set():
            with self._lock:
                before = self._session.state
                chunk = self._session.work(time.monotonic_ns())
                after, due_ns = self._session.state, self._session.due_ns
            if chunk is not None:
                offset_ns = ros_offset_ns(self.get_clock())
                self._chunks.publish(convert.chunk_to_msg(chunk, offset_ns))
            if after == 'lost' != before:
                threading.Thread(target=self._give_back, daemon=True).start()
            wait_s = POLL_S if due_ns is None else (due_ns - time.monotonic_ns()) * 1e-9
            self._closing.wait(min(max(wait_s, 0.0), POLL_S))

    def _listen(self) -> None:
        """What the vendor's program commands, as the driver tells its own commands."""
        names = self.contract.channel_names
        while not self._closing.wait(XR_POLL_S):
            row = self._tap.poll()
            if row is None:
                continue
            known = np.isfinite(row.positions)
            msg = JointState()
            msg.header.stamp = to_msg(row.stamp_ns + ros_offset_ns(self.get_clock()))
            msg.name = [n for n, k in zip(names, known, strict=True) if k] + [WEIGHT_NAME]
            msg.position = array('d', [*row.positions[known].tolist(), row.weight])
            self._commands.publish(msg)
            self._heard = row

    def _start(self, engage: bool) -> None:
        """Make the driver tell of the robot; take the arms over where that was asked for."""
        deadline = time.monotonic() + STARTING_S
        while not self._closing.is_set():
            try:
                self._driver.configure(CONFIGURE_S)
                if engage and self._session is not None:
                    self._engage()
                return
            except (NodeUnavailableError, SimulatorTimeoutError) as error:
                if time.monotonic() > deadline:
                    self.get_logger().error(f'not engaged: {error}')
                    return
                self._closing.wait(1.0)

    # -- services ---------------------------------------------------------------------------------

    def _engage(self) -> None:
        """Take the arms over; the operator's clutch does the rest."""
        self._driver.configure(CONFIGURE_S)
        if self._driver.state() == State.PRIMARY_STATE_ACTIVE:
            self._driver.deactivate(DEACTIVATE_S)
        self._in_force.clear()
        self._driver.activate(ACTIVATE_S)
        if self._session.device.name == 'expert':
            if not self._in_force.wait(COMMAND_S):
                raise NodeUnavailableError('g1_driver tells no joint_commands')
            seed = int(self.get_parameter('seed').value)
            self._sim.wait_state(COMMAND_S)
            with self._lock:
                command = self._session.command_in_force
                self._session.device.begin(command, seed, time.monotonic_ns())

    def _give_back(self) -> None:
        try:
            self._driver.deactivate(DEACTIVATE_S)
        except NodeUnavailableError as error:
            self.get_logger().error(f'the arms were not given back: {error}')

    def _answer(self, response: Trigger.Response, act) -> Trigger.Response:
        try:
            act()
            response.success = True
        except (NodeUnavailableError, SimulatorTimeoutError, ValueError) as error:
            response.message = str(error)
            self.get_logger().error(response.message)
        return response

    def _on_engage(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Take the arms over."""
        if self._session is None:
            response.message = 'device xr listens only: the vendor\'s program moves the robot'
            return response
        return self._answer(response, self._engage)

    def _on_release(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Give the arms back."""
        return self._answer(response, lambda: self._driver.deactivate(DEACTIVATE_S))

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Twin: give the arms back and put the scene in order by the parameter `seed`."""
        if self._sim is None:
            response.message = 'only a simulated scene can be reset: put the real one in order'
            return response

        def act() -> None:
            self._driver.deactivate(DEACTIVATE_S)
            self._sim.reset(self._task, int(self.get_parameter('seed').value))

        return self._answer(response, act)

    # -- state ------------------------------------------------------------------------------------

    def _publish_state(self) -> None:
        if self._session is not None:
            with self._lock:
                status = self._session.status()
        else:
            heard = self._heard
            age_s = None if heard is None else (time.monotonic_ns() - heard.stamp_ns) * 1e-9
            status = {
                'state': 'listening',
                'device': 'xr',
                'command_age_s': None if age_s is None else round(age_s, 3),
                'weight': None if heard is None else heard.weight,
                'refused': self._tap.rows.refused,
            }
        self._state.publish(String(data=json.dumps({**status, 'refused_command': self._refused})))


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(TeleopNode, argv, failed=lambda node: node.failed)


if __name__ == '__main__':
    sys.exit(main())
