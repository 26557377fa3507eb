# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import mujoco
import pytest

from flashwam_ros.twin.snapshot import SharedSnapshot

MODEL = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><body><freejoint/><geom size="1"/></body></worldbody></mujoco>'
)


@pytest.fixture
def shared():
    """A writer that has stored states with stamps 0, 10, 20 ... and x = stamp."""
    writer = SharedSnapshot()
    data = mujoco.MjData(MODEL)

    def write(count, start=0):
        for stamp in range(start, start + 10 * count, 10):
            data.qpos[0] = stamp
            writer.write(data, 'red_bottle', 1, stamp)

    writer.write_states = write
    return writer


def test_nothing_before_the_first_state(shared):
    assert shared.read() is None
    assert shared.read_from(0) is None


def test_another_mapping_reads_the_newest_state(shared):
    shared.write_states(3)
    reader = SharedSnapshot(shared.fd)
    state = reader.read()
    assert (state.stamp_ns, state.task, state.episode) == (20, 'red_bottle', 1)
    assert state.values[0] == 20


def test_a_late_reader_catches_up_in_order(shared):
    shared.write_states(20)
    assert [shared.read_from(due).stamp_ns for due in (0, 45, 100, 190)] == [0, 50, 100, 190]
    assert shared.read_from(191) is None


def test_the_oldest_kept_state_when_the_wanted_one_is_gone(shared):
    shared.write_states(500)
    state = shared.read_from(0)
    assert 4000 < state.stamp_ns < 4990
    assert state.values[0] == state.stamp_ns


def test_a_state_that_is_being_written_is_not_read(shared):
    shared.write_states(4)
    shared._heads[3, 0] -= 1  # the writer is at work on the newest slot
    assert shared.read_from(30) is None
