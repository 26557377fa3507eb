# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The twin's scripted expert as a teleoperation device: what a steady human hand would do.

It plans joints, but only its hand poses and jaw openings leave this module, so that the whole path
of a human operator is used: clutch, anchors, inverse kinematics, stream. Twin only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Executor, Future

import mink
import numpy as np

from flashwam_ros.robot.contract import GRIPPER_GROUPS, RobotContract
from flashwam_ros.teleop.command import ArmCommand, OperatorCommand, Pose
from flashwam_ros.twin.expert import Expert
from flashwam_ros.twin.ik import ArmKinematics
from flashwam_ros.twin.scenes import PELVIS_Z
from flashwam_ros.twin.tasks import WorldState

_LOOK_ROWS = 2
_AHEAD_ROWS = 10
_OPEN_NS = 300_000_000


# Where the planning runs, which may be another process: the experts of the devices there.
_EXPERTS: dict[int, Expert] = {}
_NUMBERS = itertools.count()


def _begin(number: int, task: str, seed: int, world: WorldState, command: np.ndarray) -> None:
    _EXPERTS[number] = Expert(task, seed)
    _EXPERTS[number].reset(world, command[:14], command[14:])


def _rows(number: int, world: WorldState) -> tuple[np.ndarray, bool]:
    """The next rows, and whether the course ends with them."""
    expert = _EXPERTS[number]
    return expert.rows(_LOOK_ROWS, world), expert.done


class _AtOnce(Executor):
    """Runs what it is given before it returns: the same course every time."""

    def submit(self, function, /, *args) -> Future:
        """See `Executor.submit`."""
        future = Future()
        future.set_result(function(*args))
        return future


class ExpertDevice:
    """Plays the expert's course in time.

    Args:
        task: Task of the twin.
        contract: Robot contract.
        world: Returns the twin's world as it is now.
        planner: One thread or process that plans half a second ahead. Planning a motion takes up
            to 0.2 s on a slow machine: in a process of its own that keeps no row waiting. None: in
            the thread that asks for a command.
    """

    name = 'expert'

    def __init__(
        self, task: str, contract: RobotContract, world: Callable[[], WorldState],
        planner: Executor | None = None,
    ) -> None:
        """Idle until :meth:`begin`."""
        self._task, self._world, self._planner = task, world, planner or _AtOnce()
        self._row_ns = round(contract.row_duration_s * 1e9)
        jaws = contract.group(*GRIPPER_GROUPS)
        self._closed = contract.lower[jaws]
        self._span = contract.upper[jaws] - self._closed
        self._kinematics = ArmKinematics(contract)
        self._number, self._playing = next(_NUMBERS), False

    def begin(self, command: np.ndarray, seed: int, now_ns: int) -> None:
        """Start an episode from the command in force (16,); it moves a little later."""
        self._playing = True
        self._planner.submit(
            _begin, self._number, self._task, seed, self._world(), command).result()
        self._rows = [np.array(command, dtype=np.float64)]
        self._planned: Future | None = None
        self._played, self._end = 0, None
        self._start_ns = now_ns + _OPEN_NS

    def end(self) -> None:
        """Idle again."""
        self._playing = False

    @property
    def done(self) -> bool:
        """Whether the course is over: planned to its end, and played."""
        return self._playing and self._end is not None and self._played >= self._end

    def command(self, now_ns: int) -> OperatorCommand | None:
        """Hand poses and openings at this instant; the clutch is open before the start."""
        if not self._playing:
            return OperatorCommand(now_ns)
        row, clutch = self._at(now_ns), now_ns >= self._start_ns
        opening = np.clip((row[14:] - self._closed) / self._span, 0.0, 1.0)
        arms = tuple(
            ArmCommand(
                clutch,
                pose=self._pose(arm, row[7 * arm : 7 * arm + 7]),
                opening=float(opening[arm]),
            )
            for arm in (0, 1)
        )
        return OperatorCommand(now_ns, arms)

    def _at(self, now_ns: int) -> np.ndarray:
        rows_past = max(now_ns - self._start_ns, 0) / self._row_ns
        index = self._played = int(rows_past)
        self._fill(index + 2)
        part = rows_past - index
        return (1.0 - part) * self._rows[index] + part * self._rows[index + 1]

    def _fill(self, count: int) -> None:
        """At least ``count`` rows; those beyond are planned without waiting for them."""
        while True:
            if self._planned is None:
                if len(self._rows) >= count + _AHEAD_ROWS:
                    return
                self._planned = self._planner.submit(_rows, self._number, self._world())
            if len(self._rows) >= count and not self._planned.done():
                return
            rows, over = self._planned.result()
            self._planned = None
            self._rows.extend(rows)
            if over and self._end is None:
                self._end = len(self._rows) - 2

    def _pose(self, arm: int, q: np.ndarray) -> Pose:
        position, rotation = self._kinematics.pose(arm, q)
        quaternion = mink.SO3.from_matrix(rotation).wxyz
        return Pose(tuple(position - [0.0, 0.0, PELVIS_Z]), tuple(quaternion))
