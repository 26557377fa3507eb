# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The twin as a robot: real-time physics behind the G1's own wire.

`python -m flashwam_ros.twin.server --task pot_potato --seed 0 --domain 1 --interface lo`
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract, load_choices
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.twin import camera_publisher, scenes, viewer
from flashwam_ros.twin.builtin_controller import ArmAuthority, GripperService
from flashwam_ros.twin.child import Child
from flashwam_ros.twin.model import TIMESTEP
from flashwam_ros.twin.requests import RequestError, Requests
from flashwam_ros.twin.simulation import Simulation
from flashwam_ros.twin.snapshot import SharedSnapshot
from flashwam_ros.twin.world_json import world_to_dict
from flashwam_ros.wire.arms_claim import ArmsClaim
from flashwam_ros.wire.endpoints import SIDES
from flashwam_ros.wire.participant import LOOPBACK, DomainError
from flashwam_ros.wire.realtime import claim_realtime, claim_realtime_receivers
from flashwam_ros.wire.robot_server import BodyState, RobotServerBus
from flashwam_ros.wire.services import (
    CHECK_MODE,
    GET_FSM_ID,
    MOTION_SWITCHER,
    SPORT,
    ServiceServer,
)
from flashwam_ros.wire.teleimager import CONFIG_PORT

log = logging.getLogger(__name__)

_GRAVITY_STEPS = 10
_SNAPSHOT_STEPS = 5
_REQUEST_STEPS = 5
_STATE_STEPS = 50
_MAX_LAG_S = 0.05
_ROBOT_DOMAIN = 0
_WINDOW_S = 2.0


@dataclass(frozen=True)
class Options:
    """What to simulate and where to serve it; no ports means no cameras."""

    task: str
    seed: int
    domain: int
    interface: str
    camera_ports: tuple[int, ...]
    request_port: int
    camera_rate_hz: float
    viewer: bool


class Pace:
    """Keeps simulated time on the robot's clock and measures how well that goes.

    A lag up to 50 ms is caught up; time lost beyond it stays lost and lowers the factor.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin to measure anew, from now."""
        self._due = self._begun = robot_clock.monotonic()
        self._steps = 0
        self._marks: deque[tuple[float, int]] = deque([(self._begun, 0)])

    def wait(self) -> None:
        """Count one physics step and sleep until its time has come."""
        self._steps += 1
        self._due += TIMESTEP
        left = self._due - robot_clock.monotonic()
        if left > 0:
            robot_clock.sleep(left)
        elif left < -_MAX_LAG_S:
            self._due -= left + _MAX_LAG_S

    def factors(self) -> tuple[float, float]:
        """Real-time factor over the last 2 s and since the restart."""
        now = robot_clock.monotonic()
        self._marks.append((now, self._steps))
        while len(self._marks) > 2 and self._marks[1][0] <= now - _WINDOW_S:
            self._marks.popleft()
        then, steps = self._marks[0]
        recent = (self._steps - steps) * TIMESTEP / max(now - then, TIMESTEP)
        total = self._steps * TIMESTEP / max(now - self._begun, TIMESTEP)
        return recent, total


