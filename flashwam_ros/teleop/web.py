# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Commands as JSON texts, from the console's page or any other program; see docs/teleoperation.md.

A text is refused as a whole or taken as a whole. Unknown names are refused, so that a misspelt
clutch is an error and not a clutch that is never held.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flashwam_ros.teleop.command import SIDES, ArmCommand, CommandError, OperatorCommand, Pose
from flashwam_ros.teleop.link import Link, LinkWatch, TransitClock
from flashwam_ros.teleop.settings import TeleopSettings

VERSION = 1
LONGEST = 4096
_TOP = {'v': int, 'client': str, 'seq': int, 'sent_ms': float}
_TOP_OPTIONAL = {'home': bool, 'pause': bool, 'arms': dict}
_ARM = {'clutch': bool, 'twist': list, 'pose': dict, 'opening': float, 'opening_rate': float}
_POSE = {'position': list, 'quaternion': list}


@dataclass(frozen=True)
class WebMessage:
    """One decoded text.

    Attributes:
        client: Name of the sender; a page makes a new one when it is loaded.
        seq: Number of the message, rising.
        sent_ns: Sender's monotonic clock (ns).
        command: What is wanted, stamped with ``sent_ns``.
    """

    client: str
    seq: int
    sent_ns: int
    command: OperatorCommand


def decode(text: str) -> WebMessage:
    """The message in a JSON text.

    Raises:
        CommandError: It is not JSON, or a part is missing, unknown, of the wrong type or not a
            sensible number; the message names the part.
    """
    if len(text) > LONGEST:
        raise CommandError(f'{len(text)} characters, at most {LONGEST} are read')
    try:
        raw = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except CommandError:
        raise
    except (ValueError, RecursionError) as error:
        raise CommandError(f'not JSON: {error}') from None
    raw = _fields(raw, 'message', {**_TOP, **_TOP_OPTIONAL}, _TOP)
    if raw['v'] != VERSION:
        raise CommandError(f'v: {raw["v"]}, this side speaks version {VERSION}')
    if not raw['client'] or raw['seq'] < 0:
        raise CommandError('client must not be empty and seq not negative')
    arms = _fields(raw.get('arms', {}), 'arms', dict.fromkeys(SIDES, dict), ())
    if not 0.0 <= raw['sent_ms'] < 1e15:
        raise CommandError(f'sent_ms: {raw["sent_ms"]} is not a clock')
    sent_ns = round(raw['sent_ms'] * 1e6)
    command = OperatorCommand(
        sent_ns,
        tuple(_arm(arms.get(side, {}), f'arms.{side}') for side in SIDES),
        raw.get('home', False),
        raw.get('pause', False),
    )
    return WebMessage(raw['client'], raw['seq'], sent_ns, command)


def _refuse(constant: str) -> None:
    raise CommandError(f'{constant} is not a number that can be commanded')


def _once(pairs: list[tuple[str, object]]) -> dict:
    """An object; of a name given twice neither value would be the one that was meant."""
    known = dict(pairs)
    if len(known) < len(pairs):
        raise CommandError(f'a name is given twice: {[name for name, _ in pairs]!r:.120}')
    return known


def _fields(raw: object, where: str, known: Mapping, required) -> dict:
    if not isinstance(raw, dict):
        raise CommandError(f'{where}: {raw!r:.60} is not an object')
    for name in raw:
        if name not in known:
            raise CommandError(f'{where}: unknown {name!r:.60}; there are {", ".join(known)}')
    for name in required:
        if name not in raw:
            raise CommandError(f'{where}: {name!r} is missing')
    for name, value in raw.items():
        kind = known[name]
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (kind is not bool and isinstance(value, bool)):
            raise CommandError(f'{where}.{name}: {value!r:.60} is not of type {kind.__name__}')
    return raw


def _arm(raw: object, where: str) -> ArmCommand:
    raw = _fields(raw, where, _ARM, ())
    try:
        if 'pose' in raw:
            pose = _fields(raw['pose'], 'pose', _POSE, _POSE)
            raw = {**raw, 'pose': Pose(tuple(pose['position']), tuple(pose['quaternion']))}
        if 'twist' in raw:
            raw = {**raw, 'twist': tuple(raw['twist'])}
        return ArmCommand(**raw)
    except CommandError as error:
        raise CommandError(f'{where}: {error}') from None


class WebDevice:
    """The newest command of the one sender that has control.

    Another sender is refused until the first one's commands are too old to move anything; what it
    holds when it takes over counts only after it was let go.
    """

    name = 'web'

    def __init__(self, settings: TeleopSettings) -> None:
        """Nobody has control."""
        self._watch = LinkWatch(settings)
        self._client = ''
        self._command: OperatorCommand | None = None
        self._armed = True
        self._presses = [0, 0]
        self._down = [False, False]

    def feed(self, text: str, arrival_ns: int) -> None:
        """Take a text that arrived at a monotonic instant (ns).

        Raises:
            CommandError: It is refused; the message says why, the last command stays.
        """
        message = decode(text)
        if message.client != self._client:
            stamp = None if self._command is None else self._command.stamp_ns
            if self._watch.state(stamp, arrival_ns) is Link.LIVE:
                raise CommandError(f'{self._client!r:.60} has control: close that page first')
            self._client, self._seq, self._clock = message.client, -1, TransitClock()
            self._armed = False
        if message.seq <= self._seq:
            raise CommandError(f'seq: {message.seq} after {self._seq}: overtaken or sent twice')
        self._seq = message.seq
        sent = message.command
        stamp_ns = self._clock.stamp_ns(message.sent_ns, arrival_ns)
        self._armed = self._armed or not (sent.home or any(arm.clutch for arm in sent.arms))
        arms = tuple(self._counted(i, arm) for i, arm in enumerate(sent.arms))
        self._command = OperatorCommand(stamp_ns, arms, self._armed and sent.home, sent.pause)

    def _counted(self, i: int, arm: ArmCommand) -> ArmCommand:
        """With the number of its press, so that one between two looks is not overlooked."""
        clutch = self._armed and arm.clutch
        self._presses[i] += clutch and not self._down[i]
        self._down[i] = clutch
        return replace(arm, clutch=clutch, press=self._presses[i])

    def command(self, now_ns: int) -> OperatorCommand | None:
        """The newest command."""
        del now_ns
        return self._command
