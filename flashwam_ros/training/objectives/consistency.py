# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One consistency-distillation step, shared by all methods of that family.

A method is the consistency function of each stream, `f(x, s) = a(s) x + b(s) v` with a(0) = 1 and
b(0) = 0 (`wam.flow.consistency_function`), and the values of its options. One step:

1. Noise video and action independently: x_s on ids i.
2. The frozen teacher jumps `stride` ids down the schedule, to x_e, in `substeps` Euler steps;
   video with classifier-free guidance w ~ U[guidance], one w per micro-batch, action without.
3. Student: f(x_s, s). Target network (average of the student), no gradient: f(x_e, e).
4. L = L_v + lambda_action L_a (paper eq. 12) + lambda_reg L_reg (the paper's tables), with
   L_v = mean( sqrt(d^2 + c^2) - c ), d = f_student - f_target, L_a the same over used channels,
   L_reg = mean over used channels of (v_a - (eps - x0))^2 on the same noisy actions.

Consistency losses are not weighted by level. All this is fp32, x_e is masked to the used channels,
and frames that inference pins (frame 0 of an episode) are given clean and get no loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from flashwam_ros.wam.config import ModalitySampler, SamplerSettings
from flashwam_ros.wam.flow import consistency_function, euler_step, jump_sigmas
from flashwam_ros.wam.packed import NoiseRecipe

from .base import Losses, Networks, Windows
from .passes import CommonOptions, Noisy, PackedPass, draw, finite, per_frame

DISTANCES = ('huber', 'l2')


@dataclass(frozen=True)
class ConsistencyDistillation(CommonOptions):
    """Options of the family; `video_form` and `action_form` make the method.

    Attributes:
        video_shift: of the video's noise schedule.
        action_shift: of the action's.
        per_chunk: frames that share one noise level; 0 draws a level per frame (paper).
        history_noise: probability that a sample's clean video is noised (paper: 0).
        stride: training ids of one teacher jump, k.
        substeps: teacher Euler steps inside a jump (paper: 1).
        guidance: range of w; [1, 1] leaves the unconditional pass out.
        distance: 'huber' or 'l2'.
        huber_c: c of the Huber distance.
        sigma_data: sd of the LCM forms.
        timestep_scaling: of the scaled LCM form.
        lambda_action: weight of L_a.
        lambda_reg: weight of L_reg.
        batched_guidance: conditional and unconditional teacher pass in one forward (same result).
        video_steps: network evaluations per chunk that the checkpoint stores.
        action_steps: the same for actions.
    """

    video_shift: float = 5.0
    action_shift: float = 1.0
    per_chunk: int = 2
    history_noise: float = 0.0
    stride: int = 500
    substeps: int = 1
    guidance: tuple[float, float] = (2.0, 10.0)
    distance: str = 'huber'
    huber_c: float = 1e-3
    sigma_data: float = 0.5
    timestep_scaling: float = 10.0
    lambda_action: float = 1.0
    lambda_reg: float = 0.0
    batched_guidance: bool = True
    video_steps: int = 1
    action_steps: int = 2

    name: ClassVar[str]
    video_form: ClassVar[str] = 'lcm'
    action_form: ClassVar[str | None] = None
    roles: ClassVar[frozenset[str]] = frozenset({'teacher', 'target'})

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        low, high = (float(w) for w in self.guidance)
        object.__setattr__(self, 'guidance', (low, high))
        if not 1 <= low <= high:
            raise ValueError(f'guidance must be a range 1 <= low <= high, got {self.guidance}')
        if not 1 <= self.stride <= 999 or self.substeps < 1:
            raise ValueError(f'need 1 <= stride <= 999 and substeps >= 1, got {self.stride}, '
                             f'{self.substeps}')
        if self.distance not in DISTANCES:
            raise ValueError(f'distance {self.distance!r} must be one of {DISTANCES}')
        self._stream(self.video_form)  # checks sigma_data and timestep_scaling

    @property
    def guided(self) -> bool:
        """Whether the teacher needs its unconditional pass."""
        return self.guidance != (1.0, 1.0)

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures of a step."""
        return ('video', *(['action'] if self.action_form else []),
                *(['regulariser'] if self.lambda_reg else []), 'forward_dynamics')

    def _stream(self, form: str) -> ModalitySampler:
        return ModalitySampler(parametrisation=form, sigma_data=self.sigma_data,
                               timestep_scaling=self.timestep_scaling, stride=self.stride,
                               sampler='euler' if form == 'linear' else 'consistency')

    def sampler(self, settings: SamplerSettings) -> SamplerSettings:
        """Each distilled stream with its own f; an action that was not distilled as it was."""
        action = settings.action if self.action_form is None else self._stream(self.action_form)
        return replace(
            self.student_settings(settings),
            guidance_range=self.guidance if self.guided else None,
            video=replace(self._stream(self.video_form), steps=self.video_steps,
                          shift=self.video_shift),
            action=replace(action, steps=self.action_steps, shift=self.action_shift))

    def losses(self, networks: Networks, windows: Windows, step: int,
               generator: torch.Generator) -> Losses:
        """See the module text."""
        recipe = NoiseRecipe(self.video_shift, self.action_shift, self.per_chunk,
                             self.history_noise, uniform_mix=1.0)
        packed = PackedPass(draw(windows, recipe, generator), self.chunk_size, self.window,
                            self.forward_dynamics(step))
        low, high = self.guidance
        scale = low + (high - low) * torch.rand((), generator=generator).item()
        start = packed.start
        with torch.no_grad():
            end = self._jump(networks.teacher, packed, start, windows, scale)
            goal = self._functions(end, *packed(networks.target, end, windows.text))
        v_video, v_action = packed(networks.student, start, windows.text)
        video, action = self._functions(start, v_video, v_action)
        loss = packed.video_mean(self._distance(video - goal[0]))
        if packed.forward_dynamics:
            return Losses({'student': finite(loss)}, {'forward_dynamics': loss.detach()})
        figures = {'video': loss.detach()}
        if action is not None:
            part = packed.action_mean(self._distance(action - goal[1]))
            figures['action'] = part.detach()
            loss = loss + self.lambda_action * part
        if self.lambda_reg:
            part = packed.action_mean((v_action - packed.sample.action_target).square())
            figures['regulariser'] = part.detach()
            loss = loss + self.lambda_reg * part
        return Losses({'student': finite(loss)}, figures)

    def _jump(self, teacher: nn.Module, packed: PackedPass, noisy: Noisy, windows: Windows,
              scale: float) -> Noisy:
        """The teacher's end point of a jump; a stream that is not distilled stays where it is."""
        mask = packed.sample.channel_mask
        levels_v = jump_sigmas(noisy.video_sigma, self.stride, self.video_shift, self.substeps)
        levels_a = jump_sigmas(noisy.action_sigma, self.stride, self.action_shift, self.substeps)
        for next_v, next_a in zip(levels_v[1:], levels_a[1:], strict=True):
            if self.guided:
                v_video, v_action = packed.guided(teacher, noisy, windows, scale,
                                                  self.batched_guidance)
            else:
                v_video, v_action = packed(teacher, noisy, windows.text)
            video = euler_step(noisy.video, v_video, per_frame(noisy.video_sigma),
                               per_frame(next_v))
            if self.action_form is None:
                noisy = replace(noisy, video=video, video_sigma=next_v)
                continue
            action = euler_step(noisy.action, v_action, per_frame(noisy.action_sigma),
                                per_frame(next_a))
            noisy = Noisy(video, next_v, action * mask, next_a)
        return noisy

    def _functions(self, noisy: Noisy, v_video: Tensor,
                   v_action: Tensor) -> tuple[Tensor, Tensor | None]:
        """Consistency functions of both streams; None for an action that is not distilled."""
        video = consistency_function(noisy.video, v_video, per_frame(noisy.video_sigma),
                                     self._stream(self.video_form))
        if self.action_form is None:
            return video, None
        return video, consistency_function(noisy.action, v_action, per_frame(noisy.action_sigma),
                                           self._stream(self.action_form))

    def _distance(self, difference: Tensor) -> Tensor:
        if self.distance == 'l2':
            return difference.square()
        return (difference.square() + self.huber_c ** 2).sqrt() - self.huber_c
