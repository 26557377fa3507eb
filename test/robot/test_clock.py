# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The robot's clock: proportions kept, monotonic, the same in every process that is told of it."""

import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.robot.clock import SLOWEST, VARIABLE, RobotClock, robot_clock

FACTORS = st.floats(SLOWEST, 1.0)
TIMES = st.integers(0, 10**15)


@given(FACTORS, TIMES, TIMES, TIMES)
def test_time_passes_in_proportion_and_never_back(factor, anchor, first, second):
    clock = RobotClock(factor, anchor)
    first, second = sorted((first, second))
    passed = (second - clock.behind_ns(second)) - (first - clock.behind_ns(first))
    assert passed >= 0
    assert passed == pytest.approx(factor * (second - first), rel=1e-9, abs=2.0)
    assert clock.behind_ns(anchor) == 0, 'both clocks agree at the anchor'


@given(FACTORS, TIMES)
def test_another_process_gets_the_same_clock(factor, anchor):
    clock = RobotClock(factor, anchor)
    told = RobotClock.of_process(clock.environment)
    assert told.factor == factor
    assert told.behind_ns(anchor + 10**9) == clock.behind_ns(anchor + 10**9)


def test_unless_told_otherwise_it_is_the_clock_of_the_machine():
    assert RobotClock().environment == {}
    assert RobotClock.of_process({'HOME': '/root'}) == RobotClock()
    assert RobotClock().behind_ns(10**15) == 0
    before = time.monotonic_ns()
    assert before <= robot_clock.monotonic_ns() <= time.monotonic_ns()


@pytest.mark.parametrize('factor', [0.0, -1.0, 1.1, SLOWEST / 2, math.nan, math.inf])
def test_a_factor_out_of_range_is_refused(factor):
    with pytest.raises(ValueError, match='real-time factor'):
        RobotClock(factor)


@pytest.mark.parametrize('text', ['0.5', 'half@1', '0.5@', '2@0', '@', '0.5@1.5'])
def test_a_clock_that_cannot_be_read_stops_the_process(text):
    with pytest.raises(ValueError, match=VARIABLE):
        RobotClock.of_process({VARIABLE: text})


def test_stamps_and_sleeps_are_slowed_alike():
    clock = RobotClock.starting_now(0.25)
    stamp, mono, machine = clock.time_ns(), clock.monotonic_ns(), time.monotonic_ns()
    clock.sleep(0.02)
    slept = time.monotonic_ns() - machine
    assert slept >= 80_000_000, '0.02 s of the slow clock are 0.08 s'
    passed = clock.monotonic_ns() - mono
    assert 0.25 * slept == pytest.approx(passed, rel=0.25)
    assert clock.time_ns() - stamp == pytest.approx(passed, rel=0.25)
    assert clock.machine_s(1.0) == 4.0


def test_a_past_reading_of_the_system_clock(monkeypatch):
    now = {'mono': 10**9, 'system': 5 * 10**9}
    monkeypatch.setattr('flashwam_ros.robot.clock.time', SimpleNamespace(
        monotonic_ns=lambda: now['mono'], time_ns=lambda: now['system']))

    def wait(ns):
        now.update(mono=now['mono'] + ns, system=now['system'] + ns)

    slow, real = RobotClock.starting_now(0.5), RobotClock()
    wait(400)
    then, told, told_real = now['system'], slow.time_ns(), real.time_ns()
    for _ in range(3):
        assert slow.of_past_system_ns(then) == told
        assert real.of_past_system_ns(then) == told_real == then
        wait(20_000_000)
    assert slow.of_past_system_ns(now['system'] + 500) == slow.time_ns(), 'never from the future'


def test_a_slowed_process_opens_no_wire_that_may_lead_to_a_robot():
    pytest.importorskip('cyclonedds')
    code = ('from flashwam_ros.wire.robot_bus import RobotBus\n'
            'from flashwam_ros.wire.participant import DomainError\n'
            'try: RobotBus(44, "eth7")\n'
            'except DomainError as error: print(error)\n')
    slow = RobotClock.starting_now(0.5).environment
    done = subprocess.run([sys.executable, '-c', code], env={**os.environ, **slow},
                          capture_output=True, text=True, timeout=60, check=True)
    assert VARIABLE in done.stdout and 'keeps real time: unset it' in done.stdout, done.stderr
