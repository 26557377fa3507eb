# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The twin server as its clients see it, over real DDS and ZMQ on loopback."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from flashwam_ros.imaging import decode_jpeg
from flashwam_ros.robot.contract import RobotContract, load_choices
from flashwam_ros.twin.gl import NoOpenGLError, choose_gl_backend
from flashwam_ros.twin.server import main
from flashwam_ros.twin.world_json import world_from_dict
from flashwam_ros.wire.realtime import CONTROL_PRIORITY
from flashwam_ros.wire.robot_bus import ARM_SLOTS, ArmCommand, RobotBus
from flashwam_ros.wire.sim_bus import SimBus
from flashwam_ros.wire.teleimager import CameraClient

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from twin_process import TwinProcess, free_ports, until  # noqa: E402

DOMAIN, CAMERA_DOMAIN = 66, 67
POSE = np.array(load_choices()['poses']['builtin_arm'])
CONTRACT = RobotContract.load()
NEAR_RAD = 0.06


@pytest.fixture(scope='module')
def server() -> Iterator[TwinProcess]:
    process = TwinProcess(DOMAIN, '--task', 'red_bottle', '--camera-ports', '')
    yield process
    if process.process.poll() is None:
        process.end()


@pytest.fixture
def bus(server: TwinProcess) -> Iterator[RobotBus]:
    bus = RobotBus(DOMAIN, 'lo')
    until(bus.lowstate)
    until(bus.listeners)
    yield bus
    bus.close()


@pytest.fixture
def sim(server: TwinProcess) -> Iterator[SimBus]:
    bus = SimBus(DOMAIN, 'lo')
    bus.reset('red_bottle', 3)
    yield bus
    bus.close()


@pytest.mark.parametrize('words', [('--interface', 'eth0'), ('--domain', '0')])
def test_it_stays_off_the_wire_of_a_real_robot(words: tuple, capsys) -> None:
    with pytest.raises(SystemExit) as refused:
        main(list(words))
    assert refused.value.code == 2
    assert 'launch with robot:=real' in capsys.readouterr().err


def command(offset: float, weight: float) -> ArmCommand:
    return ArmCommand(
        POSE + offset, np.zeros(14), np.zeros(14), CONTRACT.kp[:14], CONTRACT.kd[:14], weight
    )


def arm(bus: RobotBus) -> np.ndarray:
    return bus.lowstate().q[ARM_SLOTS].astype(float)


def settled(bus: RobotBus, goal: np.ndarray, sent: ArmCommand | None) -> bool:
    """Whether the arms stand at `goal`; keeps sending `sent`."""
    if sent is not None:
        bus.write_arm(sent)
    state = bus.lowstate()
    still = np.abs(state.dq[ARM_SLOTS]).max() < 0.05
    return bool(still and np.abs(arm(bus) - goal).max() < NEAR_RAD)


def test_state_comes_every_two_milliseconds(bus: RobotBus, sim: SimBus) -> None:
    first, begun = bus.lowstate(), bus.received
    until(lambda: bus.lowstate().tick - first.tick >= 2000)
    last = bus.lowstate()
    received = bus.received - begun
    assert last.mode_machine == 15
    assert bus.rejected == 0
    assert not last.motorstate.any()
    np.testing.assert_array_equal(last.quaternion, (1, 0, 0, 0))
    # Best effort, newest only: a busy machine may lose some, never make more.
    assert 0.4 * 1000 < received <= 1.02 * (last.tick - first.tick) / 2


def test_own_controller_holds_its_pose_without_user(bus: RobotBus, sim: SimBus) -> None:
    # Gravity is compensated: what remains is joint friction.
    until(lambda: np.abs(arm(bus) - POSE).max() < 0.015)


def test_weight_blends_and_the_last_target_stays(bus: RobotBus, sim: SimBus) -> None:
    offset = np.zeros(14)
    offset[[2, 9]] = (0.4, -0.4)
    until(lambda: settled(bus, POSE + 0.5 * offset, command(offset, 0.5)))
    until(lambda: settled(bus, POSE + offset, command(offset, 1.0)))
    # Nobody publishes any more: the target stays in force.
    now = time.monotonic()
    until(lambda: bus.wait_lowstate(1.0) and time.monotonic() - now > 1.2)
    assert settled(bus, POSE + offset, None)
    assert until(lambda: sim.state()['weight'] == 1.0)
    until(lambda: settled(bus, POSE, command(offset, 0.0)))


def test_reset_gives_the_arms_back_and_changes_the_scene(bus: RobotBus, sim: SimBus) -> None:
    offset = np.zeros(14)
    offset[2] = 0.4
    until(lambda: settled(bus, POSE + offset, command(offset, 1.0)))
    before = sim.wait_state(5.0)
    after = sim.reset('red_bottle', 4)
    assert (after['seed'], after['episode']) == (4, before['episode'] + 1)
    assert after['weight'] == 0.0
    assert after['sim_time'] < 0.5
    assert after['objects'] != before['objects']
    assert not any(after['stages'].values())
    until(lambda: settled(bus, POSE, None))
    again = sim.reset('red_bottle', 4)
    for name, pose in again['objects'].items():
        np.testing.assert_allclose(pose, after['objects'][name], atol=1e-3)


