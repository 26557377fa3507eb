# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The compiled MuJoCo model of the robot at its table, and the ids that the twin needs."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import mujoco
import numpy as np

from flashwam_ros.robot.description import Description, load_description
from flashwam_ros.twin import looks, mjcf, scenes

TIMESTEP = 0.002
CAMERAS = ('head', 'left_wrist', 'right_wrist', 'external')
_EXTERNAL = ((1.30, -0.85, 1.42), (0.22, 0.0, 0.88), 38.0)


@dataclass(frozen=True)
class TwinModel:
    """A compiled model with its indices; treat ``model`` as read-only between simulations.

    Order of the arm arrays is the channel order: 7 left, 7 right; of the jaw arrays left, right
    (two joints each).
    """

    model: mujoco.MjModel
    xml: str
    description: Description
    arm_qpos: np.ndarray
    arm_dof: np.ndarray
    jaw_qpos: np.ndarray
    jaw_dof: np.ndarray
    arm_actuators: np.ndarray
    gripper_actuators: np.ndarray
    tcp_sites: np.ndarray
    objects: tuple[str, ...]
    object_body: dict[str, int]
    stance_q: np.ndarray


def build_model(task: str | None) -> TwinModel:
    """Compile the model of a task's scene (``None``: the robot and the table alone).

    Raises:
        ValueError: the task is unknown.
    """
    objects = () if task is None else _objects(task)
    description = load_description()
    asset_xml, files = looks.assets()
    passive = _sites_and_cameras(description)
    body = mjcf.robot_body_xml(description, looks.robot_visual_geoms, passive)
    things = ''.join(
        scenes.object_body_xml(kind, looks.object_visual_geoms(kind)) for kind in objects
    )
    room = looks.room_xml(scenes.TABLE_TOP_Z, *scenes.TABLE_X)
    xml = (
        '<mujoco model="g1_dex1_twin">'
        '<compiler angle="radian" eulerseq="XYZ" autolimits="true"/>'
        f'<option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="20" '
        'solver="Newton" iterations="50" jacobian="dense"/>'
        f'<visual>{looks.visual_options()}</visual><asset>{asset_xml}</asset>'
        f'<worldbody>{room}{scenes.table_collision_xml()}{_external_camera()}{body}{things}'
        f'</worldbody>{mjcf.actuator_xml(description)}</mujoco>'
    )
    return _index(mujoco.MjModel.from_xml_string(xml, files), xml, description, objects)


@functools.cache
def robot_model() -> TwinModel:
    """The robot without objects, shared by everything that only needs kinematics."""
    return build_model(None)


def _objects(task: str) -> tuple[str, ...]:
    if task not in scenes.SCENE_OBJECTS:
        raise ValueError(f'unknown task {task!r}; choose one of {", ".join(scenes.TASKS)}')
    return scenes.SCENE_OBJECTS[task]


def _sites_and_cameras(description: Description) -> dict[str, str]:
    head = description.frame('head_camera')
    extra = {
        # The lens follows its link's orientation; the link's own pitch turns it down.
        head.parent: mjcf.camera_xml('head', head.xyz, 0.0, mjcf.HEAD_FOVY),
    }
    x, z, pitch = mjcf.WRIST_CAMERA
    for side in mjcf.SIDES:
        tcp = description.frame(f'{side}_tcp')
        extra[tcp.parent] = mjcf.tcp_site_xml(tcp) + mjcf.camera_xml(
            f'{side}_wrist', (x, 0, z), pitch, mjcf.WRIST_FOVY
        )
    return extra


def _external_camera() -> str:
    pos, look_at, fovy = (np.array(v) for v in _EXTERNAL)
    back = (pos - look_at) / np.linalg.norm(pos - look_at)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    axes = mjcf.numbers((*right, *np.cross(back, right)))
    return (
        f'<camera name="external" pos="{mjcf.numbers(pos)}" xyaxes="{axes}" fovy="{float(fovy)}"/>'
    )


def _index(model, xml: str, description: Description, objects: tuple[str, ...]) -> TwinModel:
    indices = description.motor_groups['arm_indices']
    arm = [model.joint(description.motor_order[i]).id for i in indices]
    jaws = [model.joint(f'{s}_dex1_finger_joint_{i}').id for s in mjcf.SIDES for i in (1, 2)]
    stance = np.array(
        [
            0.0 if i in indices else mjcf.stance_angle(description.motor_joint(i))
            for i in range(len(description.motor_order))
        ]
    )
    return TwinModel(
        model=model,
        xml=xml,
        description=description,
        arm_qpos=model.jnt_qposadr[arm],
        arm_dof=model.jnt_dofadr[arm],
        jaw_qpos=model.jnt_qposadr[jaws],
        jaw_dof=model.jnt_dofadr[jaws],
        arm_actuators=np.array([model.actuator(description.motor_order[i]).id for i in indices]),
        gripper_actuators=np.array([model.actuator(f'{s}_gripper').id for s in mjcf.SIDES]),
        tcp_sites=np.array([model.site(f'{s}_tcp').id for s in mjcf.SIDES]),
        objects=objects,
        object_body={name: model.body(name).id for name in objects},
        stance_q=stance,
    )
