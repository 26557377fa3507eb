# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of demonstrations -> windows in model space, on the device."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from flashwam_ros.training.codec_data import HELD_OUT_EVERY
from flashwam_ros.training.dataset import Batch, LatentEpisode, WindowSampler
from flashwam_ros.training.objectives.base import Windows
from flashwam_ros.training.recipes import Recipe
from flashwam_ros.wam.normaliser import QuantileNormaliser
from flashwam_ros.wam.packed import pack_actions
from flashwam_ros.wam.text import TextEncoder

ACTION_CLIP = 1.5
"""Normalised actions are clipped in training (LingBot-VA loader), never at run time."""
HELD_OUT_BATCH, HELD_OUT_PARTS = 8, 4


class WindowSource:
    """Training and held-out windows of a run; every one follows from (seed, step, part) alone.

    Every window is treated as an episode's beginning: its frame 0 is given clean and its slot 0
    is the dummy, as in chunk 0 at run time.  So every predicted frame has something to go by.
    Frames in which the arm is pushed away on purpose get no loss.

    Args:
        episodes: pre-encoded demonstrations.
        recipe: of the run.
        normaliser: of the run.
        text: text encoder.
        device: where the windows go.
        paraphrases: prompt -> other ways to say it, for ``recipe.paraphrase_share`` of the
            training windows; held-out windows keep their own prompts.

    Attributes:
        episodes: those that are `usable`.

    Raises:
        ValueError: as `usable`.
    """

    def __init__(self, episodes: list[LatentEpisode], recipe: Recipe,
                 normaliser: QuantileNormaliser, text: TextEncoder, device: torch.device,
                 paraphrases: Mapping[str, Sequence[str]] | None = None):
        self._recipe, self._normaliser, self._text = recipe, normaliser, text
        self._device = device
        self._mask = torch.from_numpy(normaliser.channel_mask).to(device)
        self._rows: dict[str, torch.Tensor] = {}
        self._paraphrases = paraphrases or {}
        self.episodes = usable(episodes, recipe)
        training = [e for e in self.episodes if e.seed % HELD_OUT_EVERY]
        held_out = [e for e in self.episodes if not e.seed % HELD_OUT_EVERY]
        self._training = self._sampler(training or held_out)
        self._held_out = self._sampler(held_out or training)

    def data_record(self) -> dict:
        """What is trained on: episodes per task, latent frames, SHA-256 over all of it."""
        digest = hashlib.sha256()
        counts: dict[str, int] = {}
        for episode in sorted(self.episodes, key=lambda e: (e.task, e.seed)):
            counts[episode.task] = counts.get(episode.task, 0) + 1
            digest.update(f'{episode.task} {episode.seed} {episode.prompt}\n'.encode())
            for values in (episode.latents, episode.rows, episode.perturbed):
                digest.update(np.ascontiguousarray(values).tobytes())
        return {'episodes': counts, 'frames': sum(len(e.latents) for e in self.episodes),
                'sha256': digest.hexdigest()}

    def _sampler(self, episodes: list[LatentEpisode]) -> WindowSampler:
        recipe = self._recipe
        weights = dict(recipe.task_weights) or {episode.task: 1.0 for episode in episodes}
        return WindowSampler(episodes, recipe.lengths, recipe.start_share, weights, recipe.seed)

    def training(self, step: int, part: int) -> Windows:
        """Micro-batch ``part`` of a step."""
        batch = self._training.batch(step, self._recipe.batch, part)
        rng = np.random.default_rng([self._recipe.seed, 47, step, part])
        return self.windows(dataclasses.replace(
            batch, prompts=tuple(self._said(prompt, rng) for prompt in batch.prompts)))

    def _said(self, prompt: str, rng: np.random.Generator) -> str:
        others = self._paraphrases.get(prompt, ())
        if not others or rng.uniform() >= self._recipe.paraphrase_share:
            return prompt
        return others[int(rng.integers(len(others)))]

    def held_out(self, part: int) -> Windows:
        """One of ``HELD_OUT_PARTS`` batches of windows that nothing is trained on."""
        return self.windows(self._held_out.batch(part, HELD_OUT_BATCH, rank=999))

    def windows(self, batch: Batch) -> Windows:
        """Model-space windows of a batch."""
        rows = np.clip(self._normaliser.normalise(batch.rows), -ACTION_CLIP, ACTION_CLIP)
        action = pack_actions(torch.from_numpy(rows).float().flatten(1, 2), rows.shape[2])
        video = torch.from_numpy(batch.latents).float().transpose(1, 2)
        return Windows(
            video=video.to(self._device), action=action.to(self._device),
            channel_mask=self._mask,
            starts=torch.ones(len(batch.prompts), dtype=torch.bool, device=self._device),
            keep=torch.from_numpy(~batch.perturbed).float().to(self._device),
            text=torch.stack([self._encode(prompt) for prompt in batch.prompts]),
            empty_text=self._encode(''))

    def _encode(self, prompt: str) -> torch.Tensor:
        if prompt not in self._rows:
            self._rows[prompt] = self._text.encode(prompt).to(self._device)
        return self._rows[prompt]


def usable(episodes: Sequence[LatentEpisode], recipe: Recipe) -> list[LatentEpisode]:
    """The episodes that windows are taken from: long enough, and of a task with a weight.

    Raises:
        ValueError: a task would be left without episodes, or the weights do not name it.
    """
    longest, weights = max(recipe.lengths), recipe.task_weights
    kept = [e for e in episodes
            if len(e.latents) >= longest and (not weights or weights.get(e.task, 0) > 0)]
    for task in sorted({e.task for e in episodes} - {e.task for e in kept}):
        if weights and task not in weights:
            raise ValueError(f'{task}: the recipe gives this task no weight in task_weights '
                             f'({dict(weights)}): add one, 0 leaves it out')
        if not weights or weights[task] > 0:
            most = max(len(e.latents) for e in episodes if e.task == task)
            raise ValueError(f'{task}: none of its episodes has the {longest} latent frames of a '
                             f'window, the longest has {most}: set lengths in the recipe')
    if not kept:
        raise ValueError(f'no episode is left: task_weights {dict(weights)}')
    return kept
