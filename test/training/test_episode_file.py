# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A demonstration's file is whole, or it is named with what to do."""

import numpy as np
import pytest
from training_support import make_episode

from flashwam_ros.training.episode_file import read_episode, write_episode


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'episode_100001.npz'
    write_episode(path, make_episode(frames=3))
    return path


def torn_in_the_middle(data):
    middle = len(data) // 2
    return data[:middle] + bytes(64) + data[middle + 64:]


@pytest.mark.parametrize('tear', [lambda data: b'', lambda data: data[:len(data) // 2],
                                  lambda data: data[:-10], lambda data: bytes(len(data)),
                                  torn_in_the_middle],
                         ids=['empty', 'half', 'no end', 'zeros', 'middle'])
def test_damaged_file_is_named_with_what_to_do(path, tear):
    path.write_bytes(tear(path.read_bytes()))
    with pytest.raises(ValueError, match=r'episode_100001\.npz: damaged .*: remove it'):
        read_episode(path)


def test_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_episode(tmp_path / 'episode_1.npz')


def test_other_format_is_told(path):
    np.savez(path, about=np.array('{"format": 99}'))
    with pytest.raises(ValueError, match='episode format 99, expected 1'):
        read_episode(path)


def test_pictures_may_be_left_on_the_disk(path):
    whole, bare = read_episode(path), read_episode(path, images=False)
    assert set(whole.images) == {'head', 'left_wrist', 'right_wrist'}
    assert bare.images == {}
    np.testing.assert_array_equal(bare.applied, whole.applied)
