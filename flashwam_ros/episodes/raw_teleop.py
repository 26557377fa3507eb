# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Raw episodes of the vendor's XR teleoperation: a folder with ``data.json`` and JPEGs.

A record of ``data`` holds the images, ``states`` (measured) and ``actions`` (the command given in
the same tick of the loop) of one instant.  There are no time stamps: the loop's rate is nominal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashwam_ros.robot.contract import RobotContract

DATA = 'data.json'
_PARTS = {'left_arm': 7, 'right_arm': 7, 'left_ee': 1, 'right_ee': 1}
# Stereo heads have the right eye as colour 1; mono heads do not.
_COLOURS = {3: ('color_0', 'color_1', 'color_2'), 4: ('color_0', 'color_2', 'color_3')}
_CAMERAS = ('head', 'left_wrist', 'right_wrist')


class RawEpisodeError(ValueError):
    """A raw episode that cannot be used; folder and record are named."""


@dataclass(frozen=True)
class RawEpisode:
    """A raw episode.

    Attributes:
        path: its folder.
        goal: instruction.
        fps: records per s, nominal.
        state: (N, 16) measured, contract order, rad.
        action: (N, 16) commanded, contract order, rad.
        images: contract camera key -> N files.
    """

    path: Path
    goal: str
    fps: float
    state: np.ndarray
    action: np.ndarray
    images: dict[str, tuple[Path, ...]]


def find_raw_episodes(root: Path) -> list[Path]:
    """Folders at or below ``root`` that hold a raw episode, in order of their names."""
    return sorted(path.parent for path in root.rglob(DATA))


def read_raw_episode(folder: Path, contract: RobotContract,
                     fps: float | None = None) -> RawEpisode:
    """Read one, without decoding its images.

    Args:
        folder: holds ``data.json``.
        contract: whose channels the arms and grippers are (two 7-joint arms, two grippers).
        fps: rate of the recording loop; default what the file says of its images.

    Raises:
        RawEpisodeError: damaged, incomplete, not finite, or an image is missing.
    """
    path = folder / DATA
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        records, text = values['data'], values.get('text') or {}
        rate = float(fps or values['info']['image']['fps'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RawEpisodeError(f'{path}: not a finished raw episode: '
                              f'{type(error).__name__}: {error}') from error
    if not records or not rate > 0:
        raise RawEpisodeError(f'{path}: {len(records)} records at {rate} Hz')
    if len(contract.channels) != sum(_PARTS.values()):
        raise RawEpisodeError(f'raw episodes have 16 channels, contract {contract.name!r} has '
                              f'{len(contract.channels)}')
    state, action = (np.stack([_vector(record, kind, f'{path}: record {i}')
                               for i, record in enumerate(records)])
                     for kind in ('states', 'actions'))
    return RawEpisode(folder, str(text.get('goal') or text.get('desc') or '').strip(), rate,
                      state, action, _images(folder, records))


def _vector(record: Mapping, kind: str, where: str) -> np.ndarray:
    """Arms and grippers of a record in contract order, (16,)."""
    out = []
    for part, count in _PARTS.items():
        try:
            values = np.atleast_1d(np.asarray(record[kind][part]['qpos'], np.float64)).ravel()
        except (KeyError, TypeError, ValueError) as error:
            raise RawEpisodeError(f'{where}: no {kind}.{part}.qpos') from error
        if values.shape != (count,) or not np.isfinite(values).all():
            raise RawEpisodeError(f'{where}: {kind}.{part}.qpos is {values.tolist()}, expected '
                                  f'{count} finite numbers')
        out.append(values)
    return np.concatenate(out)


def _images(folder: Path, records: list[Mapping]) -> dict[str, tuple[Path, ...]]:
    colours = sorted(records[0].get('colors') or {})
    names = _COLOURS.get(len(colours))
    if names is None or not set(names) <= set(colours):
        raise RawEpisodeError(f'{folder / DATA}: images {colours}; expected color_0 to color_2, '
                              'or to color_3 with a stereo head')
    out = {}
    for camera, name in zip(_CAMERAS, names, strict=True):
        files = []
        for i, record in enumerate(records):
            relative = (record.get('colors') or {}).get(name)
            file = folder / str(relative)
            if not relative or not file.is_file():
                raise RawEpisodeError(f'{folder / DATA}: record {i}: image {name} ({relative}) is '
                                      'missing')
            files.append(file)
        out[camera] = tuple(files)
    return out
