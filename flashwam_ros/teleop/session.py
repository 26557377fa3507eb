# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One operator at one driver: when rows flow, when the arms hold, when they are given back.

waiting    the driver does not hold the arms
ready      it does; nothing flows before the first clutch
streaming  rows flow without a gap, whether a clutch is held or not (then they stand still)
stopped    the operator's STOP at the driver; the arms must be taken over anew
lost       the operator is gone: the arms are to be given back
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Sequence

import numpy as np

from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.contract import GRIPPER_GROUPS, RobotContract
from flashwam_ros.teleop.command import Device, OperatorCommand
from flashwam_ros.teleop.guide import Clutch
from flashwam_ros.teleop.link import Link, LinkWatch
from flashwam_ros.teleop.settings import TeleopSettings
from flashwam_ros.teleop.stream import ChunkStream
from flashwam_ros.teleop.teleoperator import Teleoperator

_KEPT = 600
_HELD = ('HOLD', 'EXECUTE')
_MS = 1e3


class TeleopSession:
    """Pure core of the teleoperation node; all times are monotonic ns.

    Attributes:
        state: See above.
        note: The last thing that the operator should know.
        latency_s: From the operator's command to the start of its rows, the newest last.
        late: Chunks that came after the end of their predecessor: the arms held in between.
    """

    def __init__(
        self, contract: RobotContract, device: Device, settings: TeleopSettings | None = None
    ) -> None:
        """No driver yet."""
        self.settings = settings or TeleopSettings.load()
        self.device = device
        self.teleoperator = Teleoperator(contract, self.settings)
        self.stream = ChunkStream(contract, self.settings)
        self.state, self.note = 'waiting', ''
        self.latency_s: deque[float] = deque(maxlen=_KEPT)
        self.late = 0
        self._jaws = contract.group(*GRIPPER_GROUPS)
        self._watch = LinkWatch(self.settings)
        self._link, self._age_s = Link.WAITING, float('inf')
        self._start = Clutch()
        self._in_force: np.ndarray | None = None
        self._grip: np.ndarray | None = None
        self._stamps: dict[int, int] = {}
        self._mode = ''
        self._ready_ns = 0

    # ---- what the driver says ----------------------------------------------------------------

    def driver(self, mode: str, events: Sequence[str] = ()) -> None:
        """Take the driver's mode and named events."""
        mode = mode.upper()
        if any(event.startswith('stop:') for event in events) and mode in _HELD:
            self._end('stopped', 'STOP: give the arms back and take them over anew to go on')
        for event in events:
            if event.startswith('chunk_rejected') and self.state == 'streaming':
                # The driver takes none of those that would follow either.
                self._end('ready', f'{event}; press the clutch again')
        if mode not in _HELD:
            if self.state == 'streaming':
                self.note = f'the driver went to {mode}'
            self._end('waiting')
            self._grip = self._in_force = None
        elif self.state in ('waiting', 'lost') and self._mode not in _HELD:
            self.state, self.note, self._ready_ns = 'ready', '', 0
        self._mode = mode

    def rest(self) -> None:
        """Send no more: the arms are about to be given back."""
        if self.state == 'streaming':
            self._end('ready')

    def in_force(self, command: np.ndarray) -> None:
        """Take the command that the driver writes, (16,)."""
        self._in_force = np.array(command, dtype=np.float64)

    @property
    def command_in_force(self) -> np.ndarray | None:
        """The newest of those, None while the driver does not hold the arms."""
        return self._in_force

    def applied(self, account: AppliedChunk) -> None:
        """Take the driver's account of a chunk, stamps on our clock."""
        if account.session != self.stream.session:
            return
        really = self.stream.applied(account)
        if not account.complete:
            self.late += account.slack_s < 0.0 and account.index > 0
            stamp_ns = self._stamps.pop(account.index, None)
            if stamp_ns is not None:
                self.latency_s.append((account.start_ns - stamp_ns) * 1e-9)
        if really is not None:
            self.note = 'held back: the arms could not follow; let the clutch go and press again'
            self.teleoperator.follow(really)

    # ---- what is to be done ------------------------------------------------------------------

    def work(self, now_ns: int) -> ActionChunk | None:
        """Look at the device; the next chunk where one is due."""
        operator = self.device.command(now_ns)
        stamp_ns = None if operator is None else operator.stamp_ns
        self._link = self._watch.state(stamp_ns, now_ns)
        self._age_s = float('inf') if stamp_ns is None else (now_ns - stamp_ns) * 1e-9
        if self.state not in ('ready', 'streaming'):
            return None
        if self._gone(now_ns):
            what = f'for {self._age_s:.0f} s' if stamp_ns else 'at all'
            self._end('lost', f'no command {what}: the arms are given back')
            return None
        if self.state == 'ready':
            self._maybe_begin(operator, now_ns)
        if self.state != 'streaming':
            return None
        if self.stream.silent(now_ns):
            self._end('ready', self.note or 'the driver does not execute the chunks')
            return None
        return self._chunk(operator, now_ns) if self.stream.wanted(now_ns) else None

    @property
    def due_ns(self) -> int | None:
        """When :meth:`work` should be called at the latest, None: any time."""
        return self.stream.due_ns if self.state == 'streaming' else None

    def _gone(self, now_ns: int) -> bool:
        """Whether nobody came (back) in the time that there was since the arms were taken over."""
        if self.state == 'streaming':
            return self._link is Link.LOST
        if self._link not in (Link.WAITING, Link.LOST):
            self._ready_ns = 0
            return False
        self._ready_ns = self._ready_ns or now_ns
        within_s = (self.settings.come_within_s if self._link is Link.WAITING
                    else self.settings.release_after_s)
        return now_ns - self._ready_ns > within_s * 1e9

    def _maybe_begin(self, operator: OperatorCommand | None, now_ns: int) -> None:
        wanted = operator is not None and (
            operator.home or any(arm.clutch for arm in operator.arms)
        )
        allowed = self._link is Link.LIVE and not operator.pause and self._in_force is not None
        if not self._start.update(wanted, allowed):
            return
        command = self._in_force.copy()
        if self._grip is not None:
            # What the driver writes is bounded in torque: less than what the jaws were told.
            command[self._jaws] = self._grip
        self.teleoperator.begin(command, seen_open=True)
        self.stream.begin(f'teleop-{uuid.uuid4().hex[:12]}', now_ns)
        self._stamps.clear()
        self.state, self.note = 'streaming', ''

    def _chunk(self, operator: OperatorCommand | None, now_ns: int) -> ActionChunk:
        live = self._link is Link.LIVE
        rows = self.teleoperator.plan(operator, live, self.stream.rows)
        if self.teleoperator.notes:
            self.note = self.teleoperator.notes[-1]
            self.teleoperator.notes.clear()
        stamp_ns = operator.stamp_ns
        chunk = self.stream.chunk(rows, stamp_ns, now_ns, {'command': self._age_s})
        if live and any(self.teleoperator.held):
            self._stamps[chunk.index] = stamp_ns
        return chunk

    def _end(self, state: str, note: str = '') -> None:
        if self.state == 'streaming':
            self._grip = self.teleoperator.command[self._jaws]
            self.stream.end()
        self._start, self._ready_ns = Clutch(), 0
        self.state, self.note = state, note or self.note

    # ---- what the operator sees --------------------------------------------------------------

    def status(self) -> dict:
        """Everything that the operator should see, in JSON types; times in s and ms."""
        latency = np.array(self.latency_s) * _MS
        age_s = self._age_s
        return {
            'state': self.state,
            'note': self.note,
            'device': self.device.name,
            'link': str(self._link),
            'command_age_s': round(age_s, 3) if np.isfinite(age_s) else None,
            'held': dict(zip(('left', 'right'), self.teleoperator.held, strict=True)),
            'session': self.stream.session,
            'late_chunks': self.late,
            'braked_steps': self.teleoperator.ik.braked_steps,
            'latency_ms': {
                name: round(float(np.percentile(latency, part)), 1) if len(latency) else None
                for name, part in (('p50', 50), ('p95', 95), ('max', 100))
            },
        }
