# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Soft fake shadows: one translucent bell-shaped patch on the table per moving body.

A shadow map costs more than all the rest of a small picture. A patch per body costs almost
nothing and tells height just as well: it is the body's bounding ellipsoid projected along the
light, larger and paler the higher the body is.
"""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np

from flashwam_ros.twin.looks_room import BLOB_MATERIAL, KEY_LIGHT, TABLE_GEOM

_LIFT = 0.0006          # above the table, m
_LIFT_STEP = 0.00002    # one above the other, so that overlapping patches do not flicker
_FADE_M = 0.16          # height at which a shadow has lost 63 % of its depth
_HIGHEST_M = 0.45
_PENUMBRA = 0.30        # growth of the half width per metre of height
_SMALLEST_M = 0.004
_SPREAD = 1.55          # the bell looks smaller than its square


@dataclasses.dataclass(frozen=True)
class _Caster:
    body: int
    centre: np.ndarray     # body frame, m
    half: np.ndarray       # half extents of the visible geoms, body axes, m


def _rotation(quat: np.ndarray) -> np.ndarray:
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def _casters(model: mujoco.MjModel) -> list[_Caster]:
    casters = []
    for body in range(1, model.nbody):
        if model.body_weldid[body] == 0:
            continue
        corners = []
        for geom in range(model.body_geomadr[body],
                          model.body_geomadr[body] + model.body_geomnum[body]):
            if model.geom_group[geom] != 2:
                continue
            centre, half = model.geom_aabb[geom][:3], model.geom_aabb[geom][3:]
            sign = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), -1).reshape(-1, 3)
            corners.append(model.geom_pos[geom]
                           + (centre + sign * half) @ _rotation(model.geom_quat[geom]).T)
        if corners:
            points = np.concatenate(corners)
            low, high = points.min(0), points.max(0)
            casters.append(_Caster(body, (low + high) / 2.0, (high - low) / 2.0))
    return casters


class BlobShadows:
    """Adds the patches to a scene. `depth` is the alpha of a shadow at height zero."""

    def __init__(self, model: mujoco.MjModel, depth: float) -> None:
        self._model = model
        self._depth = depth
        self._casters = _casters(model)
        self._table = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, TABLE_GEOM)
        self._light = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_LIGHT, KEY_LIGHT)
        self._material = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_MATERIAL, BLOB_MATERIAL)

    @property
    def usable(self) -> bool:
        """False in a model without our table, light or shadow material."""
        return min(self._table, self._light, self._material) >= 0

    def add(self, scene: mujoco.MjvScene, data: mujoco.MjData) -> None:
        """Appends one patch per body that is above the table."""
        if not self.usable:
            return
        table = data.geom_xpos[self._table]
        size = self._model.geom_size[self._table][:2]
        light = data.light_xdir[self._light]
        slope = -light[:2] / light[2]
        project = np.array([[1.0, 0.0, slope[0]], [0.0, 1.0, slope[1]]])
        drawn = 0
        for caster in self._casters:
            rotation = data.xmat[caster.body].reshape(3, 3)
            centre = data.xpos[caster.body] + rotation @ caster.centre
            height = centre[2] - table[2]
            low = height - np.abs(rotation[2]) @ caster.half
            if not -0.01 < height < _HIGHEST_M or scene.ngeom >= scene.maxgeom:
                continue
            low = max(low, 0.0)
            spot = centre[:2] + slope * height
            shape = project @ (rotation * caster.half)
            variance, axes = np.linalg.eigh(shape @ shape.T)
            half = np.sqrt(np.maximum(variance, _SMALLEST_M ** 2)) * _SPREAD + _PENUMBRA * low
            if np.linalg.det(axes) < 0.0:
                axes[:, 1] *= -1.0
            reach = np.sqrt((axes ** 2) @ half ** 2)
            room = size - np.abs(spot - table[:2])
            if np.any(room < 0.006):
                continue
            half = half * min(1.0, float(np.min(room / reach)))
            alpha = self._depth * np.exp(-low / _FADE_M)
            self._patch(scene, spot, table[2] + _LIFT + _LIFT_STEP * drawn, axes, half, alpha)
            drawn += 1

    def _patch(self, scene, spot, z, axes, half, alpha) -> None:
        frame = np.eye(3)
        frame[:2, :2] = axes
        geom = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(
            geom, mujoco.mjtGeom.mjGEOM_PLANE, np.array([half[0], half[1], 1.0]),
            np.array([spot[0], spot[1], z]), frame.ravel(),
            np.array([1.0, 1.0, 1.0, alpha], np.float32))
        geom.matid = self._material
        geom.category = mujoco.mjtCatBit.mjCAT_DECOR
        scene.ngeom += 1
