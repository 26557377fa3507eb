# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics, tool Jacobians and gravity torque, generated from the description."""

from __future__ import annotations

import numpy as np

from flashwam_ros.robot.description import Description, Joint

GRAVITY = 9.81


def rotation_from_rpy(rpy: tuple[float, ...]) -> np.ndarray:
    """Fixed-axis roll, pitch, yaw (rad) to a (3, 3) rotation, ``Rz(yaw) Ry(pitch) Rx(roll)``."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def transform(xyz: tuple[float, ...], rpy: tuple[float, ...]) -> np.ndarray:
    """Position (m) and fixed-axis rpy (rad) to a (4, 4) transform."""
    out = np.eye(4)
    out[:3, :3] = rotation_from_rpy(rpy)
    out[:3, 3] = xyz
    return out


def _skew(axis: tuple[float, ...]) -> np.ndarray:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


class _Step:
    """The transform of one joint as ``base + f(q) first + g(q) second``, all (4, 4)."""

    def __init__(self, joint: Joint) -> None:
        self.kind = joint.kind
        self.base = transform(joint.xyz, joint.rpy)
        self.first = np.zeros((4, 4))
        self.second = np.zeros((4, 4))
        if joint.kind == 'revolute':
            skew = _skew(joint.axis)
            self.first[:3, :3] = self.base[:3, :3] @ skew
            self.second[:3, :3] = self.base[:3, :3] @ skew @ skew
        elif joint.kind == 'prismatic':
            self.first[:3, 3] = self.base[:3, :3] @ np.array(joint.axis)

    def at(self, q: float) -> np.ndarray:
        """The child frame in the parent frame at joint position ``q`` (rad or m)."""
        if self.kind == 'revolute':
            return self.base + np.sin(q) * self.first + (1.0 - np.cos(q)) * self.second
        return self.base + q * self.first if self.kind == 'prismatic' else self.base


class Kinematics:
    """Kinematics of one description.

    ``q29`` are the motor joints in motor order (rad), ``gripper_q2`` the gripper motors (left,
    right; rad), ``arm_q`` the 14 arm joints (left, right; rad). Poses are in the pelvis frame.
    """

    def __init__(self, description: Description) -> None:
        """Prepare the constant matrices."""
        self.description = description
        self._by_child = {j.child: j for j in description.joints}
        self._steps = {j.name: _Step(j) for j in description.joints}
        self._frames = {f.name: (f.parent, transform(f.xyz, f.rpy)) for f in description.frames}
        self._order = self._topological()
        self._prepare_arms()

    # ---- any link or frame -------------------------------------------------------------------

    def link_poses(self, q29: np.ndarray, gripper_q2: np.ndarray) -> dict[str, np.ndarray]:
        """(4, 4) pose of every link, by name."""
        poses = {'pelvis': np.eye(4)}
        for joint in self._order:
            step = self._steps[joint.name].at(self._joint_position(joint, q29, gripper_q2))
            poses[joint.child] = poses[joint.parent] @ step
        return poses

    def frame_pose(self, q29: np.ndarray, gripper_q2: np.ndarray, frame: str) -> np.ndarray:
        """(4, 4) pose of a link or of an extra frame; KeyError if there is none of that name."""
        pose = np.eye(4)
        while frame in self._frames:
            frame, local = self._frames[frame]
            pose = local @ pose
        while frame != 'pelvis':
            if frame not in self._by_child:
                raise KeyError(f'the robot description has no link or frame {frame!r}')
            joint = self._by_child[frame]
            position = self._joint_position(joint, q29, gripper_q2)
            pose = self._steps[joint.name].at(position) @ pose
            frame = joint.parent
        return pose

    # ---- both arms at once, waist at zero ----------------------------------------------------

    def arm_link_poses(self, arm_q: np.ndarray) -> np.ndarray:
        """Poses of the links behind the 7 joints of both arms, pelvis upright, waist zero.

        Args:
            arm_q: (..., 14) rad.

        Returns:
            (..., 2, 7, 4, 4), left arm first.
        """
        q = np.asarray(arm_q, dtype=np.float64)
        q = q.reshape(q.shape[:-1] + (2, 7, 1, 1))
        local = self._arm_base + np.sin(q) * self._arm_first + (1.0 - np.cos(q)) * self._arm_second
        out = np.empty_like(local)
        out[..., 0, :, :] = local[..., 0, :, :]
        for i in range(1, 7):
            np.matmul(out[..., i - 1, :, :], local[..., i, :, :], out=out[..., i, :, :])
        return out

    def gravity_torque(self, arm_q: np.ndarray) -> np.ndarray:
        """Torque that holds both arms and grippers against gravity.

        Args:
            arm_q: (..., 14) rad; pelvis upright, waist zero.

        Returns:
            (..., 14) N.m, to be added as feed-forward. The jaws move symmetrically, so their
            opening does not matter.
        """
        poses = self.arm_link_poses(arm_q)
        moment = np.matmul(poses, self._arm_moment)[..., :3, 0]
        # Sum over all links from each joint outwards: moment = sum of mass * position.
        moment = moment[..., ::-1, :].cumsum(axis=-2)[..., ::-1, :]
        lever = moment - self._arm_mass * poses[..., :3, 3]
        axis = np.matmul(poses[..., :3, :3], self._arm_axis)[..., 0]
        torque = GRAVITY * (axis[..., 0] * lever[..., 1] - axis[..., 1] * lever[..., 0])
        return torque.reshape(torque.shape[:-2] + (14,))

    def arm_point(self, arm_q: np.ndarray, name: str) -> np.ndarray:
        """Position of a link or frame of the arms for many poses at once.

        Args:
            arm_q: (..., 14) rad; waist zero.
            name: e.g. ``left_fingertip`` or ``right_elbow_link``.

        Returns:
            (..., 3) m.
        """
        side, joint, local = self._arm_attachment(name)
        return (self.arm_link_poses(arm_q)[..., side, joint, :, :] @ local)[..., :3, 3]

    def tcp_jacobian(self, arm_q: np.ndarray) -> np.ndarray:
        """Jacobians of ``left_tcp`` and ``right_tcp``: (2, 6, 7), linear rows before angular."""
        poses = self.arm_link_poses(arm_q)
        axis = np.matmul(poses[..., :3, :3], self._arm_axis)[..., 0]
        out = np.empty((2, 6, 7))
        for side, name in enumerate(('left_tcp', 'right_tcp')):
            _, joint, local = self._arm_attachment(name)
            tip = (poses[side, joint] @ local)[:3, 3]
            out[side, :3] = np.cross(axis[side], tip - poses[side, :, :3, 3]).T
            out[side, 3:] = axis[side].T
        return out

    # ---- preparation -------------------------------------------------------------------------

    def _topological(self) -> list[Joint]:
        known, order, rest = {'pelvis'}, [], list(self.description.joints)
        while rest:
            ready = [j for j in rest if j.parent in known]
            if not ready:
                raise ValueError(f'joints without a path to the pelvis: {[j.name for j in rest]}')
            order += ready
            known |= {j.child for j in ready}
            rest = [j for j in rest if j.child not in known]
        return order

    def _joint_position(self, joint: Joint, q29: np.ndarray, gripper_q2: np.ndarray) -> float:
        if joint.kind == 'revolute':
            return float(q29[joint.motor_index])
        if joint.kind == 'prismatic':
            side = 0 if joint.name.startswith('left') else 1
            return self.description.gripper.finger_from_motor(float(gripper_q2[side]))
        return 0.0

    def _prepare_arms(self) -> None:
        groups = self.description.motor_groups
        joints = [
            [self.description.motor_joint(i) for i in groups[name]]
            for name in ('left_arm', 'right_arm')
        ]
        self._arm_links = [[j.child for j in arm] for arm in joints]
        steps = [[self._steps[j.name] for j in arm] for arm in joints]
        self._arm_base = np.array([[s.base for s in arm] for arm in steps])
        self._arm_first = np.array([[s.first for s in arm] for arm in steps])
        self._arm_second = np.array([[s.second for s in arm] for arm in steps])
        torso = self.frame_pose(np.zeros(29), np.zeros(2), joints[0][0].parent)
        for table in (self._arm_base, self._arm_first, self._arm_second):
            table[:, 0] = torso @ table[:, 0]
        self._arm_axis = np.array([[j.axis for j in arm] for arm in joints])[..., None]
        moment, mass = np.zeros((2, 7, 4, 1)), np.zeros((2, 7, 1))
        for link in self.description.links:
            attached = self._find_attachment(link.name)
            if attached is not None:
                side, joint, local = attached
                moment[side, joint] += link.mass * (local @ np.array([*link.com, 1.0]))[:, None]
                mass[side, joint] += link.mass
        self._arm_moment = moment
        self._arm_mass = mass[:, ::-1].cumsum(axis=1)[:, ::-1]

    def _find_attachment(self, name: str) -> tuple[int, int, np.ndarray] | None:
        """Arm side, joint number and constant transform that carry a link or frame."""
        local = np.eye(4)
        while name in self._frames:
            name, step = self._frames[name]
            local = step @ local
        while name in self._by_child:
            for side in (0, 1):
                if name in self._arm_links[side]:
                    return side, self._arm_links[side].index(name), local
            joint = self._by_child[name]
            # Jaws count at joint zero: their mass is symmetric, so the sum does not move.
            local = self._steps[joint.name].at(0.0) @ local
            name = joint.parent
        return None

    def _arm_attachment(self, name: str) -> tuple[int, int, np.ndarray]:
        found = self._find_attachment(name)
        if found is None:
            raise KeyError(f'{name!r} is not a link or frame of an arm')
        return found
