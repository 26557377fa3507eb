# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A gamepad (the values of `sensor_msgs/Joy`) as a teleoperation device; the mapping is a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import yaml

from flashwam_ros.resources import share_path
from flashwam_ros.teleop.command import SIDES, ArmCommand, CommandError, OperatorCommand

DIRECTIONS = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')
BUTTONS = ('clutch', 'slow', 'close', 'open', 'home', 'pause', 'select')
_LINEAR = 3
_CHOICES = ('left', 'right', 'both')
_SPEEDS = ('linear', 'angular', 'opening', 'slow')
_FASTEST = 10.0


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True)
class JoyMapping:
    """Which axis moves what, which button does what.

    Attributes:
        deadzone: Deflection (0..1) that counts as none.
        speeds: linear (m/s), angular (rad/s), opening (1/s) at full deflection; slow (factor).
        start: Arm at the start: 'left', 'right' or 'both'.
        axes: Direction -> (axis, sign).
        buttons: Name -> index.
    """

    deadzone: float
    speeds: Mapping[str, float]
    start: str
    axes: Mapping[str, tuple[int, int]]
    buttons: Mapping[str, int]

    def __post_init__(self) -> None:
        """Check names and ranges.

        Raises:
            CommandError: Something is missing, unknown or out of range; the message names it.
        """
        for what, given, known in (
            ('axes', self.axes, DIRECTIONS),
            ('buttons', self.buttons, BUTTONS),
            ('speeds', self.speeds, _SPEEDS),
        ):
            if set(given) != set(known):
                raise CommandError(f'joy mapping, {what}: give exactly {", ".join(known)}')
        if self.start not in _CHOICES:
            raise CommandError(f'joy mapping, start: {self.start!r} is not one of {_CHOICES}')
        if not (_is_number(self.deadzone) and 0.0 <= self.deadzone < 1.0):
            raise CommandError(f'joy mapping, deadzone: {self.deadzone!r} is not in 0..1')
        for name, speed in self.speeds.items():
            if not (_is_number(speed) and 0.0 < speed < _FASTEST):
                raise CommandError(f'joy mapping, speeds, {name}: {speed!r} is no sensible speed')
        for name, pair in self.axes.items():
            if not (len(pair) == 2 and _is_index(pair[0]) and pair[1] in (1, -1)):
                raise CommandError(f'joy mapping, axes, {name}: give [axis, 1 or -1]')
        for name, index in self.buttons.items():
            if not _is_index(index):
                raise CommandError(f'joy mapping, buttons, {name}: {index!r} is not an index')
        if len(set(self.buttons.values())) < len(self.buttons):
            raise CommandError('joy mapping, buttons: one button does two things')

    @classmethod
    def load(cls, path: str = '') -> JoyMapping:
        """Read a mapping (default: the installed one).

        Raises:
            CommandError: The file cannot be read, or see the class; the message names both.
        """
        file = Path(path) if path else share_path('config', 'teleop', 'joy.yaml')
        sections = [field.name for field in fields(cls)]
        try:
            raw = yaml.safe_load(file.read_text(encoding='utf-8'))
            if not isinstance(raw, dict) or set(raw) != set(sections):
                raise CommandError(f'joy mapping: give exactly {", ".join(sections)}')
            for section in ('speeds', 'axes', 'buttons'):
                if not isinstance(raw[section], dict):
                    raise CommandError(f'joy mapping, {section}: not a table of names and values')
            axes = {
                name: tuple(pair) if isinstance(pair, list) else ()
                for name, pair in raw['axes'].items()
            }
            return cls(**{**raw, 'axes': axes})
        except (OSError, UnicodeDecodeError, yaml.YAMLError, CommandError) as error:
            raise CommandError(f'{file}: {error}') from None


class JoyDevice:
    """Turns readings of a gamepad into commands."""

    name = 'joy'

    def __init__(self, mapping: JoyMapping) -> None:
        """Nothing heard yet; the arm of the mapping's ``start`` is selected."""
        self._map = mapping
        self._selected = mapping.start
        self._paused = False
        self._presses = 0
        self._down: dict[str, bool] = {}
        self._command: OperatorCommand | None = None

    @property
    def selected(self) -> str:
        """The arm that is moved: 'left', 'right' or 'both'."""
        return self._selected

    def feed(self, axes: Sequence[float], buttons: Sequence[int], stamp_ns: int) -> None:
        """Take one reading, stamped in monotonic ns.

        Raises:
            CommandError: The pad has fewer axes or buttons than the mapping names, or a value is
                not a number; nothing has changed then.
        """
        # Everything that can be refused comes before anything that changes.
        held = {name: bool(self._value(buttons, i, name)) for name, i in self._map.buttons.items()}
        arm = self._arm(axes, held)
        pressed = {name for name, on in held.items() if on and not self._down.get(name, True)}
        self._down = held
        self._presses += 'clutch' in pressed
        if 'pause' in pressed:
            self._paused = not self._paused
        if 'select' in pressed and not held['clutch']:
            self._selected = _CHOICES[(_CHOICES.index(self._selected) + 1) % len(_CHOICES)]
        arm = replace(arm, press=self._presses)
        arms = tuple(arm if self._selected in (side, 'both') else ArmCommand() for side in SIDES)
        self._command = OperatorCommand(stamp_ns, arms, held['home'], self._paused)

    def command(self, now_ns: int) -> OperatorCommand | None:
        """The newest reading's command."""
        del now_ns
        return self._command

    def _arm(self, axes: Sequence[float], held: Mapping[str, bool]) -> ArmCommand:
        speeds = self._map.speeds
        factor = speeds['slow'] if held['slow'] else 1.0
        twist = [
            factor * speeds['linear' if i < _LINEAR else 'angular'] * self._deflection(axes, name)
            for i, name in enumerate(DIRECTIONS)
        ]
        rate = speeds['opening'] * (held['open'] - held['close'])
        return ArmCommand(held['clutch'], tuple(twist), opening_rate=rate)

    def _deflection(self, axes: Sequence[float], name: str) -> float:
        axis, sign = self._map.axes[name]
        value = min(max(float(self._value(axes, axis, name)), -1.0), 1.0)
        beyond = max(abs(value) - self._map.deadzone, 0.0) / (1.0 - self._map.deadzone)
        return sign * (beyond if value > 0 else -beyond)

    @staticmethod
    def _value(values: Sequence[float], index: int, name: str) -> float:
        if index >= len(values):
            raise CommandError(
                f'the pad has no number {index} for {name!r} (only {len(values)}): '
                'another layout? Give a mapping file for it'
            )
        return values[index]
