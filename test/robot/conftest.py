# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

# The tests of this room share robot_support.py.
sys.path.insert(0, str(Path(__file__).parent))
