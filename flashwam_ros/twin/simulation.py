# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The physics of one scene, driven like the robot's motors: ``tau_ff + kp(q*-q) + kd(dq*-dq)``."""

from __future__ import annotations

import mujoco
import numpy as np

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.twin import scenes
from flashwam_ros.twin.model import TIMESTEP, TwinModel, build_model
from flashwam_ros.twin.tasks import TaskMonitor, TaskStatus, WorldState

GRIPPER_KP, GRIPPER_KD = 5.0, 0.05
_MONITOR_PERIOD_S = 0.02
_SETTLE_S = 0.2


class Simulation:
    """One robot at its table. Not thread-safe. Same seed, same trajectory, bit by bit.

    Arm arrays have 14 entries in channel order (7 left, 7 right), gripper arrays 2 (left, right)
    in motor radians (0 closed, 5.4 open).
    """

    def __init__(self, task: str, contract: RobotContract | None = None):
        """Build the scene and reset it with seed 0. ``contract`` gives the gains.

        Raises:
            ValueError: the task is unknown.
        """
        self.task = task
        self.twin: TwinModel = build_model(task)
        self.model = self.twin.model
        self.data = mujoco.MjData(self.model)
        contract = contract or RobotContract.load()
        self._kp, self._kd = contract.kp[:14], contract.kd[:14]
        home = load_settings().home
        self._home_arm, self._home_gripper = home[:14], home[14:]
        gripper = self.twin.description.gripper
        self._jaw_closed, self._jaw_per_rad = gripper.finger_at_closed, gripper.finger_per_rad
        self._arm_motors = np.array(self.twin.description.motor_groups['arm_indices'])
        self._hand_of_geom, self._object_of_geom = self._geom_tables()
        self.reset(0)

    def _geom_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Per geom: jaw number (0..3, else -1), and object number (else -1)."""
        jaw_bodies = [
            self.model.body(f'{side}_dex1_finger_link_{i}').id
            for side in ('left', 'right')
            for i in (1, 2)
        ]
        jaw = np.full(self.model.ngeom, -1)
        thing = np.full(self.model.ngeom, -1)
        for number, body in enumerate(jaw_bodies):
            jaw[self.model.geom_bodyid == body] = number
        for number, name in enumerate(self.twin.objects):
            thing[self.model.geom_bodyid == self.twin.object_body[name]] = number
        return jaw, thing

    def reset(self, seed: int) -> None:
        """Put the scene of ``seed`` on the table, arms at home (plus a little noise)."""
        layout = scenes.sample_layout(self.task, seed)
        mujoco.mj_resetData(self.model, self.data)
        arm, jaws = self._home_arm + layout.arm_noise, self._home_gripper
        self.data.qpos[self.twin.arm_qpos] = arm
        self.data.qpos[self.twin.jaw_qpos] = np.repeat(self._finger(jaws), 2)
        for name, (x, y, yaw) in layout.poses.items():
            self._place(name, (x, y, scenes.start_height(name)), yaw)
        mujoco.mj_forward(self.model, self.data)
        gravity = self.data.qfrc_bias[self.twin.arm_dof].copy()
        self.set_motor_command(arm, np.zeros(14), gravity, self._kp, self._kd)
        self.set_gripper_command(jaws)
        mujoco.mj_step(self.model, self.data, round(_SETTLE_S / TIMESTEP))
        self.data.time = 0.0
        self._steps = 0
        self._monitor = TaskMonitor(self.task, self.world())

    def _place(self, name: str, position, yaw: float) -> None:
        body = self.twin.object_body[name]
        pose = np.array([*position, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
        if name in scenes.STATIC_OBJECTS:
            mocap = self.model.body_mocapid[body]
            self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = pose[:3], pose[3:]
            return
        start = self.model.jnt_qposadr[self.model.body_jntadr[body]]
        self.data.qpos[start : start + 7] = pose

    def _finger(self, motor_rad: np.ndarray) -> np.ndarray:
        return self._jaw_closed + self._jaw_per_rad * motor_rad

    def set_motor_command(self, q, dq, tau, kp, kd) -> None:
        """Arm command, in force until the next: q, dq, torques and gains (14 each)."""
        ids = self.twin.arm_actuators
        kp, kd = np.broadcast_to(kp, 14), np.broadcast_to(kd, 14)
        self.model.actuator_gainprm[ids, 0] = kp
        bias = self.model.actuator_biasprm
        bias[ids, 0], bias[ids, 1], bias[ids, 2] = tau + kd * dq, -kp, -kd
        self.data.ctrl[ids] = q

    def set_gripper_command(
        self, q, kp: float = GRIPPER_KP, kd: float = GRIPPER_KD, brake: bool = False
    ) -> None:
        """Gripper command (2,) in motor rad, dq* = 0; ``brake`` drops kp and only damps.

        A motor torque t presses each jaw with t / (2 * travel per rad): 60 N per N.m.
        """
        ids = self.twin.gripper_actuators
        kp = 0.0 if brake else kp
        # The tendon is the mean jaw position L, its force twice that of one jaw:
        # F = tau / r with r = dL/dq_motor, and q_motor = (L - L0) / r.
        r = self._jaw_per_rad
        self.model.actuator_gainprm[ids, 0] = kp / r
        bias = self.model.actuator_biasprm
        bias[ids, 0] = kp * self._jaw_closed / r**2
        bias[ids, 1], bias[ids, 2] = -kp / r**2, -kd / r**2
        self.data.ctrl[ids] = q

    def step(self, dt: float) -> None:
        """Advance by ``dt`` s, a multiple of the 2 ms physics step.

        Raises:
            ValueError: ``dt`` is not a positive multiple of the physics step.
        """
        steps = round(dt / TIMESTEP)
        if steps < 1 or abs(steps * TIMESTEP - dt) > 1e-9:
            raise ValueError(f'step of {dt} s: give a positive multiple of {TIMESTEP} s')
        every = round(_MONITOR_PERIOD_S / TIMESTEP)
        while steps:
            part = min(steps, every - self._steps % every)
            mujoco.mj_step(self.model, self.data, part)
            self._steps += part
            steps -= part
            if self._steps % every == 0:
                self._monitor.update(self.world())

    @property
    def time_s(self) -> float:
        """Simulated time since the reset (s)."""
        return self._steps * TIMESTEP

    def joint_state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, velocities and motor torques (29 each); rigid joints stand still."""
        q, dq, tau = self.twin.stance_q.copy(), np.zeros(29), np.zeros(29)
        arms = self._arm_motors
        q[arms] = self.data.qpos[self.twin.arm_qpos]
        dq[arms] = self.data.qvel[self.twin.arm_dof]
        tau[arms] = self.data.actuator_force[self.twin.arm_actuators]
        return q, dq, tau

    def gripper_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Motor angle (rad) and speed (rad/s) of the left and right gripper."""
        jaw = _pair_means(self.data.qpos[self.twin.jaw_qpos])
        speed = _pair_means(self.data.qvel[self.twin.jaw_dof])
        return (jaw - self._jaw_closed) / self._jaw_per_rad, speed / self._jaw_per_rad

    def world(self) -> WorldState:
        """The scene as of the last physics step."""
        data = self.data
        tcp = np.zeros((2, 4, 4))
        tcp[:, 3, 3] = 1.0
        tcp[:, :3, :3] = data.site_xmat[self.twin.tcp_sites].reshape(2, 3, 3)
        tcp[:, :3, 3] = data.site_xpos[self.twin.tcp_sites]
        jaw = _pair_means(data.qpos[self.twin.jaw_qpos])
        touched, held = self._contacts()
        objects = {
            name: (data.xpos[body].copy(), data.xquat[body].copy())
            for name, body in self.twin.object_body.items()
        }
        gap = 2 * (jaw - self._jaw_closed)
        return WorldState(self.time_s, objects, tcp, gap, touched, held)

    def _contacts(self) -> tuple[tuple, tuple]:
        geoms = self.data.contact.geom
        touching: tuple[list, ...] = tuple([set() for _ in range(4)])
        for a, b in geoms:
            for first, second in ((a, b), (b, a)):
                jaw, thing = self._hand_of_geom[first], self._object_of_geom[second]
                if jaw >= 0 and thing >= 0:
                    touching[jaw].add(self.twin.objects[thing])
        touched = tuple(frozenset(touching[2 * h] | touching[2 * h + 1]) for h in (0, 1))
        held = tuple(frozenset(touching[2 * h] & touching[2 * h + 1]) for h in (0, 1))
        return touched, held

    def status(self) -> TaskStatus:
        """Success, stages and failure so far (looked at every 20 ms)."""
        return self._monitor.status()


def _pair_means(values: np.ndarray) -> np.ndarray:
    """(4,) -> (2,): the means of neighbours, here of the two jaws of each hand."""
    return 0.5 * (values[::2] + values[1::2])
