# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the audit measures of one stream at a time: its timing, its pictures, its joints.

Everything is incremental: the recorder feeds the same objects live that `flashwam episodes check`
feeds from a file.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from flashwam_ros.robot.contract import RobotContract

LOOK_S = 0.2
"""Pictures are decoded, at an eighth of their size, so often; all of them are compared."""
_SIZE = (16, 16)
_AFTER_COMMENT = 64
"""The stamp rides in a comment among the first bytes of a JPEG: equal pictures differ there."""


class Timing:
    """Intervals and ages of one stream.

    Attributes:
        count: messages so far.
        backwards: stamps before the one before.
        repeated: stamps less than `REPEAT_S` after the one before: the same thing told twice.
        future: stamps more than `FUTURE_S` later than their arrival.
        first_arrival_ns: arrival of the first message, 0 before it.
        last_arrival_ns: arrival of the newest message, 0 before the first.
    """

    FUTURE_S = 0.005
    REPEAT_S = 0.001

    def __init__(self) -> None:
        self.count = self.backwards = self.repeated = self.future = 0
        self.first_arrival_ns = self.last_arrival_ns = 0
        self._intervals = array('d')
        self._ages = array('d')
        self._last_ns = 0

    def add(self, stamp_ns: int, arrival_ns: int) -> None:
        """One message: its own stamp and its arrival (ns)."""
        age_s = (arrival_ns - stamp_ns) * 1e-9
        if self.count:
            interval_s = (stamp_ns - self._last_ns) * 1e-9
            self.backwards += interval_s < -self.REPEAT_S
            self.repeated += abs(interval_s) <= self.REPEAT_S
            self._intervals.append(interval_s)
        else:
            self.first_arrival_ns = arrival_ns
        self.last_arrival_ns = arrival_ns
        self.future += age_s < -self.FUTURE_S
        self._ages.append(age_s)
        self._last_ns = stamp_ns
        self.count += 1

    @property
    def rate_hz(self) -> float:
        """Messages per second of their own stamps, 0 for fewer than two."""
        total = float(np.sum(self._intervals))
        return len(self._intervals) / total if total > 0 else 0.0

    def longer(self, seconds: float) -> tuple[int, float]:
        """Intervals longer than some time (s): how many, and the longest (s)."""
        intervals = np.array(self._intervals)
        long = intervals[intervals > seconds]
        return len(long), float(long.max(initial=0.0))

    def gaps(self, factor: float) -> tuple[int, float]:
        """Intervals longer than `factor` times the usual one: how many, and the longest (s)."""
        if not self._intervals:
            return 0, 0.0
        return self.longer(factor * float(np.median(self._intervals)))

    def age_s(self, quantile: float) -> float:
        """Arrival minus stamp (s), a percentile of it; 0 without messages."""
        return float(np.percentile(np.array(self._ages), quantile)) if self._ages else 0.0


@dataclass(frozen=True)
class Look:
    """A decoded picture: mean and spread of brightness (0..255), red minus blue (share of all)."""

    brightness: float
    contrast: float
    warmth: float


class Pictures:
    """Frozen, black and odd pictures of one camera.

    Attributes:
        looks: what the decoded pictures were like.
        undecodable: frames that are no JPEG.
        frozen_s: longest time with the same picture while the robot moved in its view.
        changes: (M, 3) change of the picture since the look before (mean grey levels), travel of
            the left and of the right arm meanwhile (rad).
    """

    FROZEN_TRAVEL = 0.1

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self.undecodable = 0
        self.frozen_s = 0.0
        self.changes: list[tuple[float, float, float]] = []
        self._crc: int | None = None
        self._same_since = (0, 0.0)
        self._looked: tuple[int, np.ndarray, np.ndarray] | None = None

    def add(self, stamp_ns: int, jpeg: memoryview, travel: np.ndarray, in_view: float) -> None:
        """One frame.

        Args:
            stamp_ns: capture.
            jpeg: as it came off the wire.
            travel: (2,) rad that left and right arm have gone so far.
            in_view: rad that the arms which this camera sees have gone so far.
        """
        crc = zlib.crc32(jpeg[_AFTER_COMMENT:])
        if crc != self._crc:
            self._crc, self._same_since = crc, (stamp_ns, in_view)
        elif in_view - self._same_since[1] > self.FROZEN_TRAVEL:
            self.frozen_s = max(self.frozen_s, (stamp_ns - self._same_since[0]) * 1e-9)
        if self._looked is None or stamp_ns - self._looked[0] >= LOOK_S * 1e9:
            self._look(stamp_ns, jpeg, travel)

    def _look(self, stamp_ns: int, jpeg: memoryview, travel: np.ndarray) -> None:
        small = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
        if small is None:
            self.undecodable += 1
            return
        blue, green, red = small.reshape(-1, 3).mean(axis=0).tolist()
        grey = cv2.resize(small, _SIZE, interpolation=cv2.INTER_AREA).mean(axis=2)
        total = max(red + green + blue, 1.0)
        self.looks.append(Look(float(grey.mean()), float(grey.std()), (red - blue) / total))
        if self._looked is not None:
            left, right = (travel - self._looked[2]).tolist()
            change = float(np.abs(grey - self._looked[1]).mean())
            self.changes.append((change, left, right))
        self._looked = (stamp_ns, grey, travel.copy())

    @property
    def warmth(self) -> float:
        """Median of red minus blue, 0 without a picture."""
        return float(np.median([look.warmth for look in self.looks])) if self.looks else 0.0


