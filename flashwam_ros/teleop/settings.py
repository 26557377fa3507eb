# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of teleoperation, from ``config/teleop/teleop.yaml``; see the comments there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from flashwam_ros.resources import share_path


@dataclass(frozen=True)
class TeleopSettings:
    """See the comments in the file; s, m, rad and their rates."""

    hold_after_s: float
    release_after_s: float
    come_within_s: float
    lead_s: float
    linear_speed: float
    angular_speed: float
    linear_acceleration: float
    angular_acceleration: float
    translation_scale: float
    reach_m: float
    reach_rad: float
    velocity: float
    acceleration: float
    home_velocity: float
    self_m: float
    table_m: float
    watch_m: float
    approach_rate: float
    steps_per_row: int
    position_cost: float
    orientation_cost: float
    posture_cost: float
    posture_s: float
    damping_cost: float
    gain: float

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ValueError: A number is not positive, or times are in the wrong order.
        """
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f'{field.name}: {getattr(self, field.name)} must be positive')
        if not self.hold_after_s < self.release_after_s:
            raise ValueError('hold_after_s must be shorter than release_after_s')

    @classmethod
    def load(cls, path: Path | None = None) -> TeleopSettings:
        """Read the settings (default: the installed file).

        Raises:
            TypeError: An entry is missing or unknown; the message names it.
            ValueError: See the class.
        """
        path = path or share_path('config', 'teleop', 'teleop.yaml')
        sections = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
        entries = {}
        for section in sections.values():
            entries.update(section)
        return cls(**entries)
