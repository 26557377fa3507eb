# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated robot: MuJoCo G1 on the left of the wire."""
