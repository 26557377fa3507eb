# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Commands hold finite numbers within sense, or are none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.teleop.command import ArmCommand, CommandError, Pose

HERE = (0.3, 0.1, 0.1)
UPRIGHT = (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize('position', [
    (0.0, 0.0), (0.0, 0.0, math.nan), (0.0, 0.0, math.inf), ('1', '2', '3'), (True, 0.0, 0.0),
    (None, 0.0, 0.0), ([0.0], 0.0, 0.0), (0.0, 0.0, 10**400), (0.0, 0.0, 1e9),
])  # fmt: skip
def test_a_position_that_is_none_is_refused(position):
    with pytest.raises(CommandError, match='position'):
        Pose(position, UPRIGHT)


@pytest.mark.parametrize('quaternion', [(0.0, 0.0, 0.0, 0.0), (2.0, 0.0, 0.0, 0.0), (1.0, 0.0)])
def test_a_quaternion_that_is_none_is_refused(quaternion):
    with pytest.raises(CommandError, match='quaternion'):
        Pose(HERE, quaternion)


@given(st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4))
def test_a_quaternion_is_normalised(values):
    length = float(np.linalg.norm(values))
    if length < 0.1:
        return
    pose = Pose(HERE, tuple(1.0005 * v / length for v in values))
    assert np.linalg.norm(pose.quaternion) == pytest.approx(1.0, abs=1e-12)


def test_numpy_numbers_become_plain_ones():
    pose = Pose(tuple(np.float32([0.5, 0.0, 0.25])), UPRIGHT)
    assert pose.position == (0.5, 0.0, 0.25) and type(pose.position[0]) is float
    assert ArmCommand(twist=tuple(np.ones(6, np.int64))).twist == (1.0,) * 6


@pytest.mark.parametrize('wrong', [
    {'twist': (0.0,) * 5}, {'twist': (math.nan,) * 6}, {'twist': (1e9,) + (0.0,) * 5},
    {'twist': (0.0,) * 6, 'pose': Pose(HERE, UPRIGHT)}, {'opening': 1.1}, {'opening': math.nan},
    {'opening': '1'}, {'opening': True}, {'opening_rate': math.inf}, {'opening_rate': None},
])  # fmt: skip
def test_an_arm_command_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(CommandError):
        ArmCommand(True, **wrong)
