# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small changes of light, table colour and camera pose from episode to episode.

A policy that has only ever seen one lamp and one exact camera pose learns both by heart. The
amounts are those of a lab that is used every day: a lamp that ages, a camera that was bumped.
"""

from __future__ import annotations

import dataclasses
import weakref

import mujoco
import numpy as np

from flashwam_ros.twin.looks_room import KEY_LIGHT, TABLE_MATERIAL

CAMERA_SHIFT_M = 0.004
CAMERA_TURN_RAD = float(np.deg2rad(1.0))
LIGHT_GAIN = 0.12        # +- of every lamp together
LIGHT_WARMTH = 0.04      # +- red against blue
LIGHT_TILT = 0.08        # +- horizontal part of the key light's direction
TABLE_TINT = 0.05        # +- per colour channel


@dataclasses.dataclass(frozen=True)
class _Nominal:
    light_diffuse: np.ndarray
    light_dir: np.ndarray
    mat_rgba: np.ndarray
    cam_pos: np.ndarray
    cam_quat: np.ndarray


_FIELDS = tuple(field.name for field in dataclasses.fields(_Nominal))
_nominal: weakref.WeakKeyDictionary[mujoco.MjModel, _Nominal] = weakref.WeakKeyDictionary()


def restore(model: mujoco.MjModel) -> None:
    """Puts the nominal look back (nothing to do for a model that was never varied)."""
    nominal = _nominal.get(model)
    if nominal is not None:
        for name in _FIELDS:
            getattr(model, name)[:] = getattr(nominal, name)


def vary(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Changes light, table tint and the poses of the cameras that the robot carries, in place.

    Always starts from the nominal look, so the result depends on `rng` alone. Cameras fixed in
    the world (views for people) stay. Run `mj_forward` before the next picture.

    Args:
        model: the compiled model; only numbers that pictures depend on are touched.
        rng: seeded generator of the episode.
    """
    if model not in _nominal:
        _nominal[model] = _Nominal(**{n: getattr(model, n).copy() for n in _FIELDS})
    restore(model)
    gain = 1.0 + rng.uniform(-LIGHT_GAIN, LIGHT_GAIN)
    warmth = rng.uniform(-LIGHT_WARMTH, LIGHT_WARMTH)
    model.light_diffuse[:] *= gain * np.array([1.0 + warmth, 1.0, 1.0 - warmth])
    tilt = rng.uniform(-LIGHT_TILT, LIGHT_TILT, 2)
    key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_LIGHT, KEY_LIGHT)
    if key >= 0:
        direction = model.light_dir[key] / abs(model.light_dir[key][2])
        direction[:2] += tilt
        model.light_dir[key] = direction / np.linalg.norm(direction)
    tint = 1.0 + rng.uniform(-TABLE_TINT, TABLE_TINT, 3)
    table = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_MATERIAL, TABLE_MATERIAL)
    if table >= 0:
        model.mat_rgba[table, :3] = np.clip(model.mat_rgba[table, :3] * tint, 0.0, 1.0)
    for camera in range(model.ncam):
        shift = rng.uniform(-CAMERA_SHIFT_M, CAMERA_SHIFT_M, 3)
        turn = rng.uniform(-CAMERA_TURN_RAD, CAMERA_TURN_RAD, 3)
        if model.cam_bodyid[camera] == 0:
            continue
        model.cam_pos[camera] += shift
        mujoco.mju_quatIntegrate(model.cam_quat[camera], turn, 1.0)
