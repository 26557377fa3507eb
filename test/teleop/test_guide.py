# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Nothing moves at engagement, or without the clutch; anchors, scale, speed and jaws."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

mink = pytest.importorskip('mink')

from flashwam_ros.teleop.command import ArmCommand, Pose  # noqa: E402
from flashwam_ros.teleop.guide import ArmGuide, Clutch, JawGuide  # noqa: E402

DT = 1.0 / 60.0
HAND = mink.SE3.from_translation(np.array([0.34, 0.17, 0.10]))
IDLE = ArmCommand()


def pose(*position, turn=(0.0, 0.0, 0.0)):
    return Pose(position, tuple(mink.SO3.exp(np.array(turn)).wxyz))


def held(place, **more):
    return ArmCommand(True, pose=place, **more)


def go(guide, command, steps, hand=None, dt=DT):
    """A hand that follows without lag for some steps; where it is then."""
    hand = hand if hand is not None else guide.target
    for _ in range(steps):
        guide.advance(command, hand, dt, 0.1)
        guide.arrive()
        hand = guide.target if guide.target is not None else hand
    return hand


readings = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 2)), max_size=30)


@given(readings, st.booleans())
def test_a_clutch_counts_only_after_it_was_seen_open_while_allowed(course, seen_open):
    clutch, armed, before, last = Clutch(seen_open), seen_open, False, 0
    for pressed, allowed, press in course:
        began = clutch.update(pressed, allowed, press)
        armed = allowed and (armed or not pressed)
        assert clutch.held == (armed and pressed and allowed)
        assert began == (clutch.held and not (before and press == last))
        before, last = clutch.held, press


def test_nothing_moves_at_engagement_wherever_the_device_is(settings):
    guide = ArmGuide(settings)
    guide.take(IDLE, True, HAND)
    far = held(pose(3.0, -2.0, 1.5, turn=(1.0, 2.0, 0.5)))
    guide.take(far, True, HAND)
    assert guide.clutch.held
    for _ in range(30):
        guide.advance(far, HAND, DT, 0.1)
        assert np.abs(guide.lead).max() < 1e-12
        guide.arrive()


def test_a_clutch_that_is_held_when_the_link_comes_moves_nothing(settings):
    guide = ArmGuide(settings)
    for allowed in (True, False, True):
        guide.take(held(pose(0.1, 0.0, 0.0)), allowed, HAND)
        guide.advance(held(pose(0.4, 0.0, 0.0)), HAND, DT, 0.1)
        assert guide.target is None and not guide.lead.any()


def engaged(settings, first):
    guide = ArmGuide(settings)
    guide.take(IDLE, True, HAND)
    guide.take(held(first), True, HAND)
    return guide


def test_the_hand_follows_the_motion_of_the_device(settings):
    guide = engaged(settings, pose(1.0, 1.0, 1.0))
    moved = held(pose(1.02, 0.99, 1.01, turn=(0.0, 0.1, 0.0)))
    guide.take(moved, True, HAND)
    hand = go(guide, moved, 60)
    np.testing.assert_allclose(
        hand.translation(), HAND.translation() + [0.02, -0.01, 0.01], atol=1e-4)
    np.testing.assert_allclose(hand.rotation().log(), [0.0, 0.1, 0.0], atol=1e-4)


def test_scaling_scales_the_way_but_not_the_turn(settings):
    scaled = dataclasses.replace(settings, translation_scale=0.5)
    guide = engaged(scaled, pose(0.0, 0.0, 0.0))
    moved = held(pose(0.04, 0.0, 0.0, turn=(0.2, 0.0, 0.0)))
    hand = go(guide, moved, 60)
    np.testing.assert_allclose(hand.translation() - HAND.translation(), [0.02, 0, 0], atol=1e-4)
    np.testing.assert_allclose(hand.rotation().log(), [0.2, 0.0, 0.0], atol=1e-4)


def test_a_new_press_ties_the_hand_anew_even_if_no_look_saw_it_open(settings):
    """The device went back while the clutch was open for an instant: the hand stays."""
    guide = engaged(settings, pose(0.0, 0.0, 0.0))
    guide.take(held(pose(0.05, 0.0, 0.0)), True, HAND)
    hand = go(guide, held(pose(0.05, 0.0, 0.0)), 60)
    back = held(pose(-0.2, 0.0, 0.0), press=1)
    guide.take(back, True, hand)
    stayed = go(guide, back, 30)
    np.testing.assert_allclose(stayed.translation(), hand.translation(), atol=1e-9)


