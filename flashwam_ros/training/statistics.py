# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Interval estimates for success counts."""

from __future__ import annotations

import math


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion; (0, 1) for no trials.

    Raises:
        ValueError: more successes than trials, or negative counts.
    """
    if not 0 <= successes <= count:
        raise ValueError(f'{successes} successes of {count} trials')
    if count == 0:
        return 0.0, 1.0
    share = successes / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
