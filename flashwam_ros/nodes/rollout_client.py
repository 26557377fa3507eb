# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Asks a running graph for rollouts: one goal at a time, with a way out while it waits."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
from action_msgs.msg import GoalStatus, GoalStatusArray
from rclpy.action import ActionClient
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from flashwam_ros.action import RunRollout
from flashwam_ros.bringup.terminal import RunError

SERVER_S = 60.0
RESULT_S = 1200.0
CANCEL_S = 5.0
_STATUS_S = 3.0
_SPIN_S = 0.1
_AT_WORK = (
    GoalStatus.STATUS_ACCEPTED, GoalStatus.STATUS_EXECUTING, GoalStatus.STATUS_CANCELING
)  # fmt: skip


class RolloutClient:
    """A node of its own that this thread spins while it waits.

    Args:
        namespace: of the graph, '' for none.
        check: called about ten times a second while waiting; raises `RunError` to give up.
    """

    def __init__(self, namespace: str, check: Callable[[], None] = lambda: None):
        self._check = check
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('rollout_client', namespace=namespace or None)
        self._client = ActionClient(self._node, RunRollout, 'run_rollout')
        self._ready = self._node.create_client(Trigger, 'rollout/ready')
        self._goals: list[GoalStatus] = []
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._node.create_subscription(
            GoalStatusArray, 'run_rollout/_action/status', self._on_goals, latched)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def wait_for_server(self, limit_s: float = SERVER_S) -> None:
        """Until the rollout node is there.

        Raises:
            RunError: it does not come.
        """
        late = f'the rollout node was not ready within {limit_s:.0f} s'
        self._until(self._client.server_is_ready, limit_s, late)

    def wait_until_idle(self, limit_s: float = RESULT_S) -> None:
        """Until no goal is at work, whoever sent it.

        Raises:
            RunError: one still is.
        """
        self.wait_for_server()
        deadline = time.monotonic() + _STATUS_S  # until the latched status has come
        while time.monotonic() < deadline:
            self._spin()
        late = f'a rollout is still running after {limit_s:.0f} s'
        self._until(lambda: not self._busy(), limit_s, late)

    def run(
        self,
        goal: RunRollout.Goal,
        feedback: Callable[[object], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> RunRollout.Result:
        """Send a goal and wait for its result.

        Args:
            goal: what to run.
            feedback: receives the feedback messages.
            stop: once true, the goal is cancelled and its result still waited for.

        Raises:
            RunError: refused, no answer, or `check` gave up. Then, and when `stop` itself raises,
                the goal is cancelled.
        """
        self.wait_for_server()
        sent = self._client.send_goal_async(goal, feedback_callback=feedback)
        self._until(sent.done, SERVER_S, f'no answer to the goal within {SERVER_S:.0f} s')
        handle = sent.result()
        if not handle.accepted:
            raise RunError('the goal was refused; the log of the rollout node says why')
        done, cancelled = handle.get_result_async(), []

        def over() -> bool:
            if not cancelled and stop():
                cancelled.append(handle.cancel_goal_async())
            return done.done()

        try:
            self._until(over, RESULT_S, f'no answer from the rollout within {RESULT_S:.0f} s')
        except BaseException:  # whatever makes the one who asked leave
            self._cancel(handle)
            raise
        return done.result().result

    def declare_ready(self) -> None:
        """Tell the rollout node that the scene is in order; returns at once."""
        if self._ready.service_is_ready():
            self._ready.call_async(Trigger.Request())

    def _cancel(self, handle) -> None:
        """The arms must not go on for somebody who has left: wait until the cancel is taken."""
        taken = handle.cancel_goal_async()
        deadline = time.monotonic() + CANCEL_S
        while not taken.done() and time.monotonic() < deadline:
            self._spin()

    def _on_goals(self, message: GoalStatusArray) -> None:
        self._goals = list(message.status_list)

    def _busy(self) -> bool:
        return any(goal.status in _AT_WORK for goal in self._goals)

    def _spin(self) -> None:
        rclpy.spin_once(self._node, timeout_sec=_SPIN_S)

    def _until(self, condition: Callable[[], bool], limit_s: float, late: str) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise RunError(late)
            self._spin()
