# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Distribution matching (DMD2), the paper's baselines of appendix A.3.4.

Three networks: the frozen teacher (reference), the student and a critic that follows the student's
outputs; one critic scores both modalities. One step:

1. Rollout of K steps over the uniform bands 1 = s_0 > ... > s_K = 0: x0 = x - s_i v, the next
   input is `(1 - s_{i+1}) x0 + s_{i+1} eps` with fresh noise; only the last step carries gradient.
   Actions are rolled out alike (joint) or are perturbed ground truth (video only).
2. Score: x~ = (1 - s) G + s eta with s_v, s_a ~ U(0.02, 0.98), one per sample and modality;
   x0_fake = x~ - s v_critic, x0_real = x~ - s v_teacher (guidance on the video, none on actions);
   g = (x0_fake - x0_real) / (mean |G - x0_real| + 1e-8) per sample,
   L_DM = 1/2 mean (G - sg(G - g))^2, whose gradient with respect to G is g / count.
   (The paper does not say whether its L1 norm is a mean; DMD2 takes the mean.)
3. Regulariser (video only): (v_a - (x_a - a0) / s_{K-1})^2 on used channels at the last level.
4. Critic: flow matching on freshly noised student outputs with w(s) = exp(-2 (s - 1/2)^2).

The critic learns in every step, the student in every `student_every`-th.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from flashwam_ros.wam.config import SamplerSettings
from flashwam_ros.wam.packed import NoiseRecipe

from .base import Losses, Networks, Windows
from .passes import CommonOptions, Noisy, PackedPass, draw, finite, per_frame, renoise

LOWEST, HIGHEST = 0.02, 0.98


def surrogate(generated: Tensor, gradient: Tensor) -> Tensor:
    """`1/2 (G - sg(G - g))^2`: its derivative with respect to G is g."""
    return 0.5 * (generated - (generated - gradient).detach()).square()


def matching_gradient(generated: Tensor, fake: Tensor, real: Tensor, counted: Tensor) -> Tensor:
    """`(fake - real) / (mean |generated - real| + 1e-8)` per sample over `counted` elements."""
    counted = counted.expand_as(generated)
    norm = (counted * (generated - real).abs()).flatten(1).sum(1)
    norm = norm / counted.flatten(1).sum(1).clamp(min=1) + 1e-8
    return counted * (fake - real) / norm.view(-1, 1, 1, 1, 1)


@dataclass(frozen=True)
class Rollout:
    """The student's last step: outputs x0 and, for the regulariser, velocity and its target."""

    video: Tensor
    action: Tensor
    v_action: Tensor
    action_target: Tensor


