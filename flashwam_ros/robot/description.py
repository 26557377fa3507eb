# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The one description of the robot, read from ``config/robot/g1_kinematics.json``.

Conventions are those of the file: SI units, x forward, y left, z up in each link at the zero pose,
root link ``pelvis``, ``R = Rz(yaw) Ry(pitch) Rx(roll)``.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from flashwam_ros.resources import share_path

Vector = tuple[float, ...]

# The 5010 motor's rotor inertia is not published; the description's own note says what to use.
_ARMATURE_5010 = 0.004

_WRIST_4010 = (5, 6, 11, 12)
_HIP_14_3 = (5, 6, 13, 14)
_WAIST_LOCKED = (6, 12, 14, 16)
_MODES = (5, 6, 11, 12, 13, 14, 15, 16)

OPTICAL_RPY = (-1.5707963267948966, 0.0, -1.5707963267948966)


@dataclass(frozen=True)
class Geometry:
    """A primitive in its link's frame; ``size`` as the file's conventions say (full box edges)."""

    kind: str
    size: Vector
    xyz: Vector
    rpy: Vector
    role: str


@dataclass(frozen=True)
class Link:
    """A rigid body: mass (kg), centre of mass (m), inertia ``ixx iyy izz ixy ixz iyz`` (kg.m2)."""

    name: str
    mass: float
    com: Vector
    inertia: Vector
    color: str
    geometry: tuple[Geometry, ...]


@dataclass(frozen=True)
class Joint:
    """A joint; ``kind`` is ``revolute``, ``prismatic`` or ``fixed`` (limits, axis then 0)."""

    name: str
    kind: str
    parent: str
    child: str
    xyz: Vector
    rpy: Vector
    axis: Vector
    lower: float
    upper: float
    velocity: float
    effort: float
    armature: float
    motor_index: int | None


@dataclass(frozen=True)
class Frame:
    """A named frame fixed to a link (or to another frame)."""

    name: str
    parent: str
    xyz: Vector
    rpy: Vector


@dataclass(frozen=True)
class Gripper:
    """Dex1-1: motor rad (0 closed) to jaw travel (m, same for both fingers, positive outward)."""

    motor_closed: float
    motor_open: float
    finger_at_closed: float
    finger_per_rad: float

    def finger_from_motor(self, motor_rad: float) -> float:
        """Finger joint position (m) of a motor angle (rad)."""
        return self.finger_at_closed + self.finger_per_rad * motor_rad

    def motor_from_finger(self, finger_m: float) -> float:
        """Motor angle (rad) of a finger joint position (m)."""
        return (finger_m - self.finger_at_closed) / self.finger_per_rad


@dataclass(frozen=True)
class CameraModel:
    """A camera preset: the frames it may sit in and its field of view (deg)."""

    name: str
    frames: tuple[str, ...]
    hfov_deg: float
    vfov_deg: float


@dataclass(frozen=True)
class Description:
    """Links, joints, frames, gripper map and camera presets of one robot variant."""

    variant: str
    links: tuple[Link, ...]
    joints: tuple[Joint, ...]
    frames: tuple[Frame, ...]
    motor_order: tuple[str, ...]
    motor_groups: dict[str, tuple[int, ...]]
    gripper: Gripper
    cameras: tuple[CameraModel, ...]
    materials: dict[str, Vector]
    collision_exclude: tuple[tuple[str, str], ...]
    passive: dict[str, float]

    def link(self, name: str) -> Link:
        """The link called ``name``; KeyError naming it otherwise."""
        return _find(self.links, name, 'link')

    def joint(self, name: str) -> Joint:
        """The joint called ``name``; KeyError naming it otherwise."""
        return _find(self.joints, name, 'joint')

    def frame(self, name: str) -> Frame:
        """The extra frame called ``name``; KeyError naming it otherwise."""
        return _find(self.frames, name, 'frame')

    def motor_joint(self, index: int) -> Joint:
        """The joint that motor ``index`` of the state message drives."""
        return self.joint(self.motor_order[index])


def _find(items: tuple, name: str, kind: str) -> Any:
    for item in items:
        if item.name == name:
            return item
    raise KeyError(f'the robot description has no {kind} {name!r}')


def _floats(values: Any) -> Vector:
    return tuple(float(v) for v in values)


def _geometry(raw: dict) -> Geometry:
    return Geometry(
        raw['type'],
        _floats(raw['size']),
        _floats(raw['xyz']),
        _floats(raw['rpy']),
        raw.get('role', 'body'),
    )


