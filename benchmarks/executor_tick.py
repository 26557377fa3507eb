# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Time of one executor tick (sampling, safety, limiter, gravity) against a plain per-joint loop.

Run: ``python benchmarks/executor_tick.py [ticks]``. The loop does the same work plainly:
interpolate each channel, clip velocity and acceleration, sum the gravity torque link by link.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from flashwam_ros.robot.chunk import ActionChunk
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.executor import Executor, ExecutorInput, Mode
from flashwam_ros.robot.kinematics import GRAVITY, Kinematics
from flashwam_ros.robot.settings import load_settings

TICK_NS = 4_000_000
DT = 0.004


def chunk(contract: RobotContract, index: int, base: np.ndarray, now_ns: int) -> ActionChunk:
    """A chunk that swings every channel around ``base``."""
    rows = np.arange(1, contract.rows_per_chunk + 1) * contract.row_duration_s
    swing = np.sin(2.0 * np.pi * rows / contract.chunk_duration_s)
    return ActionChunk(
        session='benchmark',
        contract_hash=contract.sha256,
        index=index,
        predecessor=index - 1,
        row_duration_s=contract.row_duration_s,
        positions=base - 0.1 * swing[:, None],
        channel_names=contract.channel_names,
        first_row=0,
        stamp_ns=now_ns,
    )


def executor_times(ticks: int) -> np.ndarray:
    """Seconds per tick in EXECUTE."""
    contract, kinematics = RobotContract.load(), Kinematics(load_description())
    executor = Executor(contract, kinematics, None, 0)
    executor.activate(0)
    base = load_settings().home
    now, index, measured, times = 0, 0, base, []
    while len(times) < ticks:
        now += TICK_NS
        inp = ExecutorInput(now, measured, np.zeros_like(base), 0.002)
        start = time.perf_counter()
        out = executor.tick(inp)
        if out.mode is Mode.EXECUTE:
            times.append(time.perf_counter() - start)
        if out.weight == 1.0 and out.chunk_index == index - 1:
            executor.submit(chunk(contract, index, base, now), now)
            index += 1
        measured = out.command
    return np.array(times)


def _naive_gravity(kinematics: Kinematics, q29: np.ndarray) -> list[float]:
    description = kinematics.description
    poses = kinematics.link_poses(q29, np.zeros(2))
    parent = {j.child: j for j in description.joints}
    torque = dict.fromkeys(description.motor_order[15:], 0.0)
    for link in description.links:
        centre = (poses[link.name] @ np.array([*link.com, 1.0]))[:3]
        name = link.name
        while name in parent:
            joint = parent[name]
            if joint.name in torque:
                pose = poses[joint.child]
                axis = pose[:3, :3] @ np.array(joint.axis)
                lever = np.cross(axis, centre - pose[:3, 3])
                torque[joint.name] += GRAVITY * link.mass * lever[2]
            name = joint.parent
    return list(torque.values())


def naive_times(ticks: int) -> np.ndarray:
    """Seconds per tick of the plain loop."""
    contract, kinematics = RobotContract.load(), Kinematics(load_description())
    rows = chunk(contract, 0, load_settings().home, 0).positions
    grid = np.arange(1, len(rows) + 1) * contract.row_duration_s
    position, speed, times = list(rows[0]), [0.0] * len(rows[0]), []
    for k in range(ticks):
        start = time.perf_counter()
        for i, channel in enumerate(contract.channels):
            target = np.interp((k * DT) % contract.chunk_duration_s, grid, rows[:, i])
            wanted = np.clip((target - position[i]) / DT, -channel.velocity, channel.velocity)
            change = channel.acceleration * DT
            speed[i] += np.clip(wanted - speed[i], -change, change)
            moved = position[i] + speed[i] * DT
            position[i] = np.clip(moved, channel.lower, channel.upper)
        _naive_gravity(kinematics, np.concatenate([np.zeros(15), position[:14]]))
        times.append(time.perf_counter() - start)
    return np.array(times)


def main() -> None:
    """Time both and report microseconds."""
    ticks = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    for name, times in (
        ('executor', executor_times(ticks)),
        ('plain loop', naive_times(max(ticks // 10, 1))),
    ):
        p50, p99 = np.percentile(times, (50, 99)) * 1e6
        line = f'{name:11s} p50 {p50:7.1f} us  p99 {p99:7.1f} us  ({len(times)} ticks)\n'
        sys.stdout.write(line)


if __name__ == '__main__':
    main()
