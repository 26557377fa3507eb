# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""console: the operator's web page. Topics onto its board, its requests to services.

It listens to the graph only while a page is open: an unused console costs nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from flashwam_ros.bringup.settings import DEVICES
from flashwam_ros.console.app import make_app
from flashwam_ros.console.backend import Answer
from flashwam_ros.console.board import Board
from flashwam_ros.console.server import Server
from flashwam_ros.console.settings import ConsoleSettings
from flashwam_ros.console.timeline import ChunkLine
from flashwam_ros.episodes import messages as decode
from flashwam_ros.episodes import schemas
from flashwam_ros.episodes.schemas import image_topic
from flashwam_ros.msg import ActionChunk, AppliedActions, DriverStatus, PolicyStatus
from flashwam_ros.nodes.clock import ros_offset_ns
from flashwam_ros.nodes.driver_diagnostics import NAME as ROBOT_STATE
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.lifecycle import COMMAND_QOS, declare, declare_wire, run_node
from flashwam_ros.nodes.lifecycle_client import LifecycleClient, NodeUnavailableError
from flashwam_ros.nodes.polled_input import PolledInput
from flashwam_ros.robot.chunk import ChunkRejected
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.twin.tasks import TASKS
from flashwam_ros.wire.sim_bus import SimBus

ATTEND_S = 0.25
UNUSED_NS = 5_000_000_000
TWIN_S = 0.2
JOINTS_S = 0.05
ANSWER_S = 80.0
STOP_S = 1.0
FOUND_S = 2.0
_TELEOP_STATE = 'teleop/state'
_RECORDER_STATUS = 'recorder_status'
_TWIN = ('task', 'seed', 'success', 'stages', 'failure', 'real_time_factor')
_IMAGE_DEPTH, _DEPTH = 2, 20


