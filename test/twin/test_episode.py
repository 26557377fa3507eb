# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The in-process episode: same seed, same episode; rows and frames where the contract says."""

import numpy as np
import pytest

from flashwam_ros.twin.gl import choose_gl_backend

choose_gl_backend()

from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.training.dataset import frame_rows  # noqa: E402
from flashwam_ros.training.recording import record_episode  # noqa: E402
from flashwam_ros.twin.episode import CAMERA_PHASE_S, InProcessRobot  # noqa: E402

SEED = 100_002


@pytest.fixture(scope='module')
def robot():
    robot = InProcessRobot('red_bottle', RobotContract.load())
    yield robot
    robot.close()


@pytest.fixture(scope='module')
def episode(robot):
    episode, reason = record_episode(robot, SEED)
    assert reason == 'success'
    return episode


def test_same_seed_same_episode(robot, episode):
    again, _ = record_episode(robot, SEED)
    np.testing.assert_array_equal(again.applied, episode.applied)
    np.testing.assert_array_equal(again.stamps_ns, episode.stamps_ns)
    for key, images in episode.images.items():
        np.testing.assert_array_equal(again.images[key], images)


def test_rows_are_equal_from_executor_to_trainer(episode):
    """One episode, four places: requested, commanded, file, trainer."""
    arms = slice(0, 14)
    assert np.abs(episode.applied[:, arms] - episode.requested[:, arms]).max() < 0.01
    rows = frame_rows(episode)
    np.testing.assert_array_equal(rows[1:].reshape(-1, 16), episode.applied)


def test_frames_fall_on_their_due_times(episode):
    late = (episode.stamps_ns - episode.due_ns)[1:] * 1e-9
    assert np.abs(late).max() <= CAMERA_PHASE_S + 0.005
    assert np.ptp(late) < 0.005
    within = np.diff(episode.due_ns[1:])
    assert within.min() >= 99_000_000


def test_policy_images(robot, episode):
    for camera in robot.contract.cameras:
        shape = (len(episode.stamps_ns), camera.height, camera.width, 3)
        assert episode.images[camera.key].shape == shape
        assert episode.images[camera.key].std() > 10


def test_motion_is_recorded(episode):
    lifted = episode.objects[-1, list(episode.object_names).index('red_bottle'), 2]
    assert lifted - episode.objects[0, 0, 2] > 0.05