class TwinServer:
    """One simulated robot with its services.

    Args:
        options: see `Options`.

    Raises:
        DomainError: the DDS domain cannot be opened. ValueError: the task is unknown.
    """

    def __init__(self, options: Options) -> None:
        contract, poses = RobotContract.load(), load_choices()['poses']
        self._options = options
        self._simulations: dict[str, Simulation] = {}
        self._bus = RobotServerBus(options.domain, options.interface)
        self._bus.lowstate.temperature[:29] = (35, 40)
        self._requests = Requests(self._bus.lowstate)
        self._services = ServiceServer(self._bus.participant, {
            (MOTION_SWITCHER, CHECK_MODE): lambda: {'form': '0', 'name': self._requests.mode},
            (SPORT, GET_FSM_ID): lambda: {'data': self._requests.fsm},
        })  # fmt: skip
        self._steps = self.episode = self._linked_at = 0
        self._grippers = GripperService()
        self._pace = Pace()
        self._shared = SharedSnapshot()
        self._cameras: Child | None = None
        self._window: Child | None = None
        self._load(options.task, options.seed)
        self._arms = ArmAuthority(
            np.array(poses['builtin_arm'], float),
            contract.kp[:14],
            contract.kd[:14],
            Kinematics(self._sim.twin.description),
        )
        self._take_per_rad = self._sim.twin.description.gripper.finger_per_rad

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set."""
        if self._options.camera_ports:
            self._cameras = camera_publisher.start(
                self._shared.fd, self._options.camera_ports, self._options.request_port,
                self._options.camera_rate_hz,
            )  # fmt: skip
        if self._options.viewer:
            self._window = viewer.start(self._shared.fd)
        log.info('physics run at %s', claim_realtime())
        claim_realtime_receivers()
        gc.collect()
        gc.freeze()
        self._pace.restart()
        while not stop.is_set():
            self.step()
            self._pace.wait()

    def close(self) -> None:
        """End the helper processes and leave the domain."""
        for child in (self._cameras, self._window):
            if child is not None:
                child.close()
        self._services.close()
        self._bus.close()

    def step(self) -> None:
        """2 ms: commands in, physics, state out."""
        self._take_commands()
        self._sim.step(TIMESTEP)
        self._steps += 1
        if self._linked and not self._requests.frozen:
            self._publish_robot()
        if self._steps % _SNAPSHOT_STEPS == 0:
            self._shared.write(self._sim.data, self._sim.task, self.episode, robot_clock.time_ns())
        if self._steps % _REQUEST_STEPS == 0:
            self._answer()
        if self._steps % _STATE_STEPS == 0:
            if self._linked:
                self._services.answer()
                self._services.publish_battery(self._requests.battery)
            self._bus.publish_sim_state(self.state())

    def state(self) -> dict:
        """What `rt/sim_state` says."""
        status = self._sim.status()
        recent, total = self._pace.factors()
        frames, dropped = self._shared.counters()
        return {
            'task': self._sim.task,
            'seed': self._seed,
            'episode': self.episode,
            'success': bool(status.success),
            'stages': {name: bool(reached) for name, reached in status.stages.items()},
            'failure': status.failure,
            **world_to_dict(self._sim.world()),
            'qpos': np.round(self._sim.data.qpos, 6).tolist(),
            'weight': self._arms.weight,
            'real_time_factor': round(recent, 4),
            'real_time_factor_episode': round(total, 4),
            'frames_sent': frames,
            'frames_dropped': dropped,
            'cameras_alive': self._cameras is not None and self._cameras.alive,
            'bad_crc': self._bus.bad_crc,
            'refused_commands': self._bus.refused,
            'request': self._requests.last_id,
            'request_error': self._requests.last_error,
            'time_ns': robot_clock.time_ns(),
        }

    @property
    def _linked(self) -> bool:
        """False while a request keeps the robot's network cable out."""
        return self._steps >= self._linked_at

    def _take_commands(self) -> None:
        command = self._bus.arm_command()
        orders = [self._bus.gripper_command(side) for side in SIDES]
        if not self._linked:  # lost on their way
            command, orders = None, []
        if command is not None:
            self._arms.take(command)
        if command is not None or self._steps % _GRAVITY_STEPS == 0:
            motors = self._arms.command(self._sim.data.qpos[self._sim.twin.arm_qpos])
            self._sim.set_motor_command(motors.q, motors.dq, motors.tau, motors.kp, motors.kd)
        now_s = self._steps * TIMESTEP
        for number, order in enumerate(orders):
            if order is not None:
                self._grippers.take(number, order, now_s)
        drive = self._grippers.drive(now_s)
        self._sim.set_gripper_command(drive.q, drive.kp, drive.kd)

    def _publish_robot(self) -> None:
        twin, data = self._sim.twin, self._sim.data
        angle, speed = self._sim.gripper_state()
        torque = data.actuator_force[twin.gripper_actuators] * self._take_per_rad
        angle = angle + self._requests.gripper_offset
        for number, side in enumerate(() if self._requests.no_gripper else SIDES):
            self._bus.publish_gripper(side, angle[number], speed[number], torque[number])
        self._bus.publish_lowstate(BodyState(*self._sim.joint_state(), tick_ms=self._steps * 2))

    def _answer(self) -> None:
        for request in self._bus.requests():
            reset = self._requests.apply(request)
            if reset is not None:
                self._reset(reset)
            self._shared.camera_faults = self._requests.camera_faults
            self._pose()
            self._cut()
            self._bus.publish_sim_state(self.state())

    def _pose(self) -> None:
        pose, self._requests.arm_pose = self._requests.arm_pose, None
        if pose is not None:
            self._arms.hold(pose)
            self._sim.data.qpos[self._sim.twin.arm_qpos] = pose

    def _cut(self) -> None:
        seconds, self._requests.cut_s = self._requests.cut_s, 0.0
        if seconds:
            self._linked_at = self._steps + round(seconds / TIMESTEP)

    def _reset(self, reset: dict) -> None:
        task, seed = reset.get('task', self._sim.task), reset.get('seed', self._seed)
        try:
            self._load(task, int(seed))
        except (TypeError, ValueError) as error:
            self._requests.refuse(RequestError(f'reset to task {task!r}, seed {seed!r}: {error}'))
            return
        self._arms.forget()
        self._grippers.forget()
        self._pace.restart()

    def _load(self, task: str, seed: int) -> None:
        if task not in self._simulations:
            self._simulations[task] = Simulation(task)
        simulation = self._simulations[task]
        simulation.reset(seed)
        self._sim, self._seed = simulation, seed
        self.episode += 1
        self._shared.write(self._sim.data, task, self.episode, robot_clock.time_ns())


