# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One flow-matching step of the teacher: batch of windows -> losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from flashwam_ros.training.dataset import Batch
from flashwam_ros.wam.config import ModalitySampler, SamplerSettings, TransformerConfig
from flashwam_ros.wam.normaliser import QuantileNormaliser
from flashwam_ros.wam.packed import (
    NoiseRecipe,
    flow_matching_loss,
    pack_actions,
    packed_forward,
    training_sample,
)
from flashwam_ros.wam.text import NanoTextEncoder
from flashwam_ros.wam.transformer import WanTransformer3DModel

ACTION_CLIP = 1.5
"""Normalised actions are clipped in training (LingBot-VA loader), never at run time."""


@dataclass(frozen=True)
class TeacherRecipe:
    """How a teacher is trained (``config/training/nano_teacher.yaml``)."""

    heads: int = 2
    head_dim: int = 80
    layers: int = 5
    ffn_dim: int = 640
    freq_dim: int = 128
    window: int = 7
    lengths: tuple[int, ...] = (8,)
    batch: int = 8
    start_share: float = 0.2
    task_weights: Mapping[str, float] = field(default_factory=dict)
    peak_learning_rate: float = 1e-3
    warmup_steps: int = 150
    constant_share: float = 0.3
    weight_decay: float = 0.01
    clip: float = 2.0
    ema: float = 0.998
    text_dropout: float = 0.1
    action_weight: float = 5.0
    history_noise: float = 0.5
    uniform_mix: float = 0.5
    per_chunk: int = 2
    steps: int = 100000
    seconds: float = 3000.0
    bf16: bool = True
    seed: int = 0
    video_steps: int = 3
    action_steps: int = 10

    def __post_init__(self) -> None:
        """Lists of a YAML file become tuples."""
        object.__setattr__(self, 'lengths', tuple(self.lengths))

    def transformer(self, latent_channels: int, text_dim: int) -> TransformerConfig:
        """Sizes of the network."""
        return TransformerConfig(
            num_attention_heads=self.heads, attention_head_dim=self.head_dim,
            in_channels=latent_channels, out_channels=latent_channels, text_dim=text_dim,
            freq_dim=self.freq_dim, ffn_dim=self.ffn_dim, num_layers=self.layers,
            rope_theta=100.0)

    def sampler(self, frames_per_chunk: int, actions_per_frame: int) -> SamplerSettings:
        """What the checkpoint ships with."""
        return SamplerSettings(
            frames_per_chunk=frames_per_chunk, actions_per_frame=actions_per_frame,
            window=self.window, video=ModalitySampler(steps=self.video_steps, shift=5.0),
            action=ModalitySampler(steps=self.action_steps, shift=1.0))

    def to_dict(self) -> dict:
        """Plain data."""
        return dataclasses.asdict(self)


class Losses:
    """Turns batches into losses.

    Args:
        recipe: see TeacherRecipe.
        normaliser: of the run.
        text: text encoder.
        chunk_size: latent frames per chunk.
    """

    def __init__(self, recipe: TeacherRecipe, normaliser: QuantileNormaliser,
                 text: NanoTextEncoder, chunk_size: int):
        self._recipe = recipe
        self._normaliser = normaliser
        self._mask = torch.from_numpy(normaliser.channel_mask)
        self._text = text
        self._rows: dict[str, torch.Tensor] = {}
        self._chunk_size = chunk_size
        self._noise = NoiseRecipe(per_chunk=recipe.per_chunk, uniform_mix=recipe.uniform_mix,
                                  history_noise=recipe.history_noise)

    def __call__(self, model: WanTransformer3DModel, batch: Batch,
                 generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Video and action loss (scalars) of a batch.

        Every window is treated as an episode's beginning: its frame 0 is given clean and its slot
        0 is the dummy, as in chunk 0 at run time.  So every predicted frame has something to go
        by. Frames in which the arm is pushed away on purpose get no loss.
        """
        video = torch.from_numpy(batch.latents).transpose(1, 2)
        rows = np.clip(self._normaliser.normalise(batch.rows), -ACTION_CLIP, ACTION_CLIP)
        action = pack_actions(torch.from_numpy(rows).float().flatten(1, 2), rows.shape[2])
        starts = torch.ones(len(batch.prompts), dtype=torch.bool)
        sample = training_sample(video, action, self._mask, starts, self._noise,
                                 generator=generator)
        keep = torch.from_numpy(~batch.perturbed).float()
        sample = dataclasses.replace(sample, video_weight=sample.video_weight * keep,
                                     action_weight=sample.action_weight * keep)
        text = self._text_rows(batch.prompts, generator)
        with torch.autocast('cpu', torch.bfloat16, enabled=self._recipe.bf16):
            predicted = packed_forward(model, sample.inputs, text, self._chunk_size,
                                       self._recipe.window)
        return flow_matching_loss(sample, *predicted)

    def _text_rows(self, prompts: tuple[str, ...], generator: torch.Generator) -> torch.Tensor:
        dropped = torch.rand(len(prompts), generator=generator) < self._recipe.text_dropout
        return torch.stack([self._encode('' if drop else prompt)
                            for prompt, drop in zip(prompts, dropped.tolist(), strict=True)])

    def _encode(self, prompt: str) -> torch.Tensor:
        if prompt not in self._rows:
            self._rows[prompt] = self._text.encode(prompt)
        return self._rows[prompt]
