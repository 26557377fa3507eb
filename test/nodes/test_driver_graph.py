# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""More than one driver in a ROS graph is noticed, by its node and by its status."""

import time

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
rclpy = pytest.importorskip('rclpy')

from std_msgs.msg import String  # noqa: E402

from flashwam_ros.nodes import driver_graph  # noqa: E402
from flashwam_ros.nodes.driver_graph import second_driver, wait_for_predecessor  # noqa: E402

DOMAIN = 62
NAME, TOPIC = '/g1_driver', '/driver_status'


class Graph:
    """Nodes of one process each, as far as the middleware knows."""

    def __init__(self):
        self.contexts = []

    def node(self, name='g1_driver', **options):
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        node = rclpy.create_node(name, context=context, **options)
        self.contexts.append((context, node))
        return node

    def end(self, node):
        context = next(context for context, owner in self.contexts if owner is node)
        self.contexts.remove((context, node))
        node.destroy_node()
        context.try_shutdown()


@pytest.fixture
def graph(monkeypatch):
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    graph = Graph()
    yield graph
    for _, node in list(graph.contexts):
        graph.end(node)


def test_a_second_driver_is_seen_until_it_has_ended(graph, until):
    driver = graph.node()
    driver.create_publisher(String, 'driver_status', 1)
    graph.node('other', namespace='/left')
    until(lambda: len(driver.get_node_names_and_namespaces()) == 2)
    assert second_driver(driver, NAME, TOPIC) == ''
    assert '1 publishers of /driver_status, 0 expected' in second_driver(driver, NAME, TOPIC, 0)
    second = graph.node()
    until(lambda: second_driver(driver, NAME, TOPIC) == '2 nodes /g1_driver')
    until(lambda: second_driver(second, NAME, TOPIC, 0).startswith('2 nodes /g1_driver, 1 pub'))
    second.create_publisher(String, 'driver_status', 1)
    until(lambda: '2 publishers of /driver_status' in second_driver(driver, NAME, TOPIC))
    graph.end(second)
    until(lambda: second_driver(driver, NAME, TOPIC) == '')


def test_that_of_another_namespace_is_no_rival(graph, until):
    driver = graph.node()
    other = graph.node(namespace='/left')
    other.create_publisher(String, 'driver_status', 1)
    until(lambda: driver.get_publishers_info_by_topic('/left/driver_status'))
    assert second_driver(driver, NAME, TOPIC, 0) == ''
    assert second_driver(other, '/left/g1_driver', '/left/driver_status') == ''


def test_a_predecessor_is_waited_for_but_not_for_ever(graph, until, monkeypatch):
    old, new = graph.node(), graph.node()
    until(lambda: second_driver(new, NAME, TOPIC, 0))
    monkeypatch.setattr(driver_graph, 'PREDECESSOR_S', 0.5)
    begun = time.monotonic()
    assert wait_for_predecessor(new, NAME, TOPIC) == '2 nodes /g1_driver'
    assert time.monotonic() - begun >= 0.5
    monkeypatch.setattr(driver_graph, 'PREDECESSOR_S', 30.0)
    graph.end(old)
    assert wait_for_predecessor(new, NAME, TOPIC) == ''
