# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Joints and pictures for a preflight in a node that has no other need of them.

Pictures are listened to only while they are looked at: taking them all the time costs a process
that steers more than the steering.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from flashwam_ros.nodes.clock import ros_now_ns
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.lifecycle import SENSOR_QOS
from flashwam_ros.robot.contract import RobotContract

FIRST_S = 3.0
_POLL_S = 0.02


class PreflightInputs:
    """What `PreflightProbe` takes from a `RolloutRecorder`; use as a context manager.

    Args:
        node: owner of the subscriptions.
        contract: cameras.

    Attributes:
        policy: no policy has told anything, ever.
        joints: newest joint state, None before the first.
        on_image: called with camera key and message of every frame while it is set.
    """

    policy = (None, 0)

    def __init__(self, node: Node, contract: RobotContract):
        self._node, self._contract = node, contract
        self._subscriptions: list = []
        self._seen: set[str] = set()
        self.joints: JointState | None = None
        self.on_image: Callable[[str, Image], None] | None = None

    def now_ns(self) -> int:
        """ROS time, ns."""
        return ros_now_ns(self._node)

    def __enter__(self) -> PreflightInputs:
        """Listen; returns when everything has been heard once, or after `FIRST_S`."""
        self._seen, self.joints, group = set(), None, QuickGroup()
        wanted = [(JointState, 'joint_states', self._on_joints)]
        wanted += [
            (Image, f'{camera.topic}/image_raw', partial(self._on_image, camera.key))
            for camera in self._contract.cameras
        ]
        self._subscriptions = [
            self._node.create_subscription(
                kind, topic, callback, SENSOR_QOS, callback_group=group)
            for kind, topic, callback in wanted
        ]  # fmt: skip
        deadline = time.monotonic() + FIRST_S
        while time.monotonic() < deadline and (
            self.joints is None or len(self._seen) < len(self._contract.cameras)
        ):
            time.sleep(_POLL_S)
        return self

    def __exit__(self, *_) -> None:
        """Listen no more."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_joints(self, msg: JointState) -> None:
        self.joints = msg

    def _on_image(self, camera: str, msg: Image) -> None:
        self._seen.add(camera)
        watching = self.on_image
        if watching is not None:
            watching(camera, msg)
