# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The driver process against the twin over real DDS and ROS: authority, rejections, every exit."""

import contextlib
import signal
import threading
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]
pytest.importorskip('rclpy')

from lifecycle_msgs.msg import State, Transition  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from flashwam_ros.msg import ActionChunk, AppliedActions, DriverStatus  # noqa: E402
from flashwam_ros.nodes import convert  # noqa: E402
from flashwam_ros.nodes.driver_graph import second_driver  # noqa: E402
from flashwam_ros.nodes.g1_driver import make_executor  # noqa: E402
from flashwam_ros.nodes.lifecycle import CHUNK_QOS, COMMAND_QOS, SENSOR_QOS, STATUS_QOS  # noqa: E402
from flashwam_ros.nodes.lifecycle_client import LifecycleClient, NodeUnavailableError  # noqa: E402
from flashwam_ros.robot import chunk as robot_chunk  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.robot.executor import ExecutorInput, Mode  # noqa: E402
from flashwam_ros.robot.settings import load_settings  # noqa: E402
from flashwam_ros.wire.arms_claim import ArmsClaim  # noqa: E402
from flashwam_ros.wire.release import ReleaseError, release  # noqa: E402
from flashwam_ros.wire.release import main as release_main  # noqa: E402
from flashwam_ros.wire.robot_bus import RobotBus  # noqa: E402
from flashwam_ros.wire.robot_server import RobotServerBus  # noqa: E402
from flashwam_ros.wire.sim_bus import SimBus, SimulatorTimeoutError  # noqa: E402

CONTRACT = RobotContract.load()
HOME = load_settings().home
DOMAIN = 41
SLOW_S = 30.0


class Rig:
    """Twin, driver, and everything that the driver says."""

    def __init__(self, processes, listener, until):
        self.processes, self.until, self.listener = processes, until, listener
        processes.twin('red_bottle', '--camera-ports', '')
        processes.node('g1_driver', f'unitree_domain:={DOMAIN}')
        self.sim = SimBus(DOMAIN, 'lo')
        self.sim.wait_state(60.0)
        self._reset()
        self.status = listener.listen(DriverStatus, 'driver_status', STATUS_QOS)
        self.joints = listener.listen(JointState, 'joint_states', SENSOR_QOS)
        self.accounts = listener.listen(AppliedActions, 'applied_actions', COMMAND_QOS)
        self.chunks = listener.node.create_publisher(ActionChunk, 'action_chunk', CHUNK_QOS)
        self.driver = LifecycleClient(listener.node, 'g1_driver')
        self.driver.configure(SLOW_S)

    def _reset(self):
        """Again where the request went to the twin of the last test, which DDS still remembers."""
        for _ in range(5):
            try:
                return self.sim.reset('red_bottle', 1, 5.0)
            except SimulatorTimeoutError:
                continue
        raise AssertionError('the twin does not answer')

    def active(self):
        self.driver.activate(SLOW_S)
        self.until(lambda: self.chunks.get_subscription_count(), what='the driver listens')
        return self

    def events(self):
        return [event for status in list(self.status) for event in status.events]

    def wait_event(self, start):
        return self.until(
            lambda: next((e for e in self.events() if e.startswith(start)), None), what=start
        )

    def wait_reason(self, reason):
        self.until(
            lambda: self.status and self.status[-1].mode == 'PASSIVE', what='passive after fault'
        )
        assert self.status[-1].reason == reason
        assert self.sim_weight() == 0.0

    def sees_another(self):
        node = self.listener.node
        return second_driver(node, '/g1_driver', '/driver_status')

    def configured(self, name):
        """Ask, as long as a driver that was killed may have been asked, until this one answers."""
        with contextlib.suppress(NodeUnavailableError):
            self.driver._transition(Transition.TRANSITION_CONFIGURE, 3.0)
        return 'not configured' in self.processes.log(name)

    def sim_weight(self):
        return self.sim.wait_state(5.0, 'weight', 0.0)['weight']

    def send(self, index=0, session='s', positions=None, **changes):
        values = {
            'session': session,
            'contract_hash': CONTRACT.sha256,
            'index': index,
            'predecessor': index - 1,
            'row_duration_s': CONTRACT.row_duration_s,
            'positions': np.tile(HOME, (CONTRACT.rows_per_chunk, 1))
            if positions is None
            else positions,
            'channel_names': CONTRACT.channel_names,
            'first_row': 8 if index == 0 else 0,
            'stamp_ns': time.time_ns(),
        }
        self.chunks.publish(convert.chunk_to_msg(robot_chunk.ActionChunk(**{**values, **changes})))

    def call(self, service):
        client = self.listener.node.create_client(Trigger, f'g1_driver/{service}')
        assert client.wait_for_service(10.0)
        future = client.call_async(Trigger.Request())
        self.until(future.done, what=service)
        return future.result()


