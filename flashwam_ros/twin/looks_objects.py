# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the task objects look like (sizes: the scenes of the published rollouts).

Frames: z up, origin at the centre of the *underside* (the point that stands on the table),
except the potato, whose origin is its centre (long axis x).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from flashwam_ros.twin.looks_robot import Parts
from flashwam_ros.twin.meshes import Mesh, lathe

#: Outer sizes in metres.
POT_RADIUS, POT_WALL, POT_HEIGHT, POT_FLOOR = 0.043, 0.004, 0.060, 0.010
LID_RADIUS, LID_TOP, KNOB_RADIUS, KNOB_HEIGHT = 0.046, 0.008, 0.011, 0.022
POTATO_AXES = (0.025, 0.020, 0.020)
BOTTLE_RADIUS, BOTTLE_HEIGHT, CAP_RADIUS, CAP_HEIGHT = 0.017, 0.095, 0.014, 0.020
PINK_RADIUS, PINK_HEIGHT = 0.034, 0.068
TARGET_RADIUS, TARGET_HEIGHT = 0.048, 0.004

MATERIALS = """
<material name="amber" rgba="0.86 0.40 0.05 0.80" specular="0.9" shininess="0.9"/>
<material name="amber_rim" rgba="0.70 0.27 0.02 1" specular="0.9" shininess="0.9"/>
<material name="ivory" rgba="0.95 0.92 0.84 1" specular="0.4" shininess="0.5"/>
<material name="potato" texture="potato" specular="0.08" shininess="0.15" emission="0.08"/>
<material name="red" rgba="0.92 0.05 0.045 1" specular="0.7" shininess="0.8" emission="0.12"/>
<material name="yellow" rgba="1 0.82 0.02 1" specular="0.7" shininess="0.8" emission="0.12"/>
<material name="red_label" texture="red_label" specular="0.1" shininess="0.2" emission="0.15"/>
<material name="yellow_label" texture="yellow_label" specular="0.1" shininess="0.2"
  emission="0.15"/>
<material name="red_cap" rgba="0.36 0.02 0.03 1" specular="0.5" shininess="0.5"/>
<material name="yellow_cap" rgba="0.36 0.25 0.02 1" specular="0.5" shininess="0.5"/>
<material name="pink" rgba="0.98 0.28 0.56 1" specular="0.25" shininess="0.3" emission="0.08"/>
<material name="pink_hole" rgba="0.42 0.05 0.20 1" specular="0" shininess="0"/>
<material name="cork" texture="cork" specular="0.02" shininess="0.1"/>
<material name="tape" rgba="0.03 0.25 0.90 1" specular="0.2" shininess="0.3"/>
"""


def _planar(mesh: Mesh, radius: float) -> Mesh:
    """The same mesh with its texture laid on from above."""
    flat = mesh.vertices[:, :2] / (2.0 * radius) + 0.5
    return Mesh(mesh.vertices, mesh.normals, flat, mesh.faces)


def _ellipse_arc(axis_r: float, axis_z: float, steps: int) -> list[tuple[float, float]]:
    turn = np.linspace(-np.pi / 2.0, np.pi / 2.0, steps)
    return [(axis_r * max(np.cos(t), 0.0), axis_z * np.sin(t)) for t in turn]


def _pot_half(turn_from: float) -> Mesh:
    """Half of the glass. Two halves, because MuJoCo sorts translucent *geoms* by distance."""
    r, w, h, f = POT_RADIUS, POT_WALL, POT_HEIGHT, POT_FLOOR
    return lathe([
        (0, 0), (r - 0.008, 0), (r - 0.003, 0.0012), (r - 0.0006, 0.005), (r, 0.011), (r, h),
        (r, h), (r - w, h), (r - w, h), (r - w, f + 0.006), (r - w - 0.003, f + 0.001),
        (r - w - 0.010, f), (0, f)], 16, turn_from, turn_from + np.pi)


def _pot(p: Parts) -> None:
    p.mesh('pot_rim', lambda: lathe([
        (POT_RADIUS - POT_WALL, POT_HEIGHT - 0.004), (POT_RADIUS + 0.0006, POT_HEIGHT - 0.004),
        (POT_RADIUS + 0.0012, POT_HEIGHT - 0.002), (POT_RADIUS + 0.0006, POT_HEIGHT),
        (POT_RADIUS - POT_WALL - 0.0004, POT_HEIGHT),
        (POT_RADIUS - POT_WALL - 0.0004, POT_HEIGHT - 0.004)], 32), 'amber_rim')
    p.mesh('pot_front', lambda: _pot_half(-np.pi / 2.0), 'amber')
    p.mesh('pot_back', lambda: _pot_half(np.pi / 2.0), 'amber')
    for side in (1.0, -1.0):
        p.box((0.030, 0.012, 0.008), 'amber_rim', (0, side * (POT_RADIUS + 0.003), 0.046), 0.003)


