# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The robot's MJCF, generated from the one description: bodies, collision shapes, pads, actuators.

Legs and waist are rigid (the legs in the "slight" stance), the pelvis is fixed to the world; only
the arm joints and the jaws move. Parameters come from the twin's feasibility study.
"""

from __future__ import annotations

import numpy as np

from flashwam_ros.robot.description import Description, Frame, Joint, Link
from flashwam_ros.twin.scenes import PELVIS_Z

SIDES = ('left', 'right')
STANCE = {'hip_pitch': -0.1, 'knee': 0.3, 'ankle_pitch': -0.2}
JOINT_DAMPING = 0.05
JOINT_ARMATURE = 0.01
JAW_DAMPING = 8.0
JAW_ARMATURE = 0.08
# Pitch and place of the wrist camera on the gripper base: the palm covers a third of the picture,
# pads and object stay visible. The head camera keeps its place, with a lens wide enough for both
# hands (at 4:3: 80 x 64 deg; the real colour imager's 55 x 43 would miss the near table).
WRIST_CAMERA = (0.02, 0.095, np.deg2rad(40.0))
HEAD_FOVY, WRIST_FOVY = 64.0, 64.0

# Arm geoms collide with world and objects (1), torso (8) and the other arm, never with themselves.
_BITS = {'left': (2, 1 | 4 | 8), 'right': (4, 1 | 2 | 8), 'torso': (8, 1 | 2 | 4)}
_HIDDEN = 'group="3" mass="0" rgba="0.5 0.5 0.5 1"'
_PAD = (
    'priority="1" condim="4" friction="1.5 0.02 0.0005" '
    'solref="0.004 1" solimp="0.95 0.99 0.001"'
)


def rotation_of_rpy(rpy: tuple) -> np.ndarray:
    """Rotation matrix (3, 3) of fixed-axis roll, pitch, yaw (rad): ``Rz Ry Rx``."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def quaternion_of_rpy(rpy: tuple) -> np.ndarray:
    """Unit quaternion (w, x, y, z) of fixed-axis roll, pitch, yaw (rad)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(np.array(rpy) / 2), np.sin(np.array(rpy) / 2)
    return np.array(
        [
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ]
    )


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w = a[0] * b[0] - a[1:] @ b[1:]
    return np.concatenate([[w], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])])


def numbers(values) -> str:
    """Numbers as MJCF text without loss of precision."""
    return ' '.join(repr(float(v)) for v in values)


def stance_angle(joint: Joint) -> float:
    """Angle (rad) at which a joint outside the arms is held."""
    if joint.motor_index is None:
        return 0.0
    return next((a for name, a in STANCE.items() if name in joint.name), 0.0)


def is_arm_joint(joint: Joint, description: Description) -> bool:
    """Whether the twin simulates this revolute joint."""
    return joint.motor_index in description.motor_groups['arm_indices']


def robot_body_xml(description: Description, visual_geoms, passive: dict[str, str]) -> str:
    """The body tree from the pelvis on.

    Args:
        description: The robot.
        visual_geoms: ``link name -> MJCF`` of the visible geoms of a link.
        passive: Extra MJCF per link name (cameras).
    """
    children: dict[str, list[Joint]] = {}
    for joint in description.joints:
        children.setdefault(joint.parent, []).append(joint)

    def body(link: Link, joint: Joint | None) -> str:
        pos, quat = (0, 0, PELVIS_Z), np.array([1.0, 0, 0, 0])
        if joint is not None:
            pos, quat = joint.xyz, quaternion_of_rpy(joint.rpy)
        moves = joint is not None and (
            is_arm_joint(joint, description) or joint.kind == 'prismatic'
        )
        if joint is not None and joint.kind == 'revolute' and not moves:
            half = stance_angle(joint) / 2
            bend = np.array([np.cos(half), *(np.sin(half) * np.array(joint.axis))])
            quat = _multiply(quat, bend)
        inside = [
            _joint_xml(joint, description) if moves else '',
            _inertial_xml(link),
            _collision_xml(link),
            visual_geoms(link.name),
            passive.get(link.name, ''),
        ]
        inside += [body(description.link(j.child), j) for j in children.get(link.name, ())]
        return (
            f'<body name="{link.name}" pos="{numbers(pos)}" quat="{numbers(quat)}">'
            + ''.join(inside)
            + '</body>'
        )

    return body(description.link('pelvis'), None)


def _joint_xml(joint: Joint, description: Description) -> str:
    axis, span = numbers(joint.axis), numbers((joint.lower, joint.upper))
    if joint.kind == 'prismatic':
        return (
            f'<joint name="{joint.name}" type="slide" axis="{axis}" range="{span}" '
            f'damping="{JAW_DAMPING}" armature="{JAW_ARMATURE}"/>'
        )
    key = 'frictionloss_wrist' if 'wrist' in joint.name else 'frictionloss'
    return (
        f'<joint name="{joint.name}" type="hinge" axis="{axis}" range="{span}" '
        f'damping="{JOINT_DAMPING}" armature="{JOINT_ARMATURE}" '
        f'frictionloss="{description.passive[key]}"/>'
    )


def _inertial_xml(link: Link) -> str:
    if link.mass < 0.01:
        return ''
    return (
        f'<inertial pos="{numbers(link.com)}" mass="{link.mass!r}" '
        f'fullinertia="{numbers(link.inertia)}"/>'
    )


def _box(group: str, center, half, extra: str = '') -> str:
    contype, conaffinity = _BITS[group]
    return (
        f'<geom type="box" pos="{numbers(center)}" size="{numbers(half)}" contype="{contype}" '
        f'conaffinity="{conaffinity}" {extra} {_HIDDEN}/>'
    )


def _capsule(group: str, start, end, radius: float) -> str:
    contype, conaffinity = _BITS[group]
    return (
        f'<geom type="capsule" fromto="{numbers((*start, *end))}" size="{radius}" '
        f'contype="{contype}" conaffinity="{conaffinity}" {_HIDDEN}/>'
    )


def _collision_xml(link: Link) -> str:
    if link.name == 'torso_link':
        return _box('torso', (0, 0, 0.17), (0.075, 0.085, 0.15))
    if link.name == 'head_link':
        contype, conaffinity = _BITS['torso']
        return (
            f'<geom type="sphere" pos="0 0 0.45" size="0.085" contype="{contype}" '
            f'conaffinity="{conaffinity}" {_HIDDEN}/>'
        )
    side = link.name.split('_')[0]
    if side not in SIDES:
        return ''
    part = link.name[len(side) + 1 :]
    out = 1.0 if side == 'left' else -1.0
    if part == 'shoulder_yaw_link':
        return _capsule(side, (0, 0, 0.03), (0.012, -0.006 * out, -0.075), 0.036)
    if part == 'elbow_link':
        return _capsule(side, (0.01, 0.002 * out, -0.01), (0.10, 0.002 * out, -0.01), 0.032)
    if part == 'wrist_pitch_link':
        return _capsule(side, (-0.015, 0, 0), (0.05, 0, 0), 0.031)
    if part == 'dex1_base_link':
        return _box(side, (0.0295, 0, 0), (0.04, 0.029, 0.031))
    if 'finger' in part:
        return _finger_xml(link, side)
    return ''


def _finger_xml(link: Link, side: str) -> str:
    # Rails pass each other inside the hand and never meet an object: left out.
    parts = []
    for geometry in link.geometry:
        half = np.array(geometry.size) / 2
        if geometry.role == 'pad':
            parts.append(_box(side, geometry.xyz, half, _PAD))
        elif geometry.role == 'jaw':
            parts.append(_box(side, geometry.xyz, half))
    return ''.join(parts)


def tcp_site_xml(frame: Frame) -> str:
    """The site at a tool centre point, in its parent link's frame."""
    return f'<site name="{frame.name}" pos="{numbers(frame.xyz)}" size="0.004" group="4"/>'


