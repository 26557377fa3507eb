# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Streaming inference with merged passes: Nv + Na passes for a chunk instead of Nv + Na + 4.

Tokens meet only in self-attention, so clean groups that are to be written and the first step of
the noisy group after them can share one pass, if each part sees what its own pass would have shown
it:

    pass A   [V' of n | A' of n | Z of n+1]     Z the first noisy video step
             then Nv - 1 passes of Z alone
    pass B   [z of n+1 | N of n+1]              z the predicted video, N the first noisy actions
             then Na - 1 passes of N alone

Grounding therefore only queues V' and A'. Forecasts that have to be written again on top of the
truth join pass A: [V' A' of n | z n of n+1 | Z of n+2]. Predicted actions are written only where a
later prediction builds on them. With guidance, pass A runs both rows (the empty prompt has its own
history), all passes after the video is known only the first.
"""

import dataclasses
from collections.abc import Sequence

import torch

from .config import ModalitySampler, SamplerSettings
from .flow import guided, solver_step
from .fused import FusedTransformer, Part
from .streaming import Streaming, levels, pin
from .transformer import WanTransformer3DModel


@dataclasses.dataclass(frozen=True)
class _Group:
    """A part of a pass with its place: `group` is the id that says what it sees."""

    part: Part
    chunk: int
    group: int


class StreamingEngine(Streaming):
    """See `streaming.Streaming`; the weights are read when the engine is made.

    Equal to `sequential.SequentialEngine` up to rounding, for every number of steps, with and
    without guidance, in any order of predicting, grounding, imagining and rewinding.
    """

    def __init__(self, model: WanTransformer3DModel, settings: SamplerSettings,
                 latent_size: tuple[int, int], channel_mask: torch.Tensor,
                 frame0_action: torch.Tensor | None = None):
        super().__init__(model, settings, latent_size, channel_mask, frame0_action)
        self._network = FusedTransformer(model)

    def _read_text(self, text: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return self._network.text(text)

    def _sample(self, chunk: int, video: ModalitySampler, action: ModalitySampler,
                noise_v: torch.Tensor,
                noise_a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        history = self._history
        latents = self._denoise('video', noise_v, chunk, video, self._pending(chunk))
        self._clean = {k: v for k, v in self._clean.items() if k >= self._grounded}
        z = self._clean_group('video', latents, chunk)
        actions = self._denoise('action', noise_a, chunk, action, [z]) * self._mask
        if history.rows > 1:
            history.truncate(2 * chunk)  # the empty prompt's row has not seen z
        return latents, actions

    def _sample_video(self, chunk: int, sampler: ModalitySampler, noise: torch.Tensor,
                      known: torch.Tensor) -> torch.Tensor:
        action = self._clean_group('action', known, chunk)
        action = dataclasses.replace(action, group=2 * chunk)
        return self._denoise('video', noise, chunk, sampler, self._pending(chunk), action)

    def _clean_group(self, modality: str, values: torch.Tensor, chunk: int) -> _Group:
        part = Part(modality, values, (0.0,) * values.shape[2])
        return _Group(part, chunk, 2 * chunk + (modality == 'action'))

    def _pending(self, chunk: int) -> list[_Group]:
        """Clean groups before `chunk` that the history lacks."""
        groups = []
        for group in range(self._history.cached, 2 * chunk):
            index, is_action = divmod(group, 2)
            modality = 'action' if is_action else 'video'
            groups.append(self._clean_group(modality, self._clean[index][is_action], index))
        return groups

    def _denoise(self, modality: str, x: torch.Tensor, chunk: int, sampler: ModalitySampler,
                 before: list[_Group], known: _Group | None = None) -> torch.Tensor:
        """Run the solver; the first step's pass also writes `before` and the `known` actions.

        `before` becomes part of the history; the keys of `known` lie between the history and the
        noisy tokens until the last step. In chunk 0, frame 0 is held at what is known with t = 0.
        """
        guidance = self.settings.video_guidance if modality == 'video' else 1.0
        rows = 2 if guidance > 1 else 1
        group = 2 * chunk + (modality == 'action')
        skip = 0
        first = [*before, known] if known else before
        for sigma, sigma_next in levels(sampler):
            times = (1000 * sigma,) * x.shape[2]
            if chunk == 0:
                x, times = pin(x, self._pinned(modality)), (0.0, *times[1:])
            if modality == 'action':
                x = x * self._mask
            noisy = _Group(Part(modality, x, times), chunk, group)
            v = self._pass([*first, noisy], rows, skip).to(x)
            self._history.cached += len(before) if first else 0
            if first and known:
                skip = self.settings.rows_per_chunk
            first = []
            if rows == 2:
                v = guided(v[:1], v[1:], guidance)
            x = solver_step(x, v, sigma, sigma_next, sampler)
        return pin(x, self._pinned(modality)) if chunk == 0 else x

    def _pass(self, groups: Sequence[_Group], rows: int, skip: int) -> torch.Tensor:
        """Velocity (rows, ...) of the last group."""
        history, text = self._history, self._text_kv
        if rows < history.rows:
            text = [(k[:rows], v[:rows]) for k, v in text]
        parts = [g.part for g in groups]
        places = [(g.group, self._network.tokens(g.part)) for g in groups]
        ropes = [self._rope(g.part.modality, g.chunk) for g in groups]
        rope = torch.cat(ropes, dim=1) if len(ropes) > 1 else ropes[0]
        attend = history.attend(history.place(places, skip), rows)
        return self._network(parts, rope, attend, text, rows)
