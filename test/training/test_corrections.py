# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A policy acts, the expert takes over: what is recorded, and what is not to be imitated."""

import numpy as np
import pytest

from flashwam_ros.policy.expert_policy import ExpertPolicy
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import corrections, recording
from flashwam_ros.training.corrections import holds_something
from flashwam_ros.training.dataset import latent_episode
from flashwam_ros.twin import scenes
from flashwam_ros.twin.episode import InProcessRobot


@pytest.fixture(scope='module')
def pot():
    """In-process robot of the task with two hands."""
    robot = InProcessRobot('pot_potato', RobotContract.load())
    yield robot
    robot.close()


def expert_policy(robot):
    """The expert as the policy that acts first."""
    def joints():
        measured = robot.measured()
        return measured[:14], measured[14:]
    return ExpertPolicy(robot.task, robot.contract, robot.world, joints)


def test_the_expert_goes_on_where_the_policy_left_the_scene(pot, monkeypatch):
    monkeypatch.setattr(recording, 'CHUNKS', (8, 9))
    off = []
    take_over = recording.act_until_takeover

    def spy(*arguments):
        result = take_over(*arguments)
        world = pot.world()
        off.append(np.linalg.norm(world.position('lid')[:2] - world.position('pot')[:2]))
        return result
    monkeypatch.setattr(recording, 'act_until_takeover', spy)
    episode, reason = recording.record_episode(pot, 300_007, expert_policy(pot))
    assert reason == 'success'
    assert off[0] > scenes.POT_RADIUS, 'the lid was off already: the expert must not fetch it'
    history = recording.HISTORY_CHUNKS * pot.contract.rows_per_chunk
    assert episode.recovery
    assert episode.perturbed[:history].all()
    assert not episode.perturbed[history:].all()
    rows = len(episode.applied)
    assert rows == len(episode.requested) == len(episode.perturbed)
    assert len(episode.stamps_ns) == 1 + rows // 2 == len(episode.images['head'])
    assert (np.diff(episode.due_ns) >= 99_000_000).all(), 'two rows lie between two frames'
    # The history is not imitated, and it does not reach into the expert's frames.
    frames = latent_episode(episode, np.zeros((episode.latent_frames, 1, 1, 1)))
    assert frames.perturbed[1:1 + history // 8].all()
    assert not frames.perturbed[0]


def test_the_arm_does_not_jump_where_the_expert_takes_over(pot, monkeypatch):
    monkeypatch.setattr(recording, 'CHUNKS', (2, 3))
    episode, reason = recording.record_episode(pot, 300_008, expert_policy(pot))
    assert reason == 'success'
    assert np.abs(np.diff(episode.requested[:, :14], axis=0)).max() < 0.3


def test_nothing_is_recorded_of_a_policy_that_does_it_alone(pot, monkeypatch):
    monkeypatch.setattr(recording, 'CHUNKS', (60, 61))
    monkeypatch.setattr(corrections, 'LONGEST', 60)
    episode, reason = recording.record_episode(pot, 300_009, expert_policy(pot))
    assert episode is None
    assert reason == 'the policy did it alone'


def test_held_means_higher_than_at_rest(pot):
    pot.reset(300_010)
    rest = pot.world()
    assert not holds_something(rest, rest)
    pot.simulation.reset(300_010)
    higher = pot.world()
    higher.objects['potato'][0][2] += 0.05
    assert holds_something(higher, rest)
