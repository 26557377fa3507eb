# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Intervals, paired tests and non-inferiority of success counts."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist


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


@dataclass(frozen=True)
class Pairs:
    """Two policies on the same episodes: how many each of the four outcomes.

    Attributes:
        both: both succeeded.
        first: only the first did.
        second: only the second did.
        neither: none did.
    """

    both: int
    first: int
    second: int
    neither: int

    def __post_init__(self) -> None:
        """Refuse counts that are no counts."""
        if min(self.both, self.first, self.second, self.neither) < 0:
            raise ValueError(f'negative counts: {self}')

    @property
    def count(self) -> int:
        """Episodes."""
        return self.both + self.first + self.second + self.neither

    @classmethod
    def of(cls, outcomes: Iterable[tuple[bool, bool]]) -> Pairs:
        """Count (first succeeded, second succeeded)."""
        counts = Counter((bool(first), bool(second)) for first, second in outcomes)
        return cls(counts[True, True], counts[True, False], counts[False, True],
                   counts[False, False])


def mcnemar(pairs: Pairs) -> float:
    """Two-sided exact p-value of McNemar's test: a sign test on the discordant pairs.

    The binomial tail of the smaller discordant count, doubled and capped at 1 (conditional exact
    test; Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, chapter 8).
    """
    n = pairs.first + pairs.second
    tail = sum(math.comb(n, k) for k in range(min(pairs.first, pairs.second) + 1))
    return min(1.0, 2 * tail / 2 ** n)


def sign_flip(differences: Sequence[int]) -> float:
    """Two-sided exact p-value that whole-number differences have no direction.

    Fisher's randomisation test: under the hypothesis every difference is as likely with the
    other sign; the p-value is the share of all sign patterns whose sum is as far from 0.
    """
    shares = {0: 1.0}
    for difference in differences:
        flipped: defaultdict[int, float] = defaultdict(float)
        for total, share in shares.items():
            flipped[total + difference] += share / 2
            flipped[total - difference] += share / 2
        shares = flipped
    seen = abs(sum(differences))
    return sum(share for total, share in shares.items() if abs(total) >= seen)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of a family of p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


@dataclass(frozen=True)
class NonInferiority:
    """A one-sided comparison of a new policy with a reference.

    Attributes:
        count: pairs.
        difference: success of the new one less that of the reference, -1..1.
        lower: one-sided lower confidence bound of it.
        margin: what was stated beforehand.
        p_value: of the hypothesis that the new one is worse by the margin or more.
        shown: the lower bound lies above -margin.
    """

    count: int
    difference: float
    lower: float
    margin: float
    p_value: float
    shown: bool


def paired_score(strata: Sequence[Pairs], difference: float) -> float:
    """Score statistic of H0 "first less second is ``difference`` in every stratum".

    Tango (Statistics in Medicine 17, 1998): the discordant probabilities of a stratum are
    estimated under the hypothesis (its restricted maximum likelihood estimate), which keeps the
    variance positive when no pair is discordant. Over strata, differences and variances are
    summed, so a stratum counts with its size. About standard normal; ValueError without pairs.
    """
    if not sum(pairs.count for pairs in strata):
        raise ValueError('no pairs to compare')
    above = variance = 0.0
    for pairs in strata:
        n, b, c = pairs.count, pairs.first, pairs.second
        if not n:
            continue
        linear = (2 * n - b + c) * difference - b - c
        constant = -c * difference * (1 - difference)
        root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
        second_only = (root - linear) / (4 * n)
        above += b - c - n * difference
        variance += n * max(0.0, 2 * second_only + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, above) if above else 0.0
    return above / math.sqrt(variance)


def lower_bound(strata: Sequence[Pairs], alpha: float) -> float:
    """One-sided lower confidence bound of first less second: the score test inverted."""
    wanted = NormalDist().inv_cdf(1 - alpha)
    low, high = -1.0, sum(p.first - p.second for p in strata) / sum(p.count for p in strata)
    if high <= -1.0:
        return -1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if paired_score(strata, middle) > wanted else (low, middle)
    return low


def non_inferiority(strata: Sequence[Pairs], margin: float, alpha: float = 0.05) -> NonInferiority:
    """Whether the first (new) policy is worse than the second (reference) by less than a margin.

    One-sided at ``alpha``, paired on seeds, stratified (here: by task): `paired_score` at
    -``margin``, and the bound that its inversion gives.

    Raises:
        ValueError: no pairs, or a margin outside (0, 1).
    """
    if not 0 < margin < 1:
        raise ValueError(f'margin {margin} must lie between 0 and 1')
    score = paired_score(strata, -margin)
    count = sum(pairs.count for pairs in strata)
    return NonInferiority(
        count=count, difference=sum(p.first - p.second for p in strata) / count,
        lower=lower_bound(strata, alpha), margin=margin,
        p_value=1 - NormalDist().cdf(score),
        shown=score > NormalDist().inv_cdf(1 - alpha))
