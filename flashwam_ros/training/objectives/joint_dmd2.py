# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Joint DMD2 (baseline, appendix A.3.4): L = L_DM(video) + 0.1 L_DM(action)."""

from dataclasses import dataclass
from typing import ClassVar

from .distribution_matching import DistributionMatching


@dataclass(frozen=True)
class JointDmd2(DistributionMatching):
    """Options: see DistributionMatching."""

    name: ClassVar[str] = 'joint_dmd2'
    joint: ClassVar[bool] = True
