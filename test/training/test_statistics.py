# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Intervals and tests against published values and against their own definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.step_effects import effects
from flashwam_ros.training.statistics import (
    Pairs,
    holm,
    lower_bound,
    mcnemar,
    non_inferiority,
    paired_score,
    sign_flip,
    wilson,
)

#: Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009) and complete
#: response before and after consolidation (Cavo et al. 2012), the examples of Fagerland, Lydersen
#: and Laake; sterilisation of lenses with hydrogen peroxide and with heat (Tango 1998).
BENTUR, CAVO, LENSES = Pairs(1, 1, 7, 12), Pairs(59, 6, 16, 80), Pairs(43, 0, 1, 0)
COUNTS = st.builds(Pairs, *[st.integers(0, 30)] * 4).filter(lambda pairs: pairs.count)


@pytest.mark.parametrize('successes, count, low, high', [
    (0, 100, 0.0, 0.0370), (50, 100, 0.4038, 0.5962), (100, 100, 0.9630, 1.0),
    (8, 10, 0.4902, 0.9433)])
def test_wilson_against_published_values(successes, count, low, high):
    assert wilson(successes, count) == pytest.approx((low, high), abs=1e-4)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match='3 successes of 2'):
        wilson(3, 2)


@pytest.mark.parametrize('pairs, p', [(BENTUR, 0.0703), (CAVO, 0.0525), (LENSES, 1.0),
                                      (Pairs(5, 0, 0, 5), 1.0), (Pairs(0, 0, 6, 0), 0.03125)])
def test_mcnemar_against_published_values(pairs, p):
    assert mcnemar(pairs) == pytest.approx(p, abs=5e-5)


@given(COUNTS)
def test_mcnemar_does_not_care_who_is_first(pairs):
    swapped = Pairs(pairs.both, pairs.second, pairs.first, pairs.neither)
    assert mcnemar(pairs) == mcnemar(swapped)
    assert 0 < mcnemar(pairs) <= 1


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_flipping_signs_of_single_outcomes_is_mcnemar(first, second, ties):
    p = sign_flip([1] * first + [-1] * second + [0] * ties)
    assert p == pytest.approx(mcnemar(Pairs(ties, first, second, 0)))


def test_a_scene_that_counts_twice_is_one_scene():
    assert sign_flip([2, 2, 2]) == pytest.approx(2 / 8)
    assert sign_flip([2, 1, -1]) == pytest.approx(6 / 8)
    assert sign_flip([]) == 1


def test_effects_of_video_and_action_steps_are_told_apart():
    won = {(1, 2): [True, True], (1, 20): [False, True], (10, 2): [True, False],
           (10, 20): [False, False]}
    assert effects(won, (1, 10), (2, 20), 'action') == [2, 0]
    assert effects(won, (1, 10), (2, 20), 'video') == [0, 2]


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_score_against_published_values():
    # Tango 1998: Z = 1.709, one-sided p = 0.044 at a margin of 10 points, 90 % limit -0.096.
    assert paired_score([LENSES], -0.1) == pytest.approx(1.709, abs=5e-4)
    result = non_inferiority([LENSES], 0.1)
    assert result.p_value == pytest.approx(0.044, abs=5e-4)
    assert result.lower == pytest.approx(-0.096, abs=5e-4)
    assert result.shown
    # Fagerland, Lydersen and Laake, chapter 8: 95 % limits of the difference -0.286.
    assert lower_bound([BENTUR], 0.025) == pytest.approx(-0.517, abs=5e-4)
    upper = -lower_bound([Pairs(1, 7, 1, 12)], 0.025)
    assert upper == pytest.approx(-0.026, abs=5e-4)


@given(st.lists(COUNTS, min_size=1, max_size=3), st.floats(0.01, 0.5))
def test_verdict_p_value_and_bound_agree(strata, margin):
    result = non_inferiority(strata, margin)
    assert result.shown == (result.p_value < 0.05)
    if abs(result.lower + margin) > 1e-6:
        assert result.shown == (result.lower > -margin)
    assert -1 <= result.lower <= result.difference


@given(COUNTS, st.floats(-0.5, 0.5))
def test_a_stratum_cut_in_two_equal_parts_changes_nothing(pairs, difference):
    twice = Pairs(2 * pairs.both, 2 * pairs.first, 2 * pairs.second, 2 * pairs.neither)
    assert paired_score([pairs, pairs], difference) == pytest.approx(
        paired_score([twice], difference), abs=1e-9)


def test_false_alarms_at_the_margin_stay_near_five_percent():
    """Also where the tasks differ in how much is lost, as long as the sum is the margin."""
    rng = np.random.default_rng(0)
    shapes = [(0.60, 0.05, 0.07, 0.28), (0.40, 0.10, 0.18, 0.32), (0.20, 0.03, 0.17, 0.60)]
    lost = np.mean([second - first for _, first, second, _ in shapes])
    draws = [rng.multinomial(67, shape, 2000) for shape in shapes]
    alarms = sum(paired_score([Pairs(*map(int, d[i])) for d in draws], -lost) > 1.645
                 for i in range(2000))
    assert 0.03 < alarms / 2000 < 0.065


def test_impossible_questions_are_refused():
    with pytest.raises(ValueError, match='no pairs'):
        paired_score([Pairs(0, 0, 0, 0)], 0.0)
    with pytest.raises(ValueError, match='margin'):
        non_inferiority([BENTUR], 0.0)
    with pytest.raises(ValueError, match='negative'):
        Pairs(-1, 0, 0, 0)
