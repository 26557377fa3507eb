# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a number of pairs could have shown, by summing over every outcome of the exact tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

from flashwam_ros.training.statistics import Pairs, mcnemar, non_inferiority

POWER = 0.8
_STEP = 0.005


def fewest_discordant(alpha: float = 0.05) -> int:
    """Scenes that only one of two arms must succeed in, all the same one, for p <= alpha."""
    count = 1
    while mcnemar(Pairs(0, count, 0, 0)) > alpha:
        count += 1
    return count


def _outcomes(n: int, first: float, second: float) -> Iterator[tuple[int, int, float]]:
    """(only first, only second, probability) of n pairs with these chances."""
    rest = 1.0 - first - second
    logs = [math.log(p) if p > 0 else -math.inf for p in (first, second, rest)]
    for b in range(n + 1):
        for c in range(n - b + 1):
            if (b and first <= 0) or (c and second <= 0) or (n - b - c and rest <= 0):
                continue
            ways = math.lgamma(n + 1) - math.lgamma(b + 1) - math.lgamma(c + 1) \
                - math.lgamma(n - b - c + 1)
            terms = (count * log for count, log in zip((b, c, n - b - c), logs, strict=True)
                     if count)
            yield b, c, math.exp(ways + sum(terms))


@lru_cache(maxsize=256)
def shown_share(n: int, discordant: float, margin: float, alpha: float) -> float:
    """Chance that a student as good as the teacher is shown to be non-inferior.

    Args:
        n: pairs.
        discordant: share of scenes in which only one of them succeeds.
        margin: stated beforehand.
        alpha: one-sided level.
    """
    return sum(
        chance for b, c, chance in _outcomes(n, discordant / 2, discordant / 2)
        if non_inferiority([Pairs(0, b, c, n - b - c)], margin, alpha).shown)


def smallest_margin(n: int, discordant: float, alpha: float) -> float | None:
    """Margin at which `shown_share` reaches 80 %, to half a point; None for none."""
    return _smallest(lambda margin: shown_share(n, discordant, margin, alpha), 1.0 - _STEP)


@lru_cache(maxsize=256)
def difference_share(n: int, discordant: float, difference: float, alpha: float) -> float:
    """Chance that a true difference of success gives p <= alpha in McNemar's exact test."""
    first, second = (discordant + difference) / 2, (discordant - difference) / 2
    return sum(chance for b, c, chance in _outcomes(n, first, max(0.0, second))
               if mcnemar(Pairs(0, b, c, 0)) <= alpha)


def smallest_difference(n: int, discordant: float, alpha: float = 0.05) -> float | None:
    """Difference at which `difference_share` reaches 80 %, to half a point; None for none.

    Two arms that differ by more than ``discordant`` are discordant in as many scenes.
    """
    return _smallest(lambda d: difference_share(n, max(discordant, d), d, alpha), 1.0)


def _smallest(share: Callable[[float], float], most: float) -> float | None:
    low, high = 1, round(most / _STEP)
    if share(round(high * _STEP, 6)) < POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        if share(round(middle * _STEP, 6)) >= POWER:
            high = middle
        else:
            low = middle + 1
    return round(low * _STEP, 6)
