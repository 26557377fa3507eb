# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Takes the arms over for an operator, never before a preflight, and gives them back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from lifecycle_msgs.msg import State
from rclpy.node import Node

from flashwam_ros.nodes.lifecycle_client import LifecycleClient, NodeUnavailableError
from flashwam_ros.nodes.preflight_inputs import PreflightInputs
from flashwam_ros.nodes.preflight_probe import PreflightProbe
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.trials.check_result import Report
from flashwam_ros.trials.preflight import not_observed, preflight
from flashwam_ros.wire.arms_claim import held_hint

CONFIGURE_S = 15.0
ACTIVATE_S = 8.0
DEACTIVATE_S = 15.0
COMMAND_S = 2.0
LOOKS = 2
_NO_POLICY = ''


class RedError(NodeUnavailableError):
    """The preflight forbids the motion; the message names the checks."""


class ReleasedError(NodeUnavailableError):
    """The arms were asked back while they were being taken over."""


class OperatorArms:
    """Blocking calls, from threads of the owner that may block.

    Args:
        node: owner.
        contract: of the robot.
        wire: DDS domain and interface of the robot.
        output: folder of the recordings, for the check of the disk.
        rest: called before the arms are given back: no more chunks then.

    Attributes:
        red: why the last preflight forbade the motion, '' if it did not.
        releases: how often the operator asked for the arms to be given back.
        in_force: set by the owner when the driver tells its commands.
    """

    def __init__(
        self, node: Node, contract: RobotContract, wire: tuple[int, str], output: Path,
        rest: Callable[[], None],
    ):  # fmt: skip
        self._node, self._rest = node, rest
        self._driver = LifecycleClient(node, 'g1_driver')
        self._inputs = PreflightInputs(node, contract)
        self._probe = PreflightProbe(node, self._inputs, contract, wire, None, output)
        self._held_hint = held_hint(*wire)
        self._one = threading.RLock()
        self._closing = False
        self.red, self.releases = '', 0
        self.in_force = threading.Event()

    def close(self) -> None:
        """Leave the robot's wire."""
        self._closing = True
        self._probe.close()

    def configure(self) -> None:
        """Make the driver tell of the robot.

        Raises:
            NodeUnavailableError: it does not answer or refuses; with the reason, where that shows.
        """
        try:
            self._driver.configure(CONFIGURE_S)
        except NodeUnavailableError as error:
            why = self._probe.obstacle()
            raise NodeUnavailableError(f'{error}{": " if why else ""}{why}') from error

    def take_over(self, since: int) -> None:
        """Preflight, then the arms; the operator's clutch does the rest.

        Args:
            since: `releases` when the motion was asked for: a release after that is the last word.

        Raises:
            RedError: the preflight forbids it; nothing has moved.
            ReleasedError: a release came in between; the arms are not held.
            NodeUnavailableError: the driver does not answer or refuses.
        """
        with self._one:
            self.give_back()
            report = self.look()
            self.red = '' if report.ok else f'preflight: {report.reason}'
            if self.red:
                raise RedError(self.red)
            self._unless_released(since)
            self.in_force.clear()
            self._driver.activate(ACTIVATE_S)
            # A release during the activation found nothing to give back yet.
            self._unless_released(since)
            if not self.in_force.wait(COMMAND_S):
                raise NodeUnavailableError('g1_driver tells no joint_commands')

    def give_back(self) -> None:
        """To the robot's own controller, after whatever is going on."""
        with self._one:
            self.configure()
            if self._driver.state() == State.PRIMARY_STATE_ACTIVE:
                self._let_go()

    def release(self) -> None:
        """To the robot's own controller, now; a take-over on its way ends, too."""
        self.releases += 1
        self._let_go()

    def _let_go(self) -> None:
        self._rest()
        try:
            self._driver.deactivate(DEACTIVATE_S)
        except NodeUnavailableError as error:
            raise NodeUnavailableError(f'{error}{self._held_hint}') from error

    def _unless_released(self, since: int) -> None:
        if self.releases != since:
            self._let_go()
            raise ReleasedError('the arms were asked back before they were taken over')

    def look(self) -> Report:
        """The preflight; what is red at two looks is red: a busy moment must not cost a start."""
        with self._one, self._inputs:
            for _ in range(LOOKS):
                try:
                    report = preflight(self._probe.look(_NO_POLICY, ''))
                except Exception as error:  # noqa: BLE001 (whatever fails here forbids the motion)
                    report = not_observed(error)
                if report.ok or self._closing:
                    break
        self._node.get_logger().info('preflight:\n' + report.table())
        return report
