# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.teleop.link import Link, LinkWatch, TransitClock

S = 1_000_000_000


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
    for transit in transits:
        sent += 40_000_000
        quickest = transit if quickest is None else min(quickest, transit)
        stamp = clock.stamp_ns(sent + offset, sent + transit)
        assert stamp <= sent + transit
        assert stamp == sent + quickest
