# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stream's chunks are chunks like any other: the driver's own executor takes every one."""

import numpy as np
import pytest

from flashwam_ros.robot.executor import Executor, ExecutorInput, Mode
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.teleop.stream import ChunkStream

TICK_NS = 4_000_000
KINDS = ('steady', 'jittered', 'late')


class Rig:
    """An executor that holds the arms, perfectly followed, and a stream that feeds it."""

    def __init__(self, contract, settings, kinematics, home):
        self.contract, self.home, self.now_ns = contract, home, 10**12
        self.executor = Executor(
            contract, kinematics, home[:14], self.now_ns, path_is_free=lambda a, b: True)
        self.command = home
        self.executor.activate(self.now_ns)
        self.stream = ChunkStream(contract, settings)
        self.outputs, self.accounts = [], []
        while self.executor.mode is not Mode.HOLD:
            self.tick()

    def tick(self):
        self.now_ns += TICK_NS
        out = self.executor.tick(ExecutorInput(
            now_ns=self.now_ns, measured_q=self.command, measured_dq=np.zeros(16), state_age_s=0.0,
            tilt_rad=0.0, motor_error=0, remote_stop=False, other_writer=False))  # fmt: skip
        self.command = out.command
        self.outputs.append(out)
        for account in (out.applied_started, out.applied_done):
            if account is not None:
                self.accounts.append(account)
                self.really = self.stream.applied(account)
        return out

    def rows(self, index):
        """A slow sine of the left elbow, and of the left jaw."""
        times = (np.arange(self.stream.rows) + 1 + index * self.stream.rows) * 0.05
        rows = np.repeat(self.home[None], len(times), axis=0)
        rows[:, 3] -= 0.2 * np.sin(times)
        rows[:, 14] -= 1.0 * (1.0 - np.cos(times))
        return rows


@pytest.fixture(scope='module')
def kinematics():
    from flashwam_ros.robot.description import load_description
    from flashwam_ros.robot.kinematics import Kinematics

    return Kinematics(load_description())


@pytest.fixture
def rig(contract, settings, kinematics, home):
    return Rig(contract, settings, kinematics, home)


@pytest.mark.parametrize('kind', KINDS)
def test_the_driver_takes_every_chunk_and_moves_without_a_gap(rig, settings, kind):
    rng, sent = np.random.default_rng(3), 0
    rig.stream.begin('s', rig.now_ns)
    ends = rig.now_ns + 3_000_000_000
    delay_ns = 0
    while rig.now_ns < ends:
        if rig.stream.wanted(rig.now_ns - delay_ns):
            chunk = rig.stream.chunk(rig.rows(sent), rig.now_ns - 5_000_000, rig.now_ns, {})
            chunk.validate(rig.contract)
            rig.executor.submit(chunk, rig.now_ns)  # raises if the driver would reject it
            sent += 1
            if kind == 'jittered':
                delay_ns = int(rng.integers(0, 15)) * 1_000_000
            if kind == 'late':
                delay_ns = 150_000_000 if sent % 7 == 0 else 0
        rig.tick()
    started = [a for a in rig.accounts if not a.complete]
    assert [a.index for a in started] == list(range(len(started))) and len(started) > 15
    late = [a for a in started if a.index and a.slack_s < 0.0]
    if kind == 'late':
        assert 1 <= len(late) <= sent // 7 + 1
    else:
        assert late == []
        starts = np.array([a.start_ns for a in started])
        np.testing.assert_array_equal(np.diff(starts), 100_000_000)
        # Without a gap: no hold between the first row and the last.
        modes = [out.mode for out in rig.outputs]
        first = modes.index(Mode.EXECUTE)
        assert set(modes[first:]) == {Mode.EXECUTE}
    assert not any(out.limited for out in rig.outputs)
    assert all(chunk_due(a, rig.contract) for a in started)


def chunk_due(account, contract):
    """One key frame falls due per chunk, as the recorder of a demonstration expects."""
    return len(account.key_frame_due_ns) == 1 and len(account.row_stamps_ns) == 2


def test_a_chunk_has_the_shape_of_the_contract_and_two_rows_to_execute(rig, contract):
    rig.stream.begin('s', 0)
    rows = rig.rows(0)
    chunk = rig.stream.chunk(rows, 7, 10, {'command': 0.01})
    assert chunk.positions.shape == (contract.rows_per_chunk, 16)
    np.testing.assert_array_equal(chunk.positions[chunk.first_row :], rows)
    np.testing.assert_array_equal(
        chunk.positions[: chunk.first_row], np.repeat(rows[:1], chunk.first_row, axis=0))
    assert (chunk.stamp_ns, chunk.index, chunk.predecessor) == (7, 0, -1)
    assert rig.stream.chunk(rows, 8, 20, {}).predecessor == 0


def test_silence_of_the_driver_is_noticed(rig):
    rig.stream.begin('s', 0)
    assert rig.stream.wanted(0) and not rig.stream.silent(10**12)
    rig.stream.chunk(rig.rows(0), 0, 0, {})
    now_ns = 0
    while not rig.stream.silent(now_ns):
        assert not rig.stream.wanted(now_ns), 'never one more than the driver has begun'
        now_ns += 10_000_000
    assert 0.5 < now_ns * 1e-9 < load_settings().no_chunk_timeout_s


def test_a_chunk_that_came_late_is_not_taken_for_arms_that_were_held_back(rig, home):
    """At full speed, after a hold: the arms start from rest and catch up in the next chunk."""
    rig.stream.begin('s', rig.now_ns)
    rows, off = np.repeat(home[None], 2, axis=0), []
    for index in range(4):
        rows = rows[-1] - np.outer([0.1, 0.2], np.eye(16)[3])  # 2 rad/s
        rig.executor.submit(rig.stream.chunk(rows, rig.now_ns, rig.now_ns, {}), rig.now_ns)
        done = len([a for a in rig.accounts if a.complete])
        while len([a for a in rig.accounts if a.complete]) == done:
            rig.tick()
        assert rig.really is None, f'chunk {index}'
        off.append(abs(rig.accounts[-1].positions[-1] - rows[-1]).max())
        for _ in range(10 * (index < 2)):  # nothing to execute for 40 ms: the next one is late
            rig.tick()
    assert 0.02 < max(off) < 0.08 and off[-1] < 0.02, 'behind, and caught up'


def test_arms_that_were_held_back_are_told_of(rig, home):
    """Rows that run away from the arms: what was really commanded comes back."""
    rig.stream.begin('s', rig.now_ns)
    rows = rig.rows(0)
    rows[:, 3] -= [0.4, 1.0]
    rig.executor.submit(rig.stream.chunk(rows, rig.now_ns, rig.now_ns, {}), rig.now_ns)
    seen = []
    for _ in range(60):
        rig.tick()
        if rig.accounts and rig.accounts[-1].complete:
            seen.append(rig.really)
    assert seen[0] is not None and abs(seen[0][3] - rows[-1, 3]) > 0.02
    # An account of another session says nothing.
    rig.stream.begin('t', rig.now_ns)
    assert rig.stream.applied(rig.accounts[-1]) is None
