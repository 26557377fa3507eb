# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the operator's commands to the next rows: one for all devices, without ROS or a clock."""

from __future__ import annotations

import numpy as np

from flashwam_ros.robot.clearance import PathChecker, RetreatPath, plan_retreat
from flashwam_ros.robot.contract import GRIPPER_GROUPS, RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.robot.limits import Limiter, LimiterState
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.teleop.command import ArmCommand, OperatorCommand
from flashwam_ros.teleop.guide import ArmGuide, Clutch, JawGuide
from flashwam_ros.teleop.ik import ARM_JOINTS, ArmIk, ArmState
from flashwam_ros.teleop.settings import TeleopSettings

ARMS = 2 * ARM_JOINTS
_NOTHING = (ArmCommand(), ArmCommand())
_PACE_S = 0.25
_AT_HOME_RAD = 0.005


class Teleoperator:
    """Plans rows of commands; the command in force is the end of the last planned row.

    Attributes:
        notes: What the operator should know, told once; emptied by the reader.
    """

    def __init__(self, contract: RobotContract, settings: TeleopSettings | None = None) -> None:
        """Build the inverse kinematics; call :meth:`begin` before planning."""
        self.settings = settings or TeleopSettings.load()
        self.contract = contract
        self.ik = ArmIk(contract, self.settings)
        self.notes: list[str] = []
        self._limiter = Limiter(contract)
        self._free = PathChecker(Kinematics(load_description()))
        self._jaws = contract.group(*GRIPPER_GROUPS)
        self._step_s = contract.row_duration_s / self.settings.steps_per_row
        self._home = load_settings().home[:ARMS]
        self._guides = [ArmGuide(self.settings), ArmGuide(self.settings)]
        self.begin(load_settings().home)

    # ---- where the command is ----------------------------------------------------------------

    @property
    def command(self) -> np.ndarray:
        """The command at the end of the last planned row, (16,)."""
        return np.concatenate([self._arms.q, self._gripper.position[self._jaws]])

    @property
    def held(self) -> tuple[bool, bool]:
        """Whether the clutch of each arm is held and counts."""
        return tuple(guide.clutch.held for guide in self._guides)

    @property
    def at_rest(self) -> bool:
        """Whether nothing of the command moves."""
        return not self._arms.v.any() and not self._gripper.velocity[self._jaws].any()

    def begin(self, command: np.ndarray, seen_open: bool = False) -> None:
        """Start from the command in force (16,), at rest.

        What is held then must be let go first, unless it is known to have been ``seen_open``.
        """
        self.follow(command)
        for guide in self._guides:
            guide.release(seen_open)
        self._home_button = Clutch(seen_open)
        self._jaw_guides = [
            JawGuide((self.contract.lower[i], self.contract.upper[i]), command[i])
            for i in self._jaws
        ]

    def follow(self, command: np.ndarray) -> None:
        """Take over what was really commanded (16,); the hands are anchored anew there."""
        command = np.array(command, dtype=np.float64)
        self._arms = ArmState.at_rest(command[:ARMS])
        self._gripper = LimiterState(command, np.zeros_like(command))
        for guide in self._guides:
            guide.release()
        self._path: RetreatPath | None = None

    # ---- the next rows -----------------------------------------------------------------------

    def plan(self, operator: OperatorCommand | None, live: bool, rows: int) -> np.ndarray:
        """The next rows (rows, 16) for the newest command; ``live``: the link is alive."""
        allowed = live and operator is not None and not operator.pause
        commands = operator.arms if operator is not None else _NOTHING
        homing = self._homing(operator, allowed)
        hands = self.ik.poses(self._arms.q)
        for guide, command, hand in zip(self._guides, commands, hands, strict=True):
            guide.take(command, allowed and not homing, hand)
        planned = np.empty((rows, len(self.contract.channels)))
        span_s = rows * self.contract.row_duration_s
        for row in range(rows):
            for step in range(self.settings.steps_per_row):
                done_s = row * self.contract.row_duration_s + step * self._step_s
                self._step(commands, span_s - done_s, homing)
            planned[row] = self.command
        return planned

    def _step(self, commands: tuple[ArmCommand, ArmCommand], left_s: float, homing: bool) -> None:
        dt = self._step_s
        if self._path is not None:
            self._step_home(dt, homing)
        else:
            hands = self.ik.poses(self._arms.q)
            for guide, command, hand in zip(self._guides, commands, hands, strict=True):
                guide.advance(command, hand, dt, left_s)
            targets = tuple(guide.target for guide in self._guides)
            leads = tuple(guide.lead for guide in self._guides)
            self._arms = self.ik.step(self._arms, targets, leads, dt)
            for guide in self._guides:
                guide.arrive()
        wanted = self._gripper.position.copy()
        for i, guide, jaw, command in zip(
            self._jaws, self._guides, self._jaw_guides, commands, strict=True
        ):
            wanted[i] = jaw.advance(command, guide.clutch.held, dt, wanted[i])
        nowhere = np.full_like(wanted, np.nan)
        self._gripper, _ = self._limiter.step(
            self._gripper, wanted, np.zeros_like(wanted), nowhere, dt
        )

    # ---- home --------------------------------------------------------------------------------

    def _homing(self, operator: OperatorCommand | None, allowed: bool) -> bool:
        """Whether the way home is being gone; the button is a dead-man switch, too."""
        pressed = operator is not None and operator.home
        if self._home_button.update(pressed, allowed):
            self._plan_home()
        if self._path is not None and not self._home_button.held and self._pace == 0.0:
            self._path = None
        return self._home_button.held and self._path is not None

    def _plan_home(self) -> None:
        if self._path is not None:
            return
        if self._arms.v.any():
            self.notes.append('home: let the clutch go first, the arms must stand still')
            return
        if np.abs(self._arms.q - self._home).max() < _AT_HOME_RAD:
            return
        low, high = self.contract.lower[:ARMS], self.contract.upper[:ARMS]
        self._path = plan_retreat(
            self._arms.q, self._home, self._free, self.settings.home_velocity, (low, high)
        )
        self._path_s = self._pace = 0.0
        if self._path is None:
            self.notes.append('home: no free path from here, lift the hands first')

    def _step_home(self, dt: float, homing: bool) -> None:
        """Along the path, faster while the button is held, slower when it is not."""
        change = dt / _PACE_S
        self._pace = min(1.0, self._pace + change) if homing else max(0.0, self._pace - change)
        self._path_s += self._pace * dt
        q, velocity = self._path.sample(self._path_s)
        self._arms = ArmState(q, velocity * self._pace)
        if self._path_s >= self._path.duration_s:
            self._path = None
            self._arms = ArmState.at_rest(q)
        elif self._pace == 0.0:
            self._arms = ArmState.at_rest(q)
