# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video-only LCM with the native action loss (baseline): L = L_v + lambda_reg L_reg."""

from dataclasses import dataclass
from typing import ClassVar

from .consistency import ConsistencyDistillation


@dataclass(frozen=True)
class VideoLcmReg(ConsistencyDistillation):
    """Options: see ConsistencyDistillation."""

    lambda_reg: float = 0.2

    name: ClassVar[str] = 'video_lcm_reg'
