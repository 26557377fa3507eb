# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Arrivals of polled messages: those of the middleware, on the robot's clock."""

import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
pytest.importorskip('rclpy')

from std_msgs.msg import String  # noqa: E402

from flashwam_ros.episodes.messages import json_text  # noqa: E402
from flashwam_ros.episodes.schemas import STRING_TYPE  # noqa: E402
from flashwam_ros.nodes import polled_input  # noqa: E402
from flashwam_ros.nodes.lifecycle import STATUS_QOS  # noqa: E402
from flashwam_ros.robot.clock import RobotClock  # noqa: E402

MESSAGES = 100


@pytest.mark.parametrize('factor', [1.0, 0.5])
def test_arrivals_lie_behind_their_stamps_and_in_order(listener, until, monkeypatch, factor):
    clock = RobotClock.starting_now(factor)
    monkeypatch.setattr(polled_input, 'robot_clock', clock)
    monkeypatch.setattr(polled_input, 'PERIOD_S', 0.1)
    heard = []
    source = polled_input.PolledInput(listener.node)
    source.add(String, 'told', STATUS_QOS,
               lambda data, at: heard.append((json_text(data, STRING_TYPE)['stamp_ns'], at)))
    publisher = listener.node.create_publisher(String, 'told', STATUS_QOS)
    source.start()
    try:
        until(publisher.get_subscription_count, what='the subscription')
        for _ in range(MESSAGES):
            publisher.publish(String(data=f'{{"stamp_ns": {clock.time_ns()}}}'))
            time.sleep(0.01)
        until(lambda: len(heard) == MESSAGES, what='all messages')
    finally:
        source.close()
    stamps, arrivals = np.array(heard).T
    assert (arrivals >= stamps).all()
    assert np.median(arrivals - stamps) < 20e6, 'the arrival, not when somebody looked'
    # Two clocks are read, one after the other: a pause in between may show.
    assert np.diff(arrivals).min() > -5e6