def _link(raw: dict) -> Link:
    inertia = raw['inertia'] or {}
    return Link(
        raw['name'],
        float(raw['mass']),
        _floats(raw['com'] or (0, 0, 0)),
        tuple(float(inertia.get(k, 0.0)) for k in ('ixx', 'iyy', 'izz', 'ixy', 'ixz', 'iyz')),
        raw['color'] or 'dark',
        tuple(_geometry(g) for g in raw['geometry']),
    )


def _joint(raw: dict, gripper: dict) -> Joint:
    limits = raw
    if raw['type'] == 'prismatic':
        # The published finger limits belong to a model of the opposite sign (the file says so).
        limits = gripper['recommended_limits']
    armature = raw.get('armature')
    if armature is None:
        armature = _ARMATURE_5010 if raw.get('motor_model') == '5010' else 0.0
    return Joint(
        name=raw['name'],
        kind=raw['type'],
        parent=raw['parent'],
        child=raw['child'],
        xyz=_floats(raw['origin_xyz']),
        rpy=_floats(raw['origin_rpy']),
        axis=_floats(raw.get('axis') or (0, 0, 0)),
        lower=float(limits.get('lower') or 0.0),
        upper=float(limits.get('upper') or 0.0),
        velocity=float(raw.get('velocity') or 0.0),
        effort=float(raw.get('effort') or 0.0),
        armature=float(armature),
        motor_index=raw.get('motor_index'),
    )


def _apply_variant(data: dict, variant: str) -> None:
    mode = variant[len('mode_') :] if variant.startswith('mode_') else ''
    if not mode.isdigit() or int(mode) not in _MODES:
        known = ', '.join(f'mode_{m}' for m in _MODES)
        raise ValueError(f'unknown robot variant {variant!r}: use one of {known}')
    names = [('wrist_4010', _WRIST_4010), ('hip_14_3', _HIP_14_3)]
    for name, modes in names:
        if int(mode) not in modes:
            continue
        for kind in ('links', 'joints'):
            table = {item['name']: item for item in data[kind]}
            for item, changes in data['variants'][name].get(kind, {}).items():
                table[item].update(changes)
                if name == 'wrist_4010' and kind == 'joints':
                    table[item]['armature'] = data['actuators']['armature_kg_m2']['4010']
    if int(mode) in _WAIST_LOCKED:
        for item in data['joints']:
            if item['name'] in data['variants']['waist_locked']['joints_become_fixed']:
                item['type'] = 'fixed'


def _frames(data: dict) -> tuple[Frame, ...]:
    frames = [
        Frame(f['name'], f['parent'], _floats(f['xyz']), _floats(f['rpy']))
        for f in data['extra_frames']
        if '*' not in f['name']
    ]
    optical = [
        Frame(f'{f.name}_optical_frame', f.name, (0.0, 0.0, 0.0), OPTICAL_RPY)
        for f in frames
        if 'camera' in f.name
    ]
    return tuple(frames + optical)


def _cameras(data: dict) -> tuple[CameraModel, ...]:
    return tuple(
        CameraModel(
            name,
            tuple(raw.get('frames') or (raw['frame'],)),
            float(raw['hfov_deg']),
            float(raw['vfov_deg']),
        )
        for name, raw in data['cameras'].items()
        if 'hfov_deg' in raw
    )


@functools.cache
def load_description(variant: str = 'mode_15') -> Description:
    """Read the description of a robot variant.

    Args:
        variant: ``mode_<mode_machine>`` of a 29 DoF robot: 5, 6, 11 .. 16.

    Raises:
        ValueError: The variant is not a 29 DoF robot.
        FileNotFoundError: The description file is not installed.
    """
    text = share_path('config', 'robot', 'g1_kinematics.json').read_text(encoding='utf-8')
    data = json.loads(text)
    _apply_variant(data, variant)
    grip = data['gripper']
    passive = data['actuators']['sim_passive']
    return Description(
        variant=variant,
        links=tuple(_link(raw) for raw in data['links']),
        joints=tuple(_joint(raw, grip) for raw in data['joints']),
        frames=_frames(data),
        motor_order=tuple(data['motor_order']),
        motor_groups={
            name: tuple(value)
            for name, value in data['dds_indices'].items()
            if isinstance(value, list)
        },
        gripper=Gripper(
            float(grip['dds_q_closed']),
            float(grip['dds_q_open']),
            float(grip['finger_q_at_closed']),
            float(grip['jaw_travel_m_per_rad']),
        ),
        cameras=_cameras(data),
        materials={k: _floats(v) for k, v in data['materials'].items() if k != 'note'},
        collision_exclude=tuple((a, b) for a, b in data['collision_filter']['also_disable']),
        passive={
            'damping': float(passive['joint_damping']),
            'frictionloss': float(passive['frictionloss']),
            'frictionloss_wrist': float(passive['frictionloss_wrist']),
        },
    )
