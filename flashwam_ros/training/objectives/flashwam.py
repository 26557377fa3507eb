# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Flash-WAM (the paper's method): LCM form on video, linear form on actions.

    f_v = c_skip x + c_out (x - s v)
    c_skip = sd^2 / (s^2 + sd^2),  c_out = s sd / sqrt(s^2 + sd^2),  sd = 0.5
    f_a = x - s v
    L = L_v + lambda_action L_a + lambda_reg L_reg

Eq. 12 has no regulariser, the paper's table of hyper-parameters 0.2 and the published code 0.01;
the default is the table's.
"""

from dataclasses import dataclass
from typing import ClassVar

from .consistency import ConsistencyDistillation


@dataclass(frozen=True)
class FlashWam(ConsistencyDistillation):
    """Options: see ConsistencyDistillation."""

    lambda_reg: float = 0.2

    name: ClassVar[str] = 'flashwam'
    video_form: ClassVar[str] = 'lcm'
    action_form: ClassVar[str] = 'linear'