def test_reset_to_another_task(bus: RobotBus, sim: SimBus) -> None:
    state = sim.reset('pink_object', 0)
    assert state['task'] == 'pink_object'
    assert 'placed' in state['stages']
    world = world_from_dict(state)
    assert world.tcp.shape == (2, 4, 4)
    assert set(world.objects) == set(state['objects'])
    with pytest.raises(ValueError, match='not a world state'):
        world_from_dict({'sim_time': 1})


def test_world_is_told_truly(bus: RobotBus, sim: SimBus) -> None:
    from flashwam_ros.twin.simulation import Simulation

    told = world_from_dict(sim.reset('red_bottle', 11))
    simulation = Simulation('red_bottle')
    simulation.reset(11)
    for name, (position, _) in simulation.world().objects.items():
        np.testing.assert_allclose(told.position(name), position, atol=2e-3)
    np.testing.assert_allclose(told.tcp, simulation.world().tcp, atol=0.02)


def test_gripper_follows_then_brakes(bus: RobotBus, sim: SimBus) -> None:
    def closing() -> bool:
        bus.write_gripper('left', 1.0)
        return abs(bus.gripper_state('left').q - 1.0) < 0.1

    until(closing)
    assert bus.gripper_state('right').q > 5.0
    # Only the left one moves, and 1 s after the last command its motor gives no torque.
    until(lambda: abs(bus.gripper_state('left').tau_est) < 1e-3)


def test_faults_are_reported_like_a_robots(bus: RobotBus, sim: SimBus) -> None:
    sim.request(
        {'remote': ['B'], 'motor_error': {'16': 0x200}, 'temperature': {'20': 101}, 'tilt': 0.6}
    )
    state = until(lambda: bus.lowstate().buttons and bus.lowstate())
    assert state.buttons == {'B'}
    assert state.motorstate[16] == 0x200
    assert state.temperature[20, 1] == 101
    assert state.quaternion[1] == pytest.approx(np.sin(0.3), abs=1e-6)
    sim.request({'remote': [], 'motor_error': {}, 'temperature': {}, 'tilt': 0})
    state = until(lambda: not bus.lowstate().buttons and bus.lowstate())
    assert not state.motorstate.any()
    assert state.temperature[20, 1] == 40


def test_frozen_state_and_back(bus: RobotBus, sim: SimBus) -> None:
    sim.request({'freeze_state': True})
    frozen_at = time.monotonic_ns()
    assert bus.wait_lowstate(0.3, newer_than_ns=frozen_at) is None
    sim.request({'freeze_state': False})
    assert bus.wait_lowstate(5.0, newer_than_ns=frozen_at) is not None


def test_a_cut_link_loses_what_is_said_meanwhile(bus: RobotBus, sim: SimBus) -> None:
    def write(weight: float) -> None:
        bus.write_arm(command(0.0, weight))

    until(lambda: write(0.5) or sim.state()['weight'] == 0.5)
    sim.request({'cut_link': 1.0})
    cut_at = time.monotonic_ns()
    for _ in range(20):
        write(1.0)
        time.sleep(0.01)
    assert bus.lowstate().arrival_ns < cut_at + 100_000_000
    assert bus.wait_lowstate(5.0, newer_than_ns=cut_at + 500_000_000) is not None
    time.sleep(0.1)
    assert sim.state()['weight'] == 0.5, 'what was said into the cut cable came through later'
    until(lambda: write(0.0) or sim.state()['weight'] == 0.0)


@pytest.mark.parametrize(
    ('request_', 'message'),
    [
        ({'fly': True}, 'unknown request'),
        ({'remote': ['nose']}, 'no button'),
        ({'motor_error': {'99': 1}}, 'no motor 99'),
        ({'reset': {'task': 'juggle'}}, 'juggle'),
        ({'reset': {'seed': -1}}, '-1'),
        ({'reset': 5}, 'give an object'),
        ({'cut_link': 1e9}, 'cut_link'),
        ({'cut_link': float('nan')}, 'cut_link'),
    ],
)
def test_senseless_requests_are_refused(sim: SimBus, request_: dict, message: str) -> None:
    before = sim.wait_state(5.0)
    with pytest.raises(ValueError, match=message):
        sim.request(request_)
    assert sim.state()['episode'] == before['episode']


def test_nonsense_on_the_wire_moves_nothing(bus: RobotBus, sim: SimBus) -> None:
    from flashwam_ros.wire import idl

    bus.write_arm(command(0.0, 1.0))
    bus._command.q[20] = np.nan
    refused = sim.wait_state(5.0)['refused_commands']

    def send() -> bool:
        bus._arm.write(idl.LowCmdType(bus._command.seal()))
        return sim.state()['refused_commands'] > refused

    until(send)
    until(lambda: settled(bus, POSE, None))
    assert np.isfinite(arm(bus)).all()


