# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The client's side of the robot's wire: state in, arm and gripper commands out.

`RobotBus` is what the driver and `flashwam release` use. It speaks `rt/lowstate`, `rt/arm_sdk` and
`rt/dex1/*`, copies the robot's machine type into its commands and watches for other writers and
other robots.
"""

import threading
import time
from dataclasses import dataclass

import numpy as np
from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.util import duration

from flashwam_ros.robot.clock import VARIABLE, robot_clock
from flashwam_ros.wire import cdr, endpoints, idl
from flashwam_ros.wire.participant import LOOPBACK, DomainError, open_participant
from flashwam_ros.wire.realtime import claim_realtime, claim_realtime_receivers
from flashwam_ros.wire.writers import WriterWatch

ARM_SLOTS = slice(15, 29)
ARM_MOTORS = 14
_WAIT = duration(milliseconds=10)


@dataclass(frozen=True)
class LowStateSample:
    """One robot state, in the wire's motor order (35 slots, 0..28 are joints), SI units.

    `arrival_ns` is on the robot's clock (`robot.clock`); `tick` is the robot's ms counter.
    Arrays are read-only views of the message: q, dq, tau_est (35,) float32; motorstate (35,)
    uint32 error bits; temperature (35, 2) int16 casing and winding in deg C; quaternion (4,)
    w, x, y, z; gyroscope and accelerometer (3,) in rad/s and m/s2 (gravity included), pelvis IMU.
    """

    q: np.ndarray
    dq: np.ndarray
    tau_est: np.ndarray
    motorstate: np.ndarray
    temperature: np.ndarray
    quaternion: np.ndarray
    gyroscope: np.ndarray
    accelerometer: np.ndarray
    mode_machine: int
    tick: int
    buttons: frozenset[str]
    arrival_ns: int


@dataclass(frozen=True)
class GripperSample:
    """One gripper's state: motor rad (0 closed, 5.4 open), rad/s, N.m; monotonic arrival."""

    q: float
    dq: float
    tau_est: float
    arrival_ns: int


@dataclass(frozen=True)
class ArmCommand:
    """One command of both arms: (14,) each, left then right, SI units; hand-over weight 0..1."""

    q: np.ndarray
    dq: np.ndarray
    tau: np.ndarray
    kp: np.ndarray
    kd: np.ndarray
    weight: float