@pytest.fixture
def rig(processes, listener, until):
    rig = Rig(processes, listener, until)
    yield rig
    rig.sim.close()


def test_an_episode_by_hand(rig):
    """Passive at first, joint states with stamps, chunks executed and accounted for, released."""
    rig.until(lambda: len(rig.joints) > 20, what='joint states')
    assert rig.joints[-1].name[-2:] == ['left_gripper', 'right_gripper']
    assert len(rig.joints[-1].name) == len(rig.joints[-1].position) == 31
    stamp = rig.joints[-1].header.stamp
    assert abs(stamp.sec + stamp.nanosec * 1e-9 - time.time()) < 1.0
    assert rig.sim.state()['weight'] == 0.0, 'passive until it is activated'
    rig.active()
    rig.sim.wait_state(5.0, 'weight', 1.0)
    rig.send(0)
    rig.send(1)
    rig.until(lambda: len(rig.accounts) == 4, what='accounts')
    assert [(a.index, a.complete) for a in rig.accounts] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    assert rig.accounts[1].rows == 8 and rig.accounts[3].rows == 16
    assert len(rig.accounts[3].key_frame_due) == 8
    applied = np.array(rig.accounts[3].positions).reshape(16, 16)
    np.testing.assert_allclose(applied, np.tile(HOME, (16, 1)), atol=0.02)
    rig.driver.deactivate(SLOW_S)
    rig.wait_reason('deactivated')


def test_bad_chunks_are_rejected_with_the_reason(rig):
    rig.active()
    nan = np.full((CONTRACT.rows_per_chunk, 16), np.nan)
    rig.send(0, positions=nan)
    assert 'not finite' in rig.wait_event('chunk_rejected: chunk 0: not finite')
    rig.send(0, contract_hash='0' * 64)
    rig.wait_event('chunk_rejected: chunk 0: wrong contract')
    rig.send(1)
    rig.wait_event('chunk_rejected: chunk 1')
    rig.send(0, stamp_ns=time.time_ns() - 3600 * 10**9)
    rig.wait_event('chunk_rejected: chunk 0: too old')
    assert not rig.accounts, 'nothing was executed'


def test_stop_holds_and_the_second_call_gives_the_arms_back(rig):
    rig.active()
    rig.send(0)
    rig.until(lambda: rig.accounts, what='start of the chunk')
    assert rig.call('stop').success
    rig.wait_event('stop: stop service')
    rig.until(lambda: rig.status[-1].mode == 'HOLD', what='hold')
    assert rig.status[-1].weight == 1.0
    assert rig.call('stop').success
    rig.wait_reason('stop service')
    # Pressed when nothing is held, as in a preflight: the motion that was to come is refused.
    assert 'the next take-over is refused' in rig.call('stop').message
    rig.driver.deactivate(SLOW_S)
    with pytest.raises(NodeUnavailableError, match='refused to activate'):
        rig.driver.activate(SLOW_S)
    rig.wait_event('activation_refused: stop service: STOP came first')
    rig.active()


@pytest.mark.parametrize(
    ('request_', 'reason'),
    [
        ({'remote': ['L2', 'B']}, 'remote_stop'),
        ({'motor_error': {'16': 1}}, 'motor_error'),
        ({'tilt': 0.9}, 'tilt'),
        ({'freeze_state': True}, 'state_lost'),
    ],
)
def test_faults_give_the_arms_back_by_name(rig, request_, reason):
    rig.active()
    rig.sim.request(request_)
    rig.wait_reason(reason)


