# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When rows flow, when the arms hold, when they are given back."""

import numpy as np
import pytest

pytest.importorskip('mink')
pytest.importorskip('daqp')

from flashwam_ros.robot.chunk import AppliedChunk  # noqa: E402
from flashwam_ros.teleop.command import ArmCommand, OperatorCommand  # noqa: E402
from flashwam_ros.teleop.session import TeleopSession  # noqa: E402

S = 1_000_000_000
POLL_NS = 10_000_000
UP = (0.0, 0.0, 0.1, 0.0, 0.0, 0.0)


class Hand:
    """A device whose command is set by the test; it says it again all the time, or is silent."""

    name = 'hand'

    def __init__(self):
        self.clutch = self.home = self.pause = False
        self.silent = self.never = False
        self._last = None

    def command(self, now_ns):
        if self.never:
            return None
        if not self.silent:
            arms = (ArmCommand(self.clutch, twist=UP), ArmCommand())
            self._last = OperatorCommand(now_ns, arms, self.home, self.pause)
        return self._last


class Rig:
    """A session with a driver that executes every chunk at once and perfectly."""

    def __init__(self, contract, home):
        self.hand, self.home, self.now_ns = Hand(), home, 10**12
        self.session = TeleopSession(contract, self.hand)
        self.chunks, self.row_ns = [], round(contract.row_duration_s * 1e9)
        self.answers = True

    def engage(self):
        self.session.driver('ENGAGE')
        self.session.in_force(self.home)
        self.session.driver('HOLD')
        return self

    def go(self, seconds):
        end = self.now_ns + round(seconds * S)
        while self.now_ns < end:
            chunk = self.session.work(self.now_ns)
            if chunk is not None:
                self.chunks.append(chunk)
                if self.answers:
                    self._account(chunk)
            self.now_ns += POLL_NS
        return self.session.state

    def _account(self, chunk):
        start = self.now_ns + self.row_ns // 2
        if len(self.chunks) > 1 and self.chunks[-2].session == chunk.session:
            start = max(start, self.end_ns)
        rows = chunk.positions[chunk.first_row :]
        stamps = tuple(start + (i + 1) * self.row_ns for i in range(len(rows)))
        self.end_ns = stamps[-1]
        for complete in (False, True):
            self.session.applied(AppliedChunk(
                session=chunk.session, index=chunk.index, first_row=chunk.first_row,
                start_ns=start, row_duration_s=chunk.row_duration_s, positions=rows,
                row_stamps_ns=stamps, key_frame_due_ns=stamps[-1:], complete=complete,
                slack_s=0.02, boundary_jump_rad=0.0, limited_ticks=0,
                arm_limited_ticks=0))  # fmt: skip

    def moved(self):
        return np.abs(self.chunks[-1].positions[-1] - self.home).max() if self.chunks else 0.0


@pytest.fixture
def rig(contract, home):
    return Rig(contract, home)


def stream(rig):
    rig.engage().go(0.1)
    rig.hand.clutch = True
    assert rig.go(0.5) == 'streaming'
    return rig


def test_nothing_flows_before_the_driver_holds_the_arms(rig):
    rig.hand.clutch = True
    assert rig.go(0.2) == 'waiting' and not rig.chunks
    rig.session.driver('ENGAGE')
    assert rig.go(0.1) == 'waiting'


def test_nothing_flows_before_the_first_press(rig):
    assert rig.engage().go(3.0) == 'ready' and not rig.chunks


def test_a_clutch_that_was_held_at_the_engagement_must_be_let_go_first(rig):
    rig.hand.clutch = True
    assert rig.engage().go(1.0) == 'ready' and not rig.chunks
    rig.hand.clutch = False
    rig.go(0.05)
    rig.hand.clutch = True
    assert rig.go(0.3) == 'streaming'


def test_the_first_chunk_begins_where_the_arms_are(rig):
    stream(rig)
    first = rig.chunks[0]
    assert (first.index, first.predecessor) == (0, -1)
    assert np.abs(first.positions[first.first_row] - rig.home).max() < 0.03, 'one row of motion'
    assert rig.moved() > 0.02
    assert [c.index for c in rig.chunks] == list(range(len(rig.chunks)))
    assert len({c.session for c in rig.chunks}) == 1


def test_rows_go_on_standing_still_while_the_clutch_is_open(rig):
    stream(rig)
    rig.hand.clutch = False
    rig.go(0.3)
    count, still = len(rig.chunks), rig.chunks[-1].positions[-1]
    assert rig.go(1.0) == 'streaming'
    assert len(rig.chunks) - count == pytest.approx(10, abs=1)
    np.testing.assert_array_equal(rig.chunks[-1].positions[-1], still)


def test_pause_stands_still_whatever_is_held(rig):
    stream(rig)
    rig.hand.pause = True
    rig.go(0.3)
    still = rig.chunks[-1].positions[-1]
    rig.go(0.3)
    rig.hand.pause = False
    rig.go(0.3)
    np.testing.assert_array_equal(rig.chunks[-1].positions[-1], still)
    rig.hand.clutch = False
    rig.go(0.15)
    rig.hand.clutch = True
    rig.go(0.3)
    assert np.abs(rig.chunks[-1].positions[-1] - still).max() > 0.005


