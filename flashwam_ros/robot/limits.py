# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The limiter: whatever the target, the command keeps the contract's limits.

With ``v' = (p' - p) / dt`` every step keeps, in this order of precedence,

1. position: ``p'`` inside the limits, and so is the end of braking from ``v'`` at full
   acceleration. With ``v' <- v - a dt`` and ``p' = p + v' dt`` braking takes ``v^2 / 2a`` at most,
   whatever the step times, so ``v'^2 / 2a + v' dt <= d`` (``d`` the distance to the limit) is
   enough for ever: ``v' <= sqrt((a dt)^2 + 2 a d) - a dt``. A command that starts outside only
   moves inward.
2. velocity: ``|v'| <= v_max``.
3. acceleration: ``|v' - v| <= a dt``.
4. ``|p' - measured|`` of the arms stays in its bound, as far as 1 to 3 let it.
5. the path's direction: one pace per arm.

Inside these bounds the step lands exactly on the target, moving with the target's velocity, so a
target that itself keeps the limits is followed without lag. From afar, the approach relative to
the moving target is capped by the same braking rule, so it does not overshoot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashwam_ros.robot.contract import GRIPPER_GROUPS, RobotContract
from flashwam_ros.robot.settings import DriverSettings, load_settings

# A step longer than this is taken as this long: the real speed is then lower, never higher.
LONGEST_STEP_S = 0.02
# Deviation from the target that counts as an intervention: 3 to 5 mm at the hand; 1.7 mm of jaw
# opening (grippers move in motor rad).
_ARM_TOLERANCE = 0.01
_GRIPPER_TOLERANCE = 0.1
_TINY = 1e-12
# What a chunk may ask for at all; docs/safety.md says what nominal runs ask for.
FIRST_ROW_RAD = 0.5
_ARM_OUTSIDE = 0.3
_GRIPPER_OUTSIDE = 0.5  # of its range; the torque window bounds what a jaw does


@dataclass(frozen=True)
class LimiterState:
    """The command in force: position (C,) and velocity (C,) in channel units."""

    position: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True)
class LimitReport:
    """What a step did.

    Attributes:
        limited: Whether it deviated from the target.
        arm_limited: Whether an arm joint did. A jaw that is told to close does so at its limit of
            speed, so that alone says nothing about the path of the hand.
        deviation: Largest deviation of an arm joint (rad).
        finite: Whether the whole target was finite.
    """

    limited: bool
    arm_limited: bool
    deviation: float
    finite: bool


