# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A policy without authority: accounts of what others executed, distances, begin and end."""

import time

import numpy as np
import pytest

from flashwam_ros.policy.protocol import Prediction, StreamError
from flashwam_ros.policy.shadow import COMMANDED, MEASURED, Witness, summarise
from flashwam_ros.policy.shadow_session import ShadowSession
from flashwam_ros.robot.chunk import ActionChunk
from flashwam_ros.robot.contract import RobotContract

CONTRACT = RobotContract.load()
MS = 1_000_000
ROWS, STEP_NS = CONTRACT.rows_per_chunk, round(CONTRACT.row_duration_s * 1e9)
LAST = CONTRACT.actions_per_frame
T0 = 1_800_000_000_000_000_000


def pose(ns, speed=0.4):
    """All channels move at this speed (rad/s) from T0 on."""
    return np.full(len(CONTRACT.channels), speed * (ns - T0) * 1e-9)


def chunk(index, positions, first_row=0, session='s'):
    return ActionChunk(
        session=session, contract_hash=CONTRACT.sha256, index=index, predecessor=index - 1,
        row_duration_s=CONTRACT.row_duration_s, positions=positions,
        channel_names=CONTRACT.channel_names, first_row=first_row, stamp_ns=T0,
    )  # fmt: skip


def rows(value):
    return np.full((ROWS, len(CONTRACT.channels)), float(value))


def feed(witness, begin_ms, end_ms, commanded=True, measured=True):
    for ms in range(begin_ms, end_ms + 1, 20):
        ns = T0 + ms * MS
        if commanded:
            witness.commanded(ns, pose(ns))
        if measured:
            witness.measured(ns, pose(ns) - 0.01)


def test_a_chunk_begins_when_it_arrives_and_ends_with_the_rows_that_were_commanded():
    witness = Witness(CONTRACT)
    start = T0 + 100 * MS
    witness.submit(chunk(0, rows(0.0), first_row=LAST), start)
    assert witness.advance(start - 1) == ()
    (begun,) = witness.advance(start)
    assert not begun.complete and (begun.index, begun.start_ns, begun.first_row) == (0, start, 8)
    feed(witness, 0, 480)
    assert witness.advance(T0 + 480 * MS) == (), 'not over yet'
    feed(witness, 500, 520)
    (done,) = witness.advance(T0 + 520 * MS)
    assert done.complete and done.start_ns == start
    assert done.row_stamps_ns == tuple(start + (i + 1) * STEP_NS for i in range(ROWS - LAST))
    np.testing.assert_allclose(done.positions, [pose(ns) for ns in done.row_stamps_ns], atol=1e-9)
    (distance,) = witness.distances
    assert distance.source == COMMANDED
    np.testing.assert_allclose(distance.arm_mean, done.positions.mean())
    np.testing.assert_allclose(distance.arm_max, done.positions.max())
    moved = 0.4 * STEP_NS * 1e-9 * np.arange(1, ROWS - LAST + 1)
    np.testing.assert_allclose(distance.still_arm_mean, moved.mean())
    np.testing.assert_allclose(distance.still_gripper_mean, moved.mean())


def test_the_next_chunk_begins_at_the_end_of_the_one_before_and_tells_its_slack():
    witness = Witness(CONTRACT)
    witness.submit(chunk(0, rows(0.0), first_row=LAST), T0)
    witness.submit(chunk(1, rows(0.0)), T0 + MS)
    feed(witness, 0, 1400)
    accounts = witness.advance(T0 + 1400 * MS)
    assert [(a.index, a.complete) for a in accounts] == [(0, False), (0, True), (1, False),
                                                         (1, True)]
    assert accounts[2].start_ns == T0 + 8 * STEP_NS
    assert accounts[2].slack_s == pytest.approx(0.399)
    late = T0 + 2000 * MS
    witness.submit(chunk(2, rows(0.0)), late)
    (begun,) = witness.advance(late)
    assert begun.start_ns == late and begun.slack_s == pytest.approx(-0.8)


def test_measured_rows_stand_in_where_nobody_commands_and_for_channels_that_nobody_commands():
    witness = Witness(CONTRACT)
    witness.submit(chunk(0, rows(0.0), first_row=LAST), T0)
    feed(witness, 0, 600, commanded=False)
    done = witness.advance(T0 + 600 * MS)[-1]
    np.testing.assert_allclose(done.positions[-1], pose(done.row_stamps_ns[-1]) - 0.01, atol=1e-9)
    assert witness.distances[0].source == MEASURED

    witness.begin()
    witness.submit(chunk(0, rows(0.0), first_row=LAST), T0)
    grippers = CONTRACT.group('left_gripper', 'right_gripper')
    for ms in range(0, 601, 20):
        command = pose(T0 + ms * MS)
        command[grippers] = np.nan
        witness.commanded(T0 + ms * MS, command)
    done = witness.advance(T0 + 600 * MS)[-1]
    expected = pose(done.row_stamps_ns[-1])
    expected[grippers] -= 0.01
    np.testing.assert_allclose(done.positions[-1], expected, atol=1e-9)
    assert witness.distances[0].source == COMMANDED