def test_real_time_factor_is_told(sim: SimBus) -> None:
    episode = sim.reset('red_bottle', 5)['episode']
    begun = sim.wait_state(5.0)
    until(lambda: sim.state()['sim_time'] > 1.0)
    state = sim.state()
    wall_s = (state['time_ns'] - begun['time_ns']) * 1e-9
    told = state['real_time_factor_episode']
    assert state['episode'] == episode
    assert told == pytest.approx((state['sim_time'] - begun['sim_time']) / wall_s, abs=0.1)


def test_ends_cleanly_on_sigterm(server: TwinProcess) -> None:
    until(lambda: SimBus(DOMAIN, 'lo').wait_state(10.0))
    status, said = server.end()
    assert status == 0, said
    assert 'ended' in said


@pytest.mark.parametrize('arguments', [('--task', 'juggle'), ('--camera-ports', '1,2')])
def test_bad_arguments_are_refused(arguments: tuple) -> None:
    process = TwinProcess(DOMAIN, *arguments)
    _, said = process.process.communicate(timeout=30)
    assert process.process.returncode == 2
    assert 'juggle' in said or '1,2' in said


def _running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        status = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return False
    return status.rsplit(')', 1)[1].split()[0] != 'Z'


def _children(pid: int) -> list[int]:
    return [int(p) for p in pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


@pytest.fixture(scope='module')
def gl() -> None:
    try:
        os.environ['MUJOCO_GL'] = choose_gl_backend()
    except NoOpenGLError as error:
        pytest.skip(str(error))


@pytest.fixture
def camera_twin(gl: None) -> Iterator[tuple[TwinProcess, CameraClient]]:
    ports = free_ports(4)
    twin = TwinProcess(
        CAMERA_DOMAIN, '--task', 'red_bottle', '--camera-ports', ','.join(map(str, ports[:3])),
        '--request-port', str(ports[3]),
    )  # fmt: skip
    client = CameraClient('127.0.0.1', CONTRACT.cameras, ports[3])
    yield twin, client
    client.close()
    if twin.process.poll() is None:
        twin.end()


def newest(client: CameraClient) -> dict:
    """One frame of every camera, no older than this call."""
    asked_ns, frames = time.time_ns(), {}

    def complete() -> bool:
        for frame in client.poll(0.1):
            if frame.stamp_ns >= asked_ns:
                frames[frame.key] = frame
        return len(frames) == 3

    until(complete)
    return frames


def test_cameras_show_the_scene_and_its_resets(camera_twin: tuple) -> None:
    twin, client = camera_twin
    frames = newest(client)
    assert client.config['head_camera']['fps'] == 20.0
    for frame in frames.values():
        assert not frame.estimated
        assert abs(time.time_ns() - frame.stamp_ns) < 2e9
        picture = decode_jpeg(frame.jpeg)
        assert picture.shape == (240, 320, 3)
        assert picture.std() > 10
    later = newest(client)
    assert later['head'].seq > frames['head'].seq
    sim = SimBus(CAMERA_DOMAIN, 'lo')
    sim.reset('pink_object', 1)
    after = newest(client)
    change = decode_jpeg(after['head'].jpeg).astype(int) - decode_jpeg(later['head'].jpeg)
    assert (np.abs(change).max(axis=2) > 40).mean() > 0.003
    until(lambda: sim.state() and sim.state()['frames_sent'] > 0)
    # Kill the camera process: the robot lives on and says so.
    camera = _children(twin.process.pid)[0]
    os.kill(camera, signal.SIGKILL)
    until(lambda: not sim.state()['cameras_alive'])
    tick = sim.state()['sim_time']
    until(lambda: sim.state()['sim_time'] > tick + 0.5)
    sim.close()


def test_cameras_keep_time_beside_busy_programs(camera_twin: tuple) -> None:
    """Burners in sessions of their own: a nice value would not help against them."""
    twin, client = camera_twin
    newest(client)
    camera = _children(twin.process.pid)[0]
    if os.sched_getscheduler(camera) & ~os.SCHED_RESET_ON_FORK != os.SCHED_RR:
        pytest.skip('this user may not ask for real-time priority')
    assert os.sched_getparam(camera).sched_priority < CONTROL_PRIORITY, 'the robot comes first'
    sim = SimBus(CAMERA_DOMAIN, 'lo')
    until(lambda: sim.state() is not None)
    dropped = sim.state()['frames_dropped']
    cpu = min(os.sched_getaffinity(camera))
    os.sched_setaffinity(camera, {cpu})
    burn = f'import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass'
    burners = [
        subprocess.Popen([sys.executable, '-c', burn], start_new_session=True) for _ in range(4)
    ]
    try:
        first = newest(client)['head']
        until(lambda: newest(client)['head'].stamp_ns > first.stamp_ns + 3_000_000_000)
        assert sim.state()['frames_dropped'] == dropped
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
        sim.close()


def test_cameras_die_with_the_server(camera_twin: tuple) -> None:
    twin, client = camera_twin
    newest(client)
    camera = _children(twin.process.pid)[0]
    twin.end(signal.SIGKILL)
    until(lambda: not _running(camera), 10.0)
