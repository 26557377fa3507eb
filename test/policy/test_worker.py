# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The policy's thread: loading, refusing, running, and every failure as a named state."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from flashwam_ros.policy import worker as worker_module
from flashwam_ros.policy.protocol import HistoryError, PolicyError, Prediction
from flashwam_ros.policy.worker import Loaded, PolicyWorker
from flashwam_ros.robot.chunk import AppliedChunk
from flashwam_ros.robot.contract import RobotContract

CONTRACT = RobotContract.load()
LIMIT_S = 10.0


class Still:
    name = 'still'
    warnings = ('it never moves',)
    mode_problems = {'async_grounded': 'it is still'}

    def __init__(self, contract=CONTRACT, fault=None):
        self.contract = contract
        self.fault = fault
        self.cold = None
        self.resets = []
        self.closed = self.warmed = 0

    def reset(self, prompt, seed):
        self.resets.append((prompt, seed))

    def observe(self, key_frame):
        self.thread = threading.current_thread().name

    def predict(self):
        if self.fault:
            raise self.fault
        rows = (CONTRACT.rows_per_chunk, len(CONTRACT.channels))
        return Prediction(np.zeros(rows), 8, 1, 1, 0, {'predict': 0.0})

    def ground(self, applied):
        pass

    def warm_up(self):
        self.warmed += 1
        if self.cold:
            raise self.cold
        return 0.25

    def close(self):
        self.closed += 1


def wait_for(condition):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, 'timed out'
        time.sleep(0.002)


@pytest.fixture
def chunks():
    return []


@pytest.fixture
def worker(chunks):
    worker = PolicyWorker(CONTRACT, chunks.append, time.time_ns, stale_after_s=0.3)
    yield worker
    worker.close()


def feed(worker, stop=None):
    """One set of frames now."""
    for camera in CONTRACT.cameras:
        worker.add_frame(camera.key, np.zeros((2, 2, 3), np.uint8), time.time_ns())


def test_load_gives_name_and_warm_time(worker):
    assert worker.load(Still).result(LIMIT_S) == Loaded(
        'still', 0.25, ('it never moves',), {'async_grounded': 'it is still'}
    )
    assert worker.state.state == 'ready'


def test_another_contract_is_refused_field_by_field(worker):
    slower = dataclasses.replace(CONTRACT, row_rate_hz=10.0)
    with pytest.raises(PolicyError, match=r'row_rate_hz: 20\.0 here, 10\.0 there'):
        worker.load(lambda: Still(slower)).result(LIMIT_S)
    assert worker.state.state == 'error'
    assert 'row_rate_hz' in worker.state.reason


def test_a_session_starts_with_frames_from_before_and_predicts(worker, chunks):
    policy = Still()
    worker.load(lambda: policy).result(LIMIT_S)
    feed(worker)
    worker.begin('s1', 'do it', 7, 'async')
    feed(worker)
    wait_for(lambda: len(chunks) == 2)
    assert [chunk.index for chunk in chunks] == [0, 1]
    assert chunks[0].session == 's1'
    assert policy.resets[-1] == ('do it', 7)
    assert policy.thread == 'policy', 'the policy runs in its own thread'
    wait_for(lambda: worker.state.predicted == 1)
    assert worker.state.state == 'running'
    assert worker.state.chunk_latency_s < 0.25
    worker.end()
    wait_for(lambda: worker.state.state == 'ready')
    assert worker.state.chunk_latency_s == 0.25, 'not what a busy moment made of the last chunk'


@pytest.mark.parametrize(
    ('fault', 'reason'),
    [
        (HistoryError('frame lost'), 'HistoryError: frame lost'),
        (ZeroDivisionError('oops'), 'ZeroDivisionError: oops'),
    ],
)
def test_a_failing_policy_is_a_named_error_and_the_next_session_works(
    worker, chunks, fault, reason
):
    policy = Still(fault=fault)
    worker.load(lambda: policy).result(LIMIT_S)
    feed(worker)
    worker.begin('bad', '', 0, 'sync')
    wait_for(lambda: worker.state.state == 'error')
    assert worker.state.reason == reason
    assert worker.state.session == 'bad'
    policy.fault = None
    worker.begin('good', '', 0, 'sync')
    feed(worker)
    wait_for(lambda: chunks)
    assert worker.state.session == 'good'


def test_a_mode_that_the_policy_cannot_do_is_a_named_error(worker, chunks):
    worker.load(Still).result(LIMIT_S)
    worker.begin('s', '', 0, 'async_grounded')
    wait_for(lambda: worker.state.state == 'error')
    assert "'async_grounded' is refused: it is still" in worker.state.reason
    assert worker.state.session == 's', 'or the rollout would wait for its first chunk'
    assert not chunks


def test_missing_cameras_are_named(worker):
    worker.load(Still).result(LIMIT_S)
    worker.begin('s', '', 0, 'sync')
    wait_for(lambda: worker.state.state == 'error')
    assert "camera 'head' has sent no frame" in worker.state.reason


def test_a_session_without_a_policy_is_an_error(worker):
    worker.begin('s', '', 0, 'sync')
    wait_for(lambda: worker.state.state == 'error')
    assert 'no policy is loaded' in worker.state.reason
    assert worker.state.session == 's'


def test_several_stay_loaded_and_one_is_chosen_by_name(worker, chunks):
    first, second = Still(), Still()
    worker.load(lambda: first, ['red.K7', 'pink.A3']).result(LIMIT_S)
    worker.load(lambda: second, ['red.C4']).result(LIMIT_S)
    resets = {}
    for arm in ('pink.A3', 'red.C4', 'red.K7'):
        worker.choose(arm)
        worker.begin(arm, 'p', 5, 'sync')
        wait_for(lambda arm=arm: worker.state.session == arm)
        resets[arm] = (len(first.resets), len(second.resets))
        worker.end()
    assert resets == {'pink.A3': (1, 0), 'red.C4': (1, 1), 'red.K7': (2, 1)}


