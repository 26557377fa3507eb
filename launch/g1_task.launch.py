# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated or real G1, driver, cameras, policy and rollout server for one task."""

from flashwam_ros.bringup.launch_adapter import describe


def generate_launch_description():
    """The graph is declared in flashwam_ros/bringup/graph.py."""
    return describe()
