# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A file that says that a driver holds the arms, for whoever finds the driver dead.

Without it a driver that died while it held nothing would be followed by a release, which takes the
arms at full weight for a moment: a motion that nobody asked for.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class ArmsClaim:
    """The file of one robot's wire; lies in memory where the system has a place for that.

    Args:
        domain: DDS domain of the robot.
        interface: network interface.
    """

    def __init__(self, domain: int, interface: str):
        folder = Path(os.environ.get('XDG_RUNTIME_DIR') or tempfile.gettempdir())
        self.path = folder / f'flashwam_arms_held_{os.getuid()}_{domain}_{interface}'

    def take(self) -> None:
        """Before the first command.

        Raises:
            OSError: it cannot be written; then nothing may be commanded.
        """
        self.path.write_text(f'{os.getpid()}\n', encoding='utf-8')

    def drop(self) -> None:
        """After the last one."""
        self.path.unlink(missing_ok=True)

    @property
    def taken(self) -> bool:
        """Whether arms are, or were left, held."""
        return self.path.exists()