def test_a_hole_in_the_commands_is_not_bridged():
    witness = Witness(CONTRACT)
    witness.submit(chunk(0, rows(0.0), first_row=LAST), T0)
    witness.advance(T0)
    feed(witness, 0, 100)
    feed(witness, 120, 700, commanded=False)
    feed(witness, 320, 700, measured=False)
    witness.advance(T0 + 700 * MS)
    assert witness.distances[0].source == MEASURED


def test_silence_is_named():
    witness = Witness(CONTRACT)
    witness.submit(chunk(0, rows(0.0), first_row=LAST), T0)
    witness.advance(T0 + 1300 * MS)
    with pytest.raises(StreamError, match='neither joint_commands nor joint_states'):
        witness.advance(T0 + 1500 * MS)


def test_summary_of_nothing_and_of_chunks():
    assert summarise([]) is None
    witness = Witness(CONTRACT)
    witness.submit(chunk(0, rows(0.0), first_row=LAST), T0)
    witness.submit(chunk(1, rows(1.0)), T0)
    feed(witness, 0, 1400)
    witness.advance(T0 + 1400 * MS)
    found, each = summarise(witness.distances), witness.distances
    assert (found.chunks, found.measured) == (2, 0)
    assert found.arm_mean == pytest.approx(np.mean([d.arm_mean for d in each]))
    assert found.arm_max == max(d.arm_max for d in each)
    assert '2 chunks' in found.text()


class Still:
    """Predicts zeros at once."""

    name, warnings, mode_problems, contract = 'still', (), {}, CONTRACT

    def __init__(self):
        self.prompts, self.grounded = [], []

    def reset(self, prompt, seed):
        self.prompts.append((prompt, seed))
        self._first = True

    def observe(self, key_frame):
        return None

    def predict(self):
        first, self._first = self._first, False
        return Prediction(rows(0.0), LAST if first else 0)

    def ground(self, applied):
        self.grounded.append(applied)

    def warm_up(self):
        return 0.01


class Clock:
    ns = T0

    def __call__(self):
        return self.ns


def settle(condition, limit_s=20.0):
    """The worker's thread goes on while the clock of the test stands."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def drive(session, clock, until_ms, weight=1.0, commands=True):
    """Frames, commands and states until this time; the summaries that steps returned."""
    ended = []
    while clock.ns < T0 + until_ms * MS:
        clock.ns += 10 * MS
        ms = (clock.ns - T0) // MS
        if ms % 50 == 0:
            for camera in CONTRACT.cameras:
                image = np.zeros((camera.height, camera.width, 3), np.uint8)
                session.frame(camera.key, image, clock.ns)
        if commands:
            session.commanded(clock.ns, pose(clock.ns), weight)
        session.measured(clock.ns, pose(clock.ns))
        settle(lambda: session._worker._queue.empty())
        ended.append(session.step())
        # Whatever the worker has to do with this, it does before the clock goes on.
        done = []
        session._worker._queue.put(lambda d=done: d.append(1))
        settle(lambda d=done: bool(d))
        session._worker._queue.put(lambda d=done: d.append(1))
        settle(lambda d=done: len(d) == 2)
    return [summary for summary in ended if summary is not None]


@pytest.fixture
def session():
    clock, policy = Clock(), Still()
    session = ShadowSession(CONTRACT, clock)
    session.prompt, session.seed = 'do it', 4
    yield session, clock, policy
    session.close()


def test_a_session_begins_with_authority_and_ends_on_the_way_home(session):
    session, clock, policy = session
    assert drive(session, clock, 200) == [], 'nothing is loaded'
    session.load(lambda: policy).result(20.0)
    session.mode('ENGAGE')
    drive(session, clock, 400, weight=0.5)
    assert session.status()['session'] == ''
    session.mode('EXECUTE')
    drive(session, clock, 3000)
    assert session.status()['session'] == 'shadow-1'
    assert policy.prompts == [('do it', 4)]
    assert session.status()['distance']['chunks'] >= 2
    session.mode('RETREAT')
    (summary,) = drive(session, clock, 3100)
    assert summary.chunks >= 2 and session.last == summary
    assert summary.arm_mean > 0.1, 'it stood still where the robot moved'
    # The history holds what was executed, not what was predicted.
    assert len(policy.grounded) >= 2 and policy.grounded[0].min() > 0.1
    session.mode('EXECUTE')
    drive(session, clock, 3200)
    assert session.status()['session'] == 'shadow-2'


def test_a_session_ends_when_nobody_commands_any_more(session):
    session, clock, policy = session
    session.load(lambda: policy).result(20.0)
    drive(session, clock, 2500)
    assert session.status()['session'] == 'shadow-1'
    (summary,) = drive(session, clock, 3200, commands=False)
    assert summary.chunks >= 1 and session.status()['session'] == ''


def test_a_policy_that_cannot_be_loaded_is_told(session):
    session, clock, _ = session

    def fails():
        raise ValueError('no such folder')

    with pytest.raises(ValueError):
        session.load(fails).result(20.0)
    drive(session, clock, 200)
    status = session.status()
    assert (status['state'], status['session']) == ('error', '')
    assert 'no such folder' in status['reason']
