# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A passive recorder of the robot's wire: every arm command, and the measured joints."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cyclonedds.core import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from flashwam_ros.wire import cdr, endpoints, idl
from flashwam_ros.wire.participant import open_participant
from flashwam_ros.wire.robot_bus import ARM_SLOTS

_DEPTH = 2048
_POLL_S = 0.01
_STATE_PERIOD_NS = 8_000_000
# Best effort: a recorder must never hold a control tick up.
_ALL = Qos(
    Policy.Reliability.BestEffort, Policy.Durability.Volatile, Policy.History.KeepLast(_DEPTH)
)


@dataclass(frozen=True)
class Trace:
    """What was on the wire; times in s from an instant, angles in rad, 14 arm joints.

    Attributes:
        t: (N,) when each command was written. q, dq: (N, 14) commanded. weight: (N,).
        writer: (N,) number of the writer, 0 for the first that was heard.
        measured_t: (M,). measured_q, measured_dq: (M, 14).
    """

    t: np.ndarray
    q: np.ndarray
    dq: np.ndarray
    weight: np.ndarray
    writer: np.ndarray
    measured_t: np.ndarray
    measured_q: np.ndarray
    measured_dq: np.ndarray

    def save(self, path: Path) -> None:
        """Write as .npz."""
        np.savez_compressed(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(**{name: file[name] for name in file.files})


class WireRecorder:
    """Listens to `rt/arm_sdk` and `rt/lowstate` from its construction on.

    Times are those at which the writers wrote (their clock is this machine's).

    Args:
        domain: DDS domain. interface: network interface.
    """

    def __init__(self, domain: int, interface: str = 'lo') -> None:
        self._participant = open_participant(domain, interface)
        self._commands = self._reader(endpoints.ARM_SDK, idl.LowCmdType)
        self._states = self._reader(endpoints.LOWSTATE, idl.LowStateType)
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._heard: list[tuple[int, int, bytes]] = []
        self._measured: list[tuple[int, bytes]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name='wire', daemon=True)
        self._thread.start()

    def _reader(self, name: str, kind: type) -> DataReader:
        return DataReader(self._participant, Topic(self._participant, name, kind), _ALL)

    @property
    def last_command_ns(self) -> int:
        """When the newest command was written (monotonic ns), 0 before the first."""
        return self._heard[-1][0] if self._heard else 0

    @property
    def last_weight(self) -> float:
        """Weight in the newest command, 0 before the first."""
        return cdr.LowCmd(self._heard[-1][2]).weight if self._heard else 0.0

    @property
    def last_speed(self) -> float:
        """Fastest joint in the newest command, rad/s, 0 before the first."""
        if not self._heard:
            return 0.0
        return float(np.abs(cdr.LowCmd(self._heard[-1][2]).dq[ARM_SLOTS]).max())

    def close(self) -> None:
        """Stop listening and leave the domain."""
        if self._closing:
            return
        self._closing = True
        self._thread.join()
        del self._commands, self._states, self._participant

    def trace(self, zero_ns: int) -> Trace:
        """Everything heard, with times from `zero_ns` (monotonic)."""
        heard, measured = list(self._heard), list(self._measured)
        writers: dict[int, int] = {}
        for _, writer, _ in heard:
            writers.setdefault(writer, len(writers))
        views = [cdr.LowCmd(raw) for _, _, raw in heard]
        states = [cdr.LowState(raw) for _, raw in measured]
        return Trace(
            t=np.array([(at - zero_ns) * 1e-9 for at, _, _ in heard]),
            q=_arms([view.q for view in views]),
            dq=_arms([view.dq for view in views]),
            weight=np.array([view.weight for view in views]),
            writer=np.array([writers[w] for _, w, _ in heard], int),
            measured_t=np.array([(at - zero_ns) * 1e-9 for at, _ in measured]),
            measured_q=_arms([state.q for state in states]),
            measured_dq=_arms([state.dq for state in states]),
        )

    def _run(self) -> None:
        newest = 0
        while not self._closing:
            for sample in self._commands.take(_DEPTH):
                raw = getattr(sample, 'raw', b'')
                if raw:
                    info = sample.sample_info
                    at_ns = info.source_timestamp - self._offset_ns
                    self._heard.append((at_ns, info.publication_handle, raw))
            for sample in self._states.take(_DEPTH):
                raw = getattr(sample, 'raw', b'')
                at_ns = sample.sample_info.source_timestamp - self._offset_ns
                if raw and at_ns - newest >= _STATE_PERIOD_NS:
                    newest = at_ns
                    self._measured.append((at_ns, raw))
            time.sleep(_POLL_S)


def _arms(rows: list[np.ndarray]) -> np.ndarray:
    if not rows:
        return np.zeros((0, 14))
    return np.array([row[ARM_SLOTS] for row in rows], dtype=np.float64)