@dataclass(frozen=True)
class DistributionMatching(CommonOptions):
    """Options of the family; `joint` makes the method.

    Attributes:
        rollout_steps: K.
        guidance: classifier-free guidance of the reference on video; 1 leaves the unconditional
            pass out.
        student_every: the student is updated in every so-many-th step.
        lambda_action: weight of the action's L_DM (joint).
        lambda_reg: weight of the regulariser (video only).
        batched_guidance: conditional and unconditional reference pass in one forward.
        video_steps: network evaluations per chunk that the checkpoint stores.
        action_steps: the same for actions.
    """

    rollout_steps: int = 4
    guidance: float = 3.0
    student_every: int = 5
    lambda_action: float = 0.1
    lambda_reg: float = 1.0
    batched_guidance: bool = True
    video_steps: int = 1
    action_steps: int = 2

    name: ClassVar[str]
    joint: ClassVar[bool]
    roles: ClassVar[frozenset[str]] = frozenset({'teacher', 'critic'})

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        if self.rollout_steps < 1 or self.student_every < 1 or self.guidance < 1:
            raise ValueError(f'rollout_steps, student_every and guidance must be >= 1: {self}')

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures of a step."""
        return ('video', 'action' if self.joint else 'regulariser', 'forward_dynamics',
                'critic_video', 'critic_action')

    def sampler(self, settings: SamplerSettings) -> SamplerSettings:
        """The x0 form under Euler; actions that were not distilled as they were."""
        video = replace(settings.video, steps=self.video_steps, sampler='euler',
                        parametrisation='linear')
        action = replace(settings.action, steps=self.action_steps)
        if self.joint:
            action = replace(action, sampler='euler', parametrisation='linear')
        guidance = (self.guidance, self.guidance) if self.guidance > 1 else None
        return replace(self.student_settings(settings), video=video, action=action,
                       guidance_range=guidance)

    def updates_student(self, step: int) -> bool:
        """Whether the student is updated in this step; the critic always is."""
        return (step + 1) % self.student_every == 0

    def losses(self, networks: Networks, windows: Windows, step: int,
               generator: torch.Generator) -> Losses:
        """See the module text."""
        sample = draw(windows, NoiseRecipe(uniform_mix=1.0), generator)
        packed = PackedPass(sample, self.chunk_size, self.window, self.forward_dynamics(step))
        # Without gradients (held-out windows) every figure is wanted.
        update = self.updates_student(step) or not torch.is_grad_enabled()
        rollout = self._rollout(networks, packed, windows, generator, update)
        scalars: dict[str, Tensor] = {}
        figures: dict[str, Tensor] = {}
        if update:
            loss = self._student(networks, packed, windows, generator, rollout, figures)
            scalars['student'] = finite(loss)
        loss = self._critic(networks, packed, windows, generator, rollout, figures)
        scalars['critic'] = finite(loss)
        return Losses(scalars, figures)

    def _rollout(self, networks: Networks, packed: PackedPass, windows: Windows,
                 generator: torch.Generator, update: bool) -> Rollout:
        mask, truth = packed.sample.channel_mask, packed.sample.inputs.clean_action
        video, action = windows.video, truth
        keep_graph = update and torch.is_grad_enabled()
        for i in range(self.rollout_steps):
            sigma = (1 - i / self.rollout_steps) * packed.free
            noisy, _, target = renoise(video, action if self.joint else truth, sigma, sigma, mask,
                                       generator)
            with torch.set_grad_enabled(keep_graph and i == self.rollout_steps - 1):
                v_video, v_action = packed(networks.student, noisy, windows.text)
                video = noisy.video - per_frame(sigma) * v_video
                action = (noisy.action - per_frame(sigma) * v_action) * mask
        return Rollout(video, action, v_action, target)

    def _scored(self, packed: PackedPass, rollout: Rollout,
                generator: torch.Generator) -> tuple[Noisy, Tensor, Tensor]:
        """Student outputs (actions: ground truth where not joint) at fresh levels."""
        rows = (len(packed.free), 1)
        levels = [(LOWEST + (HIGHEST - LOWEST) * torch.rand(rows, generator=generator))
                  .to(packed.free) * packed.free for _ in range(2)]
        action = rollout.action.detach() if self.joint else packed.sample.inputs.clean_action
        return renoise(rollout.video.detach(), action, *levels, packed.sample.channel_mask,
                       generator)

    def _student(self, networks: Networks, packed: PackedPass, windows: Windows,
                 generator: torch.Generator, rollout: Rollout,
                 figures: dict[str, Tensor]) -> Tensor:
        noisy, _, _ = self._scored(packed, rollout, generator)
        with torch.no_grad():
            fake = packed(networks.critic, noisy, windows.text)
            if self.guidance > 1:
                real = packed.guided(networks.teacher, noisy, windows, self.guidance,
                                     self.batched_guidance)
            else:
                real = packed(networks.teacher, noisy, windows.text)
        free = per_frame(packed.free)
        loss = packed.video_mean(_matching_loss(rollout.video, noisy.video, noisy.video_sigma,
                                                fake[0], real[0], free))
        if packed.forward_dynamics:
            figures['forward_dynamics'] = loss.detach()
            return loss
        figures['video'] = loss.detach()
        if self.joint:
            part = packed.action_mean(_matching_loss(
                rollout.action, noisy.action, noisy.action_sigma, fake[1], real[1],
                free * packed.sample.channel_mask))
            figures['action'] = part.detach()
            return loss + self.lambda_action * part
        part = packed.action_mean((rollout.v_action - rollout.action_target).square())
        figures['regulariser'] = part.detach()
        return loss + self.lambda_reg * part

    def _critic(self, networks: Networks, packed: PackedPass, windows: Windows,
                generator: torch.Generator, rollout: Rollout,
                figures: dict[str, Tensor]) -> Tensor:
        noisy, *targets = self._scored(packed, rollout, generator)
        predicted = packed(networks.critic, noisy, windows.text)
        errors = [_bell(sigma) * (v - target).square()
                  for v, target, sigma in zip(predicted, targets,
                                              (noisy.video_sigma, noisy.action_sigma),
                                              strict=True)]
        loss = packed.video_mean(errors[0])
        figures['critic_video'] = loss.detach()
        if not packed.forward_dynamics:
            part = packed.action_mean(errors[1])
            figures['critic_action'] = part.detach()
            loss = loss + part
        return loss


def _bell(sigma: Tensor) -> Tensor:
    return torch.exp(-2 * (per_frame(sigma) - 0.5).square())


def _matching_loss(generated: Tensor, noisy: Tensor, sigma: Tensor, v_fake: Tensor,
                   v_real: Tensor, counted: Tensor) -> Tensor:
    sigma = per_frame(sigma)
    fake, real = noisy - sigma * v_fake, noisy - sigma * v_real
    return surrogate(generated, matching_gradient(generated.detach(), fake, real, counted))
