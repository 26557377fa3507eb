# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The world-action model: transformer, flow, codecs, streaming engine, checkpoints (torch, no ROS)."""