def _clip(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """What np.clip does, without its wrapper, which costs several times the work at this size."""
    return np.minimum(np.maximum(values, low), high)


def tolerance(contract: RobotContract) -> np.ndarray:
    """Deviation from the target from which on a channel counts as limited, (C,)."""
    out = np.full(len(contract.channels), _ARM_TOLERANCE)
    out[contract.group(*GRIPPER_GROUPS)] = _GRIPPER_TOLERANCE
    return out


def widest(contract: RobotContract) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest value of each channel, (C,), that is cut and not refused.

    A model overshoots a limit a little. Farther out lie rows in another unit or another order.
    """
    room = np.full(len(contract.channels), _ARM_OUTSIDE)
    grippers = contract.group(*GRIPPER_GROUPS)
    room[grippers] = _GRIPPER_OUTSIDE * (contract.upper - contract.lower)[grippers]
    return contract.lower - room, contract.upper + room


class Limiter:
    """The limits of one contract; a pure function of its arguments."""

    def __init__(self, contract: RobotContract, settings: DriverSettings | None = None) -> None:
        """Copy the limits; ``settings`` defaults to the installed ones."""
        settings = load_settings() if settings is None else settings
        self.lower, self.upper = contract.lower, contract.upper
        self.velocity, self.acceleration = contract.velocity, contract.acceleration
        grippers = contract.group(*GRIPPER_GROUPS)
        self._bound = np.full(len(contract.channels), settings.tracking_rad)
        self._bound[grippers] = np.inf
        self._arms = np.isfinite(self._bound)
        self._tolerance = tolerance(contract)
        self._window = settings.gripper_window
        groups = [c.group for c in contract.channels]
        self._starts = [i for i, g in enumerate(groups) if i == 0 or g != groups[i - 1]]
        self._group_of = np.cumsum([i in self._starts for i in range(len(groups))]) - 1

    def seed(self, position: np.ndarray) -> LimiterState:
        """A state at rest at ``position`` (C,), which may lie outside the limits.

        Raises:
            ValueError: The position is not finite.
        """
        position = np.array(position, dtype=np.float64)
        if position.shape != self.lower.shape or not np.isfinite(position).all():
            raise ValueError(f'cannot start from the measured pose {position}')
        return LimiterState(position, np.zeros_like(position))

    def stopping_point(self, state: LimiterState) -> np.ndarray:
        """Where braking at full acceleration ends, (C,), inside the limits."""
        v = state.velocity
        point = state.position + 0.5 * v * np.abs(v) / self.acceleration
        return _clip(point, self.lower, self.upper)

    def step(
        self,
        state: LimiterState,
        target: np.ndarray,
        target_velocity: np.ndarray,
        measured: np.ndarray,
        dt: float,
    ) -> tuple[LimiterState, LimitReport]:
        """Move the command towards the target.

        Args:
            state: The command in force.
            target: (C,) where the command should be at the end of this step. Channels that are not
                finite stay where they are.
            target_velocity: (C,) the target's velocity then.
            measured: (C,) measured positions; channels that are not finite do not bound anything.
            dt: Time since the last step (s); not positive: nothing moves.

        Returns:
            The new command in force and what was limited.
        """
        if not dt > 0.0:
            return state, LimitReport(False, False, 0.0, True)
        dt = min(dt, LONGEST_STEP_S)
        p, v = state.position, state.velocity
        adt = self.acceleration * dt
        wanted, goal, drift, finite = self._goal(p, target, target_velocity, measured)
        step = self._approach(v, goal - p, drift, adt, dt)
        step = _clip(step, v - adt, v + adt)
        step = _clip(step, -self.velocity, self.velocity)
        step = _clip(step, -self._cap(p - self.lower, adt), self._cap(self.upper - p, adt))
        moved = p + step * dt
        # Rounding must not carry the command over a limit that it did not start beyond.
        moved = _clip(moved, np.minimum(self.lower, p), np.maximum(self.upper, p))
        off = np.abs(moved - wanted)
        beyond = off > self._tolerance
        report = LimitReport(
            limited=bool(beyond.any()) or not finite,
            arm_limited=bool(beyond[self._arms].any()) or not finite,
            deviation=float(off[self._arms].max()),
            finite=finite,
        )
        return LimiterState(moved, step), report

    def gripper_write(self, command: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """The gripper positions to write: within the torque window around the measured ones.

        Only what is written is clipped, not the command in force: a closing jaw that stalls on an
        object keeps its command and pushes with the window's torque.

        Args:
            command: (G,) motor rad.
            measured: (G,) motor rad, finite.
        """
        return _clip(command, measured - self._window, measured + self._window)

    def _goal(
        self, p: np.ndarray, target: np.ndarray, drift: np.ndarray, measured: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """The target as asked for, as allowed, its velocity, and whether all of it was finite."""
        good = np.isfinite(target) & np.isfinite(drift)
        finite = bool(good.all())
        wanted = np.where(good, target, p)
        goal = _clip(wanted, self.lower, self.upper)
        drift = np.where(good & (goal == wanted), drift, 0.0)
        way = goal - p
        ahead = np.where(np.isfinite(measured), p - measured, 0.0)
        room = np.maximum(self._bound - np.sign(way) * ahead, 0.0)
        reach = self._smallest(room / (np.abs(way) + _TINY))
        # Where the arm does not follow, the goal waits for it.
        drift = np.where(reach < 1.0, 0.0, drift)
        drift *= self._smallest(self.velocity / np.maximum(np.abs(drift), _TINY))
        return wanted, p + reach * way, drift, finite

    def _approach(
        self, v: np.ndarray, error: np.ndarray, drift: np.ndarray, adt: np.ndarray, dt: float
    ) -> np.ndarray:
        """Velocity that reaches the goal soonest without overshoot, at one pace per arm."""
        correction = error / dt - drift
        need = np.abs(correction) + _TINY
        sign = np.sign(correction)
        brake = np.sqrt(adt * (adt + 2.0 * need)) - adt
        # Within one step of braking the goal is met exactly.
        brake = np.maximum(brake, np.minimum(need, adt))
        room = self.velocity - sign * drift
        closing = sign * (v - drift)
        # A channel that moves away must turn round first; it does not slow the others down.
        pickup = np.where(closing >= 0.0, closing + adt, np.inf)
        pace = self._smallest(np.minimum(np.minimum(brake, room), pickup) / need)
        return drift + pace * correction

    def _cap(self, distance: np.ndarray, adt: np.ndarray) -> np.ndarray:
        """Fastest velocity towards a limit at ``distance`` from which braking ends before it."""
        distance = np.maximum(distance, 0.0)
        return np.sqrt(adt * adt + 2.0 * self.acceleration * distance) - adt

    def _smallest(self, factors: np.ndarray) -> np.ndarray:
        """The smallest factor of each group, at most 1, spread over its channels."""
        return np.minimum(np.minimum.reduceat(factors, self._starts), 1.0)[self._group_of]
