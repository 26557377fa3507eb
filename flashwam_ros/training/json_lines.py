# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Files of one JSON object per line that grow, and that a kill may cut short at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def append_line(path: Path, entry: Mapping) -> None:
    """Add one object; a line that a kill cut short is closed first."""
    with open(path, 'ab+') as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b'\n':
                file.write(b'\n')
        file.write(json.dumps(entry).encode() + b'\n')
