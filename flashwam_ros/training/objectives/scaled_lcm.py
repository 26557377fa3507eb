# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""LCM with the timestep scaling of the original LCM code on both streams.

    f = c_skip x + c_out (x - s v),  c_skip = sd^2 / (r^2 + sd^2),  c_out = r / sqrt(r^2 + sd^2)
    with r = timestep_scaling s,  L = L_v + lambda_action L_a

c_out(1) = 0.9988 (plain form 0.447): above s = 0.3 f is nearly the Euler step.
"""

from dataclasses import dataclass
from typing import ClassVar

from .consistency import ConsistencyDistillation


@dataclass(frozen=True)
class ScaledLcm(ConsistencyDistillation):
    """Options: see ConsistencyDistillation."""

    name: ClassVar[str] = 'scaled_lcm'
    video_form: ClassVar[str] = 'scaled_lcm'
    action_form: ClassVar[str] = 'scaled_lcm'
