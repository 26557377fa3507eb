# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small meshes made of numbers: turned parts (lathe) and shells lofted through sections.

Everything is returned as MJCF ``<mesh>`` text with inline vertices, normals and texture
coordinates, so the model needs no mesh files. Lengths in metres, faces counter-clockwise
seen from outside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

_CYCLE = {'z': (0, 1, 2), 'x': (2, 0, 1), 'y': (1, 2, 0)}


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Triangles: vertices, normals (n, 3), texture coordinates (n, 2), faces (m, 3)."""

    vertices: np.ndarray
    normals: np.ndarray
    texcoords: np.ndarray
    faces: np.ndarray

    def xml(self, name: str) -> str:
        """The MJCF ``<mesh>`` element (shell inertia: thin and open shapes are fine)."""
        def text(array: np.ndarray) -> str:
            return ' '.join(f'{value:.5g}' for value in array.ravel())

        faces = ' '.join(str(int(index)) for index in self.faces.ravel())
        return (
            f'<mesh name="{name}" inertia="shell" vertex="{text(self.vertices)}" '
            f'normal="{text(self.normals)}" texcoord="{text(self.texcoords)}" face="{faces}"/>'
        )


def _grid_faces(rings: int, columns: int) -> np.ndarray:
    """Two triangles per cell of a grid of `rings` x `columns` vertices."""
    index = np.arange(rings * columns).reshape(rings, columns)
    a, b = index[:-1, :-1], index[:-1, 1:]
    c, d = index[1:, 1:], index[1:, :-1]
    first = np.stack([a, b, c], -1).reshape(-1, 3)
    second = np.stack([a, c, d], -1).reshape(-1, 3)
    # cell by cell: in a translucent mesh the drawing order is what decides who is seen
    return np.stack([first, second], 1).reshape(-1, 3)


def _without_slivers(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corner = vertices[faces]
    area = np.linalg.norm(
        np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    return faces[area > 1e-10]


def lathe(profile: Sequence[tuple[float, float]], slices: int = 24,
          turn_from: float = 0.0, turn_to: float = 2.0 * np.pi) -> Mesh:
    """Turns a profile about z.

    Args:
        profile: (radius, z) points from the bottom centre along the outside to the top (and
            back down the inside of a hollow part). Write a point twice for a sharp edge.
        slices: segments around.
        turn_from: first angle about z, rad.
        turn_to: last angle; the default is a whole turn.
    """
    points = np.asarray(profile, float)
    step = np.diff(points, axis=0)
    length = np.linalg.norm(step, axis=1)
    normal = np.stack([step[:, 1], -step[:, 0]], 1) / np.maximum(length, 1e-12)[:, None]
    solid = length > 1e-9
    rings = np.zeros_like(points)
    rings[:-1] += normal * solid[:, None]
    rings[1:] += normal * solid[:, None]
    rings /= np.maximum(np.linalg.norm(rings, axis=1), 1e-12)[:, None]
    angle = np.linspace(turn_from, turn_to, slices + 1)
    cos, sin = np.cos(angle), np.sin(angle)

    def turn(pairs: np.ndarray) -> np.ndarray:
        radius = pairs[:, :1]
        height = np.repeat(pairs[:, 1:], slices + 1, axis=1)
        return np.stack([radius * cos, radius * sin, height], -1).reshape(-1, 3)

    travelled = np.concatenate([[0.0], np.cumsum(length)]) / length.sum()
    u, v = np.meshgrid(angle / (2.0 * np.pi), travelled)
    vertices = turn(points)
    faces = _without_slivers(vertices, _grid_faces(len(points), slices + 1))
    return Mesh(vertices, turn(rings), np.stack([u, v], -1).reshape(-1, 2), faces)


def loft(
    sections: Sequence[tuple[float, float, float, float, float]],
    axis: str = 'z',
    power: float = 3.5,
    slices: int = 16,
) -> Mesh:
    """A closed shell through super-ellipse sections.

    Args:
        sections: (position along axis, centre a, centre b, half width a, half width b), in
            order of position. Axis z: (a, b) = (x, y); axis x: (y, z); axis y: (z, x).
        axis: 'x', 'y' or 'z'.
        power: 2 gives ellipses, larger values rounded rectangles.
        slices: vertices per section.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, slices, endpoint=False) + np.pi / slices
    outline = np.stack([np.cos(angle), np.sin(angle)], -1)
    outline = np.sign(outline) * np.abs(outline) ** (2.0 / power)
    rows = np.asarray(sections, float)
    ring = rows[:, None, 1:3] + rows[:, None, 3:5] * outline[None]
    height = np.repeat(rows[:, :1], slices, axis=1)[..., None]
    wall = np.concatenate([ring, height], -1)
    closed = np.concatenate([wall, wall[:, :1]], 1)
    columns = slices + 1
    side_faces = _grid_faces(len(rows), columns)
    side = closed.reshape(-1, 3)
    normals = _smooth_normals(side, side_faces).reshape(len(rows), columns, 3)
    seam = normals[:, 0] + normals[:, -1]
    seam /= np.maximum(np.linalg.norm(seam, axis=1, keepdims=True), 1e-12)
    normals[:, 0] = normals[:, -1] = seam
    vertices, faces, normal_list = [side], [side_faces], [normals.reshape(-1, 3)]
    offset = len(side)
    for row, up in ((0, -1.0), (-1, 1.0)):
        centre = np.array([[rows[row, 1], rows[row, 2], rows[row, 0]]])
        vertices += [wall[row], centre]
        normal_list.append(np.tile([0.0, 0.0, up], (slices + 1, 1)))
        here = offset + np.arange(slices)
        pair = (here, np.roll(here, -1)) if up > 0 else (np.roll(here, -1), here)
        faces.append(np.stack([*pair, np.full(slices, offset + slices)], -1))
        offset += slices + 1
    order = list(_CYCLE[axis])
    points = np.concatenate(vertices)
    face = _without_slivers(points, np.concatenate(faces))
    return Mesh(
        points[:, order], np.concatenate(normal_list)[:, order], np.zeros((len(points), 2)), face)


def _smooth_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corner = vertices[faces]
    face_normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normal)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def drum(radius: float, length: float, edge: float = 0.004, slices: int = 18) -> Mesh:
    """A solid cylinder about z with rounded edges, centred on the origin."""
    half = length / 2.0
    turn = np.linspace(0.0, np.pi / 2.0, 3)
    bottom = [(radius - edge + edge * np.sin(a), -half + edge - edge * np.cos(a)) for a in turn]
    top = [(r, -z) for r, z in reversed(bottom)]
    return lathe([(0.0, -half), bottom[0], *bottom, *top, top[-1], (0.0, half)], slices)


def rounded_box(size: Sequence[float], edge: float = 0.006, axis: str = 'z') -> Mesh:
    """A box with rounded edges, centred; `size` = full edge lengths along x, y, z."""
    half = np.asarray(size, float) / 2.0
    a, b, c = half[list(np.argsort(_CYCLE[axis]))]
    turn = np.linspace(0.0, np.pi / 2.0, 3)
    foot = [(-c + edge - edge * np.cos(t), edge - edge * np.sin(t)) for t in turn]
    rows = [(z, 0.0, 0.0, a - inset, b - inset) for z, inset in foot]
    rows += [(-z, 0.0, 0.0, a - inset, b - inset) for z, inset in reversed(foot)]
    return loft(rows, axis, power=8.0, slices=16)
