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
# These links have others right beside them whose patch is enough.
_SHADELESS = ('shoulder', 'wrist_roll', 'wrist_yaw')
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
        if any(part in model.body(body).name for part in _SHADELESS):
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
        casters = _casters(model)
        self._bodies = np.array([c.body for c in casters], int)
        self._centres = np.array([c.centre for c in casters]).reshape(-1, 3)
        self._halves = np.array([c.half for c in casters]).reshape(-1, 3)
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
        rotation = data.xmat[self._bodies].reshape(-1, 3, 3)
        centre = data.xpos[self._bodies] + (rotation @ self._centres[:, :, None])[:, :, 0]
        height = centre[:, 2] - table[2]
        low = np.maximum(height - (np.abs(rotation[:, 2]) * self._halves).sum(1), 0.0)
        spot = centre[:, :2] + slope * height[:, None]
        shape = project @ (rotation * self._halves[:, None, :])
        variance, axes = np.linalg.eigh(shape @ shape.transpose(0, 2, 1))
        half = np.sqrt(np.maximum(variance, _SMALLEST_M ** 2)) * _SPREAD
        half += _PENUMBRA * low[:, None]
        axes[:, :, 1] *= np.sign(np.linalg.det(axes))[:, None]
        reach = np.sqrt(((axes ** 2) @ (half ** 2)[:, :, None])[:, :, 0])
        room = size - np.abs(spot - table[:2])
        half *= np.clip((room / reach).min(1), 0.0, 1.0)[:, None]
        alpha = self._depth * np.exp(-low / _FADE_M)
        shown = (height > -0.01) & (low < _HIGHEST_M) & (room.min(1) > 0.006)
        for drawn, k in enumerate(np.flatnonzero(shown)):
            if scene.ngeom >= scene.maxgeom:
                return
            z = table[2] + _LIFT + _LIFT_STEP * drawn
            self._patch(scene, spot[k], z, axes[k], half[k], alpha[k])

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