def _options(argv: list[str] | None) -> Options:
    cameras = RobotContract.load().cameras
    ports = ','.join(str(camera.zmq_port) for camera in cameras)
    parser = argparse.ArgumentParser(prog='twin', description=__doc__.split('\n')[0])
    parser.add_argument('--task', choices=scenes.TASKS, default=scenes.TASKS[0])
    parser.add_argument('--seed', type=int, default=0, help='seed of the first scene')
    parser.add_argument('--domain', type=int, default=1, help='DDS domain id, not the robot\'s 0')
    parser.add_argument('--interface', default=LOOPBACK, help=f'{LOOPBACK}; no other is accepted')
    parser.add_argument(
        '--camera-ports', default=ports,
        help=f'ports of {", ".join(c.wire_name for c in cameras)}; empty: no cameras',
    )  # fmt: skip
    parser.add_argument('--request-port', type=int, default=CONFIG_PORT)
    parser.add_argument('--camera-rate', type=float, default=20.0, help='frames per second')
    parser.add_argument('--viewer', action='store_true', help='show the scene in a window')
    args = parser.parse_args(argv)
    if args.interface != LOOPBACK or args.domain == _ROBOT_DOMAIN:
        parser.error(
            f'--domain {args.domain} --interface {args.interface}: a simulated robot speaks on '
            f'{LOOPBACK} and outside of domain {_ROBOT_DOMAIN} only, as it would be taken for a '
            'real one there; for the G1 on the network start no twin but a launch with robot:=real'
        )
    try:
        numbers = tuple(int(port) for port in args.camera_ports.split(',') if port)
    except ValueError:
        numbers = (0,)
    if numbers and (len(numbers) != len(cameras) or not all(numbers)):
        parser.error(
            f'--camera-ports {args.camera_ports!r}: give {len(cameras)} numbers like {ports}'
        )
    return Options(
        args.task, args.seed, args.domain, args.interface, numbers, args.request_port,
        args.camera_rate, args.viewer,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the twin until SIGINT or SIGTERM."""
    options = _options(argv)
    logging.basicConfig(level=logging.INFO, format='twin: %(message)s')
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = TwinServer(options)
    except DomainError as error:
        log.error('%s', error)
        return 1
    # Before the first state: what a driver once held was a robot that is no more.
    ArmsClaim(options.domain, options.interface).clear()
    log.info('%s on domain %d, %s', options.task, options.domain, options.interface)
    try:
        server.run(stop)
    finally:
        server.close()
    log.info('ended')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
