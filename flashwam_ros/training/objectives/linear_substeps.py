# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ours: linear (x0) form on both streams, with several teacher steps inside each jump.

    f = x - s v for video and actions,  L = L_v + lambda_action L_a

f is also the Euler step, so the student needs no sampler of its own, and a perfect network is a
fixed point. A jump of k = 500 ids by one Euler step is only a two-step teacher; `substeps` makes
the target better at the price of that many teacher passes.
"""

from dataclasses import dataclass
from typing import ClassVar

from .consistency import ConsistencyDistillation


@dataclass(frozen=True)
class LinearSubsteps(ConsistencyDistillation):
    """Options: see ConsistencyDistillation."""

    substeps: int = 4

    name: ClassVar[str] = 'linear_substeps'
    video_form: ClassVar[str] = 'linear'
    action_form: ClassVar[str] = 'linear'
