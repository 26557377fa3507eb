# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Somebody at the keyboard: looks at the twin, presses keys for a while, looks again.

Open loop between two looks, as people do: how long a key is pressed follows from how far the hand
has to go, so that neither the connection's nor the arm's delay makes the hand swing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from flashwam_ros.twin.ik import hand_rotation
from flashwam_ros.twin.tasks import WorldState

TASKS = ('red_bottle', 'pink_object')
CLUTCH, SLOW, OPEN, CLOSE = 'Space', 'ShiftLeft', 'KeyM', 'KeyN'
ARM_KEYS = ('Digit1', 'Digit2')
#: Keys for more and for less of x, y, z (m) and of turns about x, y, z (rad), as in drive.js.
AXES = (('KeyW', 'KeyS'), ('KeyA', 'KeyD'), ('KeyR', 'KeyF'),
        ('KeyO', 'KeyU'), ('KeyK', 'KeyI'), ('KeyJ', 'KeyL'))  # fmt: skip
_FAR = np.array([0.05] * 3 + [0.3] * 3)
_NEAR = np.array([0.008] * 3 + [0.06] * 3)
_SHORT_OF = np.array([0.025] * 3 + [0.1] * 3)
_SHORTEST_S, _LONGEST_S, _SETTLE_S, _GRIP_S = 0.1, 1.5, 0.45, 1.7
_LOOKS = 14


@dataclass(frozen=True)
class Press:
    """Hold exactly these keys for so long (s)."""

    keys: frozenset[str]
    seconds: float


class Operator:
    """One attempt at a task.

    Args:
        task: one of `TASKS`.
        look: the scene as it is now.
        speeds: of the page: linear (m/s), angular (rad/s), slow (factor).
    """

    def __init__(self, task: str, look: Callable[[], WorldState], speeds: Mapping[str, float]):
        self._task, self._look, self._speeds = task, look, speeds

    def play(self) -> Iterator[Press]:
        """What is pressed from the choice of the arm to the end."""
        name = self._task
        x, y, _ = self._look().position(name)
        self._arm = 0 if y > 0 else 1
        yield Press(frozenset({ARM_KEYS[self._arm]}), 0.2)
        yield Press(frozenset(), 0.3)
        grasp_z, pitch = {'red_bottle': (0.060, 19.0), 'pink_object': (0.040, 26.0)}[name]
        turned = hand_rotation(_yaw(self._arm, x, y), np.deg2rad(pitch))
        above_z = grasp_z + (0.115 if name == 'red_bottle' else 0.09)
        here = self._look().tcp[self._arm, :3, 3]
        # Up first: on the way nothing shall be knocked over.
        up = np.array([here[0], here[1], self._look().position(name)[2] + above_z])
        yield from self._go(lambda: up, turned)
        yield from self._go(lambda: self._point(name, above_z), turned)
        yield from self._go(lambda: self._point(name, grasp_z), turned)
        yield Press(frozenset({CLUTCH, CLOSE}), _GRIP_S)
        yield from self._lift(0.13 if name == 'red_bottle' else 0.08, turned)
        if name == 'pink_object':
            yield from self._put_down(turned)
        yield Press(frozenset(), 1.0)

    def _put_down(self, turned: np.ndarray) -> Iterator[Press]:
        world = self._look()
        offset = world.position('pink_object') - world.tcp[self._arm, :3, 3]
        over = self._point('target', 0.07) - offset
        yield from self._go(lambda: over, turned)
        down = self._point('target', 0.006) - offset
        yield from self._go(lambda: down, turned)
        yield Press(frozenset({CLUTCH, OPEN}), _GRIP_S)
        yield from self._lift(0.09, turned)

    def _point(self, name: str, above: float) -> np.ndarray:
        return self._look().position(name) + np.array([0.0, 0.0, above])

    def _lift(self, height: float, turned: np.ndarray) -> Iterator[Press]:
        goal = self._look().tcp[self._arm, :3, 3] + np.array([0.0, 0.0, height])
        yield from self._go(lambda: goal, turned)

    def _go(self, goal: Callable[[], np.ndarray], turned: np.ndarray) -> Iterator[Press]:
        """Bring the hand to a point (world, m) with a rotation, in as many looks as it takes."""
        for _ in range(_LOOKS):
            pose = self._look().tcp[self._arm]
            error = np.concatenate([goal() - pose[:3, 3], _turn(turned @ pose[:3, :3].T)])
            if (np.abs(error) < _NEAR).all():
                return
            yield from self._pulse(error)

    def _pulse(self, error: np.ndarray) -> Iterator[Press]:
        """Keys for as long as the way of each axis takes; the quick ones stop a little short."""
        fast = (np.abs(error) > _FAR).any()
        speed = np.repeat([self._speeds['linear'], self._speeds['angular']], 3)
        if fast:
            way = np.where(np.abs(error) > _FAR, np.abs(error) - _SHORT_OF, 0.0)
        else:
            speed = speed * self._speeds['slow']
            way = np.where(np.abs(error) > 0.7 * _NEAR, np.abs(error), 0.0)
        seconds = np.minimum(way / speed, _LONGEST_S)
        seconds = np.where(way > 0, np.maximum(seconds, _SHORTEST_S), 0.0)
        keys = [AXES[axis][0 if error[axis] > 0 else 1] for axis in range(6)]
        common, done_s = {CLUTCH, *(() if fast else (SLOW,))}, 0.0
        for end_s in sorted(set(seconds[seconds > 0].tolist())):
            held = {key for key, s in zip(keys, seconds, strict=True) if s >= end_s}
            yield Press(frozenset(common | held), end_s - done_s)
            done_s = end_s
        # Let go while looking: what has ended the motion meanwhile wants a new press.
        yield Press(frozenset(), _SETTLE_S)


def _yaw(arm: int, x: float, y: float) -> float:
    """How the hand points at a place (rad), as in the twin's scripts."""
    side = 1.0 if arm == 0 else -1.0
    inward = np.clip(2.8 * (-side * y + 0.16) + 2.2 * max(0.0, 0.33 - x), -0.1, 0.8)
    return float(-side * inward)


def _turn(rotation: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) of a matrix (rad)."""
    quaternion, turn = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    mujoco.mju_quat2Vel(turn, quaternion, 1.0)
    return turn


def command_text(keys: frozenset[str], arm: int, speeds: Mapping[str, float], number: int,
                 now_ms: float) -> str:  # fmt: skip
    """What the page sends while these keys are held, for rehearsals without a browser."""
    factor = speeds['slow'] if SLOW in keys else 1.0
    twist = [((more in keys) - (less in keys)) * factor
             * speeds['linear' if axis < 3 else 'angular']
             for axis, (more, less) in enumerate(AXES)]  # fmt: skip
    opening = speeds['opening'] * ((OPEN in keys) - (CLOSE in keys))
    arms = {('left', 'right')[arm]: {'clutch': CLUTCH in keys, 'twist': twist,
                                     'opening_rate': opening}}  # fmt: skip
    return json.dumps({'v': 1, 'client': 'rehearsal', 'seq': number, 'sent_ms': now_ms,
                       'arms': arms})  # fmt: skip
