# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of pre-encoded demonstrations, wholly in memory.

A window is ``length`` consecutive latent frames with the rows that led to each: slot ``f`` holds
the rows between latent frame ``f - 1`` and ``f``.  Slot 0 of an episode is a dummy (LingBot-VA
data layout). Every batch follows from (seed, step, rank) alone, so a resumed run draws what an
uninterrupted one does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flashwam_ros.training.episode_file import EpisodeData, read_arrays
from flashwam_ros.wam.normaliser import ACTION_CHANNELS, G1_CHANNEL_IDS, QuantileNormaliser


@dataclass(frozen=True)
class LatentEpisode:
    """A demonstration, or a segment of one, as the trainer sees it.

    Attributes:
        task: task name.
        prompt: instruction.
        seed: episode seed; of a dataset without seeds, the episode index.
        latents: (F, Z, h, w) float16 normalised latents.
        rows: (F, n, C) float64 rows in rad; slot 0 is a dummy (zeros).
        perturbed: (F,) bool, the frame's rows push the arm away on purpose.
    """

    task: str
    prompt: str
    seed: int
    latents: np.ndarray
    rows: np.ndarray
    perturbed: np.ndarray


@dataclass(frozen=True)
class Batch:
    """A batch of windows.

    Attributes:
        latents: (B, L, Z, h, w) float32.
        rows: (B, L, n, C) float64, rad.
        perturbed: (B, L) bool.
        at_start: (B,) bool, the window begins with the episode's initial frame.
        prompts: B instructions.
    """

    latents: np.ndarray
    rows: np.ndarray
    perturbed: np.ndarray
    at_start: np.ndarray
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class LatentSet:
    """Episodes with the embedded form of their prompts and of the empty one."""

    episodes: tuple[LatentEpisode, ...]
    text: PrecomputedText


class PrecomputedText:
    """A `wam.text.TextEncoder` that looks up what another encoder made beforehand.

    Args:
        rows: prompt -> (R, T); '' must be among them, all have one shape.
    """

    def __init__(self, rows: Mapping[str, torch.Tensor]):
        shapes = {tuple(value.shape) for value in rows.values()}
        if '' not in rows or len(shapes) != 1:
            raise ValueError(f'need the empty prompt and one shape, got shapes {sorted(shapes)}')
        self._stored = dict(rows)
        self.rows, self.text_dim = shapes.pop()

    def encode(self, prompt: str) -> torch.Tensor:
        """Float32 (R, T); KeyError for a prompt that was not embedded."""
        if prompt not in self._stored:
            raise KeyError(f'no embedding of {prompt!r}; there are {sorted(self._stored)[:10]}')
        return self._stored[prompt].float()


def frame_rows(episode: EpisodeData, actions_per_frame: int = 8) -> np.ndarray:
    """Applied rows by latent frame, (F, n, C); slot 0 is zeros."""
    frames, channels = episode.latent_frames, episode.applied.shape[1]
    rows = np.zeros((frames, actions_per_frame, channels))
    rows[1:] = episode.applied.reshape(frames - 1, actions_per_frame, channels)
    return rows


def latent_episode(episode: EpisodeData, latents: np.ndarray) -> LatentEpisode:
    """Put an episode's latents (F, Z, h, w) together with its rows."""
    rows = frame_rows(episode)
    perturbed = np.zeros(len(rows), bool)
    perturbed[1:] = episode.perturbed.reshape(len(rows) - 1, -1).any(axis=1)
    return LatentEpisode(episode.task, episode.prompt, episode.seed, latents, rows, perturbed)


def write_latents(path: Path, episode: LatentEpisode, codec_hash: str) -> None:
    """Write one pre-encoded episode atomically."""
    about = {'task': episode.task, 'prompt': episode.prompt, 'seed': episode.seed,
             'codec': codec_hash}
    part = path.with_name(path.name + f'.{os.getpid()}.part')
    with open(part, 'wb') as file:
        np.savez(file, about=np.array(json.dumps(about)), rows=episode.rows,
                 perturbed=episode.perturbed,
                 latents=episode.latents.astype(np.float16))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_latents(path: Path, codec_hash: str | None = None) -> LatentEpisode:
    """Read one; raises ValueError when it is damaged or another codec made it."""
    about, arrays = read_arrays(path)
    if codec_hash is not None and about['codec'] != codec_hash:
        raise ValueError(f'{path}: latents of codec {about["codec"][:12]}, expected '
                         f'{codec_hash[:12]}: encode the demonstrations again')
    return LatentEpisode(about['task'], about['prompt'], about['seed'],
                         *(arrays[name] for name in ('latents', 'rows', 'perturbed')))


