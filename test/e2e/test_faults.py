# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faults while the arms move, under the supervisor, judged by every command on the robot's wire.

The short form of benchmarks/faults.py: twin and driver only, the test moves the arms itself.
"""

import signal
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')

from benchmarks._fault_analysis import ARMS, motion, select, timing  # noqa: E402
from benchmarks._stack import Place, Stack, only  # noqa: E402
from benchmarks._wire import WireRecorder  # noqa: E402
from flashwam_ros.nodes import convert  # noqa: E402
from flashwam_ros.nodes.lifecycle_client import LifecycleClient  # noqa: E402
from flashwam_ros.robot.chunk import ActionChunk  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.robot.settings import load_settings  # noqa: E402
from flashwam_ros.wire.arms_claim import ArmsClaim  # noqa: E402
from flashwam_ros.wire.robot_bus import RobotBus  # noqa: E402
from flashwam_ros.wire.sim_bus import SimBus  # noqa: E402

CONTRACT = RobotContract.load()
HOME = load_settings().home
SWING_RAD, SWING_ROWS = 0.25, 24
JOINTS = [0, 3, 7, 10]  # shoulder pitch and elbow of both arms
MOVING_RAD_S = 0.3
SLOW_S = 40.0
SILENT_S = 1.0
CUT_S = 6.0  # longer than a release takes, 3.2 s


class Arms:
    """Twin and driver under the supervisor; swings the arms chunk by chunk."""

    def __init__(self, stack):
        self.stack, self.listener = stack, stack.listener
        domain = stack.place.unitree_domain
        self.recorder, self.sim = WireRecorder(domain), SimBus(domain, 'lo')
        self.publisher = self.listener.chunk_publisher()
        driver = LifecycleClient(self.listener.node, 'g1_driver')
        self.sim.wait_state(SLOW_S)
        driver.configure(SLOW_S)
        driver.activate(SLOW_S)
        self.until(self.publisher.get_subscription_count, 'the driver listens')
        self.sent = -1

    def until(self, condition, what):
        self.stack.until(condition, SLOW_S, what)

    def send(self, index, **changes):
        first = 8 if index == 0 else 0
        row = index * CONTRACT.rows_per_chunk + np.arange(CONTRACT.rows_per_chunk) - 7
        rows = np.tile(HOME, (CONTRACT.rows_per_chunk, 1))
        # Towards the body: the retreat starts beside the table, not in it.
        swing = SWING_RAD * 0.5 * (1.0 - np.cos(2.0 * np.pi * np.maximum(row, 0) / SWING_ROWS))
        rows[:, JOINTS] -= swing[:, None]
        values = {
            'session': 'swing', 'contract_hash': CONTRACT.sha256, 'index': index,
            'predecessor': index - 1, 'row_duration_s': CONTRACT.row_duration_s,
            'positions': rows, 'channel_names': CONTRACT.channel_names, 'first_row': first,
            'stamp_ns': time.time_ns(),
        }  # fmt: skip
        self.publisher.publish(convert.chunk_to_msg(ActionChunk(**{**values, **changes})))

    def feed(self):
        """Keep one chunk ahead of the one in execution."""
        started = max((h.msg.index for h in self.listener.starts), default=-1)
        if self.sent <= started:
            self.sent += 1
            self.send(self.sent)

    def until_moving(self):
        """Until the arms are well away from home and move."""
        begun = max(self.sent, 0)

        def moving():
            self.feed()
            under_way = any(h.msg.index > begun for h in self.listener.starts)
            return under_way and self.recorder.last_speed > MOVING_RAD_S

        self.until(moving, 'moving arms')

    def events(self):
        return [event for heard in self.listener.driver for event in heard.msg.events]

    def until_event(self, text):
        def heard():
            self.feed()
            return any(text in event for event in self.events())

        self.until(heard, text)

    def until_released(self):
        """Until weight 0 was written and the wire is silent."""

        def silent():
            age_s = (time.monotonic_ns() - self.recorder.last_command_ns) * 1e-9
            return self.recorder.last_weight == 0.0 and age_s > SILENT_S

        self.until(silent, 'weight 0 and silence')

    def judge(self, fault_ns, ignore_new_writers=False):
        """No command beyond the limits; returns (motion, timing) since the fault."""
        end_s = (time.monotonic_ns() - fault_ns) * 1e-9
        trace = select(self.recorder.trace(fault_ns), ignore_new_writers)
        modes = [((h.at_ns - fault_ns) * 1e-9, h.msg.mode) for h in self.listener.driver]
        moved, times = motion(trace), timing(trace, modes, end_s)
        assert moved['declared_speed'] <= CONTRACT.velocity[:ARMS].max() + 1e-3
        assert moved['outside_limits'] < 1e-4
        assert times['final_weight'] == 0.0
        return moved, times

    def close(self):
        self.recorder.close()
        self.sim.close()


def start(tmp_path, number):
    place = Place(ros_domain=31 + number, unitree_domain=35 + number, port=21900 + 4 * number)
    values = {'task': 'red_bottle', 'policy': 'expert', 'output_dir': str(tmp_path)}
    return Stack(values, place, tmp_path / 'stack.log',
                 lambda graph: only(graph, 'twin', 'g1_driver'))  # fmt: skip


@pytest.fixture
def arms(tmp_path, request):
    with start(tmp_path, getattr(request, 'param', 0)) as stack:
        arms = Arms(stack)
        yield arms
        arms.close()


@pytest.mark.parametrize('arms', [0], indirect=True)
def test_a_killed_driver_is_followed_by_flashwam_release(arms):
    arms.until_moving()
    fault_ns = arms.stack.kill('g1_driver', signal.SIGKILL)
    assert arms.stack.supervisor.wait(SLOW_S), 'the supervisor ends when all is released'
    assert arms.stack.supervisor.exit_codes['g1_driver_release'] == 0
    assert not ArmsClaim(arms.stack.place.unitree_domain, 'lo').taken, 'the next driver may start'
    moved, times = arms.judge(fault_ns)
    assert times['to_other_writer_s'] > 0.0
    assert moved['handover_step'] < load_settings().tracking_rad, 'taken over where the arms are'
    assert moved['step'] < 1e-6, 'let go without moving the command'


@pytest.mark.parametrize('arms', [1], indirect=True)
def test_a_chunk_with_a_nan_is_refused_and_the_motion_goes_on(arms):
    arms.until_moving()
    fault_ns = time.monotonic_ns()
    bad = np.tile(HOME, (CONTRACT.rows_per_chunk, 1))
    bad[3, 2] = np.nan
    arms.send(arms.sent + 1, positions=bad)
    arms.until_event('not finite')
    index = arms.sent + 1
    arms.until_moving()
    arms.until(lambda: any(h.msg.index == index for h in arms.listener.starts), 'the next chunk')
    assert arms.listener.last_status.reason == ''
    arms.until_released()  # no further chunk comes
    moved, _ = arms.judge(fault_ns)
    assert arms.listener.last_status.reason == 'no_chunk'
    assert moved['tracking'] < load_settings().tracking_rad


@pytest.mark.parametrize('arms', [2], indirect=True)
def test_a_second_writer_makes_the_driver_let_go_at_once(arms):
    arms.until_moving()
    fault_ns = time.monotonic_ns()
    intruder = RobotBus(arms.stack.place.unitree_domain, 'lo')
    try:
        arms.until_released()
    finally:
        intruder.close()
    assert arms.listener.last_status.reason == 'second_writer'
    _, times = arms.judge(fault_ns, ignore_new_writers=True)
    assert not times['retreat']


@pytest.mark.parametrize('arms', [3], indirect=True)
def test_sigterm_makes_the_driver_retreat_and_release(arms):
    arms.until_moving()
    fault_ns = arms.stack.kill('g1_driver', signal.SIGTERM)
    assert arms.stack.supervisor.wait(SLOW_S), 'the graph ends with the driver'
    assert arms.stack.supervisor.exit_codes['g1_driver'] == 0
    assert arms.listener.last_status.reason == 'SIGTERM'
    _, times = arms.judge(fault_ns)
    assert times['retreat']
    assert not arms.stack.said('releasing the arms on'), 'nothing is left to release'


@pytest.mark.parametrize('arms', [4], indirect=True)
def test_a_cable_that_was_out_during_the_release_does_not_leave_the_arms_held(arms):
    arms.until_moving()
    fault_ns = time.monotonic_ns()
    arms.sim.request({'cut_link': CUT_S})
    arms.until(lambda: arms.recorder.last_weight == 0.0, 'a release that nobody hears')
    assert arms.sim.state()['weight'] == 1.0, 'the robot holds the last command'
    arms.until(lambda: any('released_again' in event for event in arms.events()), 'it is heard')
    arms.until_released()
    assert arms.sim.state()['weight'] == 0.0, 'the robot has been let go'
    moved, times = arms.judge(fault_ns)
    assert not times['retreat']
    assert moved['handover_step'] < load_settings().tracking_rad, 'taken over where the arms are'