def test_a_second_writer_ends_the_motion_and_forbids_the_next(rig):
    rig.active()
    intruder = RobotBus(DOMAIN, 'lo')
    try:
        rig.wait_reason('second_writer')
        rig.driver.deactivate(SLOW_S)
        with pytest.raises(NodeUnavailableError, match='refused to activate'):
            rig.driver.activate(SLOW_S)
        rig.wait_event('activation_refused: second_writer')
    finally:
        intruder.close()


def test_a_fault_while_the_weight_rises_is_no_activation(rig):
    threading.Timer(1.0, rig.sim.request, [{'remote': ['L2', 'B']}]).start()
    with pytest.raises(NodeUnavailableError, match='refused to activate'):
        rig.driver.activate(SLOW_S)
    rig.wait_reason('remote_stop')
    assert rig.driver.state() == State.PRIMARY_STATE_INACTIVE


def test_a_second_robot_on_the_wire_ends_the_motion_on_the_spot(rig):
    rig.active()
    other = RobotServerBus(DOMAIN, 'lo')
    try:
        rig.wait_reason('two_robots')
        assert 'RETREAT' not in {status.mode for status in list(rig.status)}
        rig.driver.deactivate(SLOW_S)
        with pytest.raises(NodeUnavailableError, match='refused to activate'):
            rig.driver.activate(SLOW_S)
        rig.wait_event('activation_refused: two_robots')
    finally:
        other.close()


def test_a_second_driver_takes_nothing_over_and_ends_the_motion_of_the_first(rig):
    rig.active()
    rig.processes.start(
        'second', 'flashwam_ros.nodes.g1_driver', '--ros-args', '-p', f'unitree_domain:={DOMAIN}')
    rig.wait_reason('second_driver')
    # Both hear every request; the first refuses to take over, the second to be configured.
    with pytest.raises(NodeUnavailableError, match='refused to configure'):
        rig.driver._transition(Transition.TRANSITION_CONFIGURE, SLOW_S)
    rig.until(lambda: 'not configured:' in rig.processes.log('second'), what='refusal')
    assert 'the arms may still be held' not in rig.processes.log('second')
    assert 'second_driver: 2 nodes /g1_driver' in rig.processes.log('second')
    assert 'another ROS_DOMAIN_ID' in rig.processes.log('second')
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        with contextlib.suppress(NodeUnavailableError):  # what the other one answers
            rig.driver._transition(transition, SLOW_S)
    rig.wait_event('activation_refused: second_driver: 2 nodes /g1_driver')
    assert rig.sim_weight() == 0.0
    rig.processes.end('second')
    rig.until(lambda: not rig.sees_another(), what='the other has left')
    rig.active()


def test_arms_that_were_not_given_back_are_no_successful_deactivation(rig):
    rig.active()
    rig.sim.request({'cut_link': 8.0})
    rig.until(lambda: rig.status[-1].reason == 'state_lost', what='state lost')
    with pytest.raises(NodeUnavailableError, match='refused to deactivate'):
        rig.driver.deactivate(SLOW_S)
    event = rig.wait_event('not_given_back: the arms may still be held')
    assert f'flashwam release --domain {DOMAIN} --interface lo' in event
    assert rig.driver.state() == State.PRIMARY_STATE_ACTIVE
    assert ArmsClaim(DOMAIN, 'lo').taken
    rig.wait_event('released_again')
    rig.sim.wait_state(10.0, 'weight', 0.0)
    rig.until(lambda: rig.status[-1].mode == 'PASSIVE', what='passive')
    rig.driver.deactivate(SLOW_S)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_arms_back_before_the_process_ends(rig, number):
    rig.active()
    rig.sim.wait_state(5.0, 'weight', 1.0)
    assert rig.processes.end('g1_driver', number) == 0
    assert rig.sim_weight() == 0.0


