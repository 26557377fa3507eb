# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Naive joint LCM (baseline): the LCM form, with sd = 0.5, on both streams, no regulariser.

    f = c_skip x + c_out (x - s v) for video and actions,  L = L_v + lambda_action L_a  (eq. 12)

The published code's `joint` mode keeps the linear form on actions; this is what the paper says.
"""

from dataclasses import dataclass
from typing import ClassVar

from .consistency import ConsistencyDistillation


@dataclass(frozen=True)
class NaiveJoint(ConsistencyDistillation):
    """Options: see ConsistencyDistillation."""

    name: ClassVar[str] = 'naive_joint'
    video_form: ClassVar[str] = 'lcm'
    action_form: ClassVar[str] = 'lcm'