def _lid(p: Parts) -> None:
    top = LID_TOP
    p.mesh('lid_glass', lambda: lathe([
        (0, 0.001), (LID_RADIUS - 0.001, 0.001), (LID_RADIUS, 0.002), (LID_RADIUS, 0.0042),
        (LID_RADIUS - 0.003, 0.0056), (0.026, top - 0.0004), (0, top)], 32), 'amber')
    p.mesh('lid_rim', lambda: lathe([
        (LID_RADIUS - 0.004, 0.0004), (LID_RADIUS - 0.0005, 0.0004), (LID_RADIUS + 0.0006, 0.0018),
        (LID_RADIUS + 0.0006, 0.0046), (LID_RADIUS - 0.003, 0.0063),
        (LID_RADIUS - 0.006, 0.0063)], 32), 'amber_rim')
    r, h = KNOB_RADIUS, KNOB_HEIGHT
    p.mesh('knob', lambda: lathe([
        (0.008, 0), (0.0075, 0.004), (0.009, 0.0065), (r, 0.010), (r, h - 0.005),
        (r - 0.0015, h - 0.0017), (r - 0.004, h), (0, h)], 24), 'ivory', (0, 0, top))


def _potato(p: Parts) -> None:
    a, b, _ = POTATO_AXES

    def make() -> Mesh:
        # turned about the long axis, then laid down: z -> x keeps the handedness
        m = lathe(_ellipse_arc(b, a, 16), 22)
        order = [2, 0, 1]
        return Mesh(m.vertices[:, order], m.normals[:, order], m.texcoords, m.faces)

    p.mesh('potato', make, 'potato')


def _bottle(p: Parts, colour: str) -> None:
    r, h = BOTTLE_RADIUS, BOTTLE_HEIGHT
    p.mesh('bottle', lambda: lathe([
        (0, 0), (r - 0.003, 0), (r - 0.0008, 0.0008), (r, 0.003), (r, 0.072), (r - 0.0008, 0.078),
        (r - 0.0030, 0.084), (0.0120, 0.089), (0.0115, h), (0, h)], 28), colour)
    p.mesh('label', lambda: lathe(
        [(r + 0.0003, 0.026), (r + 0.0003, 0.050)], 28), f'{colour}_label')
    c = CAP_RADIUS
    p.mesh('cap', lambda: lathe([
        (0.0115, 0), (c - 0.0006, 0), (c, 0.0008), (c, CAP_HEIGHT - 0.002),
        (c - 0.002, CAP_HEIGHT), (0, CAP_HEIGHT)], 24), f'{colour}_cap', (0, 0, h))


def _pink(p: Parts) -> None:
    r, h = PINK_RADIUS, PINK_HEIGHT
    p.mesh('pink_cup', lambda: lathe([
        (0, 0), (r - 0.001, 0), (r, 0.001), (r, h - 0.003), (r - 0.003, h), (r - 0.007, h),
        (r - 0.007, h), (r - 0.0085, h - 0.0015), (0, h - 0.0015)], 36), 'pink')
    spots = [(0.0, 0.0)] + [(0.0155 * np.cos(t), 0.0155 * np.sin(t))
                            for t in np.arange(6) * np.pi / 3.0]
    for x, y in spots:
        p.mesh('pink_hole', lambda: lathe([(0.0048, 0), (0.0048, 0.0004), (0.0048, 0.0004),
                                           (0, 0.0004)], 14), 'pink_hole', (x, y, h - 0.0015))


def _target(p: Parts) -> None:
    r, h = TARGET_RADIUS, TARGET_HEIGHT
    p.mesh('cork_disc', lambda: _planar(lathe([
        (0, 0), (r - 0.0005, 0), (r, 0.0005), (r, h - 0.0008), (r - 0.0008, h), (0, h)], 36),
        r), 'cork')
    p.shape('box', (0.045, 0.008, 0.0004), 'tape', (0, 0, h))
    p.shape('box', (0.008, 0.045, 0.0004), 'tape', (0, 0, h + 0.0001))


_KINDS: dict[str, Callable[[Parts], None]] = {
    'pot': _pot, 'lid': _lid, 'potato': _potato,
    'red_bottle': lambda p: _bottle(p, 'red'), 'yellow_bottle': lambda p: _bottle(p, 'yellow'),
    'pink_object': _pink, 'target': _target,
}


@functools.cache
def object_parts(kind: str) -> Parts:
    """Geoms and meshes of one kind of object.

    Raises:
        KeyError: no such kind.
    """
    if kind not in _KINDS:
        raise KeyError(f'no look for object {kind!r}: known are {", ".join(_KINDS)}')
    parts = Parts()
    _KINDS[kind](parts)
    return parts


def all_kinds() -> tuple[str, ...]:
    """Names of all kinds of objects that have a look."""
    return tuple(_KINDS)
