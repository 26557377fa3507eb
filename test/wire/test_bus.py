# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Both sides of the robot's wire over real DDS on loopback."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from flashwam_ros.wire import cdr, endpoints, idl
from flashwam_ros.wire.participant import DomainError, cyclone_config, open_participant
from flashwam_ros.wire.robot_bus import ArmCommand, RobotBus
from flashwam_ros.wire.robot_server import BodyState, RobotServerBus
from flashwam_ros.wire.sim_bus import SimBus, SimulatorTimeoutError

DOMAIN = 61
DEADLINE_S = 10.0


def until(condition: Callable[[], object]) -> object:
    """Poll a condition until it holds; fail after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError('condition did not come true in time')


def command(weight: float = 0.5, q0: float = 0.25) -> ArmCommand:
    """An arm command with distinct values."""
    q = q0 + 0.01 * np.arange(14)
    return ArmCommand(q, np.zeros(14), 0.5 * q, np.full(14, 80.0), np.full(14, 3.0), weight)


@pytest.fixture
def robot() -> Iterator[RobotServerBus]:
    bus = RobotServerBus(DOMAIN, 'lo')
    yield bus
    bus.close()


@pytest.fixture
def client() -> Iterator[RobotBus]:
    bus = RobotBus(DOMAIN, 'lo')
    yield bus
    bus.close()


def body(tick: int) -> BodyState:
    return BodyState(0.1 * np.arange(29), np.zeros(29), np.ones(29), tick)


def test_state_reaches_the_client(robot: RobotServerBus, client: RobotBus) -> None:
    robot.lowstate.wireless_remote[:] = np.frombuffer(cdr.remote_bytes(['B']), np.uint8)
    robot.lowstate.motorstate[16] = 0x200

    def send() -> bool:
        robot.publish_lowstate(body(77))
        robot.publish_gripper('left', 1.5, -0.5, 0.25)
        return client.lowstate() is not None and client.gripper_state('left') is not None

    before = time.monotonic_ns()
    until(send)
    state = client.lowstate()
    np.testing.assert_allclose(state.q[:29], 0.1 * np.arange(29), rtol=1e-6)
    assert state.tick == 77
    assert state.mode_machine == 15
    assert state.buttons == {'B'}
    assert state.motorstate[16] == 0x200
    assert before < state.arrival_ns <= time.monotonic_ns()
    assert client.lowstate() is client.lowstate()
    gripper = client.gripper_state('left')
    assert (gripper.q, gripper.dq, gripper.tau_est) == (1.5, -0.5, 0.25)
    assert client.gripper_state('right') is None


def test_bad_checksum_is_not_a_state(robot: RobotServerBus, client: RobotBus) -> None:
    until(lambda: robot.publish_lowstate(body(1)) or client.lowstate())
    raw = bytearray(robot.lowstate.to_bytes())
    raw[100] ^= 1
    until(
        lambda: (
            robot._state.write(idl.LowStateType(bytes(raw)))
            or client.lowstate() is None
            or client.rejected
        )
    )
    assert client.lowstate().tick == 1


def test_commands_reach_the_robot(robot: RobotServerBus, client: RobotBus) -> None:
    until(lambda: robot.publish_lowstate(body(1)) or client.lowstate())
    got = until(lambda: client.write_arm(command()) or robot.arm_command())
    np.testing.assert_allclose(got.q, command().q, rtol=1e-6)
    np.testing.assert_allclose(got.tau, command().tau, rtol=1e-6)
    assert (got.weight, got.kp[0], got.kd[13]) == (0.5, 80.0, 3.0)
    assert client._command.mode_machine == 15
    assert robot.bad_crc == 0
    gripper = until(lambda: client.write_gripper('right', 2.5) or robot.gripper_command('right'))
    assert (gripper.q, gripper.kp) == (2.5, 5.0)


@pytest.mark.parametrize('bad', [command(weight=1.01), command(q0=float('nan'))])
def test_client_sends_no_nonsense(client: RobotBus, bad: ArmCommand) -> None:
    with pytest.raises(ValueError, match='not sent'):
        client.write_arm(bad)
    with pytest.raises(ValueError, match='not sent'):
        client.write_gripper('left', float('inf'))


def test_robot_ignores_nonsense_and_counts_bad_checksums(robot: RobotServerBus) -> None:
    participant = open_participant(DOMAIN, 'lo')
    writer = endpoints.writer(participant, endpoints.ARM_SDK)
    until(writer.get_matched_subscriptions)
    message = cdr.LowCmd()
    message.q[20] = np.nan
    writer.write(idl.LowCmdType(message.seal()))
    until(lambda: robot.arm_command() is None and robot.refused == 1)
    message.q[20] = 0.5
    writer.write(idl.LowCmdType(message.to_bytes()))
    assert until(robot.arm_command).q[5] == 0.5
    assert robot.bad_crc == 1


def test_second_writer_is_seen_and_forgotten(client: RobotBus) -> None:
    assert client.foreign_writers() == []
    other = RobotBus(DOMAIN, 'lo')
    names = until(client.foreign_writers)
    until(lambda: len(client.foreign_writers()) == 3)
    assert any(name.startswith('rt/arm_sdk (') for name in names)
    other.close()
    until(lambda: client.foreign_writers() == [])


def test_a_second_robot_is_seen_and_forgotten(robot: RobotServerBus, client: RobotBus) -> None:
    again = endpoints.writer(robot.participant, endpoints.LOWSTATE)
    until(lambda: len(client._lowstate.get_matched_publications()) == 2)
    assert client.other_robots() == [], 'two writers of one program are one robot'
    other = RobotServerBus(DOMAIN, 'lo')
    names = until(client.other_robots)
    until(lambda: len(client.other_robots()) == 6)
    assert any(name.startswith('rt/lowstate (') for name in names)
    assert client.foreign_writers() == []
    other.close()
    until(lambda: client.other_robots() == [])
    del again


def test_simulator_requests_are_answered(robot: RobotServerBus) -> None:
    sim = SimBus(DOMAIN, 'lo')
    with pytest.raises(SimulatorTimeoutError, match='no state with request'):
        sim.request({'reset': {}}, timeout_s=0.3)
    pending = until(robot.requests)
    assert pending[0]['reset'] == {}
    robot.publish_sim_state({'request': 'x', 'seed': 3})
    assert until(sim.state)['seed'] == 3
    sim._writer.write(idl.TextType('not json'))
    until(lambda: robot.requests() == [] and robot.bad_requests == 1)
    sim.close()


def test_loopback_recipe_leaves_multicast_alone() -> None:
    xml = cyclone_config('lo')
    assert 'AllowMulticast' not in xml
    assert '<Peer address="127.0.0.1"/>' in xml
    assert 'Peer' not in cyclone_config('eth0')


def test_one_domain_object_per_process() -> None:
    first = open_participant(DOMAIN, 'lo')
    second = open_participant(DOMAIN, 'lo')
    assert first.guid != second.guid
    with pytest.raises(DomainError, match='open on interface lo'):
        open_participant(DOMAIN, 'eth0')
    with pytest.raises(DomainError, match='no_such_if'):
        open_participant(62, 'no_such_if')
