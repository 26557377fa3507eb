# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video-only DMD2 with the native action loss (baseline, appendix A.3.4): L_DM(video) + L_reg."""

from dataclasses import dataclass
from typing import ClassVar

from .distribution_matching import DistributionMatching


@dataclass(frozen=True)
class VideoDmd2Reg(DistributionMatching):
    """Options: see DistributionMatching."""

    name: ClassVar[str] = 'video_dmd2_reg'
    joint: ClassVar[bool] = False
