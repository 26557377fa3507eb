# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Streaming inference: predict the next chunk, ground the last one, forecast beyond it.

Sequential LingBot-VA procedure. History lives in one contiguous key/value buffer per layer, in
the order V0 A0 V1 A1 ... (ids 0, 1, 2, ...: video of chunk c is 2c, its actions 2c+1). A pass
writes its keys behind the history and attends to everything from its window's start up to itself;
a pass over noisy tokens does not move the end of the history, so the next pass overwrites it.

Predicted chunks stay in the history as forecasts until they are grounded. Grounding chunk n cuts
the history back to n, writes what was observed and executed, and runs the clean passes of the
forecasts after n again on top of the corrected history.
"""

import dataclasses

import torch

from .attention import attention
from .config import ModalitySampler, SamplerSettings
from .flow import guided, shifted_sigmas, solver_step
from .packed import pack_actions, unpack_actions
from .rope import action_positions, rope_table, video_positions
from .transformer import Segment, WanTransformer3DModel

_SPARE_CHUNKS = 8


class EngineStateError(RuntimeError):
    """A call came out of order; the message says which call has to come first."""


@dataclasses.dataclass(frozen=True)
class ChunkForecast:
    """A predicted chunk in normalised space: latents (z, K, h, w), actions (K*n, 30), fp32.

    In chunk 0, latent frame 0 is the initial observation and the first n rows precede it: rows to
    execute begin at `first_row`.
    """

    index: int
    latents: torch.Tensor
    actions: torch.Tensor
    first_row: int
    video_steps: int
    action_steps: int


class _History:
    """The contiguous key/value buffer: (layers, 2, rows, heads, tokens, head_dim)."""

    def __init__(self, model: WanTransformer3DModel, rows: int, video_tokens: int,
                 action_tokens: int, window: int, like: torch.Tensor):
        config = model.config
        self._video_tokens = video_tokens
        self._chunk_tokens = video_tokens + action_tokens
        self._window = window
        self._capacity = window // 2 + 1 + _SPARE_CHUNKS
        self._first_chunk = 0
        self.cached = 0
        self.rows = rows
        self._buffer = torch.empty(
            config.num_layers, 2, rows, config.num_attention_heads,
            self._capacity * self._chunk_tokens, config.attention_head_dim,
            dtype=like.dtype, device=like.device)

    def _offset(self, group: int) -> int:
        chunk = group // 2 - self._first_chunk
        return chunk * self._chunk_tokens + (group % 2) * self._video_tokens

    def truncate(self, group: int) -> None:
        """Forget groups from `group` on."""
        if group < 2 * self._first_chunk:
            raise EngineStateError(f'chunk {group // 2} has left the history')
        self.cached = min(self.cached, group)

    def make_room(self, chunk: int, oldest_open: int) -> None:
        """Ensure that `chunk` fits; drop what no pass from `oldest_open` on can see."""
        if chunk - self._first_chunk < self._capacity:
            return
        first = max(self._first_chunk, (2 * oldest_open - self._window) // 2)
        if chunk - first >= self._capacity:
            raise EngineStateError(f'{chunk - oldest_open} chunks are not grounded; ground some')
        start, end = self._offset(2 * first), self._offset(self.cached)
        self._buffer[..., :end - start, :] = self._buffer[..., start:end, :].clone()
        self._first_chunk = first

    def attend(self, group: int, rows: int):
        """Return the self-attention of a pass over `group`, which must follow the history."""
        if group != self.cached:
            raise EngineStateError(f'pass over group {group}, history holds {self.cached}')
        begin = self._offset(max(group - self._window, 2 * self._first_chunk))
        end = self._offset(group)

        def run(layer: int, q: torch.Tensor | None, k: torch.Tensor,
                v: torch.Tensor) -> torch.Tensor | None:
            stop = end + k.shape[2]
            keys, values = self._buffer[layer, :, :rows]
            keys[:, :, end:stop] = k
            values[:, :, end:stop] = v
            if q is None:
                return None
            return attention(q, keys[:, :, begin:stop], values[:, :, begin:stop])

        return run


class StreamingEngine:
    """One episode of one model; single-threaded, deterministic given the generator.

    model: in evaluation mode, on its device. latent_size: (h, w) of a latent frame. channel_mask:
    (30,) 1 on used action channels. frame0_action: (30,) normalised physical zeros, required by
    `settings.frame0_action == 'physical_zero'`.
    """

    def __init__(self, model: WanTransformer3DModel, settings: SamplerSettings,
                 latent_size: tuple[int, int], channel_mask: torch.Tensor,
                 frame0_action: torch.Tensor | None = None):
        self._model = model
        self.settings = settings
        self._weight = model.patch_embedding_mlp.weight
        self._latent_shape = (model.config.in_channels, *latent_size)
        self._mask = torch.as_tensor(channel_mask).to(self._weight.device, torch.float32)
        self._mask = self._mask.view(1, -1, 1, 1, 1)
        self._slot0 = torch.zeros_like(self._mask)
        if settings.frame0_action == 'physical_zero':
            if frame0_action is None:
                raise ValueError("frame0_action 'physical_zero' needs the normalised zero action")
            self._slot0 = torch.as_tensor(frame0_action).to(self._mask).view_as(self._mask)
            self._slot0 = self._slot0 * self._mask
        self._text: torch.Tensor | None = None
        self._text_kv: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._ropes: dict[tuple[str, int], torch.Tensor] = {}
        self._clear()

    # ------------------------------------------------------------------ state

    @property
    def predicted(self) -> int:
        """Chunks predicted so far (index of the next prediction)."""
        return self._next

    @property
    def grounded(self) -> int:
        """Chunks grounded so far (index of the oldest forecast)."""
        return self._grounded

    def _clear(self) -> None:
        self._initial: torch.Tensor | None = None
        self._history: _History | None = None
        self._clean: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._next = 0
        self._grounded = 0

    @torch.inference_mode()
    def reset(self, text_rows: torch.Tensor, negative_rows: torch.Tensor | None = None) -> None:
        """Start an episode: forget everything, encode the prompt (R, text_dim).

        negative_rows (the empty prompt) is needed for video guidance above 1. Text keys and values
        are kept when the prompt has not changed.
        """
        rows = [text_rows]
        if self.settings.video_guidance > 1:
            if negative_rows is None:
                raise ValueError('video guidance above 1 needs the rows of the empty prompt')
            rows.append(negative_rows)
        text = torch.stack(rows).to(self._weight.device)
        if self._text is None or not torch.equal(text, self._text):
            self._text, self._text_kv = text, self._model.text_kv(text)
        self._clear()

    @torch.inference_mode()
    def set_initial(self, latent: torch.Tensor) -> None:
        """Give the latent frame (z, h, w) of the first observation."""
        if self._text is None:
            raise EngineStateError('set_initial before reset')
        if tuple(latent.shape) != self._latent_shape:
            raise ValueError(f'initial latent must be {self._latent_shape}, got '
                             f'{tuple(latent.shape)}')
        if self._next:
            raise EngineStateError('the episode is running; call reset first')
        self._initial = latent.to(self._mask).clone()
        _, height, width = self._latent_shape
        _, ph, pw = self._model.config.patch_size
        s = self.settings
        self._history = _History(
            self._model, len(self._text), s.frames_per_chunk * (height // ph) * (width // pw),
            s.rows_per_chunk, s.window, self._weight)

    def rewind(self, chunk: int) -> None:
        """Partial reset: forget `chunk` and everything after it, keep the history before it."""
        if not 0 <= chunk <= self._next or self._history is None:
            raise EngineStateError(f'cannot rewind to chunk {chunk}: {self._next} predicted')
        self._history.truncate(2 * chunk)
        self._next = chunk
        self._grounded = min(self._grounded, chunk)
        self._clean = {k: v for k, v in self._clean.items() if k < chunk}

    # ---------------------------------------------------------------- predict

    @torch.inference_mode()
    def predict(self, video_steps: int | None = None, action_steps: int | None = None,
                generator: torch.Generator | None = None) -> ChunkForecast:
        """Predict the next chunk from grounded history and, beyond it, from forecasts.

        Noise is drawn in fp32 on the generator's device (default CPU), video first.
        """
        if self._history is None or self._initial is None:
            raise EngineStateError('predict before set_initial')
        s, chunk = self.settings, self._next
        video = dataclasses.replace(s.video, steps=video_steps or s.video.steps)
        action = dataclasses.replace(s.action, steps=action_steps or s.action.steps)
        channels, height, width = self._latent_shape
        noise_v = self._draw((1, channels, s.frames_per_chunk, height, width), generator)
        noise_a = self._draw((1, self._mask.shape[1], s.frames_per_chunk, s.actions_per_frame, 1),
                             generator)
        self._history.make_room(chunk, self._grounded)
        self._catch_up(chunk)
        latents = self._denoise('video', noise_v, chunk, video, self._initial[None, :, None])
        self._write('video', latents, chunk)
        actions = self._denoise('action', noise_a, chunk, action, self._slot0) * self._mask
        self._clean[chunk] = (latents, actions)
        self._next += 1
        return ChunkForecast(chunk, latents[0].clone(), unpack_actions(actions)[0].clone(),
                             0 if chunk else s.actions_per_frame, video.steps, action.steps)

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> torch.Tensor:
        device = generator.device if generator is not None else 'cpu'
        return torch.randn(shape, generator=generator, device=device).to(self._mask.device)

    def _denoise(self, modality: str, x: torch.Tensor, chunk: int, sampler: ModalitySampler,
                 pinned: torch.Tensor) -> torch.Tensor:
        """Run the solver; in chunk 0, frame 0 is held at `pinned` with t = 0."""
        guidance = self.settings.video_guidance if modality == 'video' else 1.0
        rows = 2 if guidance > 1 else 1
        sigmas = [*shifted_sigmas(sampler.steps, sampler.shift).tolist(), 0.0]
        mask = self._mask if modality == 'action' else 1.0
        for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
            t = torch.full((1, x.shape[2]), 1000 * sigma, device=x.device)
            if chunk == 0:
                x = _pin(x, pinned)
                t[:, 0] = 0
            x = x * mask
            v = self._pass(modality, x, t, chunk, rows, outputs=1)[0].float()
            if rows == 2:
                v = guided(v[:1], v[1:], guidance)
            x = solver_step(x, v, sigma, sigma_next, sampler)
        return _pin(x, pinned) if chunk == 0 else x

    # ----------------------------------------------------------------- ground

    @torch.inference_mode()
    def ground(self, latents: torch.Tensor, actions: torch.Tensor) -> None:
        """Replace the oldest forecast by what happened, and redo the forecasts after it.

        latents: (z, K, h, w) observed, for chunk 0 without the initial frame (z, K-1, h, w).
        actions: (K*n, 30) executed, normalised; for chunk 0 the n rows of slot 0 may be left out
        and are replaced by the frame-0 action in any case. Raises EngineStateError when nothing is
        predicted, ValueError on wrong shapes or non-finite values; the state is then unchanged.
        """
        chunk, s = self._grounded, self.settings
        if chunk >= self._next:
            raise EngineStateError(f'chunk {chunk} has not been predicted; nothing to ground')
        channels, height, width = self._latent_shape
        frames = s.frames_per_chunk - (chunk == 0)
        if tuple(latents.shape) != (channels, frames, height, width):
            raise ValueError(f'chunk {chunk}: latents must be '
                             f'{(channels, frames, height, width)}, got {tuple(latents.shape)}')
        if chunk == 0 and actions.shape[0] == s.rows_per_chunk - s.actions_per_frame:
            actions = torch.cat([actions.new_zeros(s.actions_per_frame, *actions.shape[1:]),
                                 actions])
        if tuple(actions.shape) != (s.rows_per_chunk, self._mask.shape[1]):
            raise ValueError(f'chunk {chunk}: actions must be '
                             f'{(s.rows_per_chunk, self._mask.shape[1])}, got '
                             f'{tuple(actions.shape)}')
        if not bool(torch.isfinite(latents).all() and torch.isfinite(actions).all()):
            raise ValueError(f'chunk {chunk}: latents or actions are not finite')
        video = latents.to(self._mask)[None]
        action = pack_actions(actions.to(self._mask)[None], s.actions_per_frame) * self._mask
        if chunk == 0:
            video = torch.cat([self._initial[None, :, None], video], dim=2)
            action = _pin(action, self._slot0)
        self._history.truncate(2 * chunk)
        self._clean[chunk] = (video, action)
        self._grounded += 1
        self._catch_up(self._next)

    def _catch_up(self, chunk: int) -> None:
        """Write the clean passes of all groups before `chunk` that the history lacks.

        The action pass of a forecast is only run here, when a later chunk needs it.
        """
        for group in range(self._history.cached, 2 * chunk):
            index, is_action = divmod(group, 2)
            self._write('action' if is_action else 'video', self._clean[index][is_action], index)
        self._clean = {k: v for k, v in self._clean.items() if k >= self._grounded}

    # ------------------------------------------------------------------ passes

    def _write(self, modality: str, values: torch.Tensor, chunk: int) -> None:
        t = torch.zeros(1, values.shape[2], device=values.device)
        self._pass(modality, values, t, chunk, self._history.rows, outputs=0)
        self._history.cached += 1

    def _pass(self, modality: str, values: torch.Tensor, t: torch.Tensor, chunk: int, rows: int,
              outputs: int) -> list[torch.Tensor]:
        attend = self._history.attend(2 * chunk + (modality == 'action'), rows)
        text = self._text_kv
        if rows < self._history.rows:
            text = [(k[:rows], v[:rows]) for k, v in text]
        segment = Segment(modality, values.expand(rows, -1, -1, -1, -1), t)
        return self._model([segment], self._rope(modality, chunk), attend, text, outputs)

    def _rope(self, modality: str, chunk: int) -> torch.Tensor:
        key = (modality, chunk)
        if key not in self._ropes:
            if len(self._ropes) > 16:
                self._ropes.clear()
            s, config = self.settings, self._model.config
            offset = chunk * s.frames_per_chunk
            if modality == 'video':
                _, height, width = self._latent_shape
                _, ph, pw = config.patch_size
                positions = video_positions(s.frames_per_chunk, height // ph, width // pw, offset)
            else:
                positions = action_positions(s.frames_per_chunk, s.actions_per_frame, offset)
            self._ropes[key] = rope_table(positions, config.attention_head_dim, config.rope_theta,
                                          self._weight.device)
        return self._ropes[key]


def _pin(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Replace frame 0 of x (1, C, F, ., .)."""
    return torch.cat([value.expand_as(x[:, :, :1]), x[:, :, 1:]], dim=2)
