# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The twin in process: simulation, 250 Hz executor and cameras on one simulated clock.

No ROS, no DDS and no wall clock, but otherwise the same line as the driver's: the same executor,
limiter, gains and gravity feed-forward, and images that go through the wire size (320x240), JPEG
quality 90, decoding and the resize to policy size.

What differs from the line over DDS: the weight ramp of ENGAGE is passed before the episode
starts, with the simulation frozen (the arms start in their start pose with weight 1), there is no
transport delay, and frames are only rendered where the history will ask for one (due time + the
episode's camera phase).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashwam_ros.imaging import decode_jpeg, encode_jpeg, to_policy_size
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.executor import Executor, ExecutorInput, Mode
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.twin.rendering import Renderer
from flashwam_ros.twin.simulation import Simulation

TICK_NS = 4_000_000
"""Executor tick: 250 Hz."""
ENGAGE_TICK_NS = 20_000_000
"""Tick of the weight ramp, in which nothing moves."""
CAMERA_PHASE_S = 0.025
"""Half a camera period: the largest distance between a due time and the frame nearest to it."""
JPEG_QUALITY = 90
_ENGAGE_LIMIT_S = 10.0


class EpisodeError(RuntimeError):
    """The in-process robot stopped executing; the message names the executor's reason."""


@dataclass(frozen=True)
class Frame:
    """One set of camera images at policy size.

    Attributes:
        images: camera key -> (height, width, 3) uint8 RGB.
        stamp_ns: capture time on the robot's simulated clock, ns.
        due_ns: the key-frame due time that it was captured for, ns.
    """

    images: dict[str, np.ndarray]
    stamp_ns: int
    due_ns: int


@dataclass(frozen=True)
class TickEvents:
    """What one tick brought: frames captured and accounts of chunks (at start and at end)."""

    frames: tuple[Frame, ...] = ()
    accounts: tuple[AppliedChunk, ...] = ()


class InProcessRobot:
    """A simulated G1 that executes chunks on a simulated clock.

    Args:
        task: task name of the twin.
        contract: the robot contract.
        images: False leaves out all rendering (frames carry no images); for experts without a
        data set. vary: changes the model's look in place given (model, generator), as
        ``looks.vary``; or None.
    """

    def __init__(self, task: str, contract: RobotContract, images: bool = True, vary=None):
        self.task = task
        self.contract = contract
        self.simulation = Simulation(task, contract)
        self._kinematics = Kinematics(load_description())
        self._images = images
        self._vary = vary
        camera = contract.cameras[0]
        self._renderer = (Renderer(self.simulation.model, camera.wire_width, camera.wire_height,
                                   quality='policy') if images else None)
        self.now_ns = 0
        self.max_lag_rad = 0.0
        self.limited_ticks = self.arm_limited_ticks = 0

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # -- episode ----------------------------------------------------------------------------------

    def reset(self, seed: int) -> Frame:
        """Start an episode and return its initial frame.

        Start pose, objects, camera phase and (where given) looks all follow from the seed.
        """
        rng = np.random.default_rng([seed, 71])
        if self._vary is not None:
            self._vary(self.simulation.model, rng)
        self.simulation.reset(seed)
        self._phase_ns = int(rng.uniform(-CAMERA_PHASE_S, CAMERA_PHASE_S) * 1e9)
        self._captures: list[int] = []
        self.max_lag_rad = 0.0
        self.limited_ticks = self.arm_limited_ticks = 0
        self.now_ns = 0
        _, _, start = self._measure()
        self._executor = Executor(self.contract, self._kinematics, start[:14], self.now_ns)
        self._engage()
        return self._capture(self.now_ns)

    def _engage(self) -> None:
        """Pass the weight ramp with the simulation frozen."""
        self._executor.activate(self.now_ns)
        deadline = self.now_ns + int(_ENGAGE_LIMIT_S * 1e9)
        while self.now_ns < deadline:
            out = self._executor.tick(self._input())
            self.now_ns += ENGAGE_TICK_NS
            if out.mode is Mode.HOLD:
                self._command(out)
                return
        raise EpisodeError(f'the executor did not reach HOLD: {out.mode} ({out.reason})')

    def submit(self, chunk: ActionChunk) -> None:
        """Hand a chunk to the executor; raises ChunkRejected where the driver would reject it."""
        self._executor.submit(chunk, self.now_ns)

    def tick(self) -> TickEvents:
        """Advance 4 ms: command, physics, and the frames that fall due.

        Raises:
            EpisodeError: the executor left HOLD and EXECUTE (a fault, or no chunk for too long).
        """
        out = self._executor.tick(self._input())
        if out.mode not in (Mode.HOLD, Mode.EXECUTE):
            raise EpisodeError(f'the executor went to {out.mode}: {out.reason}')
        self._command(out)
        self.simulation.step(TICK_NS * 1e-9)
        self.now_ns += TICK_NS
        accounts = tuple(account for account in (out.applied_started, out.applied_done)
                         if account is not None)
        for account in accounts:
            if not account.complete:
                self._captures.extend(account.key_frame_due_ns)
            else:
                self.limited_ticks += account.limited_ticks
                self.arm_limited_ticks += account.arm_limited_ticks
        return TickEvents(frames=self._due_frames(), accounts=accounts)

    def world(self):
        """Ground truth of the scene now (objects, tool centre points)."""
        return self.simulation.world()

    def status(self):
        """Success predicate and stages now."""
        return self.simulation.status()

    def measured(self) -> np.ndarray:
        """Measured positions of the 16 channels, rad."""
        return self._measure()[2]

    # -- parts ------------------------------------------------------------------------------------

    def _measure(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        q, dq, _ = self.simulation.joint_state()
        gripper_q, gripper_dq = self.simulation.gripper_state()
        positions = np.concatenate([q[15:29], gripper_q])
        velocities = np.concatenate([dq[15:29], gripper_dq])
        return q, velocities, positions

    def _input(self) -> ExecutorInput:
        _, velocities, positions = self._measure()
        return ExecutorInput(now_ns=self.now_ns, measured_q=positions, measured_dq=velocities,
                             state_age_s=0.0, tilt_rad=0.0, motor_error=0, remote_stop=False,
                             other_writer=False)

    def _command(self, out) -> None:
        self.simulation.set_motor_command(out.arm_q, out.arm_dq, out.arm_tau, out.kp[:14],
                                          out.kd[:14])
        self.simulation.set_gripper_command(out.gripper_q, float(self.contract.kp[14]),
                                            float(self.contract.kd[14]))

    def _due_frames(self) -> tuple[Frame, ...]:
        ready = [due for due in self._captures if self.now_ns >= due + self._phase_ns]
        self._captures = [due for due in self._captures if due not in ready]
        return tuple(self._capture(due) for due in ready)

    def _capture(self, due_ns: int) -> Frame:
        images, cameras = {}, self.contract.cameras if self._images else ()
        names = [camera.key for camera in cameras]
        pictures = self._renderer.render_each(self.simulation.data, names) if cameras else ()
        for camera, rgb in zip(cameras, pictures, strict=True):
            wire = decode_jpeg(encode_jpeg(rgb, JPEG_QUALITY))
            images[camera.key] = to_policy_size(wire, camera)
        return Frame(images=images, stamp_ns=self.now_ns, due_ns=due_ns)
