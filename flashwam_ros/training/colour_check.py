# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Suspect a swapped red and blue: an image stays an image, only its colours lie.

The mean colour of some decoded frames is compared with the one in the dataset's own statistics,
and with that of the same camera in the other episodes.  A dataset that is swapped throughout and
has no statistics, or swapped ones, passes: look at the preview that the extraction writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.lerobot_meta import (
    EpisodeMeta,
    LeRobotSet,
    read_json,
    read_json_lines,
)

FRAMES = 3
VISIBLE = 0.02
"""Red minus blue (0..1) below which a swap cannot be told from grey."""


@dataclass(frozen=True)
class EpisodeColour:
    """Mean colour of an episode's frames in a camera: RGB, 0..1."""

    episode: EpisodeMeta
    rgb: np.ndarray


def measure(dataset: LeRobotSet, episode: EpisodeMeta, feature: str) -> EpisodeColour:
    """Mean colour of a few frames of an episode; VideoError when they cannot be decoded."""
    indices = sorted({int(i) for i in np.linspace(0, episode.length - 1, FRAMES)})
    frames = dataset.frames(episode, feature, indices)
    return EpisodeColour(episode, np.mean([f.reshape(-1, 3).mean(axis=0) for f in frames],
                                          axis=0) / 255)


def looks_swapped(measured: np.ndarray, expected: np.ndarray) -> bool:
    """Whether a mean RGB is much nearer to the expected one with red and blue exchanged."""
    if abs(expected[0] - expected[2]) < VISIBLE:
        return False
    straight = np.abs(measured - expected).sum()
    return bool(2 * np.abs(measured - expected[::-1]).sum() < straight)


def suspects(dataset: LeRobotSet, feature: str, measured: Sequence[EpisodeColour],
             ) -> Iterable[tuple[Path, int, str]]:
    """(video file, episode index, reason) of every episode that looks swapped."""
    stated = _stated(dataset, feature)
    rgb = np.array([colour.rgb for colour in measured])
    typical = np.median(rgb, axis=0)
    for colour in measured:
        path, index = colour.episode.videos[feature].path, colour.episode.index
        expected = stated.get(index, stated.get(None))
        text = ', '.join(f'{value:.3f}' for value in colour.rgb)
        if expected is not None and looks_swapped(colour.rgb, expected):
            yield path, index, (f'mean RGB ({text}) fits the statistics only with red and blue '
                                'exchanged')
        elif len(measured) > 2 and looks_swapped(colour.rgb, typical):
            yield path, index, (f'mean RGB ({text}) fits the other episodes only with red and '
                                'blue exchanged')


def _stated(dataset: LeRobotSet, feature: str) -> dict[int | None, np.ndarray]:
    """Mean RGB in the dataset's statistics: by episode, or under None for all."""
    root = dataset.root
    if (root / layout.EPISODES_STATS_JSONL).is_file():
        rows = read_json_lines(root / layout.EPISODES_STATS_JSONL)
        means = {int(row['episode_index']): row['stats'].get(feature, {}).get('mean')
                 for row in rows}
    elif (root / layout.STATS).is_file():
        means = {None: read_json(root / layout.STATS).get(feature, {}).get('mean')}
    else:
        return {}
    out = {key: np.asarray(mean, np.float64).reshape(-1) for key, mean in means.items()
           if mean is not None}
    # Placeholder statistics (all channels alike) say nothing and never look swapped.
    return {key: mean for key, mean in out.items()
            if mean.shape == (3,) and np.isfinite(mean).all() and mean.max() <= 1.0}
