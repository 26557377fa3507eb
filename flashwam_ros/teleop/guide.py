# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clutch, anchors, scaling and speed limits: from one arm's commands to where its hand shall be.

Pressing the clutch ties the device's hand to the robot's: what the device does from then on, the
hand does from where it is. Letting go stops the hand. A clutch that was already held when the
link came (back) counts only after it was let go: nothing starts to move by itself.
"""

from __future__ import annotations

import mink
import numpy as np

from flashwam_ros.teleop.command import ArmCommand, Pose
from flashwam_ros.teleop.settings import TeleopSettings

_TAKEOVER = 0.05


class Clutch:
    """A dead-man switch that must be seen open before it counts as held."""

    def __init__(self, seen_open: bool = False) -> None:
        """Not held; ``seen_open``: it is known to have been open just now."""
        self._seen_open = seen_open
        self._press = 0
        self.held = False

    def update(self, pressed: bool, allowed: bool, press: int = 0) -> bool:
        """Take one reading; True on the press that begins a motion.

        Args:
            pressed: What the device says.
            allowed: The link is alive and nothing else forbids motion.
            press: Which press it is; another number was let go since the last reading.
        """
        if not allowed:
            self._seen_open = False
        elif not pressed:
            self._seen_open = True
        before = self.held and press == self._press
        self.held, self._press = allowed and pressed and self._seen_open, press
        return self.held and not before


class ArmGuide:
    """Where one hand shall be.

    Attributes:
        target: Hand pose now, None while the arm shall stay.
        lead: (6,) motion of the target in the coming step (m, rad, base axes).
    """

    def __init__(self, settings: TeleopSettings) -> None:
        """Nothing held."""
        self._settings = settings
        self.clutch = Clutch()
        self.target: mink.SE3 | None = None
        self.lead = np.zeros(6)
        self._velocity = np.zeros(6)
        self._anchors: tuple[mink.SE3, mink.SE3] | None = None

    def take(self, command: ArmCommand, allowed: bool, hand: mink.SE3) -> None:
        """Take a command, with the hand as commanded now."""
        pressed = self.clutch.update(command.clutch, allowed, command.press)
        if pressed:
            self.target, self._anchors, self._velocity = hand, None, np.zeros(6)
        elif not self.clutch.held:
            self.target, self._anchors = None, None
        if self.target is not None and command.pose is not None and self._anchors is None:
            self._anchors = _transform(command.pose), hand
            self.target = hand
        if command.pose is None:
            self._anchors = None

    def release(self, seen_open: bool = False) -> None:
        """Let go; the next press anchors anew (``seen_open``: see :class:`Clutch`)."""
        self.target, self._anchors = None, None
        self.clutch = Clutch(seen_open)

    def advance(self, command: ArmCommand, hand: mink.SE3, dt: float, left_s: float) -> None:
        """Set ``lead`` for a step; call :meth:`arrive` after it.

        Args:
            command: The command in force.
            hand: The hand as commanded now.
            dt: Length of the step (s).
            left_s: Time within which a pose shall be reached (s), at least ``dt``.
        """
        self.lead = np.zeros(6)
        if self.target is None:
            return
        self._keep_close(hand)
        s = self._settings
        if self._anchors is not None:
            self._velocity = self._limited(self._to_goal(command.pose) / max(left_s, dt))
        else:
            wanted = self._limited(np.array(command.twist or np.zeros(6)))
            change = wanted - self._velocity
            for part, most in (
                (slice(0, 3), s.linear_acceleration),
                (slice(3, 6), s.angular_acceleration),
            ):
                change[part] = _shortened(change[part], most * dt)
            self._velocity = self._velocity + change
        self.lead = self._velocity * dt

    def arrive(self) -> None:
        """The step is over: the target has moved."""
        if self.target is not None:
            self.target = mink.SE3.from_rotation_and_translation(
                mink.SO3.exp(self.lead[3:]) @ self.target.rotation(),
                self.target.translation() + self.lead[:3],
            )

    def _to_goal(self, pose: Pose) -> np.ndarray:
        """From the target to where the device says (6,), relative to the anchors."""
        device, hand = self._anchors
        now = _transform(pose)
        moved = now.translation() - device.translation()
        turned = now.rotation() @ device.rotation().inverse()
        position = hand.translation() + self._settings.translation_scale * moved
        turn = turned @ hand.rotation() @ self.target.rotation().inverse()
        return np.concatenate([position - self.target.translation(), turn.log()])

    def _limited(self, velocity: np.ndarray) -> np.ndarray:
        s = self._settings
        return np.concatenate(
            [_shortened(velocity[:3], s.linear_speed), _shortened(velocity[3:], s.angular_speed)]
        )

    def _keep_close(self, hand: mink.SE3) -> None:
        """A target that ran ahead of a hand at its limits would come back late."""
        s = self._settings
        ahead = self.target.translation() - hand.translation()
        turned = (self.target.rotation() @ hand.rotation().inverse()).log()
        self.target = mink.SE3.from_rotation_and_translation(
            mink.SO3.exp(_shortened(turned, s.reach_rad)) @ hand.rotation(),
            hand.translation() + _shortened(ahead, s.reach_m),
        )


class JawGuide:
    """Where one gripper shall be (motor rad)."""

    def __init__(self, stroke: tuple[float, float], start: float) -> None:
        """``stroke``: motor angle closed and open (rad); ``start``: where it is told to be."""
        self._closed, self._open = stroke
        self.target = float(np.clip(start, *stroke))
        self._pressed_at: float | None = None
        self._held = False

    def advance(self, command: ArmCommand, held: bool, dt: float, now: float) -> float:
        """The target after a step of ``dt`` s; it moves only while the clutch is ``held``.

        ``now``: where the gripper is told to be (motor rad); there it stays when it is let go.
        """
        if not held:
            if self._held:
                self.target = now
            self._held, self._pressed_at = False, None
            return self.target
        self._held = True
        span = self._open - self._closed
        if command.opening is not None:
            if self._pressed_at is None:
                self._pressed_at = command.opening
            if abs(command.opening - self._pressed_at) > _TAKEOVER:
                self._pressed_at = np.inf  # taken over until the clutch is let go
                self.target = self._closed + command.opening * span
        step = command.opening_rate * span * dt
        self.target = float(np.clip(self.target + step, self._closed, self._open))
        return self.target


def _transform(pose: Pose) -> mink.SE3:
    return mink.SE3.from_rotation_and_translation(
        mink.SO3(np.array(pose.quaternion)), np.array(pose.position)
    )


def _shortened(vector: np.ndarray, longest: float) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector * (longest / length) if length > longest else vector
