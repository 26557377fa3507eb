# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Success has to last, stages have an order, failures have names."""

import numpy as np
import pytest

from flashwam_ros.twin import scenes
from flashwam_ros.twin.tasks import HOLD_S, TASKS, TaskMonitor, WorldState

UPRIGHT = np.array([1.0, 0, 0, 0])
LYING = np.array([np.sqrt(0.5), np.sqrt(0.5), 0, 0])
NOTHING = (frozenset(), frozenset())


def _world(time, objects, held=NOTHING, tcp=(0, 0, 2.0)):
    poses = {n: (np.array(p, float), q) for n, (p, q) in objects.items()}
    hands = np.tile(np.eye(4), (2, 1, 1))
    hands[:, :3, 3] = tcp
    return WorldState(time, poses, hands, np.full(2, 0.09), held, held)


def _bottles(red_z=0.0, red_q=UPRIGHT, yellow=(0.3, 0.06), yellow_q=UPRIGHT):
    table = scenes.TABLE_TOP_Z
    return {
        'red_bottle': ((0.3, -0.06, table + red_z), red_q),
        'yellow_bottle': ((*yellow, table), yellow_q),
    }


HELD = (frozenset(), frozenset({'red_bottle'}))
AT_RED = (0.3, -0.06, scenes.TABLE_TOP_Z + 0.06)


def _monitor():
    return TaskMonitor('red_bottle', _world(0.0, _bottles()))


def _lift(monitor, times, height=0.1, held=HELD):
    monitor.update(_world(0.0, _bottles(), held, AT_RED))
    for t in times:
        monitor.update(_world(t, _bottles(red_z=height), held, AT_RED))
    return monitor.status()


def test_a_lift_that_lasts_is_a_success():
    status = _lift(_monitor(), (1.0, 1.2, 1.0 + HOLD_S))
    assert status.success and all(status.stages.values()) and status.failure is None


def test_a_short_lift_is_not():
    monitor = _monitor()
    assert not _lift(monitor, (1.0, 1.4)).success
    monitor.update(_world(1.45, _bottles(), HELD, AT_RED))
    # The clock starts again after the drop.
    monitor.update(_world(1.5, _bottles(red_z=0.1), HELD, AT_RED))
    assert not monitor.status().success
    assert monitor.status().stages == {'reached': True, 'grasped': True, 'lifted': False}


def test_a_bottle_that_is_not_held_is_not_lifted():
    assert not _lift(_monitor(), (1.0, 1.3, 1.6), held=NOTHING).success


@pytest.mark.parametrize(
    ('objects', 'failure'),
    [
        (_bottles(yellow=(0.335, 0.06)), 'yellow_moved'),
        (_bottles(yellow_q=LYING), 'yellow_moved'),
        (_bottles(red_q=LYING), 'red_bottle_tipped'),
        (_bottles(red_z=-0.3), 'red_bottle_fell'),
    ],
)
def test_failures_have_names_and_end_the_episode(objects, failure):
    monitor = _monitor()
    monitor.update(_world(0.1, objects))
    assert monitor.status().failure == failure
    assert not _lift(monitor, (1.0, 1.3, 1.6)).success


def _pot(potato, lid=(0.26, 0.165, 0.0), lid_off=True):
    table = scenes.TABLE_TOP_Z
    rim = scenes.POT_HEIGHT
    return {
        'pot': ((0.26, 0.0, table), UPRIGHT),
        'lid': ((lid[0], lid[1], table + lid[2]) if lid_off else (0.26, 0, table + rim), UPRIGHT),
        'potato': ((*potato[:2], table + potato[2]), UPRIGHT),
    }


def _pot_run(final):
    monitor = TaskMonitor('pot_potato', _world(0.0, _pot((0.36, -0.08, 0.02), lid_off=False)))
    lid = (frozenset({'lid'}), frozenset())
    potato = (frozenset(), frozenset({'potato'}))
    monitor.update(_world(1.0, _pot((0.36, -0.08, 0.02)), lid))
    monitor.update(_world(2.0, _pot((0.36, -0.08, 0.09)), potato))
    monitor.update(_world(3.0, final))
    monitor.update(_world(3.0 + HOLD_S, final))
    return monitor.status()


def test_potato_in_pot():
    assert _pot_run(_pot((0.27, 0.01, 0.03))).success
    assert not _pot_run(_pot((0.30, 0.02, 0.03))).success, 'beside the pot'
    assert not _pot_run(_pot((0.26, 0.0, 0.09))).success, 'above the rim'
    assert not _pot_run(_pot((0.26, 0.0, 0.03), lid=(0.26, 0.05, 0.06))).success, 'lid on the pot'
    assert not _pot_run(_pot((0.26, 0.0, 0.03), lid=(0.26, 0.165, 0.1))).success, 'lid in the air'


def test_last_stage_needs_the_ones_before():
    monitor = TaskMonitor('pot_potato', _world(0.0, _pot((0.36, -0.08, 0.02), lid_off=False)))
    for t in (1.0, 1.3, 1.6):
        monitor.update(_world(t, _pot((0.26, 0.0, 0.03))))
    assert not monitor.status().success


def test_tasks_have_prompts_limits_and_stages():
    assert set(TASKS) == set(scenes.TASKS) == set(scenes.SCENE_OBJECTS)
    assert [TASKS[t].time_limit_s for t in scenes.TASKS] == [24.0, 10.0, 16.0]


def test_unknown_task_is_named():
    with pytest.raises(ValueError, match='unknown task'):
        TaskMonitor('juggle', _world(0.0, {}))
