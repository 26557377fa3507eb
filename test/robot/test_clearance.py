# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import robot_support as support

from flashwam_ros.robot.clearance import PathChecker, RetreatPath, plan_retreat

HOME = support.home()[:14]
LIMITS = (support.contract().lower[:14], support.contract().upper[:14])


@pytest.fixture(scope='module')
def checker():
    return PathChecker(support.kinematics())


def reach(elbow=0.0, shoulder=0.0, roll=0.0):
    """Home with both arms moved alike."""
    pose = HOME.copy()
    pose[[3, 10]] += elbow
    pose[[0, 7]] += shoulder
    pose[1] += roll
    pose[8] -= roll
    return pose


def test_home_is_clear_of_everything(checker):
    assert checker.clearances(HOME[None]).min() > 0.02
    assert checker(HOME, HOME)


def test_a_path_through_the_table_is_not_free(checker):
    below = reach(elbow=1.2)
    assert support.kinematics().arm_point(below, 'left_fingertip')[2] < -0.05
    assert not checker(HOME, below)


def test_leaving_the_table_upward_is_free_even_from_too_close(checker):
    low = reach(elbow=0.26)
    tip = support.kinematics().arm_point(low, 'left_fingertip')
    assert -0.01 < tip[2] < 0.02, 'the tip starts inside the margin'
    assert checker(low, HOME)
    assert not checker(low, reach(elbow=0.36))


def test_a_path_into_the_torso_is_not_free(checker):
    into = HOME.copy()
    into[1] = -0.6
    assert not checker(HOME, into)


def test_hands_must_not_meet(checker):
    into = HOME.copy()
    into[2], into[9] = -0.8, 0.8
    tips = [support.kinematics().arm_point(into, f'{s}_fingertip') for s in ('left', 'right')]
    assert np.linalg.norm(tips[0] - tips[1]) < 0.12 or tips[0][1] < tips[1][1]
    assert not checker(HOME, into)


def test_paths_that_are_not_finite_are_not_free(checker):
    assert not checker(HOME, np.full(14, np.nan))


def test_the_path_is_smooth_within_its_velocity_and_stops_at_every_pose():
    path = RetreatPath([HOME, reach(elbow=-0.3), reach(shoulder=0.4)], 0.5)
    times = np.linspace(0.0, path.duration_s + 0.1, 2000)
    q = np.array([path.sample(t)[0] for t in times])
    v = np.array([path.sample(t)[1] for t in times])
    assert np.abs(v).max() == pytest.approx(0.5, abs=1e-3)
    assert np.allclose(np.gradient(q, times, axis=0), v, atol=5e-3)
    assert np.array_equal(q[0], HOME) and np.allclose(q[-1], reach(shoulder=0.4))
    assert np.abs(v[-1]).max() == 0.0


def test_a_blocked_path_is_tried_with_lifted_forearms_first():
    calls = []

    def free(q_from, q_to):
        calls.append((q_from, q_to))
        return q_from[3] < HOME[3] or q_to[3] < HOME[3]

    path = plan_retreat(HOME, reach(shoulder=0.3), free, 0.5, LIMITS)
    assert path is not None and len(calls) == 3
    assert np.allclose(path.sample(path.duration_s)[0], reach(shoulder=0.3))
    assert plan_retreat(HOME, HOME, lambda a, b: False, 0.5, LIMITS) is None


def test_a_retreat_to_where_the_arms_are_takes_no_time():
    assert RetreatPath([HOME, HOME], 0.5).duration_s < 0.01
