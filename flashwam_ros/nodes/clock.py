# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The edge between the robot's clock inside and ROS time outside.

The offset is read anew for every message, so a step of the system clock moves stamps of all nodes
alike.
"""

from __future__ import annotations

from builtin_interfaces.msg import Time
from rclpy.clock import Clock
from rclpy.node import Node

from flashwam_ros.robot.clock import robot_clock

SECOND_NS = 1_000_000_000
_READINGS = 5
_CLOSE_NS = 50_000


def ros_now_ns(node: Node) -> int:
    """ROS time as the robot's clock has it, ns."""
    return robot_clock.from_system_ns(node.get_clock().now().nanoseconds)


def ros_offset_ns(clock: Clock, monotonic=robot_clock.monotonic_ns) -> int:
    """What to add to a monotonic stamp to get ROS time, ns.

    Two clocks cannot be read at once, and on a busy machine milliseconds may pass between the two
    readings: the narrowest of a few bracketed readings counts.
    """
    best_ns, offset_ns = None, 0
    for _ in range(_READINGS):
        before = monotonic()
        ros = robot_clock.from_system_ns(clock.now().nanoseconds)
        after = monotonic()
        if best_ns is None or after - before < best_ns:
            best_ns, offset_ns = after - before, ros - (before + after) // 2
        if best_ns < _CLOSE_NS:
            break
    return offset_ns


def to_msg(stamp_ns: int) -> Time:
    """ROS time in ns as a message; negative stamps become zero."""
    seconds, nanoseconds = divmod(max(int(stamp_ns), 0), SECOND_NS)
    return Time(sec=seconds, nanosec=nanoseconds)


def from_msg(stamp: Time) -> int:
    """ROS time of a message, ns."""
    return stamp.sec * SECOND_NS + stamp.nanosec
