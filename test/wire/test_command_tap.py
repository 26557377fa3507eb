# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What somebody else commands is heard bit by bit, over the real wire and without a word."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.wire import cdr, endpoints
from flashwam_ros.wire.command_tap import CommandRows, WireCommandTap
from flashwam_ros.wire.robot_bus import ARM_SLOTS, ArmCommand, RobotBus

DOMAIN = 74
DEADLINE_S = 10.0


def arm_bytes(q, weight=1.0):
    message = cdr.LowCmd()
    message.q[ARM_SLOTS] = q
    message.q[cdr.WEIGHT_SLOT] = weight
    return message.seal()


def arm_command(q, weight):
    still = np.zeros(14)
    return ArmCommand(np.asarray(q), still, still, np.full(14, 80.0), np.full(14, 3.0), weight)


# ---- rows, without a wire ----


def test_a_row_needs_an_arm_command_and_keeps_the_last_gripper_commands():
    rows = CommandRows()
    gripper = cdr.GripperCmd()
    gripper.set(1.25, 0.0, 0.0, 5.0, 0.05)
    rows.feed_gripper('right', gripper.to_bytes())
    assert rows.row() is None
    rows.feed_arm(arm_bytes(0.1 * np.arange(14), 0.5), 7)
    row = rows.row()
    np.testing.assert_array_equal(row.positions[:14], np.float32(0.1 * np.arange(14)))
    assert np.isnan(row.positions[14]) and row.positions[15] == 1.25
    assert (row.weight, row.stamp_ns) == (0.5, 7)


@pytest.mark.parametrize(('q', 'weight'), [
    (np.full(14, np.nan), 1.0), (np.full(14, np.inf), 1.0), (np.zeros(14), 1.5),
    (np.zeros(14), -0.1), (np.zeros(14), np.nan),
])  # fmt: skip
def test_senseless_commands_are_counted_not_told(q, weight):
    rows = CommandRows()
    rows.feed_arm(arm_bytes(np.zeros(14)), 1)
    rows.feed_arm(arm_bytes(q, weight), 2)
    assert rows.refused == 1 and rows.row().stamp_ns == 1


@given(st.binary(max_size=1200), st.binary(max_size=200))
def test_any_other_bytes_are_refused_or_finite(arm, gripper):
    rows = CommandRows()
    rows.feed_arm(arm, 1)
    rows.feed_gripper('left', gripper)
    row = rows.row()
    assert row is None or np.isfinite(row.positions[:14]).all()


# ---- over DDS ----


@pytest.fixture
def wire():
    """Somebody who commands, and the tap, on a domain of their own."""
    writer, tap = RobotBus(DOMAIN, 'lo'), WireCommandTap(DOMAIN, 'lo')
    deadline = time.monotonic() + DEADLINE_S
    while not (writer.listeners() and all(
        w.get_matched_subscriptions() for w in writer._gripper_writers.values()
    )):  # fmt: skip
        assert time.monotonic() < deadline, 'the tap is not heard of'
        time.sleep(0.005)
    yield writer, tap
    tap.close()
    writer.close()


def take(tap):
    deadline = time.monotonic() + DEADLINE_S
    while (row := tap.poll()) is None:
        assert time.monotonic() < deadline, 'nothing was heard'
        time.sleep(0.001)
    return row


def test_every_command_is_heard_as_it_was_sent(wire):
    writer, tap = wire
    rng = np.random.default_rng(4)
    for k in range(20):
        q, jaws, weight = rng.uniform(-1, 1, 14), rng.uniform(0, 5, 2), float(k) / 19
        for side, jaw in zip(endpoints.SIDES, jaws, strict=True):
            writer.write_gripper(side, jaw)
        before_ns = time.monotonic_ns()
        writer.write_arm(arm_command(q, weight))
        row = take(tap)
        sent = np.float32(np.concatenate([q, jaws]))
        np.testing.assert_array_equal(np.float32(row.positions[:14]), sent[:14])
        # A gripper command on its way may be the one before; arms and grippers have two topics.
        assert row.weight == np.float32(weight)
        assert before_ns < row.stamp_ns <= time.monotonic_ns()
    assert tap.poll() is None, 'silence is no new command'
    # What was still on its way has come by the next one.
    deadline = time.monotonic() + DEADLINE_S
    while not np.array_equal(np.float32(row.positions), sent):
        assert time.monotonic() < deadline
        writer.write_arm(arm_command(q, weight))
        row = take(tap)


def test_the_tap_writes_nothing(wire):
    writer, tap = wire
    writer.write_arm(arm_command(np.zeros(14), 1.0))
    take(tap)
    assert writer.foreign_writers() == []
