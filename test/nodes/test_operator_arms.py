# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Taking the arms over: what came last, a release or a request, is what happens."""

import threading
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')

from lifecycle_msgs.msg import State  # noqa: E402

from flashwam_ros.nodes import operator_arms as room  # noqa: E402

ACTIVE, INACTIVE = State.PRIMARY_STATE_ACTIVE, State.PRIMARY_STATE_INACTIVE


class Driver:
    """A driver that becomes active, and tells what it was asked."""

    def __init__(self):
        self.id, self.asked = INACTIVE, []
        self.activating = lambda: None

    def configure(self, limit_s):
        pass

    def state(self):
        return self.id

    def activate(self, limit_s):
        self.asked.append('activate')
        self.activating()
        self.id = ACTIVE

    def deactivate(self, limit_s):
        if self.id == ACTIVE:
            self.asked.append('deactivate')
            self.id = INACTIVE


@pytest.fixture
def arms(monkeypatch, tmp_path):
    driver = Driver()
    logger = SimpleNamespace(info=lambda text: None)
    node = SimpleNamespace(get_logger=lambda: logger)
    monkeypatch.setattr(room, 'LifecycleClient', lambda node, name: driver)
    monkeypatch.setattr(room, 'PreflightInputs', lambda *_: threading.Lock())
    monkeypatch.setattr(room, 'PreflightProbe', lambda *_: SimpleNamespace())
    arms = room.OperatorArms(node, None, (1, 'lo'), tmp_path, lambda: None)
    arms.in_force = SimpleNamespace(clear=lambda: None, wait=lambda limit_s: True)
    arms.look = lambda: SimpleNamespace(ok=True)
    arms.driver = driver
    return arms


def test_a_green_preflight_takes_the_arms_over(arms):
    arms.take_over(since=0)
    assert arms.driver.id == ACTIVE


def test_a_release_during_the_preflight_is_the_last_word(arms):
    def look():
        arms.release()
        return SimpleNamespace(ok=True)

    arms.look = look
    with pytest.raises(room.ReleasedError):
        arms.take_over(since=0)
    assert arms.driver.asked == [], 'nothing may move'
    # So does one that came before its turn: the graph's own start is late then.
    arms.look = lambda: SimpleNamespace(ok=True)
    with pytest.raises(room.ReleasedError):
        arms.take_over(since=0)
    assert arms.driver.asked == []
    arms.take_over(arms.releases)
    assert arms.driver.id == ACTIVE


def test_a_release_during_the_activation_gives_the_arms_back(arms):
    arms.driver.activating = arms.release
    with pytest.raises(room.ReleasedError):
        arms.take_over(since=0)
    assert arms.driver.asked == ['activate', 'deactivate'] and arms.driver.id == INACTIVE


def test_arms_that_were_not_given_back_are_told_with_the_command(arms):
    def refuse(limit_s):
        raise room.NodeUnavailableError('g1_driver refused to deactivate')

    arms.driver.id, arms.driver.deactivate = ACTIVE, refuse
    with pytest.raises(room.NodeUnavailableError, match='still be held: flashwam release'):
        arms.give_back()


def test_a_driver_that_refuses_to_configure_is_told_with_the_reason(arms):
    def refuse(limit_s):
        raise room.NodeUnavailableError('g1_driver refused to configure')

    arms.driver.configure = refuse
    arms._probe.obstacle = lambda: 'the arms may still be held'
    with pytest.raises(room.NodeUnavailableError, match='configure: the arms may still be held'):
        arms.configure()


def test_red_moves_nothing_and_says_why(arms):
    arms.look = lambda: SimpleNamespace(ok=False, reason='disk: full')
    with pytest.raises(room.RedError, match='disk: full'):
        arms.take_over(since=0)
    assert arms.red == 'preflight: disk: full' and arms.driver.asked == []
