# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""World-action models on a Unitree G1: from teleoperated demonstrations to a scored trial."""
