# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Adapters to the robot's own wire: Unitree DDS, Dex1-1 grippers, the camera server's stream."""
