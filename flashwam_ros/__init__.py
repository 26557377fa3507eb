# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""World-action models on a Unitree G1: from teleoperated demonstrations to a scored trial."""

from pkgutil import extend_path

# In a checkout the hand-written modules lie here and the generated `flashwam_ros.msg` and
# `flashwam_ros.action` in the install space: one package in two folders.
__path__ = extend_path(__path__, __name__)
