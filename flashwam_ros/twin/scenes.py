# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The three table scenes: what stands on the table, how big it is, and where a seed puts it.

Frames: the world's origin is on the floor below the pelvis, x forward, y left, z up. The frame of
an object has its origin in the middle of the plane that the object stands on (z up); the potato's
is its centre. Sizes are in metres, masses in kg (task scenes of the robot's facts, section 9).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PELVIS_Z = 0.784
TABLE_TOP_Z = 0.774
TABLE_X = (0.12, 0.84)
TABLE_HALF_Y = 0.55

POT_RADIUS = 0.043
POT_WALL = 0.004
POT_HEIGHT = 0.060
POT_FOOT = 0.006
LID_RADIUS = 0.046
LID_FOOT = 0.002
LID_THICKNESS = 0.006
KNOB_RADIUS = 0.011
KNOB_HEIGHT = 0.022
POTATO_AXES = (0.025, 0.020, 0.020)
BOTTLE_RADIUS = 0.017
BOTTLE_HEIGHT = 0.095
CAP_RADIUS = 0.014
CAP_HEIGHT = 0.020
PINK_RADIUS = 0.034
PINK_HEIGHT = 0.068
TARGET_RADIUS = 0.048
TARGET_HEIGHT = 0.004

TASKS = ('pot_potato', 'red_bottle', 'pink_object')
SCENE_OBJECTS = {
    'pot_potato': ('pot', 'lid', 'potato'),
    'red_bottle': ('red_bottle', 'yellow_bottle'),
    'pink_object': ('target', 'pink_object'),
}
STATIC_OBJECTS = ('target',)
MASS = {
    'pot': 0.30,
    'lid': 0.10,
    'potato': 0.06,
    'red_bottle': 0.10,
    'yellow_bottle': 0.10,
    'pink_object': 0.05,
}

_START_NOISE_RAD = 0.03
_HIDDEN = 'group="3" rgba="0.5 0.5 0.5 1"'


@dataclass(frozen=True)
class Layout:
    """Where a seed puts things: ``poses[name] = (x, y, yaw)`` in the world frame (m, rad).

    ``arm_noise`` (14,) is added to the home pose of the arms (rad).
    """

    poses: dict[str, tuple[float, float, float]]
    arm_noise: np.ndarray


def rest_height(kind: str) -> float:
    """Height (m, world) of an object's frame when it stands on the table."""
    return TABLE_TOP_Z + (POTATO_AXES[2] if kind == 'potato' else 0.0)


def start_height(kind: str) -> float:
    """Height (m, world) of an object's frame at the start: the lid lies on the pot."""
    return TABLE_TOP_Z + POT_HEIGHT if kind == 'lid' else rest_height(kind)


def sample_layout(task: str, seed: int) -> Layout:
    """Object poses and arm noise of one episode; the same seed gives the same layout.

    Raises:
        ValueError: the task is unknown.
    """
    if task not in TASKS:
        raise ValueError(f'unknown task {task!r}; choose one of {", ".join(TASKS)}')
    rng = np.random.default_rng([seed, TASKS.index(task)])
    sampler = {
        'pot_potato': _sample_pot,
        'red_bottle': _sample_bottles,
        'pink_object': _sample_pink,
    }[task]
    poses = sampler(rng)
    return Layout(poses, rng.uniform(-_START_NOISE_RAD, _START_NOISE_RAD, 14))


def _sample_pot(rng: np.random.Generator) -> dict:
    while True:
        pot = np.array([0.26, 0.0]) + rng.uniform(-1, 1, 2) * (0.03, 0.04)
        potato = np.array([0.36, -0.08]) + rng.uniform(-1, 1, 2) * (0.03, 0.04)
        if np.linalg.norm(pot - potato) > 0.115:
            break
    yaw, potato_yaw = rng.uniform(-0.4, 0.4), rng.uniform(-0.5, 0.8)
    return {
        'pot': (*pot, yaw),
        'lid': (*pot, yaw),
        'potato': (*potato, potato_yaw),
    }


def _sample_bottles(rng: np.random.Generator) -> dict:
    side = 1.0 if rng.random() < 0.5 else -1.0
    while True:
        red = np.array([rng.uniform(0.27, 0.37), side * rng.uniform(0.03, 0.085)])
        yellow = np.array([rng.uniform(0.27, 0.37), -side * rng.uniform(0.03, 0.085)])
        if np.linalg.norm(red - yellow) > 0.11:
            break
    yaws = rng.uniform(-0.8, 0.8, 2)
    return {'red_bottle': (*red, yaws[0]), 'yellow_bottle': (*yellow, yaws[1])}


def _sample_pink(rng: np.random.Generator) -> dict:
    side = 1.0 if rng.random() < 0.5 else -1.0
    pink = np.array([0.37, side * 0.11]) + rng.uniform(-1, 1, 2) * (0.03, 0.04)
    target = np.array([0.25, 0.0]) + rng.uniform(-1, 1, 2) * (0.02, 0.03)
    return {
        'target': (*target, rng.uniform(-0.4, 0.4)),
        'pink_object': (*pink, rng.uniform(-0.8, 0.8)),
    }


def table_collision_xml() -> str:
    """The table top's hidden collision box (the visible table belongs to the looks)."""
    x = 0.5 * (TABLE_X[0] + TABLE_X[1])
    half = (0.5 * (TABLE_X[1] - TABLE_X[0]), TABLE_HALF_Y, 0.02)
    return (
        f'<geom name="table" type="box" pos="{x} 0 {TABLE_TOP_Z - 0.02}" '
        f'size="{half[0]} {half[1]} {half[2]}" contype="1" conaffinity="15" '
        f'friction="0.8 0.01 0.001" {_HIDDEN}/>'
    )


def object_body_xml(kind: str, visual: str) -> str:
    """The MJCF body of one object: collision primitives, inertia, and the given visible geoms."""
    if kind in STATIC_OBJECTS:
        return f'<body name="{kind}" mocap="true">{visual}</body>'
    half = {
        'pot': (POT_RADIUS, POT_HEIGHT),
        'lid': (LID_RADIUS, LID_FOOT + LID_THICKNESS),
        'potato': (0.021, 0.040),
        'pink_object': (PINK_RADIUS, PINK_HEIGHT),
    }.get(kind, (BOTTLE_RADIUS, BOTTLE_HEIGHT + CAP_HEIGHT))
    com_z = {'potato': 0.0, 'pot': 0.024, 'lid': 0.009}.get(kind, 0.45 * half[1])
    mass, (radius, height) = MASS[kind], half
    # The inertia of the solid cylinder around the object: these round bodies differ little.
    across, along = mass * (3 * radius**2 + height**2) / 12, mass * radius**2 / 2
    return (
        f'<body name="{kind}"><freejoint name="{kind}"/>'
        f'<inertial pos="0 0 {com_z}" mass="{mass}" diaginertia="{across} {across} {along}"/>'
        f'{_COLLISION[kind]()}{visual}</body>'
    )


def _geom(kind: str, size: str, pos: str, extra: str = '') -> str:
    return (
        f'<geom type="{kind}" size="{size}" pos="{pos}" mass="0" contype="1" conaffinity="15" '
        f'condim="4" friction="0.9 0.01 0.0005" {extra} {_HIDDEN}/>'
    )


def _feet(radius: float, foot: float) -> str:
    # Four small spheres instead of rings of contacts: a sixth of the physics' time, and no jitter.
    turns = (np.arange(4) + 0.5) * np.pi / 2
    return ''.join(
        _geom('sphere', f'{foot}', f'{radius * np.cos(a)} {radius * np.sin(a)} {foot}')
        for a in turns
    )


def _pot_xml() -> str:
    ring = POT_RADIUS - POT_WALL / 2
    half_z = (POT_HEIGHT - POT_FOOT) / 2
    parts = [_feet(0.034, 0.003)]
    for i in range(16):
        a = (i + 0.5) * 2 * np.pi / 16
        size = f'{POT_WALL / 2} {ring * np.tan(np.pi / 16)} {half_z}'
        pos = f'{ring * np.cos(a)} {ring * np.sin(a)} {POT_FOOT + half_z}'
        parts.append(_geom('box', size, pos, f'quat="{np.cos(a / 2)} 0 0 {np.sin(a / 2)}"'))
    parts.append(_geom('cylinder', f'{POT_RADIUS - POT_WALL} 0.002', '0 0 0.008'))
    return ''.join(parts)


def _lid_xml() -> str:
    disc = LID_FOOT + LID_THICKNESS / 2
    knob = LID_FOOT + LID_THICKNESS + KNOB_HEIGHT / 2
    return (
        _feet(POT_RADIUS - POT_WALL / 2, LID_FOOT / 2)
        + _geom('cylinder', f'{LID_RADIUS} {LID_THICKNESS / 2}', f'0 0 {disc}')
        + _geom('cylinder', f'{KNOB_RADIUS} {KNOB_HEIGHT / 2}', f'0 0 {knob}')
    )


def _potato_xml() -> str:
    size = ' '.join(str(a) for a in POTATO_AXES)
    return (
        f'<geom type="ellipsoid" size="{size}" mass="0" contype="1" conaffinity="15" condim="6" '
        f'friction="0.9 0.02 0.004" {_HIDDEN}/>'
    )


def _bottle_xml() -> str:
    cap = BOTTLE_HEIGHT + CAP_HEIGHT / 2
    return _geom(
        'cylinder', f'{BOTTLE_RADIUS} {BOTTLE_HEIGHT / 2}', f'0 0 {BOTTLE_HEIGHT / 2}'
    ) + _geom('cylinder', f'{CAP_RADIUS} {CAP_HEIGHT / 2}', f'0 0 {cap}')


def _pink_xml() -> str:
    return _geom('cylinder', f'{PINK_RADIUS} {PINK_HEIGHT / 2}', f'0 0 {PINK_HEIGHT / 2}')


_COLLISION = {
    'pot': _pot_xml,
    'lid': _lid_xml,
    'potato': _potato_xml,
    'red_bottle': _bottle_xml,
    'yellow_bottle': _bottle_xml,
    'pink_object': _pink_xml,
}
