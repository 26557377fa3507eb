# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""shadow: a model looks on while something else moves the robot, and never commands anything.

It publishes diagnostics only. How far its chunks are from what was executed in their place stands
in `/diagnostics` (`shadow: distance`), which is recorded, and at the end of a session in the log.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from flashwam_ros.episodes.schemas import EPISODE_EVENT
from flashwam_ros.imaging import ImageError, to_policy_size
from flashwam_ros.msg import DriverStatus
from flashwam_ros.nodes.clock import from_msg, ros_now_ns, to_msg
from flashwam_ros.nodes.episode_events import BEGIN
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.g1_driver import WEIGHT_NAME
from flashwam_ros.nodes.image_conversion import message_to_rgb
from flashwam_ros.nodes.lifecycle import SENSOR_QOS, STATUS_QOS, declare, run_node
from flashwam_ros.policy.backends import PolicyChoice, make_policy
from flashwam_ros.policy.loop import LOOKAHEAD
from flashwam_ros.policy.shadow_session import ShadowSession
from flashwam_ros.robot.contract import Camera, RobotContract
from flashwam_ros.twin.tasks import TASKS

STEP_S = 0.05
STATUS_S = 1.0
NAME = 'shadow: distance'


class ShadowNode(Node):
    """A node around one `ShadowSession`."""

    def __init__(self):
        super().__init__('shadow')
        task = declare(self, 'task', '', 'its prompt is used where an episode tells none')
        steps = (0, 1000)
        choice = PolicyChoice(
            'wam',
            declare(self, 'checkpoint', '', 'folder of the world-action model'),
            declare(self, 'video_steps', 0, 'video sampler steps, 0: as the checkpoint',
                    bounds=steps),
            declare(self, 'action_steps', 0, 'action sampler steps, 0: as the checkpoint',
                    bounds=steps),
        )  # fmt: skip
        execution = declare(self, 'execution', 'sync', f'one of {", ".join(LOOKAHEAD)}')
        seed = declare(self, 'seed', 0, 'seed of the model\'s noise', bounds=(0, 2**62))
        period_s = declare(
            self, 'frame_period', 0.05, 'nominal time between camera frames (s)', bounds=(0.005, 1)
        )
        self._contract = RobotContract.load()
        self._session = ShadowSession(
            self._contract, lambda: ros_now_ns(self), execution, period_s
        )
        self._session.seed = seed
        self._session.prompt = TASKS[task].prompt if task in TASKS else ''
        self._loading = self._session.load(partial(make_policy, choice, self._contract))
        self._columns: dict[tuple[str, ...], np.ndarray] = {}
        self._listen()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        for period, callback in ((STEP_S, self._step), (STATUS_S, self._publish_status)):
            self.create_timer(period, callback, callback_group=QuickGroup())

    def _listen(self) -> None:
        quick = QuickGroup()
        wanted = [
            (Image, f'{camera.topic}/image_raw', partial(self._on_image, camera), SENSOR_QOS)
            for camera in self._contract.cameras
        ]
        wanted += [
            (JointState, 'joint_states', self._on_joints, SENSOR_QOS),
            (JointState, 'joint_commands', self._on_commands, SENSOR_QOS),
            (DriverStatus, 'driver_status', lambda m: self._session.mode(m.mode), STATUS_QOS),
            (String, EPISODE_EVENT, self._on_event, STATUS_QOS),
        ]
        for kind, topic, callback, qos in wanted:
            self.create_subscription(kind, topic, callback, qos, callback_group=quick)

    def destroy_node(self) -> None:
        """End the worker first."""
        self._session.close()
        super().destroy_node()

    # -- topics -----------------------------------------------------------------------------------

    def _on_image(self, camera: Camera, msg: Image) -> None:
        try:
            image = to_policy_size(message_to_rgb(msg), camera)
        except (ImageError, ValueError) as error:
            self.get_logger().error(f"camera '{camera.key}': {error}", throttle_duration_sec=1.0)
            return
        self._session.frame(camera.key, image, from_msg(msg.header.stamp))

    def _channels(self, msg: JointState) -> np.ndarray:
        """(C,) rad; NaN for a channel that the message does not name."""
        names = tuple(msg.name)
        if names not in self._columns:
            self._columns[names] = np.array([
                names.index(name) if name in names else len(names)
                for name in self._contract.channel_names
            ])  # fmt: skip
        return np.append(np.asarray(msg.position, np.float64), np.nan)[self._columns[names]]

    def _on_joints(self, msg: JointState) -> None:
        self._session.measured(from_msg(msg.header.stamp), self._channels(msg))

    def _on_commands(self, msg: JointState) -> None:
        weight = msg.position[msg.name.index(WEIGHT_NAME)] if WEIGHT_NAME in msg.name else 1.0
        self._session.commanded(from_msg(msg.header.stamp), self._channels(msg), weight)

    def _on_event(self, msg: String) -> None:
        try:
            event = json.loads(msg.data)
        except ValueError:
            return
        if event.get('event') == BEGIN:
            self._session.prompt = event.get('about', {}).get('prompt') or self._session.prompt

    # -- timers -----------------------------------------------------------------------------------

    def _step(self) -> None:
        if self._loading is not None and self._loading.done():
            self._tell_loaded(self._loading)
            self._loading = None
        ended = self._session.step()
        if ended is not None:
            self.get_logger().info(ended.text())

    def _tell_loaded(self, loading) -> None:
        error = loading.exception()
        if error is not None:
            self.get_logger().error(f'nothing is compared: {type(error).__name__}: {error}')
            return
        for warning in loading.result().warnings:
            self.get_logger().warning(warning)
        self.get_logger().info('looking on; begins when somebody moves the robot')

    def _publish_status(self) -> None:
        status = self._session.status()
        entry = DiagnosticStatus(name=NAME, hardware_id=status['session'])
        failed = status['state'] == 'error'
        entry.level = DiagnosticStatus.WARN if failed else DiagnosticStatus.OK
        entry.message = status['reason'] if failed else status['state']
        values = {'chunk latency s': f'{status["chunk_latency_s"]:.3f}',
                  **{name.replace('_', ' '): f'{value:.6g}'
                     for name, value in (status['distance'] or {}).items()}}  # fmt: skip
        entry.values = [KeyValue(key=name, value=value) for name, value in values.items()]
        message = DiagnosticArray(status=[entry])
        message.header.stamp = to_msg(ros_now_ns(self))
        self._diagnostics.publish(message)


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(ShadowNode, argv)


if __name__ == '__main__':
    sys.exit(main())
