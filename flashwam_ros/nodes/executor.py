# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An executor that runs quick callbacks in its own thread, every other one in a new thread.

rclpy's MultiThreadedExecutor offers a callback again and again until a pool thread has begun with
it. That costs milliseconds of spinning per callback, and for ever where the pool is full.
"""

from __future__ import annotations

import threading

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import (
    ConditionReachedException,
    Executor,
    ExternalShutdownException,
    InvalidHandle,
    ShutdownException,
    TimeoutException,
)


class QuickGroup(MutuallyExclusiveCallbackGroup):
    """Callbacks that never block: they run in the executor's thread, one after the other."""


class NodeExecutor(Executor):
    """Quick callbacks inline; services, actions and whatever else may block in threads."""

    def __init__(self):
        super().__init__()
        self._failures: list[BaseException] = []

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for one callback and run it.

        Raises:
            BaseException: what a callback raised, here or in a thread before.
        """
        if self._failures:
            raise self._failures.pop(0)
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (
            ConditionReachedException,
            ExternalShutdownException,
            ShutdownException,
            TimeoutException,
            InvalidHandle,  # another thread has just destroyed what was to be waited for
        ):
            return
        if isinstance(getattr(entity, 'callback_group', None), QuickGroup):
            handler()
            if handler.exception() is not None:
                raise handler.exception()
            return
        begun = threading.Event()
        threading.Thread(
            target=self._run_slow, args=(handler, begun), name='callback', daemon=True
        ).start()
        begun.wait()

    def _run_slow(self, handler, begun: threading.Event) -> None:
        begun.set()
        handler()
        if handler.done() and handler.exception() is not None:
            self._failures.append(handler.exception())
