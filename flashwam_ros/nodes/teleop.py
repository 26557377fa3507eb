# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""teleop: an operator's device in, short action chunks for g1_driver out.

Device `xr` is passive: the vendor's program moves the robot, this node tells what it commands.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from flashwam_ros.bringup.settings import DEVICES
from flashwam_ros.msg import ActionChunk, AppliedActions, DriverStatus
from flashwam_ros.nodes import convert
from flashwam_ros.nodes.clock import from_msg, ros_offset_ns
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.lifecycle import (
    CHUNK_QOS,
    COMMAND_QOS,
    SENSOR_QOS,
    STATUS_QOS,
    declare,
    declare_wire,
    run_node,
)
from flashwam_ros.nodes.lifecycle_client import NodeUnavailableError
from flashwam_ros.nodes.operator_arms import OperatorArms, RedError
from flashwam_ros.nodes.teleop_episode import ExpertEpisodes
from flashwam_ros.nodes.teleop_listener import CommandListener
from flashwam_ros.robot.chunk_messages import applied_from_msg
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.teleop.command import CommandError
from flashwam_ros.teleop.joy import JoyDevice, JoyMapping
from flashwam_ros.teleop.session import TeleopSession
from flashwam_ros.teleop.settings import TeleopSettings
from flashwam_ros.teleop.web import WebDevice
from flashwam_ros.training.worker_life import end_with_parent
from flashwam_ros.twin.tasks import TASKS
from flashwam_ros.twin.world_json import world_from_dict
from flashwam_ros.wire.realtime import (
    STEERING_PRIORITY,
    SWITCH_INTERVAL_S,
    claim_realtime,
    prefer_session,
)
from flashwam_ros.wire.sim_bus import SimBus, SimulatorTimeoutError

STATE_S = 0.1
POLL_S = 0.01
SHORTEST_S = 0.001
STARTING_S = 60.0


