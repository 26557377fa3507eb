# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded episode on a true time grid: what a dataset's rows are made of.

Row ``i`` lies at ``start + i / fps``.  Its images are those captured nearest to that instant, its
state is what was measured then, and its action is the command, after limits, at the next instant:
the target that is reached one row later.  The last row is the outcome: what was seen when the last
command had been reached, with the command that held from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flashwam_ros.episodes.reader import Episode, EpisodeError
from flashwam_ros.robot.authority import Mode
from flashwam_ros.robot.contract import RobotContract

MAX_PERIODS = 1.5
"""How far, in periods of the camera, an image may be from its row: one lost frame at most."""
MAX_STATE_GAP_NS = 100_000_000
"""Longest time without a measured state, or between two commands that a row is read between."""
MAX_CUT_NS = 300_000_000
"""How much may be cut at an end that was not recorded.

A recording that is switched on or off in mid-stream cuts through a chunk of teleoperation (0.1 s)
and catches the slowest camera's next frame a period or two later.  More than that is a stream that
failed, and no reason to keep the rest.
"""
_IDLE = frozenset(mode.name for mode in (Mode.PASSIVE, Mode.ENGAGE, Mode.HOLD, Mode.RETREAT,
                                         Mode.RELEASE))


@dataclass(frozen=True)
class GridRows:
    """Rows of an episode.

    Attributes:
        stamps_ns: (N,) instants of the grid, ROS time.
        state: (N, C) measured, rad.
        action: (N, C) commanded after limits, reached one row later, rad.
        frames: camera key -> (N,) indices into the episode's images.
        errors_ns: camera key -> (N,) capture minus instant of the grid.
        cut_rows: rows at both ends that were executed but not recorded, and are left out.
    """

    stamps_ns: np.ndarray
    state: np.ndarray
    action: np.ndarray
    frames: Mapping[str, np.ndarray]
    errors_ns: Mapping[str, np.ndarray]
    cut_rows: int


def grid_rows(episode: Episode, contract: RobotContract, fps: float) -> GridRows:
    """Put an episode on a grid that begins with its first executed row.

    Rows at either end, where a stream had not begun yet or had ended, are cut off; the rest keeps
    its instants.

    Raises:
        EpisodeError: nothing was executed, or commands, state or images are missing; the time is
            named.
    """
    start, end = moving_span(episode)
    count = int((end - start) * fps / 1e9 + 1e-6) + 1
    stamps = start + np.round(np.arange(count + 1) * 1e9 / fps).astype(np.int64)
    first, last = _recorded(episode, contract, int(stamps[0]), int(stamps[-2]))
    kept = np.flatnonzero((stamps[:-1] >= first) & (stamps[:-1] <= last))
    if len(kept) < 3:
        raise EpisodeError(f'{episode.path}: nothing was executed')
    now, then = stamps[kept], stamps[kept + 1]
    _require_state(episode, int(now[0]), int(now[-1]))
    frames, errors = {}, {}
    for camera in contract.cameras:
        frames[camera.key], errors[camera.key] = _images(episode, camera.key, now)
    return GridRows(now, episode.joint_states.at(now, contract.channel_names),
                    _commands(episode, contract, then, int(now[0])), frames, errors,
                    count - len(kept))


def moving_span(episode: Episode) -> tuple[int, int]:
    """When the arms followed somebody: from the first executed row's beginning to the last's end.

    Without chunks: while the driver was neither idle nor on its way home; without a driver that
    moved (the vendor's program did): as long as there were commands.

    Raises:
        EpisodeError: there were no commands at all.
    """
    if episode.applied:
        return (min(chunk.start_ns for chunk in episode.applied),
                max(stamp for chunk in episode.applied for stamp in chunk.row_stamps_ns))
    moving = [state.stamp_ns for state in episode.driver if state.mode.upper() not in _IDLE]
    if len(moving) < 2:
        moving = episode.joint_commands.stamp_ns.tolist()
    if not moving:
        raise EpisodeError(f'{episode.path}: no commands were recorded')
    return int(moving[0]), int(moving[-1])


