# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video-only LCM (baseline): the LCM form on video, no loss on actions; L = L_v.

The action part of the end point's input stays at its start noise level.
"""

from dataclasses import dataclass
from typing import ClassVar

from .consistency import ConsistencyDistillation


@dataclass(frozen=True)
class VideoLcm(ConsistencyDistillation):
    """Options: see ConsistencyDistillation."""

    name: ClassVar[str] = 'video_lcm'
