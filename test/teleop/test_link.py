# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.teleop.link import Link, LinkWatch, TransitClock

S = 1_000_000_000
PERIOD = 40_000_000


def test_age_decides(settings):
    watch = LinkWatch(settings)
    hold, release = (round(t * S) for t in (settings.hold_after_s, settings.release_after_s))
    assert watch.state(None, 5 * S) is Link.WAITING
    for age, state in ((0, 'live'), (hold, 'live'), (hold + 1, 'stale'), (release, 'stale'),
                       (release + 1, 'lost')):  # fmt: skip
        assert str(watch.state(5 * S, 5 * S + age)) == state


@given(st.integers(-(10**15), 10**15), st.lists(st.integers(0, 2 * S), min_size=1, max_size=40))
def test_a_stamp_is_no_later_than_the_arrival_and_a_stall_gives_old_ones(offset, transits):
    """Whatever the offset of the clocks: late is late by as much as it exceeds the quickest."""
    clock, sent, quickest = TransitClock(), 10**12, None
    drift = round(1e-4 * (len(transits) * PERIOD + 2 * S))
    for transit in transits:
        sent += PERIOD
        quickest = transit if quickest is None else min(quickest, transit)
        stamp = clock.stamp_ns(sent + offset, sent + transit)
        assert stamp <= sent + transit
        assert sent + quickest <= stamp <= sent + quickest + drift


@given(st.integers(-(10**15), 10**15), st.integers(S // 2, 10 * S))
def test_a_delay_that_lasts_is_never_forgotten(offset, late):
    """A connection that becomes slow and stays so gives no command that could count as live."""
    clock, ages = TransitClock(), []
    for i in range(2200):
        sent = 10**12 + i * PERIOD
        arrival = sent + 5_000_000 + (late if i >= 200 else 0)
        ages.append(arrival - clock.stamp_ns(sent + offset, arrival))
    assert max(ages[:200]) == 0
    assert min(ages[200:]) > late - S // 50


@pytest.mark.parametrize('ppm', [-100, -20, 20, 100])
def test_clocks_that_drift_make_nothing_old(ppm):
    clock, jitter = TransitClock(), random.Random(1)
    for i in range(3600 * 25):
        sent = 10**12 + i * PERIOD
        arrival = sent + 2_000_000 + jitter.randrange(8_000_000)
        stamp = clock.stamp_ns(sent + i * PERIOD * ppm // 10**6, arrival)
        assert 0 <= arrival - stamp < 50_000_000
