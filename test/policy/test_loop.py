# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The predict-execute loop with a scripted executor and a policy that checks its history."""

from types import MappingProxyType

import numpy as np
import pytest

from flashwam_ros.policy.loop import (
    Ground,
    Observe,
    Predict,
    PredictExecuteLoop,
    check_mode,
    run_job,
)
from flashwam_ros.policy.protocol import HistoryError, PolicyError, Prediction
from flashwam_ros.robot.chunk import AppliedChunk
from flashwam_ros.robot.contract import RobotContract

MS = 1_000_000
CONTRACT = RobotContract.load()
CHANNELS = len(CONTRACT.channels)
ROW_NS = int(CONTRACT.row_duration_s * 1e9)


class StrictPolicy:
    """Counts what a WAM would cache and fails on any step out of order."""

    name = 'strict'
    contract = CONTRACT
    warnings = ()
    mode_problems = MappingProxyType({})

    def __init__(self):
        self.reset('', 0)

    def reset(self, prompt, seed):
        self.seed = seed
        self.due_ns = []
        self.log = []
        self.predicted = 0
        self.grounded = 0

    def observe(self, key_frame):
        assert not self.due_ns or key_frame.due_ns > self.due_ns[-1]
        assert set(key_frame.images) == {'head', 'left_wrist', 'right_wrist'}
        self.due_ns.append(key_frame.due_ns)
        self.log.append('o')

    def predict(self):
        assert self.due_ns
        first_row = CONTRACT.actions_per_frame if self.predicted == 0 else 0
        positions = np.full((CONTRACT.rows_per_chunk, CHANNELS), float(self.predicted))
        self.log.append(f'p{self.predicted}')
        self.predicted += 1
        return Prediction(positions, first_row, 1, 1, self.seed, {'total': 0.01})

    def ground(self, applied):
        rows = CONTRACT.rows_per_chunk - (CONTRACT.actions_per_frame if not self.grounded else 0)
        assert applied.shape == (rows, CHANNELS)
        assert (applied == self.grounded + 0.5).all(), 'grounded with another chunk'
        needed = 1 + 4 + 8 * self.grounded
        assert len(self.due_ns) >= needed
        self.log.append(f'g{self.grounded}')
        self.grounded += 1

    def imagine(self, rows):
        assert self.grounded < self.predicted
        assert rows.shape == (CONTRACT.rows_per_chunk, CHANNELS)
        assert (rows == self.grounded).all(), 'not the rows of the chunk that executes, as sent'
        self.log.append(f'i{self.grounded}')