class TeleopNode(Node):
    """Wires a device, a `TeleopSession` and the driver together.

    Attributes:
        task: what the graph was started for.
        sim: the twin, None on a robot.
        arms: takes them over and gives them back.
        session: None for the passive device.
        lock: held by whoever uses the session.
        started: set once the driver has been there.
    """

    def __init__(self):
        super().__init__('teleop')
        wire = declare_wire(self)
        robot = declare(self, 'robot', 'twin', 'twin or real')
        self.task = declare(self, 'task', 'red_bottle', f'one of {", ".join(TASKS)}')
        declare(self, 'seed', 0, 'twin: scene of the next reset', read_only=False)
        name = declare(self, 'device', 'web', f'one of {", ".join(DEVICES)}')
        mapping = declare(self, 'mapping', '', 'joy: mapping file, empty for the installed one')
        engage = declare(
            self, 'auto_engage', False, 'take the arms over as soon as the driver can be reached'
        )
        declare(self, 'frame_period', 0.05, 'nominal time between camera frames (s)',
                bounds=(0.005, 1))  # what the preflight expects
        folder = declare(self, 'episodes_dir', 'episodes', 'where the recorder needs space')
        if name not in DEVICES:
            raise ValueError(f'device {name!r} is not one of {", ".join(DEVICES)}')
        self.contract = RobotContract.load()
        self.sim = SimBus(*wire) if robot == 'twin' else None
        self._refused = ''
        self._planner: ProcessPoolExecutor | None = None
        self.failed = False
        self.lock = threading.Lock()
        self.started, self._closing = threading.Event(), threading.Event()
        self.arms = OperatorArms(self, self.contract, wire, Path(folder), self._rest)
        self._state = self.create_publisher(String, 'teleop/state', STATUS_QOS)
        self.session, self._listener, self._episodes = None, None, None
        if name == 'xr':
            self._listener = CommandListener(self, self.contract, wire)
        else:
            self.session = TeleopSession(self.contract, self._device(name, mapping))
            self._chunks = self.create_publisher(ActionChunk, 'action_chunk', CHUNK_QOS)
        if name == 'expert':
            self._episodes = ExpertEpisodes(self)
        self._create_entities(name)
        self._threads = [
            threading.Thread(target=self._work, name='stream', daemon=True),
            threading.Thread(target=self._start, args=(engage,), name='start', daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _device(self, name: str, mapping: str):
        if name == 'web':
            return WebDevice(TeleopSettings.load())
        if name == 'joy':
            return JoyDevice(JoyMapping.load(mapping))
        if self.sim is None:
            raise ValueError('device expert reads the simulator: use it with the twin only')
        from flashwam_ros.teleop.expert import ExpertDevice

        # A process: Python's lock is for the thread that steers.
        self._planner = ProcessPoolExecutor(1, get_context('spawn'), _planner_begins)
        self._planner.submit(time.monotonic_ns)  # starts it
        return ExpertDevice(self.task, self.contract, self._world, self._planner)

    def _create_entities(self, name: str) -> None:
        quick, slow = QuickGroup(), ReentrantCallbackGroup()
        self.create_timer(STATE_S, self._publish_state, callback_group=quick)
        wanted = []
        if self.session is not None:
            wanted += [
                (DriverStatus, 'driver_status', self._on_driver, STATUS_QOS),
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
            ('~/preflight', self._on_preflight),
            ('~/engage', self._on_engage),
            ('~/release', self._on_release),
            ('~/reset', self._on_reset),
        ):
            self.create_service(Trigger, service, callback, callback_group=slow)

    def finish(self, reason: str) -> None:
        """Let an episode come to its end; an operator's motion ends with the driver."""
        if self._episodes is not None:
            self._episodes.finish(reason)

    def destroy_node(self) -> None:
        """Stop the stream, leave the robot's wire."""
        self._closing.set()
        self._threads[0].join(1.0)
        for part in filter(None, (self._listener, self.sim, self.arms)):
            part.close()
        if self._planner is not None:
            self._planner.shutdown(wait=False, cancel_futures=True)
        super().destroy_node()

    # -- the driver -------------------------------------------------------------------------------

    def _on_driver(self, msg: DriverStatus) -> None:
        with self.lock:
            self.session.driver(msg.mode, msg.events)

    def _rest(self) -> None:
        if self.session is not None:
            with self.lock:
                self.session.rest()

    def _on_applied(self, msg: AppliedActions) -> None:
        account = applied_from_msg(msg)
        start_ns = account.start_ns - ros_offset_ns(self.get_clock())
        account = replace(account, start_ns=start_ns)
        with self.lock:
            self.session.applied(account)

    def _on_commands(self, msg: JointState) -> None:
        position = dict(zip(msg.name, msg.position, strict=False))
        command = np.array([position[name] for name in self.contract.channel_names])
        with self.lock:
            self.session.in_force(command)
        self.arms.in_force.set()

    # -- devices ----------------------------------------------------------------------------------

    def _on_text(self, msg: String) -> None:
        try:
            with self.lock:
                self.session.device.feed(msg.data, time.monotonic_ns())
        except CommandError as error:
            self._refuse(error)

    def _on_joy(self, msg: Joy) -> None:
        now_ns = time.monotonic_ns()
        stamp_ns = from_msg(msg.header.stamp) - ros_offset_ns(self.get_clock())
        try:
            with self.lock:
                self.session.device.feed(msg.axes, msg.buttons, min(stamp_ns, now_ns))
        except CommandError as error:
            self._refuse(error)

    def _refuse(self, error: CommandError) -> None:
        if str(error) != self._refused:
            self.get_logger().warning(f'command refused: {error}')
        self._refused = str(error)

    def _world(self):
        return world_from_dict(self.sim.state())

    # -- threads ----------------------------------------------------------------------------------

    def _work(self) -> None:
        """Nobody steers any more when this ends: then the node must end, too."""
        try:
            if self._listener is not None:
                self._listener.run(self._closing)
            else:
                self._stream()
        finally:
            self.failed = not self._closing.is_set()

    def _stream(self) -> None:
        """Chunks when they are due, until the node ends."""
        claim_realtime(STEERING_PRIORITY)
        while not self._closing.is_set():
            with self.lock:
                before = self.session.state
                chunk = self.session.work(time.monotonic_ns())
                after, due_ns = self.session.state, self.session.due_ns
            if chunk is not None:
                offset_ns = ros_offset_ns(self.get_clock())
                self._chunks.publish(convert.chunk_to_msg(chunk, offset_ns))
            if after == 'lost' != before:
                threading.Thread(target=self._lost, daemon=True).start()
            wait_s = POLL_S if due_ns is None else (due_ns - time.monotonic_ns()) * 1e-9
            self._closing.wait(min(max(wait_s, SHORTEST_S), POLL_S))

    def _lost(self) -> None:
        try:
            self.arms.give_back()
        except NodeUnavailableError as error:
            self.get_logger().error(f'the arms were not given back: {error}')

    def _start(self, engage: bool) -> None:
        """Make the driver tell of the robot; take the arms over where that was asked for."""
        deadline = time.monotonic() + STARTING_S
        while not self._closing.is_set():
            try:
                self.arms.configure()
                self.started.set()
                if engage and self.session is not None and self.session.state == 'waiting':
                    self.arms.take_over(since=0)
                return
            except NodeUnavailableError as error:
                # A red preflight may turn green; what an operator stopped is not tried again.
                again = isinstance(error, RedError) or not self.started.is_set()
                if not again or time.monotonic() > deadline:
                    self.get_logger().error(f'not engaged: {error}')
                    return
                self._closing.wait(1.0)

    # -- services ---------------------------------------------------------------------------------

    def _answer(self, response: Trigger.Response, act, idle: bool = True) -> Trigger.Response:
        """Act, unless that would disturb an episode (``idle``)."""
        try:
            if idle and self._episodes is not None and self._episodes.running:
                raise ValueError('an episode is running: cancel it first')
            act()
            response.success = True
        except (NodeUnavailableError, SimulatorTimeoutError, ValueError) as error:
            response.message = str(error)
            self.get_logger().error(response.message)
        return response

    def _on_preflight(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Look at everything without moving anything; the message is the report as JSON."""
        if self.session is None:
            response.message = 'device xr listens only: there is nothing that it could move'
            return response

        def act() -> None:
            self.arms.configure()
            response.message = self.arms.look().to_json()

        answer = self._answer(response, act)
        answer.success = answer.success and json.loads(answer.message)['ok']
        return answer

    def _on_engage(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Take the arms over."""
        if self.session is None or self._episodes is not None:
            response.message = (
                'device xr listens only: the vendor\'s program moves the robot'
                if self.session is None
                else 'the expert takes the arms over for an episode: ask for one (flashwam record)'
            )
            return response
        since = self.arms.releases
        return self._answer(response, lambda: self.arms.take_over(since))

    def _on_release(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Give the arms back."""
        return self._answer(response, self.arms.release, idle=False)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Twin: give the arms back and put the scene in order by the parameter `seed`."""
        if self.sim is None:
            response.message = 'only a simulated scene can be reset: put the real one in order'
            return response

        def act() -> None:
            self.arms.give_back()
            self.sim.reset(self.task, int(self.get_parameter('seed').value))

        return self._answer(response, act)

    # -- state ------------------------------------------------------------------------------------

    def _publish_state(self) -> None:
        if self._listener is not None:
            status = self._listener.status()
        else:
            with self.lock:
                status = self.session.status()
            status['refused_command'] = self._refused
            status['note'] = self.arms.red or status['note']
        self._state.publish(String(data=json.dumps(status)))


def _planner_begins() -> None:
    """In the planner's process: it ends with the node, and Ctrl-C is for the node."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the expert's episode is brought to its end first."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    prefer_session()
    return run_node(
        TeleopNode, argv, finish=TeleopNode.finish, failed=lambda node: node.failed
    )


if __name__ == '__main__':
    sys.exit(main())
