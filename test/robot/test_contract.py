# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import robot_support as support

from flashwam_ros.resources import share_path
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings

CONTRACT = support.contract()
RAW = json.loads(share_path('config', 'robot', 'g1_kinematics.json').read_text('utf-8'))


def changed(index, **changes):
    channels = list(CONTRACT.channels)
    channels[index] = dataclasses.replace(channels[index], **changes)
    return dataclasses.replace(CONTRACT, channels=tuple(channels))


def test_channels_are_the_arm_joints_then_the_grippers():
    arms = [RAW['motor_order'][i] for i in RAW['dds_indices']['arm_indices']]
    assert CONTRACT.channel_names == (*arms, 'left_gripper', 'right_gripper')
    assert [c.motor_index for c in CONTRACT.channels] == [*range(15, 29), None, None]


def test_limits_are_the_descriptions_pulled_in():
    joints = {j['name']: j for j in RAW['joints']}
    for channel in CONTRACT.channels[:14]:
        joint = joints[channel.name]
        assert channel.lower == pytest.approx(joint['lower'] + 0.05, abs=1e-6)
        assert channel.upper == pytest.approx(joint['upper'] - 0.05, abs=1e-6)
        assert (channel.velocity, channel.acceleration) == (3.0, 30.0)
        wrist = 'wrist' in channel.name
        assert (channel.kp, channel.kd) == ((40.0, 1.5) if wrist else (80.0, 3.0))
    for channel in CONTRACT.channels[14:]:
        assert (channel.lower, channel.upper) == (0.0, 5.4)
        assert (channel.velocity, channel.acceleration) == (6.0, 60.0)
        assert (channel.kp, channel.kd) == (5.0, 0.05)


def test_timing_of_a_chunk():
    assert CONTRACT.rows_per_chunk == 16
    assert CONTRACT.row_duration_s == 0.05
    assert CONTRACT.chunk_duration_s == pytest.approx(0.8)
    assert CONTRACT.rows_per_key_frame == 2


def test_the_camera_table():
    keys = {c.key: (c.wire_name, c.dataset_key, c.zmq_port) for c in CONTRACT.cameras}
    assert keys == {
        'head': ('head_camera', 'cam_left_high', 55555),
        'left_wrist': ('left_wrist_camera', 'cam_left_wrist', 55556),
        'right_wrist': ('right_wrist_camera', 'cam_right_wrist', 55557),
    }
    assert all((c.wire_width, c.wire_height) == (320, 240) for c in CONTRACT.cameras)
    assert CONTRACT.camera('head').width == 128 and CONTRACT.camera('left_wrist').width == 64
    with pytest.raises(KeyError, match='head, left_wrist, right_wrist'):
        CONTRACT.camera('tail')


def test_json_round_trip_keeps_the_hash():
    again = RobotContract.from_dict(json.loads(json.dumps(CONTRACT.to_dict())))
    assert again == CONTRACT and again.sha256 == CONTRACT.sha256
    assert len(CONTRACT.sha256) == 64


def test_every_field_changes_the_hash_and_is_named_in_the_differences():
    other = changed(3, upper=1.0)
    assert other.sha256 != CONTRACT.sha256
    (line,) = CONTRACT.differences(other)
    assert line == 'channels[3](left_elbow_joint).upper: 2.0444 here, 1.0 there'
    assert CONTRACT.differences(CONTRACT) == []
    fewer = dataclasses.replace(CONTRACT, cameras=CONTRACT.cameras[:1], row_rate_hz=30.0)
    assert CONTRACT.differences(fewer) == [
        'cameras: 3 entries here, 1 there',
        'row_rate_hz: 20.0 here, 30.0 there',
    ]


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (lambda d: d.pop('channels'), 'not a robot contract'),
        (lambda d: d['channels'][0].pop('kp'), 'not a robot contract'),
        (lambda d: d.update(colour='red'), 'not a robot contract'),
        (lambda d: d['channels'][0].update(upper=-9.0), 'left_shoulder_pitch_joint are empty'),
        (lambda d: d['channels'][1].update(name='left_shoulder_pitch_joint'), 'repeat'),
        (lambda d: d.update(key_frames_per_frame=3), 'key frames'),
    ],
)
def test_broken_contracts_are_refused(change, match):
    data = json.loads(json.dumps(CONTRACT.to_dict()))
    change(data)
    with pytest.raises(ValueError, match=match):
        RobotContract.from_dict(data)


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match='read-only'):
        CONTRACT.lower[0] = -10.0


def test_poses_lie_inside_the_limits():
    home = load_settings().home
    assert (home >= CONTRACT.lower).all() and (home <= CONTRACT.upper).all()
    builtin = np.array(load_settings().builtin_arm)
    assert (builtin >= CONTRACT.lower[:14]).all() and (builtin <= CONTRACT.upper[:14]).all()


def test_the_room_needs_only_numpy():
    modules = 'contract chunk description kinematics settings limits timeline executor urdf'
    code = '; '.join(f'import flashwam_ros.robot.{m}' for m in modules.split())
    heavy = "{'torch', 'rclpy', 'cv2', 'mujoco', 'yaml', 'scipy', 'cyclonedds'}"
    code += f'; import sys; found = {heavy} & set(sys.modules); assert not found, found'
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
