# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Flow matching: how the teacher is trained, and the native loss of LingBot-VA.

    x_s = (1 - s) x0 + s eps,   target eps - x0,
    L = mean w(s_v) |v_v - (eps_v - x0_v)|^2 + lambda_a mean_used w(s_a) |v_a - (eps_a - x0_a)|^2

w is the released bell, mixed with a uniform weight by `uniform_mix` because the bell is 0 at
s = 1, where few-step inference starts. Prompts are replaced by the empty one with `text_dropout`,
clean video is noised with `history_noise`. LingBot-VA's values: per_chunk 0, uniform_mix 0,
action_weight 1, random_structure true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from flashwam_ros.wam.config import SamplerSettings
from flashwam_ros.wam.packed import NoiseRecipe, flow_matching_loss

from .base import Losses, Networks, Windows
from .passes import CommonOptions, PackedPass, draw, finite

_STRUCTURE = 11


@dataclass(frozen=True)
class FlowMatching(CommonOptions):
    """Options of the teacher's objective.

    Attributes:
        video_shift: of the video's noise schedule.
        action_shift: of the action's.
        per_chunk: frames that share one noise level; 0 draws a level per frame (LingBot-VA).
        history_noise: probability that a sample's clean video is noised.
        uniform_mix: share of the uniform loss weight.
        text_dropout: probability that a prompt is replaced by the empty one.
        action_weight: lambda_a.
        random_structure: draw the chunk size of each step from 1..4 and its window from 4..64, as
            LingBot-VA's fine-tuning does; chunk_size and window are then those of inference.
        video_steps: network evaluations per chunk that the checkpoint stores.
        action_steps: the same for actions.
    """

    video_shift: float = 5.0
    action_shift: float = 1.0
    per_chunk: int = 2
    history_noise: float = 0.5
    uniform_mix: float = 0.5
    text_dropout: float = 0.1
    action_weight: float = 5.0
    random_structure: bool = False
    video_steps: int = 3
    action_steps: int = 10

    name: ClassVar[str] = 'flow_matching'
    roles: ClassVar[frozenset[str]] = frozenset()

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures of a step."""
        return ('video', 'action', 'forward_dynamics')

    def sampler(self, settings: SamplerSettings) -> SamplerSettings:
        """Velocity network under Euler on both streams."""
        return replace(
            self.common_settings(settings), guidance_range=None,
            video=replace(settings.video, steps=self.video_steps, shift=self.video_shift,
                          sampler='euler', parametrisation='velocity', stride=0),
            action=replace(settings.action, steps=self.action_steps, shift=self.action_shift,
                           sampler='euler', parametrisation='velocity', stride=0))

    def _structure(self, step: int) -> tuple[int, int]:
        if not self.random_structure:
            return self.chunk_size, self.window
        rng = np.random.default_rng([self.seed, step, _STRUCTURE])
        return int(rng.integers(1, 5)), int(rng.integers(4, 65))

    def losses(self, networks: Networks, windows: Windows, step: int,
               generator: torch.Generator) -> Losses:
        """See the module text."""
        recipe = NoiseRecipe(self.video_shift, self.action_shift, self.per_chunk,
                             self.history_noise, self.uniform_mix)
        sample = draw(windows, recipe, generator)
        dropped = torch.rand(len(windows.text), generator=generator) < self.text_dropout
        text = torch.where(dropped.to(windows.text.device)[:, None, None], windows.empty_text,
                           windows.text)
        forward_dynamics = self.forward_dynamics(step)
        packed = PackedPass(sample, *self._structure(step), forward_dynamics)
        video, action = flow_matching_loss(sample, *packed(networks.student, None, text))
        if forward_dynamics:
            return Losses({'student': finite(video)}, {'forward_dynamics': video.detach()})
        return Losses({'student': finite(video + self.action_weight * action)},
                      {'video': video.detach(), 'action': action.detach()})