def test_release_after_a_kill(rig):
    """Killed outright, the robot holds its last command; the release tool ramps it down."""
    rig.active()
    rig.sim.wait_state(5.0, 'weight', 1.0)
    with pytest.raises(ReleaseError, match='commanding the arms right now'):
        release(DOMAIN, 'lo')
    rig.processes.end('g1_driver', signal.SIGKILL)
    assert ArmsClaim(DOMAIN, 'lo').taken
    weights = []
    done = threading.Event()

    def watch():
        while not done.is_set():
            weights.append(rig.sim.state()['weight'])
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert release_main(['--if-held', '--domain', str(DOMAIN), '--interface', 'lo']) == 0
    rig.sim.wait_state(5.0, 'weight', 0.0)
    assert not ArmsClaim(DOMAIN, 'lo').taken
    done.set()
    watcher.join()
    assert weights[0] == 1.0
    assert np.all(np.diff(weights) <= 0)
    assert len({round(weight, 2) for weight in weights}) > 5, 'a ramp, no jump'


def test_a_new_driver_leaves_arms_alone_that_a_dead_one_holds(rig):
    rig.active()
    rig.sim.wait_state(5.0, 'weight', 1.0)
    rig.processes.end('g1_driver', signal.SIGKILL)
    rig.processes.start(
        'again', 'flashwam_ros.nodes.g1_driver', '--ros-args', '-p', f'unitree_domain:={DOMAIN}')
    rig.until(lambda: rig.configured('again'), what='an answer')
    said = f'the arms may still be held: flashwam release --domain {DOMAIN} --interface lo'
    assert f'not configured: {said}' in rig.processes.log('again')
    assert rig.sim.state()['weight'] == 1.0, 'nothing has let go of them'
    assert release_main(['--if-held', '--domain', str(DOMAIN), '--interface', 'lo']) == 0
    rig.sim.wait_state(5.0, 'weight', 0.0)
    rig.driver.configure(SLOW_S)
    rig.active()


def test_a_simulated_robot_that_starts_ends_what_was_claimed_of_an_earlier_one(
    processes, listener, until
):
    ArmsClaim(DOMAIN, 'lo').take()
    Rig(processes, listener, until).sim.close()
    assert not ArmsClaim(DOMAIN, 'lo').taken


def test_a_claim_of_another_forbids_the_take_over_and_stays(rig):
    other = ArmsClaim(DOMAIN, 'lo')
    other.take()
    with pytest.raises(NodeUnavailableError, match='refused to activate'):
        rig.driver.activate(SLOW_S)
    rig.wait_event('activation_refused: the arms may still be held: flashwam release --domain')
    assert rig.processes.end('g1_driver') == 0
    assert other.taken and not other.foreign, 'a refusal does not erase what it is about'


def test_a_driver_that_dies_while_it_holds_nothing_is_followed_by_no_motion(rig):
    rig.active()
    rig.driver.deactivate(SLOW_S)
    rig.until(lambda: not ArmsClaim(DOMAIN, 'lo').taken, what='claim dropped')
    rig.processes.end('g1_driver', signal.SIGKILL)
    assert release_main(['--if-held', '--domain', str(DOMAIN), '--interface', 'lo']) == 0
    assert rig.sim_weight() == 0.0


def test_the_retreat_leads_to_where_the_arms_were_taken():
    """The built-in controller of a robot has its own arm pose: known only from where they are."""
    pose, now_ns = HOME.copy(), time.monotonic_ns()
    pose[3] = pose[10] = -0.3
    executor = make_executor(CONTRACT)
    executor.activate(now_ns)
    modes = []
    while not modes or modes[-1] is not Mode.PASSIVE or len(modes) < 5:
        now_ns += 16_000_000
        output = executor.tick(ExecutorInput(now_ns, pose, np.zeros_like(pose), 0.002))
        modes += [] if modes and modes[-1] is output.mode else [output.mode]
        if output.mode is Mode.HOLD and not output.reason:
            executor.deactivate('over')
    assert Mode.RETREAT in modes
    np.testing.assert_allclose(output.command[:14], pose[:14], atol=1e-6)


def test_no_robot_no_configuration(processes, listener):
    processes.node('g1_driver', 'unitree_domain:=42')
    driver = LifecycleClient(listener.node, 'g1_driver')
    with pytest.raises(NodeUnavailableError, match='refused to configure'):
        driver.configure(SLOW_S)
    assert driver.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert 'no robot state on DDS domain 42' in processes.log('g1_driver')
