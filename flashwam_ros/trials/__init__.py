# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trials: what must be in order before a robot moves, and what a study is made of."""
