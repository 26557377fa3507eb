# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that fill a `RolloutLog`, and the newest state of everybody."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, JointState

from flashwam_ros.episodes.film_strip import FilmStrip
from flashwam_ros.episodes.messages import header_stamp_ns
from flashwam_ros.episodes.rollout_log import RolloutLog
from flashwam_ros.msg import ActionChunk, AppliedActions, DriverStatus, PolicyStatus
from flashwam_ros.nodes.clock import from_msg, ros_now_ns
from flashwam_ros.nodes.image_conversion import message_to_rgb
from flashwam_ros.nodes.lifecycle import COMMAND_QOS, SENSOR_QOS, STATUS_QOS
from flashwam_ros.nodes.polled_input import PolledInput
from flashwam_ros.robot.chunk_messages import applied_from_msg
from flashwam_ros.robot.contract import RobotContract

_WEIGHT = -1


class RolloutRecorder:
    """Listens all the time; records only while it has a log.

    Args:
        node: owner of the subscriptions.
        contract: cameras and channels.

    Attributes:
        driver: newest driver status, and when it came (ns, the node's clock).
        policy: newest policy status, and when it came.
        recent_events: last named events of the driver, recording or not.
        joints: newest joint state.
        on_image: called with camera key and message of every frame while it is set.
    """

    def __init__(self, node: Node, contract: RobotContract):
        self._node = node
        self._contract = contract
        self._log: RolloutLog | None = None
        self._strips: dict[str, FilmStrip] = {}
        self._mode = ''
        self.driver: tuple[DriverStatus | None, int] = (None, 0)
        self.policy: tuple[PolicyStatus | None, int] = (None, 0)
        self.recent_events: deque[str] = deque(maxlen=20)
        self.joints: JointState | None = None
        self.on_image: Callable[[str, Image], None] | None = None
        wanted = [
            (JointState, 'joint_states', self._on_measured, SENSOR_QOS),
            (JointState, 'joint_commands', self._on_commanded, SENSOR_QOS),
            (AppliedActions, 'applied_actions', self._on_applied, COMMAND_QOS),
            (ActionChunk, 'action_chunk', self._on_chunk, COMMAND_QOS),
            (DriverStatus, 'driver_status', self._on_driver, STATUS_QOS),
            (PolicyStatus, 'policy_status', self._on_policy, COMMAND_QOS),
        ]
        self._input = PolledInput(node)
        for kind, topic, callback, qos in wanted:
            self._input.add(kind, topic, qos, partial(_decode, kind, callback))
        for camera in contract.cameras:
            on_image = partial(self._on_image, camera.key)
            self._input.add(Image, f'{camera.topic}/image_raw', SENSOR_QOS, on_image)
        self._input.start()

    def close(self) -> None:
        """Listen no more."""
        self._input.close()

    def start(self, log: RolloutLog) -> None:
        """Record into this log from now on."""
        self._strips = {camera.key: FilmStrip() for camera in self._contract.cameras}
        log.frames = {key: strip.frames for key, strip in self._strips.items()}
        self._mode = ''
        self._log = log

    def stop(self) -> None:
        """Stop recording; the log is the caller's alone from now on."""
        self._input.catch_up()
        self._log, self._strips = None, {}

    def now_ns(self) -> int:
        """ROS time, ns."""
        return ros_now_ns(self._node)

    def _on_measured(self, msg: JointState) -> None:
        self.joints, log = msg, self._log
        if log is not None:
            position = dict(zip(msg.name, msg.position, strict=False))
            values = np.array([position[name] for name in self._contract.channel_names])
            with log.lock:
                log.measured.append((from_msg(msg.header.stamp), values))

    def _on_commanded(self, msg: JointState) -> None:
        log = self._log
        if log is not None:
            values = np.array(msg.position)
            with log.lock:
                log.commanded.append(
                    (from_msg(msg.header.stamp), values[:_WEIGHT], float(values[_WEIGHT]))
                )

    def _on_applied(self, msg: AppliedActions) -> None:
        log = self._log
        if log is not None and msg.session == log.setting.session:
            account = applied_from_msg(msg)
            with log.lock:
                (log.accounts if account.complete else log.starts).append(account)

    def _on_chunk(self, msg: ActionChunk) -> None:
        log = self._log
        if log is not None and msg.session == log.setting.session:
            with log.lock:
                log.latencies.append(dict(zip(msg.latency_names, msg.latency, strict=False)))

    def _on_driver(self, msg: DriverStatus) -> None:
        self.driver = (msg, self.now_ns())
        self.recent_events.extend(msg.events)
        log = self._log
        if log is None:
            return
        stamp = from_msg(msg.header.stamp)
        with log.lock:
            log.events.extend((stamp, text) for text in msg.events)
            log.lateness_s = (
                msg.tick_lateness_p50,
                msg.tick_lateness_p99,
                msg.tick_lateness_max,
            )
            if msg.weight == 1.0:
                log.tracking_rad = max(log.tracking_rad, msg.tracking_error)
            if msg.mode != self._mode:
                log.events.append((stamp, f'mode: {msg.mode}'))
                self._mode = msg.mode

    def _on_policy(self, msg: PolicyStatus) -> None:
        self.policy = (msg, self.now_ns())

    def _on_image(self, camera: str, data: bytes, arrival_ns: int) -> None:
        log, watching = self._log, self.on_image
        strip, stamp = self._strips.get(camera), header_stamp_ns(data)
        filmed = log is not None and strip is not None and strip.wants(stamp)
        if watching is None and not filmed:
            return  # most frames: not worth the unpacking
        msg = deserialize_message(data, Image)
        if watching is not None:
            watching(camera, msg)
        if filmed:
            with log.lock:
                strip.add(stamp, message_to_rgb(msg))


def _decode(kind: type, callback: Callable, data: bytes, arrival_ns: int) -> None:
    callback(deserialize_message(data, kind))