class World:
    """Executor and cameras on a simulated clock with predictions that take `job_ns`."""

    def __init__(self, mode, phase_ms=5, job_ns=20 * MS):
        self.loop = PredictExecuteLoop(mode, CONTRACT)
        self.policy = StrictPolicy()
        self.phase_ns = phase_ms * MS
        self.job_ns = job_ns
        self.now = 0
        self.busy = None
        self.queue = []
        self.running = None
        self.free_at = None
        self.starts = []
        self.cameras = ['head', 'left_wrist', 'right_wrist']
        for camera in self.cameras:
            self.loop.add_frame(camera, np.zeros((2, 2, 3), np.uint8), (phase_ms - 50) * MS)
            self.loop.add_frame(camera, np.zeros((2, 2, 3), np.uint8), phase_ms * MS)
        self.loop.begin('s', 0)

    def account(self, chunk, complete):
        rows = CONTRACT.rows_per_chunk - chunk.first_row
        start = self.starts[-1]
        return AppliedChunk(
            session='s',
            index=chunk.index,
            first_row=chunk.first_row,
            start_ns=start,
            row_duration_s=CONTRACT.row_duration_s,
            positions=chunk.positions[chunk.first_row :] + 0.5,
            row_stamps_ns=tuple(start + (i + 1) * ROW_NS for i in range(rows)),
            key_frame_due_ns=self.loop.due_times(start, chunk.first_row),
            complete=complete,
            slack_s=self.slack,
            boundary_jump_rad=0.0,
            limited_ticks=0,
            arm_limited_ticks=0,
        )

    def step(self):
        self.now += 5 * MS
        if (self.now - self.phase_ns) % (50 * MS) == 0:
            for camera in self.cameras:
                self.loop.add_frame(camera, np.zeros((2, 2, 3), np.uint8), self.now)
        self.execute()
        if self.busy and self.now >= self.busy[0]:
            _, job, result = self.busy
            self.busy = None
            arrivals = self.loop.finish(job, result)
            self.queue += [(self.now, chunk) for chunk in arrivals]
        if not self.busy:
            job = self.loop.next_job(self.now)
            if job is not None:
                duration = self.job_ns if isinstance(job, Predict) else 5 * MS
                self.busy = (self.now + duration, job, run_job(self.policy, job))

    def execute(self):
        if self.running:
            rows = CONTRACT.rows_per_chunk - self.running.first_row
            end = self.starts[-1] + rows * ROW_NS
            if self.now < end:
                return
            self.loop.applied(self.account(self.running, True))
            self.running, self.free_at = None, end
        if self.queue:
            arrival, chunk = self.queue.pop(0)
            start = max(arrival, self.free_at or 0)
            self.slack = 0.0 if self.free_at is None else (self.free_at - arrival) * 1e-9
            self.starts.append(start)
            self.running = chunk
            self.loop.applied(self.account(chunk, False))

    def run(self, seconds):
        while self.now < seconds * 1e9:
            self.step()


def test_sync_order():
    world = World('sync')
    world.run(6)
    log = ''.join(world.policy.log)
    assert log.startswith('op0oooog0p1oooooooog1p2oooooooog2p3')
    assert not world.loop.events, 'a hold between chunks is normal in sync mode'


def test_async_order_and_slack():
    world = World('async')
    world.run(6)
    log = ''.join(world.policy.log)
    assert log.startswith('op0p1oooog0p2oooooooog1p3oooooooog2p4')
    assert world.policy.predicted - world.policy.grounded in (1, 2)
    assert len(world.loop.slacks) >= 5
    assert all(slack.slack_s > 0.3 for slack in world.loop.slacks)
    gaps = np.diff(world.starts[1:])
    assert (gaps == CONTRACT.rows_per_chunk * ROW_NS).all(), 'chunks follow without a hold'


def test_grounded_async_imagines_the_executing_chunk_before_it_predicts():
    world = World('async_grounded')
    world.run(6)
    log = ''.join(world.policy.log)
    assert log.startswith('op0p1oooog0i1p2oooooooog1i2p3oooooooog2i3p4')
    assert log.count('i') == world.policy.grounded
    assert all(slack.slack_s > 0.3 for slack in world.loop.slacks)


def test_a_policy_that_cannot_imagine_is_refused_for_grounded_async_only():
    policy = StrictPolicy()
    policy.mode_problems = {'async_grounded': 'it was not trained for it'}
    check_mode(policy, 'async')
    with pytest.raises(PolicyError, match='async_grounded.*not trained for it'):
        check_mode(policy, 'async_grounded')


def test_async_sends_nothing_before_two_chunks_exist():
    world = World('async')
    while world.loop.predicted < 2:
        assert not world.queue and not world.running
        world.step()
    assert [chunk.index for _, chunk in world.queue] == [0, 1]


@pytest.mark.parametrize('phase_ms', [-20, 0, 20, 25])
@pytest.mark.parametrize('mode', ['sync', 'async', 'async_grounded'])
def test_any_camera_phase_grounds_every_chunk(mode, phase_ms):
    world = World(mode, phase_ms)
    world.run(5)
    assert world.policy.grounded >= 3
    due = np.array(world.policy.due_ns[1:])
    starts = np.array(world.starts)
    expected = np.concatenate(
        [world.loop.due_times(s, 8 if i == 0 else 0) for i, s in enumerate(starts)]
    )
    assert (due == expected[: len(due)]).all()


