# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""World-action model: transformer, flow, codecs, streaming engine, checkpoints (no ROS)."""
