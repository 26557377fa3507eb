# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: the only room that imports rclpy."""