def own_against_other(changes: dict[str, list[tuple[float, float, float]]]) -> float:
    """Does each wrist camera move with its own arm? Positive: yes; negative: with the other one.

    The sum over both cameras of the correlation of their pictures' change with their own arm's
    travel, minus the same with the other arm's.

    Args:
        changes: `Pictures.changes` of 'left' and 'right'.
    """
    total = 0.0
    for side, sign in (('left', 1.0), ('right', -1.0)):
        table = np.array(changes[side]).reshape(-1, 3)
        left, right = (_correlation(table[:, 0], table[:, i]) for i in (1, 2))
        total += sign * (left - right)
    return total


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 2 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


class Joints:
    """Joint values of the channels: finite, within limits, without jumps.

    Args:
        contract: limits and column order.

    Attributes:
        first: (C,) first finite row, None before it.
        rows: rows so far.
        non_finite: rows with a value that is not a number.
        saturated: (C,) rows in which the channel stood at a limit.
        jumps: steps faster than the channel may move.
        worst_jump: (channel name, rad) of the largest of them.
        travel: (2,) rad that the fastest joint of left and right arm has gone so far.
    """

    AT_LIMIT = 0.002
    JUMP_FACTOR = 1.5
    JUMP_SLACK = 0.03
    PAUSE_S = 0.1

    def __init__(self, contract: RobotContract) -> None:
        self._contract = contract
        self._arms = [contract.group('left_arm'), contract.group('right_arm')]
        self.first: np.ndarray | None = None
        self.rows = self.non_finite = self.jumps = 0
        self.saturated = np.zeros(len(contract.channels), int)
        self.worst_jump = ('', 0.0)
        self.travel = np.zeros(2)
        self._last: tuple[int, np.ndarray] | None = None
        self._order: tuple[Sequence[str], list[int]] = ((), [])

    def add(self, stamp_ns: int, names: Sequence[str], position: np.ndarray) -> None:
        """One message with at least the contract's channels.

        Raises:
            ValueError: a channel is missing.
        """
        if names != self._order[0]:
            columns = [list(names).index(name) for name in self._contract.channel_names]
            self._order = (names, columns)
        row = position[self._order[1]]
        self.rows += 1
        if not np.isfinite(row).all():
            self.non_finite += 1
            return
        room = np.minimum(row - self._contract.lower, self._contract.upper - row)
        self.saturated += room <= self.AT_LIMIT
        if self.first is None:
            self.first = row
        if self._last is not None:
            self._step((stamp_ns - self._last[0]) * 1e-9, row - self._last[1])
        self._last = (stamp_ns, row)

    def _step(self, seconds: float, step: np.ndarray) -> None:
        size = np.abs(step)
        self.travel += [size[arm].max() for arm in self._arms]
        if not 0 < seconds < self.PAUSE_S:
            return
        excess = size - (self._contract.velocity * seconds * self.JUMP_FACTOR + self.JUMP_SLACK)
        if (excess > 0).any():
            self.jumps += 1
            channel = int(excess.argmax())
            if size[channel] > self.worst_jump[1]:
                name = self._contract.channel_names[channel]
                self.worst_jump = (name, float(size[channel]))
