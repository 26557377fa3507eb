# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The faults: how each is made on a running stack, and what must follow."""

from __future__ import annotations

import copy
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._stack import Stack, StackError
from flashwam_ros.msg import DriverStatus
from flashwam_ros.nodes.lifecycle import STATUS_QOS
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.wire.robot_bus import ARM_SLOTS, ArmCommand, RobotBus
from flashwam_ros.wire.robot_server import RobotServerBus
from flashwam_ros.wire.sim_bus import SimBus

LATE_S = 1.5
INTRUDER_S = 1.0
STRANGER_S = 4.0
FAR_RAD = 10.0


class Relay:
    """Stands between policy and driver; normally passes every chunk on."""

    def __init__(self) -> None:
        self.alter: Callable | None = None
        self.publisher = None
        self.touched_ns = 0
        self._lock = threading.Lock()
        self._held: list = []

    def __call__(self, msg) -> list:
        """What to send instead of a chunk."""
        with self._lock:
            return [msg] if self.alter is None else self.alter(msg)

    def touch(self) -> None:
        """Note that the fault begins now."""
        self.touched_ns = self.touched_ns or time.monotonic_ns()

    def hold(self, msg) -> list:
        """Keep this chunk and those after it back for `LATE_S`."""
        if not self._held:
            self.touch()
            threading.Timer(LATE_S, self._let_go).start()
        self._held.append(msg)
        return []

    def _let_go(self) -> None:
        with self._lock:
            self.alter = None
            for msg in self._held:
                self.publisher.publish(msg)


@dataclass
class Session:
    """A running rollout, and the hands that break it."""

    stack: Stack
    sim: SimBus
    relay: Relay | None = None
    chunks: object = None

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Signal a process of the graph."""
        return self.stack.kill(name, number)

    def kill_camera_server(self) -> int:
        """Kill the process that draws and serves the twin's pictures."""
        for pid in self.stack.children('twin'):
            command = Path(f'/proc/{pid}/cmdline').read_bytes()
            if b'camera_publisher' in command:
                at_ns = time.monotonic_ns()
                os.kill(pid, signal.SIGKILL)
                return at_ns
        raise StackError('the twin has no camera process')

    def ask(self, **request) -> int:
        """Have the twin report something."""
        at_ns = time.monotonic_ns()
        self.sim.request(request)
        return at_ns

    def send(self, change: Callable) -> int:
        """Send a copy of the policy's newest chunk, altered, as the next one."""
        heard = self.stack.listener.chunks
        count = len(heard)
        self.stack.until(lambda: len(heard) > count, 5.0, 'another chunk of the policy')
        msg = copy.deepcopy(self.stack.listener.last_chunk)
        msg.predecessor, msg.index = msg.index, msg.index + 1
        change(msg)
        at_ns = time.monotonic_ns()
        self.chunks.publish(msg)
        return at_ns

    def tamper(self, how: Callable) -> int:
        """Alter what the policy itself sends from the next chunk on."""
        self.relay.alter = how(self.relay)
        self.stack.until(lambda: self.relay.touched_ns, 5.0, 'the next chunk of the policy')
        return self.relay.touched_ns

    def intrude(self) -> int:
        """Be a second program that holds the arms where they are, for a while."""
        at_ns = time.monotonic_ns()
        bus = RobotBus(self.stack.place.unitree_domain, 'lo')
        try:
            contract = RobotContract.load()
            q = bus.wait_lowstate(3.0).q[ARM_SLOTS].astype(float)
            torque = Kinematics(load_description()).gravity_torque(q)
            kp, kd = contract.kp[: len(q)], contract.kd[: len(q)]
            end = time.monotonic() + INTRUDER_S
            while time.monotonic() < end:
                bus.write_arm(ArmCommand(q, np.zeros(len(q)), torque, kp, kd, 1.0))
                time.sleep(0.02)
        finally:
            bus.close()
        return at_ns

    def second_robot(self) -> int:
        """Be a second program that tells a robot's state, for a while."""
        at_ns = time.monotonic_ns()
        bus = RobotServerBus(self.stack.place.unitree_domain, 'lo')
        time.sleep(STRANGER_S)
        bus.close()
        return at_ns

    def second_driver(self) -> int:
        """Publish a driver's status, too, as a second driver would, for a while."""
        node, at_ns = self.stack.listener.node, time.monotonic_ns()
        publisher = node.create_publisher(DriverStatus, 'driver_status', STATUS_QOS)
        time.sleep(STRANGER_S)
        node.destroy_publisher(publisher)
        return at_ns


