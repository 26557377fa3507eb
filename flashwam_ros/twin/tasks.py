# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What each task asks for: prompt, time limit, ordered stages, lasting success, failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flashwam_ros.twin import scenes

HOLD_S = 0.5
_REACH_M = 0.06
_LIFT_M = 0.03
_MOVED_M = 0.03
_UPRIGHT = 0.9


@dataclass(frozen=True)
class TaskSpec:
    """A task: what the policy is told, how long it may take, and its stages in order."""

    name: str
    prompt: str
    time_limit_s: float
    stages: tuple[str, ...]


TASKS: Mapping[str, TaskSpec] = {
    'pot_potato': TaskSpec(
        'pot_potato',
        'take the lid off the pot and put the potato in the pot',
        24.0,
        ('lid_grasped', 'lid_off', 'potato_grasped', 'potato_in_pot'),
    ),
    'red_bottle': TaskSpec(
        'red_bottle', 'pick up the red bottle', 10.0, ('reached', 'grasped', 'lifted')
    ),
    'pink_object': TaskSpec(
        'pink_object',
        'pick up the pink object and place it on the blue cross mark',
        16.0,
        ('reached', 'grasped', 'lifted', 'placed'),
    ),
}


@dataclass(frozen=True)
class TaskStatus:
    """Verdict so far. ``stages`` are latched; ``failure`` is the first named failure, if any."""

    success: bool
    stages: dict[str, bool]
    failure: str | None


@dataclass(frozen=True)
class WorldState:
    """The scene at one instant, in the world frame.

    ``objects[name] = (position (3,), quaternion wxyz (4,))`` of the frames defined in ``scenes``;
    ``tcp`` (2, 4, 4) poses of the left and right tool centre point; ``jaw_gap`` (2,) between the
    pads (m); ``touched`` (left, right): objects that any jaw of the hand touches; ``held``: those
    that both jaws touch.
    """

    time_s: float
    objects: dict[str, tuple[np.ndarray, np.ndarray]]
    tcp: np.ndarray
    jaw_gap: np.ndarray
    touched: tuple[frozenset, frozenset]
    held: tuple[frozenset, frozenset]

    def position(self, name: str) -> np.ndarray:
        """Position (3,) of an object's frame (m)."""
        return self.objects[name][0]

    def up(self, name: str) -> float:
        """Vertical part of an object's z axis: 1 upright, 0 lying."""
        _, x, y, _ = self.objects[name][1]
        return float(1 - 2 * (x * x + y * y))

    def height(self, name: str) -> float:
        """Height (m) of an object above where it rests on the table."""
        return float(self.position(name)[2] - scenes.rest_height(name))

    def is_held(self, name: str) -> bool:
        """Whether both jaws of one hand touch the object."""
        return any(name in hand for hand in self.held)

    def is_touched(self, name: str) -> bool:
        """Whether any jaw touches the object."""
        return any(name in hand for hand in self.touched)

    def reach(self, name: str, above: float) -> float:
        """Distance (m) from the nearer hand to ``above`` m over the object's frame."""
        point = self.position(name) + np.array([0, 0, above])
        return float(np.linalg.norm(self.tcp[:, :3, 3] - point, axis=1).min())


def _lid_clear(world: WorldState) -> bool:
    away = np.linalg.norm((world.position('lid') - world.position('pot'))[:2])
    return bool(away > 0.08)


def _potato_in_pot(world: WorldState) -> bool:
    offset = world.position('potato') - world.position('pot')
    return bool(np.linalg.norm(offset[:2]) < 0.030 and 0.01 < offset[2] < 0.05)


def _pot_stages(world: WorldState) -> dict[str, bool]:
    return {
        'lid_grasped': 'lid' in world.held[0] or 'lid' in world.held[1],
        'lid_off': _lid_clear(world),
        'potato_grasped': world.is_held('potato') and world.height('potato') > 0.02,
        'potato_in_pot': _lid_clear(world)
        and world.height('lid') < 0.03
        and _potato_in_pot(world)
        and not world.is_touched('potato'),
    }


def _bottle_stages(world: WorldState) -> dict[str, bool]:
    return {
        'reached': world.reach('red_bottle', 0.06) < _REACH_M,
        'grasped': world.is_held('red_bottle'),
        'lifted': world.height('red_bottle') > 0.08 and world.is_held('red_bottle'),
    }


def _pink_stages(world: WorldState) -> dict[str, bool]:
    offset = np.linalg.norm((world.position('pink_object') - world.position('target'))[:2])
    return {
        'reached': world.reach('pink_object', 0.035) < _REACH_M,
        'grasped': world.is_held('pink_object'),
        'lifted': world.is_held('pink_object') and world.height('pink_object') > _LIFT_M,
        'placed': bool(offset < 0.04)
        and world.height('pink_object') < 0.03
        and world.up('pink_object') > _UPRIGHT
        and not world.is_touched('pink_object'),
    }


_STAGES: dict[str, Callable[[WorldState], dict[str, bool]]] = {
    'pot_potato': _pot_stages,
    'red_bottle': _bottle_stages,
    'pink_object': _pink_stages,
}
# What must keep standing as long as no hand holds it, and what must not move at all.
_MUST_STAND = {
    'pot_potato': ('pot',),
    'red_bottle': ('red_bottle',),
    'pink_object': ('pink_object',),
}


def find_failure(task: str, start: WorldState, world: WorldState) -> str | None:
    """The named failure that the scene shows, or None.

    ``<object>_fell``: below the table; ``<object>_tipped``: lies on the table and is not held;
    ``yellow_moved``: the distractor moved by more than 3 cm or fell over.
    """
    for name in world.objects:
        if world.position(name)[2] < scenes.TABLE_TOP_Z - 0.05:
            return f'{name}_fell'
    for name in _MUST_STAND[task]:
        if world.up(name) < 0.5 and not world.is_touched(name):
            return f'{name}_tipped'
    if task == 'red_bottle':
        moved = np.linalg.norm(world.position('yellow_bottle') - start.position('yellow_bottle'))
        if moved > _MOVED_M or world.up('yellow_bottle') < _UPRIGHT:
            return 'yellow_moved'
    return None


class TaskMonitor:
    """Watches one episode: latches stages, requires success for ``HOLD_S``, names failures."""

    def __init__(self, task: str, start: WorldState):
        """``start`` is the scene after the reset.

        Raises:
            ValueError: the task is unknown.
        """
        if task not in TASKS:
            raise ValueError(f'unknown task {task!r}; choose one of {", ".join(TASKS)}')
        self._task = TASKS[task]
        self._start = start
        self._reached = dict.fromkeys(self._task.stages, False)
        self._since: float | None = None
        self._success = False
        self._failure: str | None = None

    def update(self, world: WorldState) -> None:
        """Take in the scene at a later time; after success or failure the verdict stays."""
        if self._success or self._failure:
            return
        now = _STAGES[self._task.name](world)
        for name in self._task.stages[:-1]:
            self._reached[name] |= now[name]
        goal = self._task.stages[-1]
        # The last stage counts only after the one before it, and only when it lasts.
        if not now[goal] or not all(self._reached[s] for s in self._task.stages[:-1]):
            self._since = None
        elif self._since is None:
            self._since = world.time_s
        elif world.time_s - self._since >= HOLD_S - 1e-9:
            self._reached[goal] = True
            self._success = True
            return
        self._failure = find_failure(self._task.name, self._start, world)

    def status(self) -> TaskStatus:
        """The verdict so far."""
        return TaskStatus(self._success, dict(self._reached), self._failure)
