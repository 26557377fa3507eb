# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One streamed episode: what is predicted, what is grounded, and in which order.

Predicted chunks stay as forecasts until they are grounded. Grounding chunk n cuts the history back
to n; what was observed and executed, and the forecasts after n on top of it, have to be written
again before the next prediction. How the passes of the network are arranged is left to the two
procedures that build on this: `engine` (merged) and `sequential` (one pass for each group).
"""

import dataclasses

import torch

from .config import ModalitySampler, SamplerSettings
from .flow import shifted_sigmas
from .history import EngineStateError, History
from .packed import pack_actions, unpack_actions
from .rope import action_positions, rope_table, video_positions
from .transformer import WanTransformer3DModel

_KEPT_TABLES = 32


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


class Streaming:
    """State of one episode of one model; single-threaded, deterministic given the generator.

    model: in evaluation mode, on its device. latent_size: (h, w) of a latent frame. channel_mask:
    (30,) 1 on used action channels. frame0_action: (30,) normalised physical zeros, required by
    `settings.frame0_action == 'physical_zero'`. Samples are fp32 (fp64 for fp64 weights).
    """

    def __init__(self, model: WanTransformer3DModel, settings: SamplerSettings,
                 latent_size: tuple[int, int], channel_mask: torch.Tensor,
                 frame0_action: torch.Tensor | None = None):
        self._model = model
        self.settings = settings
        weight = model.patch_embedding_mlp.weight
        self._weight = weight
        precision = torch.float64 if weight.dtype == torch.float64 else torch.float32
        self._latent_shape = (model.config.in_channels, *latent_size)
        self._mask = torch.as_tensor(channel_mask).to(weight.device, precision)
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
        self._history: History | None = None
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
            self._text, self._text_kv = text, self._read_text(text)
        self._clear()

    def _read_text(self, text: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of every block for text rows (B, R, text_dim)."""
        return self._model.text_kv(text)

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
        s = self.settings
        self._history = History(
            self._model.config, len(self._text), s.frames_per_chunk * self._frame_tokens('video'),
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
        s, chunk = self.settings, self._next
        self._make_room(chunk)
        video = dataclasses.replace(s.video, steps=video_steps or s.video.steps)
        action = dataclasses.replace(s.action, steps=action_steps or s.action.steps)
        noise_v = self._video_noise(generator)
        noise_a = self._draw((1, self._mask.shape[1], s.frames_per_chunk, s.actions_per_frame, 1),
                             generator)
        latents, actions = self._sample(chunk, video, action, noise_v, noise_a)
        self._clean[chunk] = (latents, actions)
        self._next += 1
        return ChunkForecast(chunk, latents[0].clone(), unpack_actions(actions)[0].clone(),
                             0 if chunk else s.actions_per_frame, video.steps, action.steps)

    def _sample(self, chunk: int, video: ModalitySampler, action: ModalitySampler,
                noise_v: torch.Tensor,
                noise_a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Clean video (1, z, K, h, w) and actions (1, 30, K, n, 1) of `chunk` from noise."""
        raise NotImplementedError

    def _make_room(self, chunk: int) -> None:
        if self._history is None:
            raise EngineStateError('predict before set_initial')
        self._history.make_room(chunk, min(self._grounded, self._history.cached // 2))

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> torch.Tensor:
        device = generator.device if generator is not None else 'cpu'
        return torch.randn(shape, generator=generator, device=device).to(self._mask)

    def _video_noise(self, generator: torch.Generator | None) -> torch.Tensor:
        channels, height, width = self._latent_shape
        return self._draw((1, channels, self.settings.frames_per_chunk, height, width), generator)

    def _pinned(self, modality: str) -> torch.Tensor:
        """What frame 0 of chunk 0 is held at, with t = 0."""
        return self._initial[None, :, None] if modality == 'video' else self._slot0

    # ----------------------------------------------------------------- ground

    @torch.inference_mode()
    def ground(self, latents: torch.Tensor, actions: torch.Tensor) -> None:
        """Replace the oldest forecast by what happened; the forecasts after it will be redone.

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
        if not bool(torch.isfinite(latents).all()):
            raise ValueError(f'chunk {chunk}: latents are not finite')
        action = self._chunk_actions(chunk, actions)
        video = latents.to(self._mask)[None]
        if chunk == 0:
            video = torch.cat([self._initial[None, :, None], video], dim=2)
        self._history.truncate(2 * chunk)
        self._clean[chunk] = (video, action)
        self._grounded += 1

    def _chunk_actions(self, chunk: int, actions: torch.Tensor) -> torch.Tensor:
        """Checked clean actions (1, 30, K, n, 1) of a chunk from its rows (K*n, 30)."""
        s = self.settings
        if chunk == 0 and actions.shape[0] == s.rows_per_chunk - s.actions_per_frame:
            actions = torch.cat([actions.new_zeros(s.actions_per_frame, *actions.shape[1:]),
                                 actions])
        if tuple(actions.shape) != (s.rows_per_chunk, self._mask.shape[1]):
            raise ValueError(f'chunk {chunk}: actions must be '
                             f'{(s.rows_per_chunk, self._mask.shape[1])}, got '
                             f'{tuple(actions.shape)}')
        if not bool(torch.isfinite(actions).all()):
            raise ValueError(f'chunk {chunk}: actions are not finite')
        packed = pack_actions(actions.to(self._mask)[None], s.actions_per_frame) * self._mask
        return pin(packed, self._slot0) if chunk == 0 else packed

    # ------------------------------------------------------------------- imagine

    @torch.inference_mode()
    def imagine(self, actions: torch.Tensor, video_steps: int | None = None,
                generator: torch.Generator | None = None) -> ChunkForecast:
        """Replace the oldest forecast by these actions and the video that they should lead to.

        actions: (K*n, 30) as commanded, normalised; for chunk 0 as in `ground`. The network must
        have been trained with forward dynamics (see `packed.packed_forward`). Predictions after it
        are made on top of the outcome. Raises EngineStateError when there is no forecast or the
        model was not trained for it, ValueError on wrong shapes or non-finite values.
        """
        if not self.settings.forward_dynamics:
            raise EngineStateError('this model was not trained with forward dynamics: it cannot '
                                   'imagine the outcome of given actions')
        chunk, s = self._grounded, self.settings
        if chunk >= self._next:
            raise EngineStateError(f'chunk {chunk} has not been predicted; nothing to imagine')
        known = self._chunk_actions(chunk, actions)
        sampler = dataclasses.replace(s.video, steps=video_steps or s.video.steps)
        self._history.truncate(2 * chunk)
        latents = self._sample_video(chunk, sampler, self._video_noise(generator), known)
        self._clean[chunk] = (latents, known)
        return ChunkForecast(chunk, latents[0].clone(), unpack_actions(known)[0].clone(),
                             0 if chunk else s.actions_per_frame, sampler.steps, 0)

    def _sample_video(self, chunk: int, sampler: ModalitySampler, noise: torch.Tensor,
                      known: torch.Tensor) -> torch.Tensor:
        """Clean video of `chunk` from noise given its actions; the history ends before it."""
        raise NotImplementedError

    # ------------------------------------------------------------------ shared

    def _frame_tokens(self, modality: str) -> int:
        if modality == 'action':
            return self.settings.actions_per_frame
        _, height, width = self._latent_shape
        _, ph, pw = self._model.config.patch_size
        return (height // ph) * (width // pw)

    def _rope(self, modality: str, chunk: int) -> torch.Tensor:
        """Cos and sin of one group, (2, tokens, head_dim/2)."""
        key = (modality, chunk)
        if key not in self._ropes:
            if len(self._ropes) >= _KEPT_TABLES:
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


def levels(sampler: ModalitySampler) -> list[tuple[float, float]]:
    """(sigma, next sigma) of each step of a sampler; the last one ends at 0."""
    sigmas = [*shifted_sigmas(sampler.steps, sampler.shift).tolist(), 0.0]
    return list(zip(sigmas[:-1], sigmas[1:], strict=True))


def pin(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Replace frame 0 of x (1, C, F, ., .)."""
    return torch.cat([value.expand_as(x[:, :, :1]), x[:, :, 1:]], dim=2)
