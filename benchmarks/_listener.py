# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The measurements' own ROS node: hears the status topics, sends goals and, on request, chunks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import rclpy
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from flashwam_ros.action import RunRollout
from flashwam_ros.msg import ActionChunk, AppliedActions, DriverStatus, PolicyStatus
from flashwam_ros.nodes.lifecycle import CHUNK_QOS, COMMAND_QOS, STATUS_QOS

#: Name under which a relay hears the policy's chunks.
RELAYED = 'policy_chunk'
_SPIN_S = 0.1


@dataclass(frozen=True)
class Heard:
    """A message and when it came (monotonic ns)."""

    at_ns: int
    msg: object


class Running:
    """A goal under way."""

    def __init__(self) -> None:
        self.answered = False
        self.accepted = False
        self.result = None
        self.handle = None

    def cancel(self) -> None:
        """Ask for an orderly end."""
        if self.handle is not None:
            self.handle.cancel_goal_async()


class Listener:
    """Spins a node of its own context in a thread.

    Args:
        ros_domain: ROS domain id.

    Attributes:
        node: for clients and further subscriptions.
        driver, policy, chunks, starts, accounts: what came so far, lists of `Heard`.
        last_status, last_chunk: the newest, None before the first.
    """

    def __init__(self, ros_domain: int):
        self._context = Context()
        rclpy.init(
            args=[], context=self._context, domain_id=ros_domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )  # fmt: skip
        self.node = Node('measurement', context=self._context)
        self.clear()
        for kind, topic, callback, qos in (
            (DriverStatus, 'driver_status', self._on_driver, STATUS_QOS),
            (PolicyStatus, 'policy_status', self._on_policy, COMMAND_QOS),
            (ActionChunk, 'action_chunk', self._on_chunk, COMMAND_QOS),
            (AppliedActions, 'applied_actions', self._on_applied, COMMAND_QOS),
        ):
            self.node.create_subscription(kind, topic, callback, qos)
        self._client = ActionClient(self.node, RunRollout, 'run_rollout')
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, name='listener', daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Forget what was heard."""
        self.driver: list[Heard] = []
        self.policy: list[Heard] = []
        self.chunks: list[Heard] = []
        self.starts: list[Heard] = []
        self.accounts: list[Heard] = []

    @property
    def last_status(self) -> DriverStatus | None:
        """The newest status of the driver."""
        heard = self.driver
        return heard[-1].msg if heard else None

    @property
    def last_chunk(self) -> ActionChunk | None:
        """The newest chunk that went to the driver."""
        heard = self.chunks
        return heard[-1].msg if heard else None

    def mode(self) -> str:
        """The driver's mode as last heard, '' before."""
        status = self.last_status
        return status.mode if status else ''

    def server_is_ready(self) -> bool:
        """Whether a rollout server is there."""
        return self._client.server_is_ready()

    def send(self, **goal) -> Running:
        """Send a goal to `run_rollout` (fields as in the action)."""
        running = Running()

        def answered(future) -> None:
            running.handle = future.result()
            running.accepted = running.handle.accepted
            running.answered = True
            if running.accepted:
                running.handle.get_result_async().add_done_callback(done)

        def done(future) -> None:
            running.result = future.result().result

        self._client.send_goal_async(RunRollout.Goal(**goal)).add_done_callback(answered)
        return running

    def chunk_publisher(self):
        """A second publisher of action chunks."""
        return self.node.create_publisher(ActionChunk, 'action_chunk', CHUNK_QOS)

    def relay(self, change: Callable[[ActionChunk], list[ActionChunk]]):
        """Pass the policy's chunks (heard as `RELAYED`) on, as `change` returns them.

        Returns:
            The publisher that they go through.
        """
        publisher = self.chunk_publisher()

        def pass_on(msg: ActionChunk) -> None:
            for chunk in change(msg):
                publisher.publish(chunk)

        self.node.create_subscription(ActionChunk, RELAYED, pass_on, CHUNK_QOS)
        return publisher

    def close(self) -> None:
        """Stop listening."""
        self._closing = True
        self._thread.join(5.0)
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=_SPIN_S)

    def _on_driver(self, msg: DriverStatus) -> None:
        self.driver.append(Heard(time.monotonic_ns(), msg))

    def _on_policy(self, msg: PolicyStatus) -> None:
        self.policy.append(Heard(time.monotonic_ns(), msg))

    def _on_chunk(self, msg: ActionChunk) -> None:
        self.chunks.append(Heard(time.monotonic_ns(), msg))

    def _on_applied(self, msg: AppliedActions) -> None:
        target = self.accounts if msg.complete else self.starts
        target.append(Heard(time.monotonic_ns(), msg))