def test_a_stale_link_holds_and_then_gives_the_arms_back(rig):
    settings = rig.session.settings
    stream(rig)
    rig.hand.silent = True
    assert rig.go(settings.hold_after_s + 0.4) == 'streaming'
    still = rig.chunks[-1].positions[-1]
    assert rig.session.status()['link'] == 'stale'
    assert rig.go(settings.release_after_s - settings.hold_after_s - 1.0) == 'streaming'
    np.testing.assert_array_equal(rig.chunks[-1].positions[-1], still)
    assert rig.go(1.0) == 'lost'
    count = len(rig.chunks)
    assert 'given back' in rig.session.note
    # The operator is back, clutch in hand: nothing moves until the arms are taken over anew.
    rig.hand.silent = False
    assert rig.go(1.0) == 'lost' and len(rig.chunks) == count
    rig.session.driver('RETREAT')
    rig.session.driver('PASSIVE')
    assert rig.session.state == 'waiting'
    assert rig.engage().go(0.5) == 'ready' and len(rig.chunks) == count


def test_a_short_gap_holds_and_goes_on_after_a_new_press(rig):
    stream(rig)
    rig.hand.silent = True
    rig.go(1.0)
    still = rig.chunks[-1].positions[-1]
    rig.hand.silent = False
    rig.go(0.5)
    np.testing.assert_array_equal(rig.chunks[-1].positions[-1], still)
    rig.hand.clutch = False
    rig.go(0.15)
    rig.hand.clutch = True
    rig.go(0.4)
    assert np.abs(rig.chunks[-1].positions[-1] - still).max() > 0.005


def test_an_operator_who_left_before_the_first_press_leaves_no_held_arms(rig):
    release_s = rig.session.settings.release_after_s
    rig.engage().go(0.5)
    rig.hand.silent = True
    assert rig.go(release_s) == 'ready'
    # From then on there were as many seconds to come back as there are in the middle of a motion.
    assert rig.go(release_s + 0.5) == 'lost'


def test_arms_taken_over_before_the_operator_is_there_wait_for_one_but_not_for_ever(rig):
    rig.hand.never = True
    within_s = rig.session.settings.come_within_s
    assert rig.engage().go(within_s - 1.0) == 'ready'
    assert rig.go(2.0) == 'lost' and 'no command at all' in rig.session.note


def test_stop_ends_the_stream_until_the_arms_are_taken_over_anew(rig):
    stream(rig)
    rig.session.driver('HOLD', ['stop: service'])
    count = len(rig.chunks)
    assert rig.go(0.5) == 'stopped' and len(rig.chunks) == count
    assert 'STOP' in rig.session.note
    rig.session.driver('RELEASE')
    rig.session.driver('PASSIVE')
    rig.engage()
    rig.hand.clutch = False
    rig.go(0.1)
    rig.hand.clutch = True
    assert rig.go(0.3) == 'streaming'
    assert rig.chunks[-1].session != rig.chunks[count - 1].session


def test_a_driver_that_leaves_ends_the_stream_with_its_mode(rig):
    stream(rig)
    rig.session.driver('RETREAT')
    assert rig.go(0.2) == 'waiting' and 'RETREAT' in rig.session.note


def test_a_driver_that_executes_nothing_is_noticed(rig):
    rig.answers = False
    rig.engage().go(0.1)
    rig.hand.clutch = True
    assert rig.go(0.5) == 'streaming' and len(rig.chunks) == 1, 'no second one before the first'
    assert rig.go(1.5) == 'ready' and 'does not execute' in rig.session.note


def test_a_refused_chunk_ends_the_stream_with_the_reason(rig):
    stream(rig)
    count = len(rig.chunks)
    rig.session.driver('EXECUTE', ['chunk_rejected: queue full'])
    assert rig.go(0.5) == 'ready' and len(rig.chunks) == count
    assert 'queue full' in rig.session.status()['note']
    rig.hand.clutch = False
    rig.go(0.05)
    rig.hand.clutch = True
    assert rig.go(0.3) == 'streaming'


def test_rest_ends_the_stream_at_once(rig):
    stream(rig)
    count = len(rig.chunks)
    rig.session.rest()
    assert rig.go(1.0) == 'ready' and len(rig.chunks) == count, 'the clutch is still held'


def test_a_gripper_keeps_what_it_was_told_over_a_new_session(rig, home):
    """What the driver writes is bounded in torque; taking that over would open the hand."""
    stream(rig)
    rig.session.driver('HOLD', ['stop: service'])
    told = rig.session.teleoperator.command[14:]
    written = home.copy()
    written[14:] = told - 0.3
    rig.session.in_force(written)
    rig.session.state = 'ready'
    rig.hand.clutch = False
    rig.go(0.05)
    rig.hand.clutch = True
    rig.go(0.3)
    np.testing.assert_allclose(rig.chunks[-1].positions[-1, 14:], told)


def test_status_is_json_and_tells_latency(rig):
    import json

    json.dumps(rig.session.status(), allow_nan=False)
    stream(rig)
    status = json.loads(json.dumps(rig.session.status(), allow_nan=False))
    assert status['state'] == 'streaming' and status['held'] == {'left': True, 'right': False}
    assert 20.0 < status['latency_ms']['p50'] < 120.0 and status['late_chunks'] == 0