numbers = st.floats(-100.0, 100.0)


@given(st.lists(numbers, min_size=6, max_size=6), st.lists(numbers, min_size=3, max_size=3),
       st.booleans())  # fmt: skip
def test_the_hand_is_never_faster_than_allowed(settings, twist, place, by_pose):
    if by_pose:
        guide = engaged(settings, pose(0.0, 0.0, 0.0))
        command = held(pose(*place, turn=(0.5, -1.0, 2.0)))
    else:
        command = ArmCommand(True, twist=tuple(twist))
        guide = ArmGuide(settings)
        guide.take(IDLE, True, HAND)
        guide.take(command, True, HAND)
    before = np.zeros(6)
    for _ in range(10):
        guide.advance(command, guide.target, DT, 0.1)
        velocity = guide.lead / DT
        assert np.isfinite(velocity).all()
        assert np.linalg.norm(velocity[:3]) <= settings.linear_speed + 1e-9
        assert np.linalg.norm(velocity[3:]) <= settings.angular_speed + 1e-9
        if not by_pose:
            change = np.linalg.norm(velocity[:3] - before[:3])
            assert change <= settings.linear_acceleration * DT + 1e-9
        before = velocity
        guide.arrive()


def test_a_target_waits_for_a_hand_that_cannot_follow(settings):
    command = ArmCommand(True, twist=(0.3, 0.0, 0.0, 0.0, 0.0, 1.5))
    guide = ArmGuide(settings)
    guide.take(IDLE, True, HAND)
    guide.take(command, True, HAND)
    for _ in range(300):
        guide.advance(command, HAND, DT, 0.1)
        guide.arrive()
    ahead = np.linalg.norm(guide.target.translation() - HAND.translation())
    turned = np.linalg.norm((guide.target.rotation() @ HAND.rotation().inverse()).log())
    assert ahead <= settings.reach_m + settings.linear_speed * DT + 1e-9
    assert turned <= settings.reach_rad + settings.angular_speed * DT + 1e-9


def test_letting_go_drops_the_target(settings):
    guide = engaged(settings, pose(0.0, 0.0, 0.0))
    guide.take(ArmCommand(pose=pose(0.3, 0.0, 0.0)), True, HAND)
    guide.advance(IDLE, HAND, DT, 0.1)
    assert guide.target is None and not guide.lead.any()


# ---- jaws ----

STROKE = (0.0, 5.4)


def test_an_opening_counts_once_it_has_changed_since_the_press():
    jaw = JawGuide(STROKE, 5.4)
    assert jaw.advance(ArmCommand(True, opening=0.2), True, DT, 5.4) == 5.4, 'no jump at the press'
    assert jaw.advance(ArmCommand(True, opening=0.24), True, DT, 5.4) == 5.4
    assert jaw.advance(ArmCommand(True, opening=0.3), True, DT, 5.4) == pytest.approx(1.62)
    # Taken over: now every value counts.
    assert jaw.advance(ArmCommand(True, opening=0.31), True, DT, 5.0) == pytest.approx(1.674)


def test_a_rate_moves_within_the_stroke():
    jaw = JawGuide(STROKE, 5.4)
    closing = ArmCommand(True, opening_rate=-1.0)
    assert jaw.advance(closing, True, 0.1, 5.4) == pytest.approx(4.86)
    for _ in range(40):
        jaw.advance(closing, True, 0.1, 0.0)
    assert jaw.target == 0.0
    assert jaw.advance(ArmCommand(True, opening_rate=100.0), True, 1.0, 0.0) == 5.4


def test_a_jaw_that_is_let_go_stays_where_it_is_told_to_be():
    """The trigger was pulled right through, and the clutch let go while the jaw was closing."""
    jaw = JawGuide(STROKE, 5.4)
    jaw.advance(ArmCommand(True, opening=1.0), True, DT, 5.4)
    assert jaw.advance(ArmCommand(True, opening=0.0), True, DT, 5.4) == 0.0
    assert jaw.advance(ArmCommand(False, opening=0.0), False, DT, 3.1) == 3.1
    assert jaw.advance(ArmCommand(False, opening=0.0, opening_rate=-9.0), False, DT, 3.0) == 3.1
    # What was grasped stays grasped.
    jaw.advance(ArmCommand(True, opening=0.0), True, DT, 3.1)
    assert jaw.advance(ArmCommand(True, opening=0.0), True, DT, 3.1) == 3.1
