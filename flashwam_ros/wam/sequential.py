# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The plain sequential procedure of LingBot-VA: one pass of the network for each group.

Closed loop: observed video, executed actions, the noisy video steps, the predicted video, the
noisy action steps, the predicted actions: Nv + Na + 4 passes for a chunk, through the module that
training uses. It is the oracle and the yardstick of `engine.StreamingEngine`, which gives the same
chunks with fewer passes.
"""

import torch

from .config import ModalitySampler
from .flow import guided, solver_step
from .streaming import Streaming, levels, pin
from .transformer import Segment


class SequentialEngine(Streaming):
    """See `streaming.Streaming`; grounding runs its passes at once."""

    def _sample(self, chunk: int, video: ModalitySampler, action: ModalitySampler,
                noise_v: torch.Tensor,
                noise_a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._catch_up(chunk)
        latents = self._denoise('video', noise_v, chunk, video)
        self._write('video', latents, chunk)
        actions = self._denoise('action', noise_a, chunk, action) * self._mask
        self._write('action', actions, chunk)
        return latents, actions

    def ground(self, latents: torch.Tensor, actions: torch.Tensor) -> None:
        """See `Streaming.ground`; the truth and the forecasts after it are written here."""
        super().ground(latents, actions)
        with torch.inference_mode():
            self._catch_up(self._next)

    def _catch_up(self, chunk: int) -> None:
        """Write the clean groups before `chunk` that the history lacks."""
        for group in range(self._history.cached, 2 * chunk):
            index, is_action = divmod(group, 2)
            self._write('action' if is_action else 'video', self._clean[index][is_action], index)
        self._clean = {k: v for k, v in self._clean.items() if k >= self._grounded}

    def _write(self, modality: str, values: torch.Tensor, chunk: int) -> None:
        t = torch.zeros(1, values.shape[2], device=values.device)
        group = 2 * chunk + (modality == 'action')
        self._pass(modality, values, t, chunk, group, self._history.rows, outputs=0)
        self._history.cached += 1

    def _denoise(self, modality: str, x: torch.Tensor, chunk: int,
                 sampler: ModalitySampler, skip: int = 0) -> torch.Tensor:
        """Run the solver; in chunk 0, frame 0 is held at what is known with t = 0."""
        guidance = self.settings.video_guidance if modality == 'video' else 1.0
        rows = 2 if guidance > 1 else 1
        group = 2 * chunk + (modality == 'action')
        mask = self._mask if modality == 'action' else 1.0
        for sigma, sigma_next in levels(sampler):
            t = torch.full((1, x.shape[2]), 1000 * sigma, device=x.device)
            if chunk == 0:
                x = pin(x, self._pinned(modality))
                t[:, 0] = 0
            x = x * mask
            v = self._pass(modality, x, t, chunk, group, rows, outputs=1, skip=skip)[0].to(x)
            if rows == 2:
                v = guided(v[:1], v[1:], guidance)
            x = solver_step(x, v, sigma, sigma_next, sampler)
        return pin(x, self._pinned(modality)) if chunk == 0 else x

    def _sample_video(self, chunk: int, sampler: ModalitySampler, noise: torch.Tensor,
                      known: torch.Tensor) -> torch.Tensor:
        self._catch_up(chunk)
        t = torch.zeros(1, known.shape[2], device=known.device)
        self._pass('action', known, t, chunk, 2 * chunk, self._history.rows, outputs=0)
        return self._denoise('video', noise, chunk, sampler, skip=self.settings.rows_per_chunk)

    def _pass(self, modality: str, values: torch.Tensor, t: torch.Tensor, chunk: int, group: int,
              rows: int, outputs: int, skip: int = 0) -> list[torch.Tensor]:
        history, text = self._history, self._text_kv
        tokens = values.shape[2] * self._frame_tokens(modality)
        attend = history.attend(history.place([(group, tokens)], skip), rows)
        if rows < history.rows:
            text = [(k[:rows], v[:rows]) for k, v in text]
        segment = Segment(modality, values.expand(rows, -1, -1, -1, -1), t)
        return self._model([segment], self._rope(modality, chunk), attend, text, outputs)