def _nan(msg) -> None:
    msg.positions[3 * msg.channels + 2] = math.nan


def _far(relay: Relay) -> Callable:
    def alter(msg) -> list:
        relay.touch()
        relay.alter = None
        msg.positions = [FAR_RAD] * len(msg.positions)
        return [msg]

    return alter


def _all_nan(relay: Relay) -> Callable:
    def alter(msg) -> list:
        relay.touch()
        _nan(msg)
        return [msg]

    return alter


def _skip(msg) -> None:
    msg.index += 3
    msg.predecessor += 3


def _other_contract(msg) -> None:
    msg.contract_hash = '0' * 64


@dataclass(frozen=True)
class Fault:
    """One way to break the stack, and what must follow.

    Attributes:
        name: for `--only` and files. what: in words.
        inject: does it; returns when (monotonic ns).
        reasons: the driver's reason must be one of these (lower case).
        retreat: True or False: must or must not be; None: either.
        event: text that must be among the driver's events, '' for none.
        goes_on: the driver does not let go; the rollout runs to its own end.
        relays: chunks go through a relay. sends: there is a second publisher of chunks.
        intrudes: a writer that appears after the fault is ours.
    """

    name: str
    what: str
    inject: Callable[[Session], int]
    reasons: tuple[str, ...] = ('deactivated',)
    retreat: bool | None = None
    event: str = ''
    goes_on: bool = False
    relays: bool = False
    sends: bool = False
    intrudes: bool = False


_GONE = ('deactivated', 'no_chunk')
FAULTS = (
    Fault('kill_policy', 'kill -9 policy', lambda s: s.kill('policy'), _GONE),
    Fault('kill_camera_node', 'kill -9 camera node', lambda s: s.kill('camera'), _GONE),
    Fault('kill_camera_server', 'kill -9 camera server', Session.kill_camera_server, _GONE),
    Fault('kill_driver', 'kill -9 driver', lambda s: s.kill('g1_driver'),
          ('flashwam release',), retreat=False),
    Fault('sigterm_driver', 'SIGTERM driver', lambda s: s.kill('g1_driver', signal.SIGTERM),
          ('sigterm',)),
    Fault('state_frozen', 'no more rt/lowstate', lambda s: s.ask(freeze_state=True),
          ('state_lost',), retreat=False),
    Fault('remote', 'L2+B on the remote', lambda s: s.ask(remote=['L2', 'B']),
          ('remote_stop',), retreat=False),
    Fault('motor_error', 'motor error word', lambda s: s.ask(motor_error={'18': 1}),
          ('motor_error',), retreat=False),
    Fault('tilt', 'pelvis tilted by 0.6 rad', lambda s: s.ask(tilt=0.6), ('tilt',), retreat=False),
    Fault('second_writer', 'second writer on rt/arm_sdk', Session.intrude, ('second_writer',),
          retreat=False, intrudes=True),
    Fault('two_robots', 'a second program that tells the state of a robot', Session.second_robot,
          ('two_robots',), retreat=False),
    Fault('second_driver', 'a second publisher of driver_status', Session.second_driver,
          ('second_driver',), retreat=True),
    Fault('nan_chunk', 'one chunk with a NaN, beside the policy', lambda s: s.send(_nan),
          event='not finite', goes_on=True, sends=True),
    Fault('order_chunk', 'one chunk out of order, beside the policy', lambda s: s.send(_skip),
          event='out of order', goes_on=True, sends=True),
    Fault('contract_chunk', 'one chunk for another contract, beside the policy',
          lambda s: s.send(_other_contract), event='wrong contract', goes_on=True, sends=True),
    Fault('late_chunk', f'a chunk that is {LATE_S} s late',
          lambda s: s.tamper(lambda relay: relay.hold),
          event='late_chunk', goes_on=True, relays=True),
    Fault('far_chunk', f'the policy wants {FAR_RAD:.0f} rad everywhere, for one chunk',
          lambda s: s.tamper(_far), _GONE, event='outside the limits', relays=True),
    Fault('nan_policy', 'the policy sends NaN from now on', lambda s: s.tamper(_all_nan), _GONE,
          event='not finite', relays=True),
)  # fmt: skip