GONE = PolicyError('ws://lab-7:29536: the policy server is gone')


def test_a_policy_that_is_gone_after_an_episode_is_an_error_of_no_session(worker, monkeypatch):
    """So that the next preflight is red; it ends when the policy can be warmed up again."""
    policy = Still()
    worker.load(lambda: policy).result(LIMIT_S)
    worker.begin('s', '', 0, 'sync')
    policy.cold = GONE
    worker.end()
    wait_for(lambda: worker.state.state == 'error' and not worker.state.session)
    assert 'the policy server is gone' in worker.state.reason
    policy.cold = None
    monkeypatch.setattr(worker_module, 'AGAIN_S', 0.05)
    feed(worker)
    wait_for(lambda: worker.state.state == 'ready')
    assert (worker.state.reason, worker.state.chunk_latency_s) == ('', 0.25)


def test_choosing_erases_no_error_without_warming_up(worker):
    gone, other = Still(), Still()
    worker.load(lambda: gone, ['a']).result(LIMIT_S)
    worker.load(lambda: other, ['b']).result(LIMIT_S)
    gone.cold = GONE
    worker.choose('a')
    worker.end()
    worker.choose('a')
    wait_for(lambda: gone.warmed == 3)
    assert worker.state.state == 'error'
    worker.choose('b')
    wait_for(lambda: worker.state.state == 'ready')
    assert other.warmed == 2
    worker.choose('a')
    wait_for(lambda: worker.state.state == 'error')
    assert gone.warmed == 4


def test_the_error_of_a_session_is_not_taken_for_one_of_the_policy(worker):
    policy = Still(fault=HistoryError('frame lost'))
    worker.load(lambda: policy).result(LIMIT_S)
    feed(worker)
    worker.begin('bad', '', 0, 'sync')
    wait_for(lambda: worker.state.state == 'error')
    worker.end()
    wait_for(lambda: policy.warmed == 2)
    assert worker.state.session == 'bad'


def test_policies_that_are_dropped_are_closed(chunks):
    loaded, refused = Still(), Still(dataclasses.replace(CONTRACT, row_rate_hz=10.0))
    worker = PolicyWorker(CONTRACT, chunks.append, time.time_ns)
    worker.load(lambda: loaded, ['a', 'b']).result(LIMIT_S)
    with pytest.raises(PolicyError):
        worker.load(lambda: refused).result(LIMIT_S)
    assert (loaded.closed, refused.closed) == (0, 1)
    worker.close()
    assert loaded.closed == 1


def test_the_arms_of_a_study_fail_with_the_same_words(chunks, caplog):
    worker = PolicyWorker(CONTRACT, chunks.append, time.time_ns, blind=True)
    policy = Still()
    worker.load(lambda: policy).result(LIMIT_S)
    said = set()
    for fault in (GONE, ZeroDivisionError('red-arm'), HistoryError('red-arm')):
        policy.fault = fault
        worker.begin(f's-{fault}', '', 0, 'sync')
        feed(worker)
        wait_for(lambda: worker.state.state == 'error')
        said.add(worker.state.reason)
        policy.cold = fault
        worker.end()
        wait_for(lambda: not worker.state.session)
        said.add(worker.state.reason)
    worker.begin('m', '', 0, 'async_grounded')
    wait_for(lambda: worker.state.session == 'm' and worker.state.state == 'error')
    said.add(worker.state.reason)
    worker.close()
    assert said == {'PolicyError: the model could not be asked'}
    assert 'lab-7' not in caplog.text and 'red-arm' not in caplog.text and caplog.text


def test_cameras_are_named_also_in_a_study(chunks):
    worker = PolicyWorker(CONTRACT, chunks.append, time.time_ns, stale_after_s=0.3, blind=True)
    worker.load(Still).result(LIMIT_S)
    worker.begin('s', '', 0, 'sync')
    wait_for(lambda: worker.state.state == 'error')
    worker.close()
    assert "camera 'head' has sent no frame" in worker.state.reason


def test_the_latency_of_a_chunk_includes_the_grounding_before_it(worker, chunks):
    class Slow(Still):
        def ground(self, applied):
            time.sleep(0.3)

    worker.load(Slow).result(LIMIT_S)
    feed(worker)
    worker.begin('s', '', 0, 'sync')
    feed(worker)
    wait_for(lambda: len(chunks) == 1)
    worker.applied(account_of(chunks[0], time.time_ns()))
    wait_for(lambda: feed(worker) or len(chunks) == 2)
    assert worker.state.chunk_latency_s >= 0.3


def account_of(chunk, start_ns):
    """As a driver that executed it from then on gives it, all at once."""
    rows = chunk.positions[chunk.first_row :]
    row_ns = int(CONTRACT.row_duration_s * 1e9)
    stamps = tuple(start_ns + (i + 1) * row_ns for i in range(len(rows)))
    return AppliedChunk(
        session=chunk.session, index=chunk.index, first_row=chunk.first_row, start_ns=start_ns,
        row_duration_s=CONTRACT.row_duration_s, positions=rows, row_stamps_ns=stamps,
        key_frame_due_ns=stamps[1::2], complete=True, slack_s=0.0, boundary_jump_rad=0.0,
        limited_ticks=0, arm_limited_ticks=0,
    )  # fmt: skip
