# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The clocked thread between the executor and the robot's wire; knows nothing of ROS.

One thread owns the executor and the bus's writers. Others hand over requests and read an immutable
snapshot; what must be published goes into a deque that another thread empties.
"""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk, ChunkRejected
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.executor import Executor, ExecutorInput, Mode, TickOutput
from flashwam_ros.wire.realtime import claim_realtime
from flashwam_ros.wire.release import ramp_down
from flashwam_ros.wire.robot_bus import ArmCommand, LowStateSample, RobotBus

log = logging.getLogger(__name__)

TICK_NS = 4_000_000
SIDES = ('left', 'right')
REMOTE_STOP = frozenset({'L2', 'B'})
FAILED_RELEASE_S = 8.0
_LATENESS_KEPT = 15_000
_LATENESS_REFRESH = 250
_WINDING = 1


@dataclass(frozen=True)
class Snapshot:
    """The robot and the executor after one tick.

    Attributes:
        now_ns: monotonic time of the tick.
        output: what the executor decided, None before the first tick.
        sample: the newest robot state, None before the first.
        measured: (C,) measured channel positions, rad; NaN where nothing was received yet.
        velocity: (C,) measured channel velocities, rad/s.
    """

    now_ns: int
    output: TickOutput | None
    sample: LowStateSample | None
    measured: np.ndarray
    velocity: np.ndarray


class Lateness:
    """Tick lateness since the last reset, from a bounded history."""

    def __init__(self, kept: int = _LATENESS_KEPT):
        self._values = np.zeros(kept)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._count = 0
        self._known, self._known_at = (0.0, 0.0), 0
        self.skipped = 0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """Account for one tick."""
        self._values[self._count % len(self._values)] = seconds
        self._count += 1
        self.max_s = max(self.max_s, seconds)

    def percentiles(self) -> tuple[float, float]:
        """(p50, p99) in s, zeros before the first tick; at most one second of ticks behind.

        Every message of the status asks, and sorting a minute of ticks each time is a load.
        """
        count = self._count
        if not count:
            return 0.0, 0.0
        young = count < _LATENESS_REFRESH
        if young or not 0 <= count - self._known_at < _LATENESS_REFRESH:
            p50, p99 = np.percentile(self._values[: min(count, len(self._values))], (50, 99))
            self._known, self._known_at = (float(p50), float(p99)), count
        return self._known


class ControlLoop:
    """Runs the executor at 250 Hz on the robot's clock.

    Deadlines are absolute. A missed tick is skipped, never made up for: the executor samples its
    chunks
    by clock, so a skipped tick costs resolution, not time.

    Args:
        bus: the robot's wire; only this thread writes to it.
        executor: owned by this thread from now on.
        contract: channel order and motor indices.
    """

    def __init__(self, bus: RobotBus, executor: Executor, contract: RobotContract):
        self._bus = bus
        self._executor = executor
        self._contract = contract
        self._motors = np.array([c.motor_index for c in contract.channels[: -len(SIDES)]])
        self._requests: deque[Callable[[int], None]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='control', daemon=True)
        self.lateness = Lateness()
        self.limited_ticks = 0
        self.accounts: deque[AppliedChunk] = deque()
        self.wake = threading.Event()
        self.events: deque[str] = deque(maxlen=256)
        self.other_writers: tuple[str, ...] = ()
        self.other_robots: tuple[str, ...] = ()
        self.other_driver = ''
        self.failure: str = ''
        self.released = False
        size = len(contract.channels)
        unknown = np.full(size, math.nan)
        self.snapshot = Snapshot(0, None, None, unknown, unknown)

    # -- calls from other threads -----------------------------------------------------------------

    def start(self) -> None:
        """Start ticking; nothing is written before `activate`."""
        self._thread.start()

    def stop(self, timeout_s: float = FAILED_RELEASE_S) -> None:
        """Stop ticking, whatever the mode is: bring the executor to PASSIVE first.

        A failed tick gives the arms back in the same thread, which is waited for.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(robot_clock.machine_s(timeout_s))

    def activate(self) -> None:
        """Take the arms over: ramp the weight up from the measured pose."""
        self.lateness.reset()
        self.limited_ticks = 0
        self._requests.append(self._executor.activate)

    def deactivate(self, reason: str) -> None:
        """Give the arms back by HOLD, RETREAT, RELEASE."""
        self._requests.append(lambda now_ns: self._executor.deactivate(reason))

    def halt(self, reason: str) -> None:
        """HOLD at once."""
        self._requests.append(lambda now_ns: self._executor.stop(reason))

    def submit(self, chunk: ActionChunk) -> None:
        """Queue a chunk; a rejection becomes an event."""
        self._requests.append(lambda now_ns: self._submit(chunk, now_ns))

    @property
    def mode(self) -> Mode:
        """Mode after the last tick."""
        output = self.snapshot.output
        return Mode.PASSIVE if output is None else output.mode

    @property
    def holds(self) -> bool:
        """Whether the robot may still follow our last command: not PASSIVE, or left unheard."""
        output = self.snapshot.output
        return output is not None and not self.released and (output.write or output.unheard)

    def wait_mode(
        self, modes: tuple[Mode, ...], timeout_s: float, newer_than_ns: int = 0
    ) -> bool:
        """Block until the executor is in one of the modes, or has failed; False on time-out.

        Args:
            modes: any of them will do.
            timeout_s: how long to wait, by the robot's clock.
            newer_than_ns: ticks up to this monotonic time do not count: they had not yet heard of
                what was asked for since.
        """
        deadline = robot_clock.monotonic() + timeout_s
        while self.mode not in modes or self.snapshot.now_ns <= newer_than_ns:
            if self.failure or robot_clock.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def wait_taken_over(self, timeout_s: float) -> bool:
        """Block until the arms are held at weight 1 with nothing against it.

        False as soon as that fails: the way back leads through HOLD, too. For a take-over that has
        begun.
        """
        deadline = robot_clock.monotonic() + timeout_s
        while not self.failure and robot_clock.monotonic() <= deadline:
            output = self.snapshot.output
            if output is None or output.mode is Mode.PASSIVE or output.reason:
                return False
            if output.mode in (Mode.HOLD, Mode.EXECUTE) and output.weight >= 1.0:
                return True
            time.sleep(0.01)
        return False

    @property
    def ticking(self) -> bool:
        """Whether the control thread runs."""
        return self._thread.is_alive()

    # -- the control thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._ticks()
        except Exception as error:
            log.exception('the control tick failed')
            failure = f'{type(error).__name__}: {error}'
            self.events.append(f'control_failure: {failure}')
            output = self.snapshot.output
            try:
                if output is not None and output.write:
                    ramp_down(self._bus, self._contract, output.weight)
                    self.released = True
            except Exception:
                log.exception('the arms could not be given back')
            # Last: whoever sees it closes the wire.
            self.failure = failure

    def _ticks(self) -> None:
        # This thread alone: middleware threads under real-time priority can spin for ever on a
        # shared-memory lock whose owner, in another process, no longer gets a processor.
        log.info('control thread: %s', claim_realtime())
        deadline_ns = robot_clock.monotonic_ns() + TICK_NS
        while not self._stopping.is_set():
            now_ns = robot_clock.monotonic_ns()
            if now_ns < deadline_ns:
                robot_clock.sleep((deadline_ns - now_ns) * 1e-9)
                now_ns = robot_clock.monotonic_ns()
            self.lateness.add((now_ns - deadline_ns) * 1e-9)
            self._tick(now_ns)
            deadline_ns += TICK_NS
            missed = (robot_clock.monotonic_ns() - deadline_ns) // TICK_NS
            if missed > 0:
                self.lateness.skipped += missed
                deadline_ns += missed * TICK_NS

    def _tick(self, now_ns: int) -> None:
        sample = self._bus.lowstate()
        measured, velocity, gripper_age_s = self._measure(now_ns, sample)
        while self._requests:
            self._requests.popleft()(now_ns)
        output = self._executor.tick(
            self._input(now_ns, sample, measured, velocity, gripper_age_s)
        )
        if output.write:
            self._write(output)
        self.limited_ticks += output.limited
        for account in (output.applied_done, output.applied_started):
            if account is not None:
                self.accounts.append(account)
                self.wake.set()
        self.events.extend(output.events)
        self.snapshot = Snapshot(now_ns, output, sample, measured, velocity)

    def _measure(
        self, now_ns: int, sample: LowStateSample | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions (C,) and velocities (C,) of the channels; ages of the grippers (2,), s."""
        ages = np.full(len(SIDES), math.inf)
        size = len(self._contract.channels)
        measured, velocity = np.full(size, math.nan), np.full(size, math.nan)
        if sample is not None:
            measured[: len(self._motors)] = sample.q[self._motors]
            velocity[: len(self._motors)] = sample.dq[self._motors]
        for i, side in enumerate(SIDES):
            gripper = self._bus.gripper_state(side)
            if gripper is not None:
                column = len(self._motors) + i
                measured[column], velocity[column] = gripper.q, gripper.dq
                ages[i] = (now_ns - gripper.arrival_ns) * 1e-9
        return measured, velocity, ages

    def _input(self, now_ns, sample, measured, velocity, gripper_age_s) -> ExecutorInput:
        if sample is None:
            return ExecutorInput(
                now_ns=now_ns,
                measured_q=measured,
                measured_dq=velocity,
                state_age_s=math.inf,
                tilt_rad=0.0,
                motor_error=0,
                remote_stop=False,
                other_writer=bool(self.other_writers),
                two_robots=bool(self.other_robots),
                other_driver=bool(self.other_driver),
                gripper_age_s=gripper_age_s,
            )
        x, y = float(sample.quaternion[1]), float(sample.quaternion[2])
        return ExecutorInput(
            now_ns=now_ns,
            measured_q=measured,
            measured_dq=velocity,
            state_age_s=(now_ns - sample.arrival_ns) * 1e-9,
            tilt_rad=math.acos(min(1.0, max(-1.0, 1.0 - 2.0 * (x * x + y * y)))),
            motor_error=int(np.bitwise_or.reduce(sample.motorstate[self._motors])),
            remote_stop=bool(REMOTE_STOP & sample.buttons),
            other_writer=bool(self.other_writers),
            two_robots=bool(self.other_robots),
            other_driver=bool(self.other_driver),
            temperatures=sample.temperature[self._motors, _WINDING],
            gripper_age_s=gripper_age_s,
        )

    def _write(self, output: TickOutput) -> None:
        arms = len(self._motors)
        self._bus.write_arm(
            ArmCommand(
                q=output.arm_q,
                dq=output.arm_dq,
                tau=output.arm_tau,
                kp=output.kp[:arms],
                kd=output.kd[:arms],
                weight=output.weight,
            )
        )
        gains = list(zip(output.kp[arms:].tolist(), output.kd[arms:].tolist(), strict=True))
        for i, side in enumerate(SIDES):
            self._bus.write_gripper(side, float(output.gripper_q[i]), *gains[i])

    def _submit(self, chunk: ActionChunk, now_ns: int) -> None:
        try:
            self._executor.submit(chunk, now_ns)
        except ChunkRejected as rejected:
            log.error('chunk %d rejected: %s', chunk.index, rejected.reason)
            self.events.append(f'chunk_rejected: chunk {chunk.index}: {rejected.reason}')


def quiet_garbage_collector() -> None:
    """Freeze what exists and stop automatic collections: a full one would cost many ticks."""
    gc.collect()
    gc.freeze()
    gc.disable()


def collect_garbage(mode: Mode) -> None:
    """Collect what a running robot can afford: everything only when passive."""
    gc.collect(2 if mode is Mode.PASSIVE else 0)