def test_a_slow_policy_is_a_named_event_and_the_history_stays_whole():
    world = World('async_grounded', job_ns=900 * MS)
    world.run(12)
    assert any(event.startswith('late_chunk: chunk') for event in world.loop.events)
    assert min(slack.slack_s for slack in world.loop.slacks) < 0
    assert world.policy.grounded >= 2


def test_chunks_are_chained_and_carry_their_key_frames():
    world = World('async')
    sent = []
    original = world.loop.finish

    def finish(job, result=None):
        ready = original(job, result)
        sent.extend(ready)
        return ready

    world.loop.finish = finish
    world.run(4)
    for i, chunk in enumerate(sent):
        chunk.validate(CONTRACT)
        assert (chunk.index, chunk.predecessor) == (i, i - 1)
        assert chunk.first_row == (8 if i == 0 else 0)
        assert chunk.session == 's'
    assert [len(chunk.key_frame_stamps_ns) for chunk in sent[:4]] == [3, 0, 3 * 4, 3 * 8]
    assert sent[2].stamp_ns == max(sent[2].key_frame_stamps_ns)


def test_a_dead_camera_stops_the_loop_by_name():
    world = World('sync')
    world.run(1)
    world.cameras.remove('left_wrist')
    with pytest.raises(HistoryError, match="camera 'left_wrist'"):
        world.run(3)


def test_a_lost_account_is_an_error():
    world = World('async')
    world.run(0.6)
    account = world.account(world.running, False)
    values = {**account.__dict__, 'index': account.index + 2}
    with pytest.raises(HistoryError, match='an account of a chunk was lost'):
        world.loop.applied(AppliedChunk(**values))


@pytest.mark.parametrize(('shift_ns', 'accepted'), [(100_000, True), (30 * MS, False)])
def test_due_times_may_not_move_during_a_chunk(shift_ns, accepted):
    world = World('sync')
    world.run(0.3)
    account = world.account(world.running, True)
    due = tuple(stamp + shift_ns for stamp in account.key_frame_due_ns)
    moved = AppliedChunk(**{**account.__dict__, 'key_frame_due_ns': due})
    if accepted:
        world.loop.applied(moved)
    else:
        with pytest.raises(HistoryError, match='due times of its key frames changed'):
            world.loop.applied(moved)


def test_accounts_of_another_session_are_ignored():
    world = World('sync')
    world.run(0.3)
    account = world.account(world.running, False)
    world.loop.applied(AppliedChunk(**{**account.__dict__, 'session': 'old', 'index': 7}))


@pytest.mark.parametrize(
    ('positions', 'message'),
    [
        (np.zeros((3, CHANNELS)), 'the contract wants'),
        (np.full((CONTRACT.rows_per_chunk, CHANNELS), np.nan), 'not finite'),
    ],
)
def test_bad_predictions_are_refused(positions, message):
    loop = PredictExecuteLoop('sync', CONTRACT)
    loop.begin('s', 0)
    for camera in ('head', 'left_wrist', 'right_wrist'):
        loop.add_frame(camera, np.zeros((2, 2, 3), np.uint8), 0)
    observe = loop.next_job(0)
    assert isinstance(observe, Observe)
    assert loop.next_job(0) is None, 'one job at a time'
    loop.finish(observe)
    predict = loop.next_job(0)
    assert predict == Predict(0)
    with pytest.raises(PolicyError, match=message):
        loop.finish(predict, Prediction(positions, 8))


def test_finishing_another_job_is_refused():
    loop = PredictExecuteLoop('sync', CONTRACT)
    with pytest.raises(PolicyError, match='not the job in flight'):
        loop.finish(Ground(0, np.zeros((8, CHANNELS))))


def test_unknown_mode():
    with pytest.raises(ValueError, match="'fast' is unknown"):
        PredictExecuteLoop('fast', CONTRACT)
