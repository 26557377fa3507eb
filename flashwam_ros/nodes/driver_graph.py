# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a ROS graph has more than one driver: all of them would obey the same requests."""

from __future__ import annotations

import time

from rclpy.node import Node

PREDECESSOR_S = 8.0
"""With the wait for the robot's state less than a client waits for `configure` (15 s)."""
_POLL_S = 0.1
REMEDY = 'end the other graph, or start this one with another ROS_DOMAIN_ID'


def second_driver(node: Node, driver: str, topic: str, publishers: int = 1) -> str:
    """What shows that there is more than one driver, '' where nothing does.

    A driver that was killed is remembered by whoever ran at that time, for the middleware's lease
    (Fast DDS 20 s, Cyclone DDS 10 s); who starts later never hears of it.

    Args:
        node: whose view of the graph.
        driver: fully qualified name of the driver's node.
        topic: absolute name of its status topic.
        publishers: how many publishers of that topic there may be.
    """
    nodes = [
        name
        for name, namespace in node.get_node_names_and_namespaces()
        if f'{namespace.rstrip("/")}/{name}' == driver
    ]
    found = {tuple(info.endpoint_gid) for info in node.get_publishers_info_by_topic(topic)}
    signs = [f'{len(nodes)} nodes {driver}'] if len(nodes) > 1 else []
    if len(found) > publishers:
        signs.append(f'{len(found)} publishers of {topic}, {publishers} expected')
    return ', '.join(signs)


def wait_for_predecessor(node: Node, driver: str, topic: str) -> str:
    """Wait up to `PREDECESSOR_S` for a driver that is just ending.

    Args:
        node: whose view of the graph.
        driver: fully qualified name of the driver's node.
        topic: absolute name of its status topic; nobody may publish it.

    Returns:
        What still shows another driver after that, '' where nothing does.
    """
    deadline = time.monotonic() + PREDECESSOR_S
    while (signs := second_driver(node, driver, topic, publishers=0)) and (
        time.monotonic() < deadline
    ):
        time.sleep(_POLL_S)
    return signs
