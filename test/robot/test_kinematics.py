# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import robot_support as support

from flashwam_ros.resources import share_path
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.kinematics import GRAVITY, Kinematics

RAW = json.loads(share_path('config', 'robot', 'g1_kinematics.json').read_text('utf-8'))


def rot(axis, angle):
    """Rotation by Euler-Rodrigues quaternion: not the formula under test."""
    axis = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    w, (x, y, z) = np.cos(angle / 2), np.sin(angle / 2) * axis
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def naive_pose(name, q29, grip2):
    """The file's own conventions, read straight from the file, by recursion."""
    if name == 'pelvis':
        return np.eye(3), np.zeros(3)
    for frame in RAW['extra_frames']:
        if frame['name'] == name:
            parent, xyz, rpy = frame['parent'], frame['xyz'], frame['rpy']
            motion = np.eye(3), np.zeros(3)
            break
    else:
        joint = next(j for j in RAW['joints'] if j['child'] == name)
        parent, xyz, rpy = joint['parent'], joint['origin_xyz'], joint['origin_rpy']
        motion = np.eye(3), np.zeros(3)
        if joint['type'] == 'revolute':
            motion = rot(joint['axis'], q29[joint['motor_index']]), np.zeros(3)
        elif joint['type'] == 'prismatic':
            finger = -0.0231 + grip2[0 if name.startswith('left') else 1] / 120
            motion = np.eye(3), finger * np.array(joint['axis'])
    r, p = naive_pose(parent, q29, grip2)
    o = rot((0, 0, 1), rpy[2]) @ rot((0, 1, 0), rpy[1]) @ rot((1, 0, 0), rpy[0])
    return r @ o @ motion[0], p + r @ (np.array(xyz) + o @ motion[1])


def random_pose(seed):
    rng = np.random.default_rng(seed)
    order = {j['name']: j for j in RAW['joints']}
    q29 = [rng.uniform(order[n]['lower'], order[n]['upper']) for n in RAW['motor_order']]
    return np.array(q29), rng.uniform(0.0, 5.4, 2)


NAMES = [item['name'] for item in RAW['links']] + [
    f['name'] for f in RAW['extra_frames'] if '*' not in f['name']
]


@pytest.mark.parametrize('seed', range(4))
def test_every_link_and_frame_agrees_with_the_conventions_of_the_file(seed):
    q29, grip = random_pose(seed)
    links = support.kinematics().link_poses(q29, grip)
    for name in NAMES:
        r, p = naive_pose(name, q29, grip)
        pose = support.kinematics().frame_pose(q29, grip, name)
        assert np.allclose(pose[:3, :3], r, atol=1e-12), name
        assert np.allclose(pose[:3, 3], p, atol=1e-12), name
        assert name not in links or np.allclose(links[name], pose, atol=1e-12)


def test_published_positions_at_the_zero_pose():
    def at(name):
        return support.kinematics().frame_pose(np.zeros(29), np.zeros(2), name)[:3, 3]

    assert at('left_dex1_base_link') == pytest.approx([0.246, 0.149, 0.095], abs=5e-4)
    assert at('right_fingertip')[0] == pytest.approx(0.39, abs=1e-3)
    assert at('d435_link') == pytest.approx([0.0537, 0.0175, 0.4739], abs=5e-5)


def test_optical_frames_look_forward():
    pose = support.kinematics().frame_pose(np.zeros(29), np.zeros(2), 'left_wrist_camera')
    optical = support.kinematics().frame_pose(
        np.zeros(29), np.zeros(2), 'left_wrist_camera_optical_frame'
    )
    assert np.allclose(optical[:3, 2], pose[:3, 0]), 'z is the viewing direction'
    assert np.allclose(optical[:3, 0], -pose[:3, 1]), 'x is image right'


def arm_only(arm_q):
    q29 = np.zeros(29)
    q29[15:] = arm_q
    return q29


@pytest.mark.parametrize('seed', range(3))
def test_gravity_torque_is_the_slope_of_the_potential_energy(seed):
    arm_q = random_pose(seed)[0][15:]

    def energy(q):
        poses = support.kinematics().link_poses(arm_only(q), np.array([1.0, 4.0]))
        return GRAVITY * sum(
            item['mass'] * (poses[item['name']] @ [*item['com'], 1.0])[2] for item in RAW['links']
        )

    step = 1e-5
    slope = [(energy(arm_q + step * e) - energy(arm_q - step * e)) / 2 / step for e in np.eye(14)]
    assert support.kinematics().gravity_torque(arm_q) == pytest.approx(slope, abs=1e-6)


def test_batches_equal_single_poses():
    poses = np.array([random_pose(seed)[0][15:] for seed in range(5)])
    k = support.kinematics()
    single = [k.gravity_torque(q) for q in poses]
    assert np.allclose(k.gravity_torque(poses), single, atol=1e-12)
    points = k.arm_point(poses, 'right_fingertip')
    for q, point in zip(poses, points, strict=True):
        pose = k.frame_pose(arm_only(q), np.zeros(2), 'right_fingertip')
        assert np.allclose(pose[:3, 3], point, atol=1e-12)


def test_tool_jacobian_is_the_slope_of_the_tool_position():
    arm_q, step = random_pose(7)[0][15:], 1e-6
    jacobian = support.kinematics().tcp_jacobian(arm_q)
    for side, name in enumerate(('left_tcp', 'right_tcp')):
        for i in range(7):
            e = np.eye(14)[7 * side + i] * step
            ahead = support.kinematics().arm_point(arm_q + e, name)
            behind = support.kinematics().arm_point(arm_q - e, name)
            assert np.allclose(jacobian[side, :3, i], (ahead - behind) / 2 / step, atol=1e-8)


def test_unknown_names_are_named():
    with pytest.raises(KeyError, match='no link or frame'):
        support.kinematics().frame_pose(np.zeros(29), np.zeros(2), 'tail')
    with pytest.raises(KeyError, match='not a link or frame of an arm'):
        support.kinematics().arm_point(np.zeros(14), 'head_camera')


def test_the_4010_wrist_is_five_millimetres_shorter():
    def tip(variant):
        k = Kinematics(load_description(variant))
        return k.frame_pose(np.zeros(29), np.zeros(2), 'left_tcp')[0, 3]

    assert tip('mode_15') - tip('mode_5') == pytest.approx(0.005)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match='mode_15'):
        load_description('mode_10')
