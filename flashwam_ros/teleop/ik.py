# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics of both arms as one quadratic program per step (mink with daqp).

Hard constraints of a step: joint positions with the braking distance, joint velocities, joint
accelerations, and the distances between the arms, the torso, the head and the table. Wanted, in
this order of weight: hand positions, hand orientations, little motion, a natural posture.
Where the distances cannot be kept within the acceleration limit, the arms brake.
"""

from __future__ import annotations

from dataclasses import dataclass

import mink
import mujoco
import numpy as np
from mink.limits import Constraint, Limit

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import Description, load_description
from flashwam_ros.teleop.settings import TeleopSettings
from flashwam_ros.twin import mjcf, scenes

ARM_JOINTS = 7
_ARMS = slice(0, 2 * ARM_JOINTS)
_SOLVER = 'daqp'
_REGULAR = 1e-9
_BITS = {2: 'left', 4: 'right', 8: 'torso'}
_SETTLING = 4.0
"""A hand at a fourth of its fastest lets its elbow settle at full weight."""
_REST = np.array([-0.2, 0.6, -0.3, 0.6, 0, 0, 0, -0.2, -0.6, 0.3, 0.6, 0, 0, 0])
"""Posture that free elbows settle to: outwards, as the twin's demonstrations have it."""


@dataclass(frozen=True)
class ArmState:
    """The command of both arms: joints (14,) rad, left then right, and velocities (14,) rad/s."""

    q: np.ndarray
    v: np.ndarray

    @classmethod
    def at_rest(cls, q: np.ndarray) -> ArmState:
        """At rest at ``q`` (14,) rad."""
        q = np.array(q, dtype=np.float64)
        return cls(q, np.zeros_like(q))


def arm_model(description: Description) -> mujoco.MjModel:
    """The arms in the base frame with their collision shapes: 14 joints, jaws fixed open."""
    tcps = [description.frame(f'{side}_tcp') for side in mjcf.SIDES]
    body = mjcf.robot_body_xml(
        description, lambda link: '', {tcp.parent: mjcf.tcp_site_xml(tcp) for tcp in tcps}
    )
    spec = mujoco.MjSpec.from_string(
        '<mujoco><compiler angle="radian" eulerseq="XYZ" autolimits="true"/>'
        f'<worldbody>{scenes.table_collision_xml()}{body}</worldbody></mujoco>'
    )
    spec.body('pelvis').pos = [0.0, 0.0, 0.0]
    table = spec.geom('table')
    table.pos = table.pos - np.array([0.0, 0.0, scenes.PELVIS_Z])
    opened = description.gripper.finger_from_motor(description.gripper.motor_open)
    for side in mjcf.SIDES:
        for number in (1, 2):
            joint = spec.joint(f'{side}_dex1_finger_joint_{number}')
            finger, turn = joint.parent, np.zeros(9)
            mujoco.mju_quat2Mat(turn, finger.quat)
            finger.pos = finger.pos + turn.reshape(3, 3) @ (np.array(joint.axis) * opened)
            spec.delete(joint)
    for joint in spec.joints:
        joint.limited = mujoco.mjtLimited.mjLIMITED_FALSE  # `_StepBounds` keeps them
    return spec.compile()


