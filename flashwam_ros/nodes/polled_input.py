# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Many subscriptions read by one thread that looks every few milliseconds.

The executor builds a new wait set for each batch of messages, which for a dozen topics and some
hundred messages a second costs several times as much as taking the messages. What only writes
them down can afford to look a little later: the middleware's own stamp says when each arrived.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile

from flashwam_ros.robot.clock import robot_clock

log = logging.getLogger(__name__)

PERIOD_S = 0.02
CATCH_UP_S = 1.0
OnMessage = Callable[[bytes, int], None]
"""Called with the serialised message and its arrival (ns, system time of the robot's clock)."""


class _Unattended(CallbackGroup):
    """Entities that no executor ever waits for."""

    def can_execute(self, entity) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity) -> None:
        """Nothing to do."""


class PolledInput:
    """Subscriptions of a node with one reading thread.

    Args:
        node: owner.
    """

    def __init__(self, node: Node):
        self._node = node
        self._group = _Unattended()
        self._subscriptions: list[tuple] = []
        self._stopping = threading.Event()
        self._rounds = 0
        self._thread: threading.Thread | None = None

    def add(self, kind: type, name: str, qos: QoSProfile, on_message: OnMessage) -> None:
        """Subscribe; only before `start`."""
        subscription = self._node.create_subscription(
            kind, name, _never, qos, callback_group=self._group, raw=True
        )
        self._subscriptions.append((subscription, kind, on_message))

    def start(self) -> None:
        """Begin to read."""
        self._thread = threading.Thread(target=self._run, name='polled-input', daemon=True)
        self._thread.start()

    def catch_up(self, timeout_s: float = CATCH_UP_S) -> None:
        """Wait until what has arrived by now was handed on, at most `timeout_s`."""
        # The round under way may have passed a topic already: the next one counts.
        enough, deadline = self._rounds + 2, time.monotonic() + timeout_s
        while self._rounds < enough and time.monotonic() < deadline:
            time.sleep(PERIOD_S / 4)

    def close(self) -> None:
        """Read no more and unsubscribe."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        for subscription, _, _ in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _run(self) -> None:
        while not self._stopping.is_set():
            begin = time.monotonic()
            for subscription, kind, on_message in self._subscriptions:
                try:
                    _drain(subscription, kind, on_message)
                except Exception:
                    log.exception('a message of %s could not be taken', subscription.topic_name)
            self._rounds += 1
            # In steps of the period, also when a step took long: the thread must leave room.
            self._stopping.wait(max(PERIOD_S / 4, begin + PERIOD_S - time.monotonic()))


def _drain(subscription, kind: type, on_message: OnMessage) -> None:
    while True:
        with subscription.handle:
            taken = subscription.handle.take_message(kind, True)
        if taken is None:
            return
        data, info = taken
        # Up to a period old: on a slow clock less of its time has passed since.
        received_ns = info['received_timestamp'] or time.time_ns()
        on_message(data, robot_clock.of_past_system_ns(received_ns))


def _never(message: bytes) -> None:
    """No executor calls it."""