def _recorded(episode: Episode, contract: RobotContract, start: int, end: int) -> tuple[int, int]:
    """From when to when joint state and all cameras are there: at most `MAX_CUT_NS` inside."""
    first, last = start, end
    streams = [episode.joint_states, *(episode.images[c.key] for c in contract.cameras)]
    for own in (stream.stamp_ns for stream in streams if len(stream) > 1):
        half = int(np.median(np.diff(own))) // 2
        first, last = max(first, int(own[0]) - half), min(last, int(own[-1]) + half)
    return min(first, start + MAX_CUT_NS), max(last, end - MAX_CUT_NS)


def _require_state(episode: Episode, start: int, end: int) -> None:
    own = np.clip(episode.joint_states.stamp_ns, start, end)
    edges = np.concatenate([[start], own, [end]])
    gaps = np.diff(edges)
    worst = int(np.argmax(gaps))
    if gaps[worst] > MAX_STATE_GAP_NS:
        raise EpisodeError(f'{episode.path}: no joint state for {gaps[worst] * 1e-9:.2f} s from '
                           f'{(edges[worst] - start) * 1e-9:.2f} s after the start on')


def _commands(episode: Episode, contract: RobotContract, stamps: np.ndarray,
              start: int) -> np.ndarray:
    """Commands in force at given instants, (N, C) rad, linear between what was recorded of them.

    Raises:
        EpisodeError: there are none, or an instant lies in a pause of the commands.
    """
    parts = [(episode.joint_commands.stamp_ns,
              episode.joint_commands.columns(contract.channel_names))]
    parts += [(np.array(chunk.row_stamps_ns, np.int64), np.asarray(chunk.positions))
              for chunk in episode.applied]
    own = np.concatenate([part[0] for part in parts])
    if not len(own):
        raise EpisodeError(f'{episode.path}: no commands were recorded')
    values = np.concatenate([part[1].reshape(len(part[0]), -1) for part in parts
                             if len(part[0])])
    # Rows of chunks come last, and of equal stamps the last counts: they are exact.
    order = np.argsort(own, kind='stable')
    own, values = own[order], values[order]
    last = np.append(own[1:] != own[:-1], True)
    own, values = own[last], values[last]
    _require_commands(episode, own, stamps, start)
    along = (stamps - own[0]).astype(np.float64)
    return np.stack([np.interp(along, (own - own[0]).astype(np.float64), column)
                     for column in values.T], axis=1)


def _require_commands(episode: Episode, own: np.ndarray, stamps: np.ndarray, start: int) -> None:
    """Nobody commanded what a line across a pause would say."""
    # What an instant lies between; before the first command and after the last that one holds.
    after = np.clip(np.searchsorted(own, stamps), 1, len(own) - 1)
    gaps = np.where((stamps > own[after - 1]) & (stamps < own[after]),
                    own[after] - own[after - 1], 0)
    worst = int(np.argmax(gaps))
    if gaps[worst] > MAX_STATE_GAP_NS:
        raise EpisodeError(f'{episode.path}: no command for {gaps[worst] * 1e-9:.2f} s from '
                           f'{(own[after[worst] - 1] - start) * 1e-9:.2f} s after the start on')


def _images(episode: Episode, key: str, stamps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    stream = episode.images[key]
    if len(stream) < 2:
        raise EpisodeError(f'{episode.path}: camera {key} has {len(stream)} frames')
    picked = [stream.nearest(int(stamp)) for stamp in stamps]
    index, error = (np.array(column, np.int64) for column in zip(*picked, strict=True))
    period = float(np.median(np.diff(stream.stamp_ns)))
    worst = int(np.argmax(np.abs(error)))
    if abs(error[worst]) > MAX_PERIODS * period:
        raise EpisodeError(
            f'{episode.path}: camera {key}: the frame nearest to row {worst} is '
            f'{error[worst] / 1e6:.1f} ms away, its period is {period / 1e6:.1f} ms')
    return index, error