class _StepBounds(Limit):
    """How far each joint may go in this step: positions with braking, velocity, acceleration.

    The rule is that of ``robot.limits``: a joint that keeps it can always stop before its limit.
    """

    def __init__(self, contract: RobotContract, settings: TeleopSettings) -> None:
        self.lower, self.upper = contract.lower[_ARMS], contract.upper[_ARMS]
        self._speed = np.minimum(contract.velocity[_ARMS], settings.velocity)
        self._acceleration = np.minimum(contract.acceleration[_ARMS], settings.acceleration)
        self._rows = np.vstack([np.eye(len(self.lower)), -np.eye(len(self.lower))])
        self._bounds = np.zeros((2, len(self.lower)))

    def set(self, state: ArmState, moving: np.ndarray, dt: float) -> None:
        """Bounds of the next step; joints that are not ``moving`` (14,) brake."""
        adt = self._acceleration * dt
        down, up = self._caps(state.q, adt)
        low = np.maximum(state.v - adt, -self._speed)
        high = np.minimum(state.v + adt, self._speed)
        stop = self.braked(state, dt)
        low, high = np.where(moving, low, stop), np.where(moving, high, stop)
        high = np.minimum(high, up)
        low = np.maximum(np.minimum(low, high), down)
        self._bounds = dt * np.stack([low, np.maximum(high, low)])

    def braked(self, state: ArmState, dt: float) -> np.ndarray:
        """Velocities (14,) after braking for a step.

        One factor per arm keeps the direction: a hand that slides along the table must not dip
        because its joints stop one after the other.
        """
        adt = self._acceleration * dt
        speed = np.abs(state.v)
        share = np.maximum(1.0 - adt / np.maximum(speed, _REGULAR), 0.0)
        # The joint that needs longest sets the pace of its arm.
        share = np.repeat(share.reshape(2, ARM_JOINTS).max(axis=1), ARM_JOINTS)
        return np.clip(state.v * share, *self._caps(state.q, adt))

    def _caps(self, q: np.ndarray, adt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        below, above = np.maximum(q - self.lower, 0.0), np.maximum(self.upper - q, 0.0)
        root = [np.sqrt(adt * adt + 2.0 * self._acceleration * d) - adt for d in (below, above)]
        return -root[0], root[1]

    def clip(self, step: np.ndarray) -> np.ndarray:
        """The step (14,) rad without the solver's rounding."""
        return np.clip(step, self._bounds[0], self._bounds[1])

    def compute_qp_inequalities(self, configuration, dt: float) -> Constraint:
        """Rows of ``G dq <= h`` (mink's interface)."""
        del configuration, dt
        return Constraint(
            G=self._rows,
            h=np.concatenate([self._bounds[1] + _REGULAR, _REGULAR - self._bounds[0]]),
        )


class ArmIk:
    """Steps both arms towards hand poses within all limits; poses are in the base frame."""

    def __init__(self, contract: RobotContract, settings: TeleopSettings) -> None:
        """Build the model and the program."""
        self.settings = settings
        self._model = arm_model(load_description())
        self._configuration = mink.Configuration(self._model)
        self._bounds = _StepBounds(contract, settings)
        self._hands = [
            mink.FrameTask(
                f'{side}_tcp', 'site', settings.position_cost, settings.orientation_cost
            )
            for side in mjcf.SIDES
        ]
        self._damping = mink.DampingTask(self._model, settings.damping_cost)
        self._posture = mink.PostureTask(self._model, settings.posture_cost)
        self._posture.set_target(_REST)
        self._pairs = self._distance_limits()
        self.braked_steps = 0

    def _distance_limits(self) -> list[mink.CollisionAvoidanceLimit]:
        groups = {name: [] for name in _BITS.values()}
        for geom in range(self._model.ngeom):
            name = _BITS.get(int(self._model.geom_contype[geom]))
            if name is not None:
                groups[name].append(geom)
        left, right, torso = (groups[name] for name in ('left', 'right', 'torso'))
        wanted = [([(left, right), (left, torso), (right, torso)], self.settings.self_m)]
        if np.isfinite(self.settings.table_m):
            table = [self._model.geom('table').id]
            wanted.append(([(left + right, table)], self.settings.table_m))
        return [
            mink.CollisionAvoidanceLimit(
                self._model,
                pairs,
                minimum_distance_from_collisions=least,
                collision_detection_distance=max(self.settings.watch_m, 2.0 * least),
            )
            for pairs, least in wanted
        ]

    def poses(self, q: np.ndarray) -> tuple[mink.SE3, mink.SE3]:
        """Hand poses, left and right, of joints (14,) rad."""
        self._configuration.update(np.asarray(q, dtype=np.float64))
        return tuple(
            self._configuration.get_transform_frame_to_world(f'{side}_tcp', 'site')
            for side in mjcf.SIDES
        )

    def room(self, q: np.ndarray) -> float:
        """Least (distance - allowed distance) of all watched pairs (m), up to the watched one."""
        self._configuration.update(np.asarray(q, dtype=np.float64))
        data, line = self._configuration.data, np.zeros(6)
        return min(
            mujoco.mj_geomDistance(
                self._model, data, a, b, limit.collision_detection_distance, line
            )
            - limit.minimum_distance_from_collisions
            for limit in self._pairs
            for a, b in limit.geom_id_pairs
        )

    def step(
        self,
        state: ArmState,
        targets: tuple[mink.SE3 | None, mink.SE3 | None],
        leads: tuple[np.ndarray, np.ndarray],
        dt: float,
    ) -> ArmState:
        """One step of the command.

        Args:
            state: The command in force.
            targets: Where each hand should be now; None: that arm brakes and stays.
            leads: (6,) per arm, how far the target moves in this step (m, rad, base axes); it is
                followed without lag.
            dt: Length of the step (s).
        """
        moving = np.repeat([target is not None for target in targets], ARM_JOINTS)
        if not (moving.any() or state.v.any()):
            return state
        self._configuration.update(state.q)
        self._bounds.set(state, moving, dt)
        tasks = [self._damping, self._posture]
        self._posture.gain = min(dt / self.settings.posture_s, 1.0)
        self._posture.set_cost(self._posture_cost(targets, leads, dt))
        for hand, target, lead in zip(self._hands, targets, leads, strict=True):
            if target is not None:
                hand.set_target(self._shaped(hand.frame_name, target, lead))
                tasks.append(hand)
        for limit in self._pairs:
            # mink bounds the change of a distance in one step by gain * room / dt.
            limit.gain = self.settings.approach_rate * dt * dt
        try:
            velocity = mink.solve_ik(
                self._configuration, tasks, dt, _SOLVER, limits=[self._bounds, *self._pairs]
            )
            step = self._bounds.clip(velocity * dt)
        except mink.NoSolutionFound:
            self.braked_steps += 1
            step = self._bounds.braked(state, dt) * dt
        return ArmState(state.q + step, step / dt)

    def _posture_cost(self, targets, leads, dt: float) -> np.ndarray:
        """Elbows settle while their hand moves, (14,); without a command nothing moves."""
        full = np.repeat([self.settings.linear_speed, self.settings.angular_speed], 3) * dt
        shares = [
            0.0 if target is None else min(_SETTLING * float(np.abs(lead / full).max()), 1.0)
            for target, lead in zip(targets, leads, strict=True)
        ]
        return self.settings.posture_cost * np.repeat(shares, ARM_JOINTS)

    def _shaped(self, name: str, target: mink.SE3, lead: np.ndarray) -> mink.SE3:
        """Where the hand should be after this step: the lead, and a share of what is left."""
        here = self._configuration.get_transform_frame_to_world(name, 'site')
        gain = self.settings.gain
        position = here.translation() + gain * (target.translation() - here.translation())
        left = (target.rotation() @ here.rotation().inverse()).log()
        rotation = mink.SO3.exp(lead[3:]) @ mink.SO3.exp(gain * left) @ here.rotation()
        return mink.SE3.from_rotation_and_translation(rotation, position + lead[:3])
