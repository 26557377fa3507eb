# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The newest physical state in memory shared by the physics process and those that draw it.

One writer, any number of readers, nobody waits: a counter that is odd while the writer is at work
tells a reader to try again. The memory has no name, so nothing is left behind after a crash.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import mujoco
import numpy as np

from flashwam_ros.twin import scenes

_HEADER = 8
_VALUES = 512
_SIZE = 8 * (2 * _HEADER + _VALUES)
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
        self._head = np.frombuffer(memory, np.int64, _HEADER)
        self._stats = np.frombuffer(memory, np.int64, _HEADER, 8 * _HEADER)
        self._values = np.frombuffer(memory, np.float64, _VALUES, 16 * _HEADER)

    def write(self, data: mujoco.MjData, task: str, episode: int, stamp_ns: int) -> None:
        """Store the state of `data`."""
        parts = (data.qpos, data.mocap_pos.ravel(), data.mocap_quat.ravel())
        values = np.concatenate(parts)
        self._head[0] += 1
        self._head[1:5] = (stamp_ns, episode, scenes.TASKS.index(task), len(values))
        self._values[: len(values)] = values
        self._head[0] += 1

    def read(self) -> Snapshot | None:
        """The newest state, None before the first."""
        for _ in range(_TRIES):
            before = int(self._head[0])
            stamp_ns, episode, task, count = self._head[1:5].tolist()
            values = self._values[:count].copy()
            if before % 2 == 0 and int(self._head[0]) == before:
                return None if before == 0 else Snapshot(
                    stamp_ns, episode, scenes.TASKS[task], values
                )  # fmt: skip
        return None

    def report(self, frames: int, dropped: int) -> None:
        """The drawing side's counters: sets of pictures sent, and left out for lack of time."""
        self._stats[:2] = (frames, dropped)

    def counters(self) -> tuple[int, int]:
        """(sent, left out) as last reported."""
        frames, dropped = self._stats[:2].tolist()
        return frames, dropped
