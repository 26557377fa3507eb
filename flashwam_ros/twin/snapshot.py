# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The latest physical states in memory shared by the physics process and those that draw them.

A ring of states: one writer, any number of readers, nobody waits. A slot's counter is odd while
the writer is at work on it, which tells a reader to try again. The memory has no name, so nothing
is left behind after a crash.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import mujoco
import numpy as np

from flashwam_ros.twin import scenes

_SLOTS = 64
_HEADER = 8
_VALUES = 512
_SIZE = 8 * (2 * _HEADER + _SLOTS * (_HEADER + _VALUES))
_TRIES = 1000


@dataclass(frozen=True)
class Snapshot:
    """One state: capture stamp (ns since the epoch), episode number, task, positions."""

    stamp_ns: int
    episode: int
    task: str
    values: np.ndarray

    def apply(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Put it into `data` and update what drawing needs."""
        moving = 3 * model.nmocap
        positions, rest = self.values[: model.nq], self.values[model.nq :]
        data.qpos[:] = positions
        data.mocap_pos[:] = rest[:moving].reshape(-1, 3)
        data.mocap_quat[:] = rest[moving : moving + 4 * model.nmocap].reshape(-1, 4)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)


class SharedSnapshot:
    """The shared memory, from either side.

    Args:
        fd: file descriptor inherited from the process that made it; None makes a new one.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create('flashwam_twin')
            os.ftruncate(fd, _SIZE)
        self.fd = fd
        memory = mmap.mmap(fd, _SIZE)
        self._count = np.frombuffer(memory, np.int64, 1)
        self._stats = np.frombuffer(memory, np.int64, _HEADER, 8 * _HEADER)
        slots = np.frombuffer(memory, np.int64, offset=16 * _HEADER).reshape(_SLOTS, -1)
        self._heads, self._values = slots[:, :_HEADER], slots[:, _HEADER:].view(np.float64)

    def write(self, data: mujoco.MjData, task: str, episode: int, stamp_ns: int) -> None:
        """Store the state of `data`."""
        parts = (data.qpos, data.mocap_pos.ravel(), data.mocap_quat.ravel())
        values = np.concatenate(parts)
        number = int(self._count[0])
        head = self._heads[number % _SLOTS]
        head[0] = 2 * number + 1
        head[1:5] = (stamp_ns, episode, scenes.TASKS.index(task), len(values))
        self._values[number % _SLOTS, : len(values)] = values
        head[0] = 2 * number + 2
        self._count[0] = number + 1

    def read(self) -> Snapshot | None:
        """The newest state, None before the first."""
        for _ in range(_TRIES):
            number = int(self._count[0]) - 1
            if number < 0:
                return None
            snapshot = self._read(number)
            if snapshot is not None:
                return snapshot
        return None

    def read_from(self, stamp_ns: int) -> Snapshot | None:
        """The oldest state kept that is not older than a stamp (ns), None where there is none."""
        number = int(self._count[0])
        found = None
        for candidate in range(number - 1, max(-1, number - _SLOTS), -1):
            snapshot = self._read(candidate)
            if snapshot is None or snapshot.stamp_ns < stamp_ns:
                break
            found = snapshot
        return found

    def _read(self, number: int) -> Snapshot | None:
        """State `number`, None where the writer has gone over it."""
        head = self._heads[number % _SLOTS]
        _, stamp_ns, episode, task, count = head[:5].tolist()
        values = self._values[number % _SLOTS, :count].copy()
        if int(head[0]) != 2 * number + 2:
            return None
        return Snapshot(stamp_ns, episode, scenes.TASKS[task], values)

    def report(self, frames: int, dropped: int) -> None:
        """The drawing side's counters: sets of pictures sent, and left out for lack of time."""
        self._stats[:2] = (frames, dropped)

    def counters(self) -> tuple[int, int]:
        """(sent, left out) as last reported."""
        frames, dropped = self._stats[:2].tolist()
        return frames, dropped

    @property
    def camera_faults(self) -> int:
        """What the drawing side is to play, see `camera_faults`; 0 for nothing."""
        return int(self._stats[2])

    @camera_faults.setter
    def camera_faults(self, bits: int) -> None:
        self._stats[2] = bits
