# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The twin's scripted expert behind the policy protocol: twin only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from flashwam_ros.policy.protocol import HistoryError, KeyFrame, PolicyError, Prediction
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.twin.expert import Expert
from flashwam_ros.twin.tasks import WorldState
from flashwam_ros.twin.world_json import world_from_dict


def world_from_state(state: Mapping | None) -> WorldState:
    """The world in one `rt/sim_state` message.

    Raises:
        PolicyError: no state has arrived, or it is not a state of the twin.
    """
    if state is None:
        raise PolicyError('the twin has sent no rt/sim_state: the expert cannot see the world')
    try:
        return world_from_dict(state)
    except ValueError as error:
        raise PolicyError(f'rt/sim_state: {error}') from error


class ExpertPolicy:
    """Predicts chunks from the twin's true world state; images only keep the protocol's order.

    Args:
        task: task name of the twin, or a function that tells it when an episode starts.
        contract: the robot contract in force.
        world: returns the twin's world state as it is now.
        joints: returns (arm positions (14,), gripper motor positions (2,)) as they are now, rad.
        recovery: let the expert make and correct mistakes, as for demonstrations.
    """

    name = 'expert'
    warnings: tuple[str, ...] = ()
    mode_problems: Mapping[str, str] = {
        'async_grounded': "the expert looks at the world and imagines nothing: use 'async'"
    }

    def __init__(
        self,
        task: str | Callable[[], str],
        contract: RobotContract,
        world: Callable[[], WorldState],
        joints: Callable[[], tuple[np.ndarray, np.ndarray]],
        recovery: bool = False,
    ):
        self.contract = contract
        self._task = task
        self._world = world
        self._joints = joints
        self._recovery = recovery
        self._expert: Expert | None = None
        self.reset('', 0)

    def reset(self, prompt: str, seed: int) -> None:
        """Start an episode; the prompt is not needed, the task is fixed."""
        self._seed = int(seed)
        self._expert = None
        self._observed = 0
        self._predicted = 0
        self._ungrounded: list[int] = []
        self._needed = 1

    def observe(self, key_frame: KeyFrame) -> None:
        """Count the frame; its content is not used."""
        self._observed += 1

    def predict(self) -> Prediction:
        """Give the expert's next rows, planned on the world as it is now.

        Raises:
            HistoryError: before the initial frame was observed.
        """
        if not self._observed:
            raise HistoryError('predict before the initial key frame was observed')
        begun = robot_clock.monotonic()
        contract = self.contract
        world = self._world()
        positions = np.empty((contract.rows_per_chunk, len(contract.channels)))
        first_row = 0
        if self._expert is None:
            first_row = contract.actions_per_frame
            arms, grippers = self._joints()
            task = self._task() if callable(self._task) else self._task
            self._expert = Expert(task, self._seed, recovery=self._recovery)
            self._expert.reset(world, arms, grippers)
            positions[:first_row] = np.concatenate([arms, grippers])
        positions[first_row:] = self._expert.rows(contract.rows_per_chunk - first_row, world)
        self._predicted += 1
        self._ungrounded.append(contract.rows_per_chunk - first_row)
        return Prediction(
            positions=positions,
            first_row=first_row,
            seed=self._seed,
            latency_s={'plan': robot_clock.monotonic() - begun},
        )

    def ground(self, applied: np.ndarray) -> None:
        """Check that the loop grounds in order; the expert keeps no history of its own.

        Raises:
            HistoryError: nothing to ground, wrong shape, or key frames missing.
        """
        if not self._ungrounded:
            raise HistoryError('there is no predicted chunk left to ground')
        rows = self._ungrounded[0]
        expected = (rows, len(self.contract.channels))
        if np.shape(applied) != expected:
            raise HistoryError(f'applied rows have shape {np.shape(applied)}, expected {expected}')
        contract = self.contract
        needed = self._needed + rows * contract.key_frames_per_frame // contract.actions_per_frame
        if self._observed < needed:
            raise HistoryError(f'{self._observed} key frames were observed, {needed} are needed')
        self._needed = needed
        self._ungrounded.pop(0)

    def imagine(self, rows: np.ndarray) -> None:
        """Refused: the expert keeps no history to write an outcome into."""
        raise PolicyError(self.mode_problems['async_grounded'])

    def warm_up(self) -> float:
        """Build the expert's kinematics, which takes seconds the first time."""
        task = self._task() if callable(self._task) else self._task
        home = load_settings().home
        Expert(task, 0).reset(self._world(), home[:-2], home[-2:])
        return 0.0