def load_folder(folder: Path, codec_hash: str | None = None,
                limit_per_task: int | None = None) -> list[LatentEpisode]:
    """All pre-encoded episodes below a folder in a fixed order.

    Raises:
        FileNotFoundError: there are none.
    """
    episodes: list[LatentEpisode] = []
    for task in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(task.glob('episode_*.npz'))[:limit_per_task]
        episodes.extend(read_latents(path, codec_hash) for path in files)
    if not episodes:
        raise FileNotFoundError(f'no latents below {folder}: run the codec trainer first')
    return episodes


def row_quantiles(rows: np.ndarray, gripper_columns: tuple[int, ...] = (14, 15),
                  margin: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Per channel normaliser bounds from rows (N, C).

    1 % and 99 % quantiles for the arms; minimum and maximum for the grippers, whose extremes are
    the command that closes.  A channel that hardly moves gets at least ``margin`` rad of range.
    """
    low, high = np.quantile(rows, [0.01, 0.99], axis=0)
    columns = list(gripper_columns)
    low[columns], high[columns] = rows[:, columns].min(axis=0), rows[:, columns].max(axis=0)
    centre, half = (low + high) / 2, np.maximum((high - low) / 2, margin / 2)
    return centre - half, centre + half


def fit_normaliser(episodes: Sequence[LatentEpisode]) -> QuantileNormaliser:
    """Quantiles of a dataset's rows (dummy slots left out) on the universal channels."""
    low, high = row_quantiles(np.concatenate(
        [episode.rows[1:].reshape(-1, episode.rows.shape[2]) for episode in episodes]))
    q01, q99 = np.zeros(ACTION_CHANNELS), np.zeros(ACTION_CHANNELS)
    q01[list(G1_CHANNEL_IDS)], q99[list(G1_CHANNEL_IDS)] = low, high
    return QuantileNormaliser(tuple(q01), tuple(q99), G1_CHANNEL_IDS)


class WindowSampler:
    """Draws batches of windows.

    Args:
        episodes: all episodes.
        lengths: window lengths in latent frames, one drawn per batch.
        start_share: share of windows that begin at the episode's initial frame.
        task_weights: relative frequency of the tasks; tasks without a weight are left out.
        seed: seed of every draw.
    """

    def __init__(self, episodes: list[LatentEpisode], lengths: tuple[int, ...],
                 start_share: float, task_weights: dict[str, float], seed: int = 0):
        self._lengths = tuple(lengths)
        self._start_share = start_share
        self._seed = seed
        shortest = max(lengths)
        self._by_task: dict[str, list[LatentEpisode]] = {}
        for episode in episodes:
            if len(episode.latents) >= shortest and task_weights.get(episode.task, 0) > 0:
                self._by_task.setdefault(episode.task, []).append(episode)
        if not self._by_task:
            raise ValueError(f'no episode has {shortest} latent frames and a task weight')
        self._tasks = sorted(self._by_task)
        weights = np.array([task_weights[task] for task in self._tasks], float)
        self._task_share = weights / weights.sum()
        # Long episodes hold more windows: draw frames evenly, not episodes.
        self._episode_share = {}
        for task, chosen in self._by_task.items():
            frames = np.array([len(episode.latents) for episode in chosen], float)
            self._episode_share[task] = frames / frames.sum()

    def batch(self, step: int, size: int, rank: int = 0) -> Batch:
        """Return the batch of a step, the same for the same arguments."""
        rng = np.random.default_rng([self._seed, step, rank])
        length = int(rng.choice(self._lengths))
        picks = [self._window(rng, length) for _ in range(size)]
        return Batch(
            latents=np.stack([e.latents[s:s + length] for e, s in picks]).astype(np.float32),
            rows=np.stack([e.rows[s:s + length] for e, s in picks]),
            perturbed=np.stack([e.perturbed[s:s + length] for e, s in picks]),
            at_start=np.array([s == 0 for _, s in picks]),
            prompts=tuple(e.prompt for e, _ in picks))

    def _window(self, rng: np.random.Generator, length: int) -> tuple[LatentEpisode, int]:
        task = self._tasks[rng.choice(len(self._tasks), p=self._task_share)]
        episodes = self._by_task[task]
        episode = episodes[rng.choice(len(episodes), p=self._episode_share[task])]
        last = len(episode.latents) - length
        if last == 0 or rng.uniform() < self._start_share:
            return episode, 0
        return episode, int(rng.integers(1, last + 1))
