# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The scripted expert: rows for the next chunk, given the scene as seen now.

Low entropy on purpose: one strategy per task, the same timing law everywhere, speeds within 8 %. A
small model has to learn from these demonstrations.
"""

from __future__ import annotations

import functools

import numpy as np

from flashwam_ros.robot.settings import load_settings
from flashwam_ros.twin.ik import ArmKinematics
from flashwam_ros.twin.motion import ArmMotion
from flashwam_ros.twin.scripts import SCRIPTS, Stage
from flashwam_ros.twin.tasks import WorldState

_SPEED_SPREAD = 0.08


@functools.cache
def _kinematics() -> ArmKinematics:
    return ArmKinematics()


class Expert:
    """Plans open loop inside one call, and looks at the scene between calls.

    Attributes:
        last_perturbed: (n,) bool of the last call: rows in which a recovery's push is still going
            outward (not something to imitate).
    """

    def __init__(self, task: str, seed: int, recovery: bool = False):
        """Choose the episode's noise from ``seed``; ``recovery`` adds pushes of 2 to 5 cm.

        Raises:
            ValueError: the task is unknown.
        """
        if task not in SCRIPTS:
            raise ValueError(f'unknown task {task!r}; choose one of {", ".join(SCRIPTS)}')
        self._task, self._seed, self._recovery = task, seed, recovery
        self._stage: Stage | None = None
        self.last_perturbed = np.zeros(0, bool)

    def reset(self, world: WorldState, arm_q14: np.ndarray, gripper_q2: np.ndarray) -> None:
        """Start an episode from commanded arm joints (14) and gripper motor angles (2), rad."""
        rng = np.random.default_rng([self._seed, list(SCRIPTS).index(self._task), 1])
        speed = rng.uniform(1 - _SPEED_SPREAD, 1 + _SPEED_SPREAD)
        arms = tuple(
            ArmMotion(_kinematics(), arm, arm_q14[7 * arm : 7 * arm + 7], gripper_q2[arm], speed)
            for arm in (0, 1)
        )
        home = load_settings().home[:14]
        self._stage = Stage(world, arms, rng, self._recovery, home)
        self._scripts = list(SCRIPTS[self._task](self._stage))
        self._running = [True, True]

    @property
    def done(self) -> bool:
        """Whether both arms have finished; further rows stand still."""
        return self._stage is not None and not any(self._running)

    def rows(self, n: int, world: WorldState) -> np.ndarray:
        """The next ``n`` rows (n, 16) at 20 Hz: 14 arm joints, 2 gripper motors (rad).

        Raises:
            RuntimeError: ``reset`` was not called.
        """
        if self._stage is None:
            raise RuntimeError('the expert has no episode: call reset first')
        self._stage.world = world
        pairs = [self._row() for _ in range(n)]
        self.last_perturbed = np.array([pushed for _, pushed in pairs], bool)
        return np.array([row for row, _ in pairs])

    def _row(self) -> tuple[np.ndarray, bool]:
        row, pushed = np.empty(16), False
        for number, arm in enumerate(self._stage.arms):
            q = next(self._scripts[number], None)
            if q is None:
                self._running[number], q = False, arm.q
            offset, out = arm.bump_row()
            row[7 * number : 7 * number + 7] = q + offset
            row[14 + number] = arm.gripper_row()
            pushed |= out
        return row, pushed