def camera_xml(name: str, pos, pitch: float, fovy: float) -> str:
    """A camera that looks along x, pitched down by ``pitch`` rad, in its parent link's frame."""
    axes = (0, -1, 0, np.sin(pitch), 0, np.cos(pitch))
    return (
        f'<camera name="{name}" pos="{numbers(pos)}" xyaxes="{numbers(axes)}" fovy="{fovy}"/>'
    )


def actuator_xml(description: Description) -> str:
    """Motors (14 arm joints, then the two jaw pairs), jaw equalities and tendons.

    The motor law is the actuator's own affine bias, so that it is evaluated at every physics step:
    ``force = kp u + (tau_ff + kd dq*) - kp q - kd dq``, clipped at the motor's effort.
    """
    actuators, tendons, equalities = [], [], []
    for index in description.motor_groups['arm_indices']:
        joint = description.motor_joint(index)
        actuators.append(
            f'<general name="{joint.name}" joint="{joint.name}" gaintype="fixed" '
            f'biastype="affine" gainprm="0 0 0" biasprm="0 0 0" forcelimited="true" '
            f'forcerange="{-joint.effort} {joint.effort}"/>'
        )
    for side in SIDES:
        jaws = [f'{side}_dex1_finger_joint_{i}' for i in (1, 2)]
        force = 2 * description.joint(jaws[0]).effort
        tendons.append(
            f'<fixed name="{side}_jaws">'
            + ''.join(f'<joint joint="{jaw}" coef="0.5"/>' for jaw in jaws)
            + '</fixed>'
        )
        equalities.append(
            f'<joint joint1="{jaws[0]}" joint2="{jaws[1]}" polycoef="0 1 0 0 0" '
            f'solref="0.004 1" solimp="0.95 0.99 0.001"/>'
        )
        actuators.append(
            f'<general name="{side}_gripper" tendon="{side}_jaws" gaintype="fixed" '
            f'biastype="affine" gainprm="0 0 0" biasprm="0 0 0" forcelimited="true" '
            f'forcerange="{-force} {force}"/>'
        )
    return (
        f'<equality>{"".join(equalities)}</equality><tendon>{"".join(tendons)}</tendon>'
        f'<actuator>{"".join(actuators)}</actuator>'
    )
