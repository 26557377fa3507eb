# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The generated MuJoCo model is the described robot."""

import json

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashwam_ros.resources import share_path
from flashwam_ros.twin import mjcf, scenes
from flashwam_ros.twin.model import CAMERAS, build_model, robot_model

RAW = json.loads(share_path('config', 'robot', 'g1_kinematics.json').read_text(encoding='utf-8'))
ANGLES = st.lists(st.floats(-1.5, 1.5), min_size=14, max_size=14)
JAWS = st.lists(st.floats(-0.0231, 0.0219), min_size=2, max_size=2)


def _rotation(axis, angle):
    """Rodrigues' formula, independent of the code under test."""
    x, y, z = axis
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


def _link_poses(positions):
    """World pose (4, 4) of every link straight from the JSON file's stated conventions."""
    root = np.eye(4)
    root[2, 3] = scenes.PELVIS_Z
    poses = {'pelvis': root}
    joints = list(RAW['joints'])
    while joints:
        joint = next(j for j in joints if j['parent'] in poses)
        joints.remove(joint)
        roll, pitch, yaw = joint['origin_rpy']
        step = np.eye(4)
        step[:3, 3] = joint['origin_xyz']
        step[:3, :3] = (
            _rotation((0, 0, 1), yaw) @ _rotation((0, 1, 0), pitch) @ _rotation((1, 0, 0), roll)
        )
        value = positions.get(joint['name'], 0.0)
        if joint['type'] == 'revolute':
            step[:3, :3] = step[:3, :3] @ _rotation(joint['axis'], value)
        elif joint['type'] == 'prismatic':
            step[:3, 3] += step[:3, :3] @ (np.array(joint['axis']) * value)
        poses[joint['child']] = poses[joint['parent']] @ step
    return poses


def _positions(arms, jaws):
    order = RAW['motor_order']
    positions = {name: arms[i - 15] for i, name in enumerate(order) if i >= 15}
    for name in order:
        for part, angle in (('hip_pitch', -0.1), ('knee', 0.3), ('ankle_pitch', -0.2)):
            if part in name:
                positions[name] = angle
    for side, jaw in zip(('left', 'right'), jaws, strict=True):
        for i in (1, 2):
            positions[f'{side}_dex1_finger_joint_{i}'] = jaw
    return positions


@settings(max_examples=15, deadline=None)
@given(arms=ANGLES, jaws=JAWS)
def test_every_link_is_where_the_description_puts_it(arms, jaws):
    twin = robot_model()
    data = mujoco.MjData(twin.model)
    data.qpos[twin.arm_qpos] = arms
    data.qpos[twin.jaw_qpos] = np.repeat(jaws, 2)
    mujoco.mj_kinematics(twin.model, data)
    for link, pose in _link_poses(_positions(arms, jaws)).items():
        body = data.body(link)
        np.testing.assert_allclose(body.xpos, pose[:3, 3], atol=1e-9, err_msg=link)
        np.testing.assert_allclose(body.xmat.reshape(3, 3), pose[:3, :3], atol=1e-9, err_msg=link)


def test_moving_masses_and_limits_are_the_described_ones():
    twin = robot_model()
    for link in RAW['links']:
        if link['mass'] >= 0.01:
            body = twin.model.body(link['name'])
            assert body.mass[0] == pytest.approx(link['mass'], abs=1e-12)
    arms = [j for j in RAW['joints'] if j.get('motor_index') and j['motor_index'] >= 15]
    assert len(arms) == 14
    for joint in arms:
        span = twin.model.joint(joint['name']).range
        np.testing.assert_allclose(span, (joint['lower'], joint['upper']), atol=1e-12)
        force = twin.model.actuator(joint['name']).forcerange
        np.testing.assert_allclose(force, (-joint['effort'], joint['effort']))


def test_only_arms_and_jaws_move():
    twin = robot_model()
    assert twin.model.nv == 14 + 4
    assert twin.model.nu == 14 + 2


def test_tool_centre_point_is_the_described_frame():
    twin = robot_model()
    frame = next(f for f in RAW['extra_frames'] if f['name'] == 'left_tcp')
    site = twin.model.site('left_tcp')
    np.testing.assert_allclose(site.pos, frame['xyz'], atol=1e-12)
    assert twin.model.body(site.bodyid[0]).name == frame['parent']


@pytest.mark.parametrize('task', scenes.TASKS)
def test_scene_has_its_objects_and_cameras(task):
    twin = build_model(task)
    assert set(twin.object_body) == set(scenes.SCENE_OBJECTS[task])
    assert {twin.model.camera(i).name for i in range(twin.model.ncam)} == set(CAMERAS)


def test_visible_shapes_neither_weigh_nor_touch():
    model = build_model('pot_potato').model
    visible = model.geom_group == 2
    assert visible.any()
    assert not model.geom_contype[visible].any()
    assert not model.geom_conaffinity[visible].any()


def test_head_camera_sees_the_table_in_front_of_the_robot():
    twin = robot_model()
    data = mujoco.MjData(twin.model)
    mujoco.mj_forward(twin.model, data)
    camera = data.cam('head')
    for point in ((0.2, 0.0, scenes.TABLE_TOP_Z), (0.4, 0.25, 0.85), (0.4, -0.25, 0.85)):
        x, y, z = camera.xmat.reshape(3, 3).T @ (np.array(point) - camera.xpos)
        tan = np.tan(np.deg2rad(mjcf.HEAD_FOVY / 2))
        assert z < 0 and abs(y / z) < tan and abs(x / z) < tan * 4 / 3, point


def test_unknown_task_is_named():
    with pytest.raises(ValueError, match='unknown task'):
        build_model('juggle')
