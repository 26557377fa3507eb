# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a drawing needs of a rollout, as one file that another process reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flashwam_ros.episodes.rollout_log import Outcome, RolloutLog, RolloutSetting
from flashwam_ros.robot.chunk import AppliedChunk


def save(path: Path, log: RolloutLog, outcome: Outcome, channel_names: Sequence[str]) -> None:
    """Write stamps, joints, chunk starts, camera pictures and simulated states.

    Args:
        path: an `.npz` file.
        log: nobody appends any more.
        outcome: how it ended.
        channel_names: column order.
    """
    head = {
        'setting': dataclasses.asdict(log.setting),
        'outcome': {**dataclasses.asdict(outcome), 'stages': dict(outcome.stages)},
        'channel_names': list(channel_names),
        'activated_ns': log.activated_ns,
        'ended_ns': log.ended_ns,
        'cameras': sorted(log.frames),
        'starts': [(a.index, a.start_ns, a.slack_s) for a in log.starts],
    }
    arrays = {
        'head': _bytes(json.dumps(head).encode()),
        'weight': np.array([entry[2] for entry in log.commanded]),
    }
    for name in ('measured', 'commanded', 'sim'):
        entries = getattr(log, name)
        arrays[f'{name}_ns'] = np.array([entry[0] for entry in entries], np.int64)
        arrays[name] = np.array([entry[1] for entry in entries])
    for camera, frames in log.frames.items():
        arrays[f'{camera}_ns'] = np.array([stamp for stamp, _ in frames], np.int64)
        arrays[f'{camera}_bytes'] = np.array([len(jpeg) for _, jpeg in frames], np.int64)
        arrays[f'{camera}_jpeg'] = _bytes(b''.join(jpeg for _, jpeg in frames))
    np.savez(path, **arrays)


def load(path: Path) -> tuple[RolloutLog, Outcome, tuple[str, ...]]:
    """The log (without accounts, latencies and events), the outcome and the channel names.

    Raises:
        OSError: there is no such file.
        ValueError: it is damaged.
    """
    with np.load(path, allow_pickle=False) as file:
        head = json.loads(file['head'].tobytes())
        log = RolloutLog(RolloutSetting(**head['setting']))
        log.activated_ns, log.ended_ns = head['activated_ns'], head['ended_ns']
        log.starts = [_start(*entry) for entry in head['starts']]
        log.measured = _pairs(file, 'measured')
        log.sim = _pairs(file, 'sim')
        log.commanded = [
            (*entry, float(weight))
            for entry, weight in zip(_pairs(file, 'commanded'), file['weight'], strict=True)
        ]
        log.frames = {camera: _pictures(file, camera) for camera in head['cameras']}
    return log, Outcome(**head['outcome']), tuple(head['channel_names'])


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def _pairs(file, name: str) -> list[tuple[int, np.ndarray]]:
    return list(zip(file[f'{name}_ns'].tolist(), file[name], strict=True))


def _pictures(file, camera: str) -> list[tuple[int, bytes]]:
    content = file[f'{camera}_jpeg'].tobytes()
    ends = np.cumsum(file[f'{camera}_bytes']).tolist()
    pieces = (content[a:b] for a, b in zip([0, *ends], ends, strict=False))
    return list(zip(file[f'{camera}_ns'].tolist(), pieces, strict=True))


def _start(index: int, start_ns: int, slack_s: float) -> AppliedChunk:
    return AppliedChunk(
        session='', index=index, first_row=0, start_ns=start_ns, row_duration_s=0.0,
        positions=np.zeros((0, 0)), row_stamps_ns=(), key_frame_due_ns=(), complete=False,
        slack_s=slack_s, boundary_jump_rad=0.0, limited_ticks=0, arm_limited_ticks=0,
    )  # fmt: skip
