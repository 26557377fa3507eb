# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import robot_support as support
from test_kinematics import NAMES, RAW, naive_pose, random_pose, rot

from flashwam_ros.resources import share_path
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.urdf import generate


def text():
    return share_path('urdf', 'g1_29dof_dex1.urdf').read_text('utf-8')


def numbers(element, key):
    return np.array([float(v) for v in element.get(key).split()])


def urdf_pose(joints, name, position):
    if name == 'pelvis':
        return np.eye(3), np.zeros(3)
    joint = joints[name]
    r, p = urdf_pose(joints, joint.find('parent').get('link'), position)
    origin = joint.find('origin')
    roll, pitch, yaw = numbers(origin, 'rpy')
    o = rot((0, 0, 1), yaw) @ rot((0, 1, 0), pitch) @ rot((1, 0, 0), roll)
    turn, move = np.eye(3), np.zeros(3)
    if joint.get('type') == 'revolute':
        turn = rot(numbers(joint.find('axis'), 'xyz'), position[joint.get('name')])
    elif joint.get('type') == 'prismatic':
        move = numbers(joint.find('axis'), 'xyz') * position[joint.get('name')]
    return r @ o @ turn, p + r @ (numbers(origin, 'xyz') + o @ move)


def positions(q29, grip):
    out = dict(zip(RAW['motor_order'], q29, strict=True))
    for i, side in enumerate(('left', 'right')):
        for finger in (1, 2):
            out[f'{side}_dex1_finger_joint_{finger}'] = -0.0231 + grip[i] / 120
    return out


def test_the_file_is_what_the_generator_makes():
    assert text() == generate(load_description()), 'run: python -m flashwam_ros.robot.urdf'


@pytest.mark.parametrize('seed', range(3))
def test_the_urdf_has_the_kinematics_of_the_description(seed):
    robot = Xml.fromstring(text())
    joints = {j.find('child').get('link'): j for j in robot.iter('joint')}
    q29, grip = random_pose(seed)
    for name in NAMES:
        r, p = urdf_pose(joints, name, positions(q29, grip))
        expected = naive_pose(name, q29, grip)
        assert np.allclose(r, expected[0], atol=1e-9) and np.allclose(p, expected[1], atol=1e-9)


@pytest.mark.parametrize('seed', range(3))
def test_mujocos_reading_of_the_urdf_agrees_too(seed):
    mujoco = pytest.importorskip('mujoco')
    keep = '<mujoco><compiler fusestatic="false" discardvisual="true"/></mujoco></robot>'
    model = mujoco.MjModel.from_xml_string(text().replace('</robot>', keep))
    data = mujoco.MjData(model)
    q29, grip = random_pose(seed)
    for name, value in positions(q29, grip).items():
        data.qpos[model.joint(name).qposadr[0]] = value
    mujoco.mj_kinematics(model, data)
    links = support.kinematics().link_poses(q29, grip)
    del links['pelvis']  # MuJoCo makes it the world
    for name, pose in links.items():
        body = data.body(name)
        assert np.allclose(body.xpos, pose[:3, 3], atol=1e-9), name
        assert np.allclose(body.xmat.reshape(3, 3), pose[:3, :3], atol=1e-9), name


def test_limits_masses_and_motor_names_are_those_of_the_file():
    robot = Xml.fromstring(text())
    joints = {j.get('name'): j for j in robot.iter('joint')}
    for raw in RAW['joints']:
        if raw['type'] == 'revolute':
            limit = joints[raw['name']].find('limit')
            for key in ('lower', 'upper', 'effort', 'velocity'):
                assert float(limit.get(key)) == raw[key]
    masses = [float(m.get('value')) for m in robot.iter('mass')]
    assert sum(masses) == pytest.approx(sum(item['mass'] for item in RAW['links']))
    assert set(RAW['motor_order']) <= set(joints)


def test_only_primitives_are_used():
    robot = Xml.fromstring(text())
    kinds = {child.tag for geometry in robot.iter('geometry') for child in geometry}
    assert kinds == {'box', 'cylinder', 'sphere'}
    assert all(m.get('name') for m in robot.iter('material'))
