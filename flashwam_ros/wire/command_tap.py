# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Listens to what somebody else commands on the robot's wire, and writes nothing.

For demonstrations by the vendor's own teleoperation program: what it puts on `rt/arm_sdk` and on
the gripper topics is the action.
"""

import time
from dataclasses import dataclass

import numpy as np

from flashwam_ros.wire import cdr, endpoints
from flashwam_ros.wire.participant import open_participant
from flashwam_ros.wire.robot_bus import ARM_SLOTS


@dataclass(frozen=True)
class CommandedRow:
    """The command in force.

    Attributes:
        positions: (16,) rad, arms then grippers in channel order; NaN for a gripper that nobody
            has commanded yet.
        weight: Hand-over weight of `rt/arm_sdk`, 0..1.
        stamp_ns: Arrival of the arm command (monotonic ns).
    """

    positions: np.ndarray
    weight: float
    stamp_ns: int


class CommandRows:
    """Puts commands of arms and grippers together; knows nothing of DDS.

    Attributes:
        refused: Messages that were malformed, not finite or had a senseless weight.
    """

    def __init__(self) -> None:
        """Nothing heard yet."""
        self.refused = 0
        self._arms: tuple[np.ndarray, float, int] | None = None
        self._grippers = {side: np.nan for side in endpoints.SIDES}

    def feed_arm(self, raw: bytes, arrival_ns: int) -> None:
        """Take one `LowCmd_` message (CDR bytes)."""
        try:
            view = cdr.LowCmd(raw)
        except cdr.WireFormatError:
            self.refused += 1
            return
        q, weight = np.array(view.q[ARM_SLOTS], dtype=np.float64), view.weight
        if not (np.isfinite(q).all() and 0.0 <= weight <= 1.0):
            self.refused += 1
            return
        self._arms = q, weight, arrival_ns

    def feed_gripper(self, side: str, raw: bytes) -> None:
        """Take one `MotorCmds_` message (CDR bytes) of the `left` or `right` gripper."""
        try:
            q = cdr.GripperCmd(raw).values()[0]
        except cdr.WireFormatError:
            self.refused += 1
            return
        if not np.isfinite(q):
            self.refused += 1
            return
        self._grippers[side] = q

    def row(self) -> CommandedRow | None:
        """The command in force, None before the first arm command."""
        if self._arms is None:
            return None
        q, weight, stamp_ns = self._arms
        return CommandedRow(np.concatenate([q, list(self._grippers.values())]), weight, stamp_ns)


class WireCommandTap:
    """Reads the command topics of a robot's wire.

    Args:
        domain: DDS domain id. interface: network interface, `lo` for a twin on this machine.

    Raises:
        DomainError: if the domain cannot be opened.
    """

    def __init__(self, domain: int, interface: str) -> None:
        self.rows = CommandRows()
        self._participant = open_participant(domain, interface)
        self._arm = endpoints.reader(self._participant, endpoints.ARM_SDK)
        self._grippers = {
            side: endpoints.reader(self._participant, name)
            for side, name in endpoints.GRIPPER_CMD.items()
        }

    def poll(self) -> CommandedRow | None:
        """Take what has arrived; the command in force if there is a new arm command, else None."""
        for side, source in self._grippers.items():
            raw = endpoints.take_raw(source)
            if raw is not None:
                self.rows.feed_gripper(side, raw)
        raw = endpoints.take_raw(self._arm)
        if raw is None:
            return None
        now_ns = time.monotonic_ns()
        self.rows.feed_arm(raw, now_ns)
        row = self.rows.row()
        return row if row is not None and row.stamp_ns == now_ns else None

    def close(self) -> None:
        """Leave the domain. The tap cannot be used afterwards."""
        del self._arm, self._grippers, self._participant