class RobotBus:
    """State and commands of one robot or twin.

    Args:
        domain: DDS domain id (robot 0, twin 1 by default elsewhere).
        interface: network interface, `lo` for a twin on this machine.

    Attributes:
        received: low-level states received. rejected: states that were malformed or had a bad CRC.

    Raises:
        DomainError: if the domain cannot be opened, or the clock of this process is slowed and the
            interface leads beyond this machine: a robot keeps real time.
    """

    def __init__(self, domain: int, interface: str) -> None:
        if robot_clock.factor != 1.0 and interface != LOOPBACK:
            raise DomainError(
                f'the clock of this process is slowed ({VARIABLE}, factor {robot_clock.factor}), '
                f'and {interface} may lead to a robot, which keeps real time: unset it'
            )
        self.received = 0
        self.rejected = 0
        self._participant = open_participant(domain, interface)
        self._lowstate = endpoints.reader(self._participant, endpoints.LOWSTATE)
        self._grippers = {
            side: endpoints.reader(self._participant, name)
            for side, name in endpoints.GRIPPER_STATE.items()
        }
        self._arm = endpoints.writer(self._participant, endpoints.ARM_SDK)
        self._gripper_writers = {
            side: endpoints.writer(self._participant, name)
            for side, name in endpoints.GRIPPER_CMD.items()
        }
        self._watch = WriterWatch(self._participant, endpoints.COMMAND_TOPICS)
        self._robots = WriterWatch(self._participant, endpoints.STATE_TOPICS)
        self._command = cdr.LowCmd()
        self._command.motor_mode = [1 if 15 <= slot < 29 else 0 for slot in range(cdr.MOTORS)]
        self._gripper_command = cdr.GripperCmd()
        self._newest: tuple[bytes, int] | None = None
        self._newest_gripper: dict[str, tuple[bytes, int]] = {}
        self._decoded: LowStateSample | None = None
        self._decoded_from: bytes | None = None
        self._arrived = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._receive, name='robot-bus', daemon=True)
        self._thread.start()

    def lowstate(self) -> LowStateSample | None:
        """The newest valid state, None before the first; decoded here, not on arrival."""
        newest = self._newest
        if newest is None or newest[0] is self._decoded_from:
            return self._decoded
        raw, arrival_ns = newest
        self._decoded_from = raw
        try:
            view = cdr.LowState(raw)
        except cdr.WireFormatError:
            self.rejected += 1
            return self._decoded
        if not view.crc_ok():
            self.rejected += 1
            return self._decoded
        self._decoded = LowStateSample(
            q=view.q, dq=view.dq, tau_est=view.tau_est, motorstate=view.motorstate,
            temperature=view.temperature, quaternion=view.quaternion, gyroscope=view.gyroscope,
            accelerometer=view.accelerometer, mode_machine=view.mode_machine, tick=view.tick,
            buttons=cdr.remote_buttons(view.wireless_remote), arrival_ns=arrival_ns,
        )  # fmt: skip
        return self._decoded

    def wait_lowstate(self, timeout_s: float, newer_than_ns: int = 0) -> LowStateSample | None:
        """Block until a valid state newer than `newer_than_ns` is there, None on time-out."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._arrived:
                sample = self.lowstate()
                if sample is not None and sample.arrival_ns > newer_than_ns:
                    return sample
                left = deadline - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    return None

    def gripper_state(self, side: str) -> GripperSample | None:
        """The newest state of the `left` or `right` gripper, None before the first."""
        newest = self._newest_gripper.get(side)
        if newest is None:
            return None
        try:
            return GripperSample(*cdr.GripperState(newest[0]).values(), arrival_ns=newest[1])
        except cdr.WireFormatError:
            self.rejected += 1
            return None

    def write_arm(self, command: ArmCommand) -> None:
        """Send one arm command, checksum and the robot's machine type filled in.

        Raises:
            ValueError: if a value is not finite or the weight is outside 0..1; nothing is sent.
        """
        message = self._command
        values = (command.q, command.dq, command.tau, command.kp, command.kd)
        if not (np.isfinite(values).all() and 0.0 <= command.weight <= 1.0):
            raise ValueError(f'arm command not sent: non-finite value or weight {command.weight}')
        message.q[ARM_SLOTS], message.dq[ARM_SLOTS], message.tau[ARM_SLOTS] = values[:3]
        message.kp[ARM_SLOTS], message.kd[ARM_SLOTS] = values[3:]
        message.q[cdr.WEIGHT_SLOT] = command.weight
        state = self._decoded
        message.mode_machine = state.mode_machine if state is not None else 0
        self._arm.write(idl.LowCmdType(message.seal()))

    def write_gripper(self, side: str, q: float, kp: float = 5.0, kd: float = 0.05) -> None:
        """Send one gripper target (motor rad) with its gains (N.m/rad, N.m.s/rad).

        Raises:
            ValueError: if the target is not finite; nothing is sent.
        """
        if not np.isfinite(q):
            raise ValueError(f'{side} gripper command not sent: target is {q}')
        self._gripper_command.set(q, 0.0, 0.0, kp, kd)
        self._gripper_writers[side].write(idl.GripperCmdType(self._gripper_command.to_bytes()))

    def listeners(self) -> int:
        """How many readers of `rt/arm_sdk` this bus reaches."""
        return len(self._arm.get_matched_subscriptions())

    def foreign_writers(self) -> list[str]:
        """Other participants' writers on the command topics, as `topic (participant id)`."""
        return self._watch.foreign()

    def other_robots(self) -> list[str]:
        """Writers of state topics that several participants write, as `topic (participant id)`."""
        return self._robots.rivals()

    def close(self) -> None:
        """Stop receiving and leave the domain. The bus cannot be used afterwards."""
        if self._closing:
            return
        self._closing = True
        self._thread.join()
        # Cyclone deletes an entity when its last reference goes: writers disappear here and now.
        self._watch.close()
        self._robots.close()
        del self._arm, self._gripper_writers, self._lowstate, self._grippers, self._participant

    def _receive(self) -> None:
        claim_realtime()
        claim_realtime_receivers()
        condition = ReadCondition(
            self._lowstate, ViewState.Any | SampleState.NotRead | InstanceState.Any
        )
        waitset = WaitSet(self._participant)
        waitset.attach(condition)
        while not self._closing:
            waitset.wait(_WAIT)
            now_ns = robot_clock.monotonic_ns()
            # Gripper states come at the same rate: one wake-up serves all three topics.
            for side, source in self._grippers.items():
                gripper = endpoints.take_raw(source)
                if gripper is not None:
                    self._newest_gripper[side] = (gripper, now_ns)
            raw = endpoints.take_raw(self._lowstate)
            if raw is not None:
                self._newest = (raw, now_ns)
                self.received += 1
                with self._arrived:
                    self._arrived.notify_all()
        waitset.detach(condition)
