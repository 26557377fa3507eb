# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teleoperation: devices -> operator commands -> one inverse kinematics -> rows for the driver."""
