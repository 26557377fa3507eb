# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The robot as numbers: description, contract, timed chunks, limits, executor (numpy only)."""
