# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Helpers of these tests can be imported by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
