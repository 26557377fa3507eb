# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whoever asked for a rollout and leaves takes the goal back, however the leaving comes about."""

import threading
import time

import pytest

pytest.importorskip('rclpy')

import rclpy  # noqa: E402
from rclpy.action import ActionServer, CancelResponse  # noqa: E402
from rclpy.callback_groups import ReentrantCallbackGroup  # noqa: E402
from rclpy.executors import MultiThreadedExecutor  # noqa: E402

from flashwam_ros.action import RunRollout  # noqa: E402
from flashwam_ros.nodes.rollout_client import RolloutClient  # noqa: E402


@pytest.fixture
def client():
    asks = RolloutClient('leaving')
    yield asks
    asks.close()


@pytest.fixture
def cancelled(client):
    """A rollout node whose rollout lasts until it is cancelled; the event says that it was."""
    node, seen = rclpy.create_node('rollout', namespace='leaving'), threading.Event()

    def execute(goal):
        while not goal.is_cancel_requested and rclpy.ok():
            time.sleep(0.01)
        goal.canceled()
        return RunRollout.Result()

    def cancel(_goal):
        seen.set()
        return CancelResponse.ACCEPT

    server = ActionServer(node, RunRollout, 'run_rollout', execute, cancel_callback=cancel,
                          callback_group=ReentrantCallbackGroup())
    executor = MultiThreadedExecutor(2)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield seen
    executor.shutdown()
    thread.join()
    server.destroy()
    node.destroy_node()


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_a_stop_that_raises_takes_the_goal_back(client, cancelled, error):
    def stop():
        raise error('the store is gone')

    with pytest.raises(error):
        client.run(RunRollout.Goal(), stop=stop)
    assert cancelled.wait(10.0)
