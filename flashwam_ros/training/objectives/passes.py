# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What all objectives share: options, the packed pass of a window, masked means, the coin."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flashwam_ros.wam.config import SamplerSettings
from flashwam_ros.wam.flow import add_noise, guided
from flashwam_ros.wam.packed import (
    NoiseRecipe,
    TrainingSample,
    forward_dynamics_inputs,
    packed_forward,
    training_sample,
)

from .base import Windows

_COIN = 7


@dataclass(frozen=True)
class CommonOptions:
    """Options of every objective.

    Attributes:
        chunk_size: latent frames per chunk.
        window: attention window in ids, two per chunk.
        forward_dynamics_share: probability that a step trains forward dynamics instead: the video
            loss alone, each chunk's video given its own clean actions (weight 1).
        seed: of the choices that all processes share.
    """

    chunk_size: int = 2
    window: int = 7
    forward_dynamics_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        if self.chunk_size < 1 or self.window < 1:
            raise ValueError(f'chunk_size and window must be >= 1: {self}')
        if not 0 <= self.forward_dynamics_share <= 1:
            raise ValueError(f'forward_dynamics_share {self.forward_dynamics_share} is no share')

    def forward_dynamics(self, step: int) -> bool:
        """The coin of a step, the same on every process."""
        rng = np.random.default_rng([self.seed, step, _COIN])
        return bool(rng.random() < self.forward_dynamics_share)

    def common_settings(self, settings: SamplerSettings) -> SamplerSettings:
        """Settings that every trained checkpoint stores alike."""
        return dataclasses.replace(settings, frames_per_chunk=self.chunk_size, window=self.window,
                                   forward_dynamics=self.forward_dynamics_share > 0)

    def student_settings(self, settings: SamplerSettings) -> SamplerSettings:
        """The same for a student, which needs a teacher that can do what it is to learn."""
        if self.forward_dynamics_share > 0 and not settings.forward_dynamics:
            raise ValueError('forward_dynamics_share > 0 needs a teacher that was trained with '
                             'it; this one was not (sampler.forward_dynamics is false)')
        return dataclasses.replace(self.common_settings(settings), video_guidance=1.0)


@dataclass(frozen=True)
class Noisy:
    """A noisy state of both modalities; levels (B, F) in [0, 1], 0 on pinned frames."""

    video: Tensor
    video_sigma: Tensor
    action: Tensor
    action_sigma: Tensor


def per_frame(sigma: Tensor) -> Tensor:
    """(B, F) levels, ready to broadcast over (B, C, F, h, w) and (B, 30, F, n, 1)."""
    return sigma[:, None, :, None, None]


def finite(loss: Tensor) -> Tensor:
    """The loss, or 0 with its graph kept where it is not finite."""
    return torch.nan_to_num(loss, nan=0.0, posinf=0.0, neginf=0.0)


def draw(windows: Windows, recipe: NoiseRecipe, generator: torch.Generator) -> TrainingSample:
    """Noise a micro-batch; frames that are not to be kept get no weight."""
    sample = training_sample(windows.video, windows.action, windows.channel_mask, windows.starts,
                             recipe, generator=generator)
    return dataclasses.replace(sample, video_weight=sample.video_weight * windows.keep,
                               action_weight=sample.action_weight * windows.keep)


@dataclass(frozen=True)
class PackedPass:
    """Forwards of one micro-batch: any network, any noisy state, the same clean context.

    With `forward_dynamics` the actions of the noisy state are replaced by the clean ones.
    """

    sample: TrainingSample
    chunk_size: int
    window: int
    forward_dynamics: bool = False

    @property
    def start(self) -> Noisy:
        """The noisy state that was drawn with the sample."""
        inputs = self.sample.inputs
        return Noisy(inputs.noisy_video, inputs.noisy_video_t / 1000,
                     inputs.noisy_action, inputs.noisy_action_t / 1000)

    @property
    def free(self) -> Tensor:
        """(B, F) 1 on frames that are predicted, 0 on pinned ones."""
        return (self.sample.inputs.noisy_video_t > 0).float()

    def __call__(self, network: nn.Module, noisy: Noisy | None,
                 text: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities of video and action, fp32; noisy None: the state drawn with the sample."""
        inputs = self.sample.inputs
        if noisy is not None:
            inputs = dataclasses.replace(
                inputs, noisy_video=noisy.video, noisy_video_t=1000 * noisy.video_sigma,
                noisy_action=noisy.action, noisy_action_t=1000 * noisy.action_sigma)
        if self.forward_dynamics:
            inputs = forward_dynamics_inputs(inputs)
        video, action = packed_forward(network, inputs, text, self.chunk_size, self.window,
                                       forward_dynamics=self.forward_dynamics)
        return video.float(), action.float()

    def guided(self, network: nn.Module, noisy: Noisy, windows: Windows, scale: Tensor | float,
               batched: bool = True) -> tuple[Tensor, Tensor]:
        """Velocities with classifier-free guidance on the video, none on the action.

        `batched` runs the conditional and the unconditional pass as one forward.
        """
        rows = noisy.video.shape[0]
        empty = windows.empty_text.expand_as(windows.text)
        if batched:
            both = Noisy(*(torch.cat([t, t]) for t in vars(noisy).values()))
            video, action = self._doubled()(network, both, torch.cat([windows.text, empty]))
            conditional, unconditional = video.split(rows)
            return guided(conditional, unconditional, scale), action[:rows]
        conditional, action = self(network, noisy, windows.text)
        unconditional, _ = self(network, noisy, empty)
        return guided(conditional, unconditional, scale), action

    def _doubled(self) -> PackedPass:
        """The same for two copies of the rows; the noisy state is the caller's."""
        inputs = self.sample.inputs
        times = inputs.clean_video_t
        twice = dataclasses.replace(
            inputs, clean_video=torch.cat([inputs.clean_video] * 2),
            clean_action=torch.cat([inputs.clean_action] * 2),
            clean_video_t=torch.cat([times, times]) if len(times) > 1 else times)
        return dataclasses.replace(self, sample=dataclasses.replace(self.sample, inputs=twice))

    def video_mean(self, values: Tensor) -> Tensor:
        """Mean of (B, C, F, h, w) over the frames that are predicted, with their weights."""
        frames = values.mean(dim=(1, 3, 4)) * self.sample.video_weight
        return frames.sum() / self.free.sum().clamp(min=1)

    def action_mean(self, values: Tensor) -> Tensor:
        """The same of (B, 30, F, n, 1), used channels only."""
        mask = self.sample.channel_mask.float()
        frames = (mask * values).sum(dim=(1, 3, 4)) / (mask.sum() * values.shape[3] + 1e-6)
        return (frames * self.sample.action_weight).sum() / self.free.sum().clamp(min=1)


def renoise(video: Tensor, action: Tensor, video_sigma: Tensor, action_sigma: Tensor,
            mask: Tensor, generator: torch.Generator) -> tuple[Noisy, Tensor, Tensor]:
    """Fresh noise on clean states: the noisy state and the velocities eps - x0 of both."""
    eps_v, eps_a = (torch.randn(x.shape, generator=generator).to(x) for x in (video, action))
    noisy = Noisy(add_noise(video, eps_v, per_frame(video_sigma)), video_sigma,
                  add_noise(action, eps_a, per_frame(action_sigma)) * mask, action_sigma)
    return noisy, eps_v - video, (eps_a - action) * mask