class ConsoleNode(Node):
    """Node around a `Board` and a web server; the `Backend` of the page."""

    def __init__(self):
        super().__init__('console')
        self._wire = declare_wire(self)
        self.settings = ConsoleSettings(
            task=declare(self, 'task', 'red_bottle', f'one of {", ".join(TASKS)}'),
            robot=declare(self, 'robot', 'twin', 'twin or real'),
            device=declare(self, 'device', '', f'teleoperation: one of {", ".join(DEVICES)}'),
            episodes=Path(declare(self, 'episodes_dir', 'episodes', 'recordings')).absolute(),
            host=declare(self, 'host', '127.0.0.1', 'address to listen at'),
            port=declare(self, 'port', 8090, 'TCP port, 0: any free one', bounds=(0, 65535)),
            token=declare(self, 'token', '', 'secret of the page; made up where one is needed'),
            study_url=declare(self, 'study_url', '', 'address of a running study\'s own console'),
        )
        self.contract = RobotContract.load()
        self.board = Board(robot_clock.monotonic_ns)
        self._line = ChunkLine()
        self._stopped = False
        self._joints_ns: dict[str, int] = {}
        self._input: PolledInput | None = None
        self._sim: SimBus | None = None
        self._sim_ns = 0
        self._commands = self.create_publisher(String, 'teleop/command', COMMAND_QOS)
        self._recorder = LifecycleClient(self, 'recorder')
        self._teleop = LifecycleClient(self, 'teleop')
        group = QuickGroup()
        self._offered = {
            name: self.create_client(Trigger, name, callback_group=group)
            for name in ('g1_driver/stop', 'teleop/engage', 'teleop/release', 'teleop/reset',
                         'rollout/ready', 'recorder/start', 'recorder/stop', 'recorder/keep',
                         'recorder/discard')
        }  # fmt: skip
        app = make_app(self.settings, self.board, self, self.contract)
        self._server = Server(app, self.settings.host, self.settings.port)
        self._server.start()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._attend, name='attend', daemon=True)
        self._thread.start()
        self.get_logger().info(f'console: {self.settings.address(self._server.port)}')

    @property
    def failed(self) -> bool:
        """Whether pages are served no more."""
        return not self._server.alive

    def destroy_node(self) -> None:
        """Serve no more, leave the wire."""
        self._server.close()
        self._closing.set()
        self._thread.join(2.0)
        super().destroy_node()

    # -- listening --------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Listen while a page is open, and a little longer."""
        while not self._closing.wait(TWIN_S if self._sim is not None else ATTEND_S):
            seen_ns = self.board.now_ns() - self.board.seen_ns
            wanted = bool(self.board.pages and self.board.seen_ns) and seen_ns < UNUSED_NS
            if wanted and self._input is None:
                self._listen()
            elif not wanted and self._input is not None:
                self._leave()
            self._take_twin()
        self._leave()

    def _listen(self) -> None:
        self._input = PolledInput(self)
        for camera in self.contract.cameras:
            self._hear(CompressedImage, image_topic(camera.topic),
                       partial(self._on_image, camera.key), _IMAGE_DEPTH)  # fmt: skip
        for message, name, on_message in (
            (JointState, schemas.JOINT_STATES, partial(self._on_joints, 'joints')),
            (JointState, schemas.JOINT_COMMANDS, partial(self._on_joints, 'commands')),
            (ActionChunk, schemas.ACTION_CHUNK, self._on_chunk),
            (AppliedActions, schemas.APPLIED, self._on_applied),
            (DriverStatus, schemas.DRIVER_STATUS, self._on_driver),
            (PolicyStatus, schemas.POLICY_STATUS, self._on_policy),
            (DiagnosticArray, schemas.DIAGNOSTICS, self._on_diagnostics),
            (String, _TELEOP_STATE, partial(self._on_text, 'teleop')),
            (String, _RECORDER_STATUS, partial(self._on_text, 'recorder')),
        ):
            self._hear(message, name, on_message, _DEPTH)
        self._input.start()
        if self.settings.robot == 'twin':
            self._sim = SimBus(*self._wire)

    def _hear(self, message: type, name: str, on_message, depth: int) -> None:
        # A page that missed something asks for the next one: nothing is sent a second time for it.
        qos = QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        kind = f'{message.__module__.partition(".")[0]}/msg/{message.__name__}'
        self._input.add(message, name, qos, partial(on_message, kind))

    def _leave(self) -> None:
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._sim is not None:
            self._sim.close()
            self._sim = None

    def _mono_ns(self, ros_ns: int) -> int:
        return ros_ns - ros_offset_ns(self.get_clock())

    # -- topics -----------------------------------------------------------------------------------

    def _on_image(self, camera: str, kind: str, data: bytes, arrival_ns: int) -> None:
        stamp_ns = self._mono_ns(decode.header_stamp_ns(data))
        self.board.put_frame(camera, bytes(decode.image_jpeg(memoryview(data))), stamp_ns)

    def _on_joints(self, part: str, kind: str, data: bytes, arrival_ns: int) -> None:
        # Decoding all of them would cost more than showing them.
        if arrival_ns - self._joints_ns.get(part, 0) < JOINTS_S * 1e9:
            return
        self._joints_ns[part] = arrival_ns
        sample = decode.joints(data, kind)
        position = dict(zip(sample.names, sample.position, strict=False))
        values = np.array([position.get(n, np.nan) for n in self.contract.channel_names])
        self.board.put(part, values, self._mono_ns(sample.stamp_ns))

    def _on_chunk(self, kind: str, data: bytes, arrival_ns: int) -> None:
        try:
            self._line.chunk(decode.chunk(data, kind), self._mono_ns(arrival_ns))
        except ChunkRejected:
            return  # the driver rejects it too, and says so
        self._put_chunks()

    def _on_applied(self, kind: str, data: bytes, arrival_ns: int) -> None:
        account = decode.applied(data, kind)
        self._line.applied(account, self._mono_ns(account.start_ns))
        self._put_chunks()

    def _put_chunks(self) -> None:
        self.board.put('chunks', self._line.bars(self.board.now_ns()))

    def _on_driver(self, kind: str, data: bytes, arrival_ns: int) -> None:
        state = decode.driver_state(data, kind)
        if any(event.startswith('stop:') for event in state.events):
            self._stopped = True
        elif state.mode != 'HOLD':
            self._stopped = False
        self.board.put('driver', {
            'mode': state.mode, 'reason': state.reason, 'weight': state.weight,
            'stopped': self._stopped, 'lateness_p99_s': state.tick_lateness_s[1],
            'limited_ticks': state.limited_ticks,
            'tracking_error_rad': state.tracking_error_rad,
        }, self._mono_ns(state.stamp_ns))  # fmt: skip
        # An empty line is news as well.
        self._put_chunks()

    def _on_policy(self, kind: str, data: bytes, arrival_ns: int) -> None:
        state = decode.policy_state(data, kind)
        self.board.put('policy', {
            'state': state.state, 'reason': state.reason, 'slack_s': state.slack_s,
            'chunk_latency_s': state.chunk_latency_s,
        }, self._mono_ns(state.stamp_ns))  # fmt: skip

    def _on_diagnostics(self, kind: str, data: bytes, arrival_ns: int) -> None:
        for status in decode.diagnostics(data, kind):
            if status.name == ROBOT_STATE:
                problem = status.message if status.level else ''
                self.board.put('robot', {**status.values, 'problem': problem})

    def _on_text(self, part: str, kind: str, data: bytes, arrival_ns: int) -> None:
        self.board.put(part, decode.json_text(data, kind))

    def _take_twin(self) -> None:
        state = None if self._sim is None else self._sim.state()
        if state is None or state['time_ns'] == self._sim_ns:
            return
        self._sim_ns = state['time_ns']
        self.board.put('twin', {name: state[name] for name in _TWIN},
                       self._mono_ns(self._sim_ns))  # fmt: skip

    # -- what the page asks for -------------------------------------------------------------------

    def teleop(self, text: str) -> None:
        """A command for the teleoperation node."""
        self._commands.publish(String(data=text))

    def act(self, action: str, values: Mapping[str, Any]) -> Answer:
        """Carry out an action of the page."""
        try:
            return getattr(self, f'_do_{action}')(**values)
        except NodeUnavailableError as error:
            return Answer(False, str(error))

    def _do_stop(self) -> Answer:
        return self._call('g1_driver/stop', STOP_S, STOP_S)

    def _do_engage(self) -> Answer:
        return self._call('teleop/engage')

    def _do_release(self) -> Answer:
        return self._call('teleop/release')

    def _do_ready(self) -> Answer:
        return self._call('rollout/ready')

    def _do_reset(self, seed: int) -> Answer:
        """Twin: the scene of a seed, and the arms taken over again, as at the start."""
        self._teleop.set_parameters({'seed': seed})
        done = self._call('teleop/reset')
        return self._call('teleop/engage') if done.ok else done

    def _do_record(self, prompt: str, operator: str) -> Answer:
        values = {'task': self.settings.task, 'prompt': prompt, 'operator': operator}
        self._recorder.set_parameters(values)
        return self._call('recorder/start')

    def _do_end(self) -> Answer:
        return self._call('recorder/stop')

    def _do_keep(self, operator: str) -> Answer:
        self._recorder.set_parameters({'operator': operator})
        return self._call('recorder/keep')

    def _do_discard(self, operator: str) -> Answer:
        self._recorder.set_parameters({'operator': operator})
        return self._call('recorder/discard')

    def _call(self, name: str, found_s: float = FOUND_S, answer_s: float = ANSWER_S) -> Answer:
        client = self._offered[name]
        deadline = time.monotonic() + found_s
        while not client.service_is_ready():
            if time.monotonic() > deadline:
                return Answer(False, f'nobody offers {name}: is that node running?')
            self._closing.wait(0.01)
        done = threading.Event()
        future = client.call_async(Trigger.Request())
        future.add_done_callback(lambda _: done.set())
        if not done.wait(answer_s):
            client.remove_pending_request(future)
            return Answer(False, f'no answer from {name} within {answer_s:.0f} s')
        response = future.result()
        return Answer(response.success, response.message)


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(ConsoleNode, argv, failed=lambda node: node.failed)


if __name__ == '__main__':
    sys.exit(main())
