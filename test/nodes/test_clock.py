# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from flashwam_ros.nodes.clock import ros_offset_ns  # noqa: E402

OFFSET_NS = 1_700_000_000_000_000_000


class StolenTime:
    """Two clocks on one time line, where the processor is taken away between some readings."""

    def __init__(self, pauses_ns):
        self.now_ns = 0
        self._pauses = iter(pauses_ns)

    def monotonic(self):
        now = self.now_ns
        self.now_ns += next(self._pauses, 1000)
        return now

    def now(self):
        stamp = self.now_ns + OFFSET_NS
        self.now_ns += 1000
        return SimpleNamespace(nanoseconds=stamp)


def test_a_pause_between_two_readings_does_not_shift_the_offset():
    times = StolenTime([8_000_000, 1000, 5_000_000])
    assert abs(ros_offset_ns(times, times.monotonic) - OFFSET_NS) < 10_000


def test_the_best_of_only_bad_readings_counts():
    times = StolenTime([9_000_000, 0, 2_000_000, 0, 9_000_000, 0, 9_000_000, 0, 9_000_000, 0])
    assert abs(ros_offset_ns(times, times.monotonic) - OFFSET_NS) <= 1_001_000
