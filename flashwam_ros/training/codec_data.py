# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image groups of demonstrations with the positions that a codec must keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashwam_ros.training.episode_file import EpisodeData, read_episode
from flashwam_ros.wam.codec import IMAGES_PER_FRAME, assemble_canvas

OBJECT_KINDS = ('pot', 'lid', 'potato', 'red_bottle', 'yellow_bottle', 'pink_object', 'target')
ENTITIES = (*OBJECT_KINDS, 'left_tcp', 'right_tcp')
HELD_OUT_EVERY = 20
"""Every 20th episode is kept out of codec training, for the probe error and PSNR."""
_CENTRE_M = np.array([0.3, 0.0, 0.84])
_SCALE_M = 0.15


@dataclass(frozen=True)
class Groups:
    """Image groups in memory.

    Attributes:
        canvases: (N, 4, 192, 128, 3) uint8.
        positions: (N, E, 3) float32, m; E as in ENTITIES, at the group's last image.
        present: (N, E) bool, the entity is in the scene.
    """

    canvases: np.ndarray
    positions: np.ndarray
    present: np.ndarray

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.canvases)


def scaled(positions: np.ndarray) -> np.ndarray:
    """Metres -> the probe's units."""
    return (positions - _CENTRE_M) / _SCALE_M


def metres(distance: np.ndarray) -> np.ndarray:
    """Probe-unit distances -> metres."""
    return distance * _SCALE_M


def episode_canvases(episode: EpisodeData) -> np.ndarray:
    """All key frames of an episode as canvases (T, 192, 128, 3) uint8."""
    frames = len(episode.stamps_ns)
    return np.stack([assemble_canvas({key: images[i] for key, images in episode.images.items()})
                     for i in range(frames)])


def group_indices(frame: int) -> np.ndarray:
    """Key frames of a latent frame; frame 0 is the initial image four times."""
    if frame == 0:
        return np.zeros(IMAGES_PER_FRAME, int)
    return np.arange(IMAGES_PER_FRAME * (frame - 1) + 1, IMAGES_PER_FRAME * frame + 1)


def load_groups(files: list[Path], per_episode: int, seed: int = 0) -> Groups:
    """Draw up to ``per_episode`` latent frames of each episode.

    Raises:
        ValueError: no files.
    """
    if not files:
        raise ValueError('no demonstrations to train the codec on: run `flashwam demos` first')
    rng = np.random.default_rng(seed)
    canvases, positions, present = [], [], []
    for path in files:
        episode = read_episode(path)
        count = min(per_episode, episode.latent_frames)
        chosen = rng.choice(episode.latent_frames, count, replace=False)
        for frame in np.sort(chosen):
            index = group_indices(int(frame))
            canvases.append(np.stack([
                assemble_canvas({key: images[i] for key, images in episode.images.items()})
                for i in index]))
            place, there = entity_positions(episode, int(index[-1]))
            positions.append(place)
            present.append(there)
    return Groups(np.stack(canvases), np.stack(positions), np.stack(present))


def entity_positions(episode: EpisodeData, key_frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (E, 3) float32 in m (0 where absent) and presence (E,) at a key frame."""
    positions = np.zeros((len(ENTITIES), 3), np.float32)
    present = np.zeros(len(ENTITIES), bool)
    for column, name in enumerate(episode.object_names):
        row = ENTITIES.index(name)
        positions[row], present[row] = episode.objects[key_frame, column], True
    positions[-2:], present[-2:] = episode.tcp[key_frame], True
    return positions, present


def split_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Training and held-out episode files; the split depends on the seed alone."""
    training, held_out = [], []
    for path in sorted(folder.glob('*/episode_*.npz')):
        seed = int(path.stem.split('_')[1])
        (held_out if seed % HELD_OUT_EVERY == 0 else training).append(path)
    return training, held_out
