# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training objectives: one small module per method behind one interface (``base.Objective``)."""
