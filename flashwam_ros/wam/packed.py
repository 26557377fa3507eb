# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The packed training forward: noisy and clean copies of an episode window in one sequence.

LingBot-VA packs [noisy video | clean video | noisy action | clean action] and flattens the batch
into the sequence. Here every sample is its own row (same result, no cross-sample mask) and the
order is chunk-major, [noisy V0 A0 V1 A1 ... | clean V0 A0 V1 A1 ...]: attention does not depend on
the order, and in this one all that a token may see is contiguous. The last block skips the clean
tokens, whose outputs nobody reads.

A window may start anywhere in an episode, on a chunk boundary: only differences of frame numbers
matter (RoPE is relative), so positions start at 0. A window that starts at the true beginning of
its episode is marked in `starts`: its frame 0 is the initial observation and its action slot 0
belongs to no action. Streaming inference pins both as clean (t = 0) inside the noisy groups of
chunk 0, so the training sample does the same and gives them no loss. In any other window frame 0
is an ordinary frame.
"""

import dataclasses
import functools

import numpy as np
import torch

from .attention import PackedMask, Run, packed_attention, with_block_mask
from .flow import TRAINING_STEPS, add_noise, loss_weights, training_sigmas, velocity
from .rope import action_positions, rope_table, video_positions
from .transformer import Segment, WanTransformer3DModel


@dataclasses.dataclass(frozen=True)
class PackedInputs:
    """Tensors of one packed forward.

    Video is (B, C, F, h, w), action (B, 30, F, n, 1), timesteps (B or 1, F) in [0, 1000].
    """

    noisy_video: torch.Tensor
    clean_video: torch.Tensor
    noisy_action: torch.Tensor
    clean_action: torch.Tensor
    noisy_video_t: torch.Tensor
    clean_video_t: torch.Tensor
    noisy_action_t: torch.Tensor
    clean_action_t: torch.Tensor


@dataclasses.dataclass(frozen=True)
class TrainingSample:
    """Packed inputs with flow-matching targets and per-frame loss weights (B, F)."""

    inputs: PackedInputs
    video_target: torch.Tensor
    action_target: torch.Tensor
    video_weight: torch.Tensor
    action_weight: torch.Tensor
    channel_mask: torch.Tensor


@dataclasses.dataclass(frozen=True)
class NoiseRecipe:
    """How training noise is drawn.

    `per_chunk` > 0 gives all frames of a chunk of that size one level, as inference does; 0 draws
    a level per frame (LingBot-VA). `history_noise` is the probability that a sample's clean video
    is noised with ids in [500, 999] (LingBot-VA: 0.5). `uniform_mix`: see `flow.loss_weights`.
    """

    video_shift: float = 5.0
    action_shift: float = 1.0
    per_chunk: int = 0
    history_noise: float = 0.0
    uniform_mix: float = 0.0


def pack_actions(rows: torch.Tensor, actions_per_frame: int) -> torch.Tensor:
    """(B, F*n, 30) -> (B, 30, F, n, 1)."""
    b, total, channels = rows.shape
    if total % actions_per_frame:
        raise ValueError(f'{total} action rows are no multiple of {actions_per_frame} per frame')
    return rows.reshape(b, -1, actions_per_frame, channels).permute(0, 3, 1, 2).unsqueeze(-1)


def unpack_actions(actions: torch.Tensor) -> torch.Tensor:
    """(B, 30, F, n, 1) -> (B, F*n, 30)."""
    return actions.flatten(2).transpose(1, 2)


def chunk_lengths(frames: int, chunk_size: int) -> list[int]:
    """Frames of each chunk; the last one may be short."""
    return [min(chunk_size, frames - start) for start in range(0, frames, chunk_size)]


def _group_sizes(frames: int, video_tokens: int, actions_per_frame: int,
                 chunk_size: int) -> list[int]:
    """Tokens of each group V0 A0 V1 A1 ...; the group's index is its id."""
    return [length * tokens for length in chunk_lengths(frames, chunk_size)
            for tokens in (video_tokens, actions_per_frame)]


def dense_mask(noisy_ids: np.ndarray, clean_ids: np.ndarray, window: int,
               forward_dynamics: bool = False) -> np.ndarray:
    """(S, S) bool over [noisy | clean], True = the row's token may see the column's.

    Clean sees clean of id <= its own, noisy sees clean of smaller id and noisy of its own id, all
    within |id difference| <= window. Forward dynamics: the noisy action slots count as known
    before their chunk's video, so they see clean tokens as it does (ids below the chunk's video),
    and noisy video sees those of its own chunk.
    """
    ids = np.concatenate([noisy_ids, clean_ids])
    noisy = np.arange(len(ids)) < len(noisy_ids)
    q, k = ids[:, None], ids[None]
    q_noisy, k_noisy = noisy[:, None], noisy[None]
    own, before = k == q, q
    if forward_dynamics:
        own = own | ((q % 2 == 0) & (k == q + 1))
        before = q - q % 2
    allowed = np.where(k_noisy, q_noisy & own, np.where(q_noisy, k < before, k <= q))
    return allowed & (np.abs(np.where(q_noisy, before, q) - k) <= window)


@functools.lru_cache(maxsize=64)
def packed_mask(frames: int, video_tokens: int, actions_per_frame: int, chunk_size: int,
                window: int, device: torch.device, forward_dynamics: bool = False) -> PackedMask:
    """Mask of the packed order."""
    sizes = _group_sizes(frames, video_tokens, actions_per_frame, chunk_size)
    ids = np.repeat(np.arange(len(sizes)), sizes)
    dense = torch.from_numpy(dense_mask(ids, ids, window, forward_dynamics)).to(device)
    ends = np.cumsum([0, *sizes]).tolist()
    runs, noisy = [], ends[-1]
    for group in range(len(sizes)):
        seen = group - group % 2 if forward_dynamics else group
        own = group + 2 if forward_dynamics and group % 2 == 0 else group + 1
        low = noisy + ends[max(seen - window, 0)]
        runs.append(Run(ends[group], ends[group + 1], low, noisy + ends[seen], ends[own]))
    for group in range(len(sizes)):
        low, start = noisy + ends[max(group - window, 0)], noisy + ends[group]
        runs.append(Run(start, noisy + ends[group + 1], low, noisy + ends[group + 1], start))
    return with_block_mask(PackedMask(noisy, dense, tuple(runs)), device)


@functools.lru_cache(maxsize=64)
def packed_rope(frames: int, rows: int, columns: int, actions_per_frame: int, chunk_size: int,
                head_dim: int, theta: float, device: torch.device,
                offset: int = 0) -> torch.Tensor:
    """RoPE table of the packed order; clean copies have the positions of the noisy ones."""
    parts, start = [], offset
    for length in chunk_lengths(frames, chunk_size):
        parts += [video_positions(length, rows, columns, start),
                  action_positions(length, actions_per_frame, start)]
        start += length
    return rope_table(np.concatenate([*parts, *parts]), head_dim, theta, device)


def packed_segments(inputs: PackedInputs, chunk_size: int) -> list[Segment]:
    """Cut the inputs into segments in the packed order (the first half is noisy)."""
    lengths = chunk_lengths(inputs.noisy_video.shape[2], chunk_size)
    segments = []
    for video, video_t, action, action_t in (
            (inputs.noisy_video, inputs.noisy_video_t, inputs.noisy_action,
             inputs.noisy_action_t),
            (inputs.clean_video, inputs.clean_video_t, inputs.clean_action,
             inputs.clean_action_t)):
        cut = (video.split(lengths, dim=2), video_t.split(lengths, dim=1),
               action.split(lengths, dim=2), action_t.split(lengths, dim=1))
        for v, v_t, a, a_t in zip(*cut, strict=True):
            segments += [Segment('video', v, v_t), Segment('action', a, a_t)]
    return segments


def packed_forward(model: WanTransformer3DModel, inputs: PackedInputs, text_rows: torch.Tensor,
                   chunk_size: int, window: int, frame_offset: int = 0,
                   forward_dynamics: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocities of the noisy video and the noisy action, in their inputs' shapes.

    text_rows is (B, R, text_dim). `frame_offset` shifts all positions (no effect but rounding).
    `forward_dynamics` wants the inputs of `forward_dynamics_inputs`: each chunk's video is
    predicted given its own actions; the action output then means nothing.
    """
    _, _, frames, height, width = inputs.noisy_video.shape
    per_frame = inputs.noisy_action.shape[3]
    config, device = model.config, inputs.noisy_video.device
    rows, columns = height // config.patch_size[1], width // config.patch_size[2]
    mask = packed_mask(frames, rows * columns, per_frame, chunk_size, window, device,
                       forward_dynamics)
    rope = packed_rope(frames, rows, columns, per_frame, chunk_size, config.attention_head_dim,
                       config.rope_theta, device, frame_offset)
    segments = packed_segments(inputs, chunk_size)
    out = model(segments, rope, lambda _i, q, k, v: packed_attention(q, k, v, mask),
                model.text_kv(text_rows), outputs=len(segments) // 2)
    return torch.cat(out[0::2], dim=2), torch.cat(out[1::2], dim=2)


def forward_dynamics_inputs(inputs: PackedInputs) -> PackedInputs:
    """Put the clean actions, at t = 0, where the noisy ones were.

    LingBot-VA's forward-dynamics switch gives *all* actions ids before their chunk's video; then
    the history is not what streaming inference has cached. Here only this second copy comes before
    its video: the clean tokens see what they always see.
    """
    return dataclasses.replace(inputs, noisy_action=inputs.clean_action,
                               noisy_action_t=inputs.clean_action_t)


def _draw_ids(batch: int, frames: int, per_chunk: int, generator: torch.Generator | None,
              low: int = 0) -> torch.Tensor:
    """Training ids (batch, frames) in [low, 1000)."""
    groups = -(-frames // per_chunk) if per_chunk else frames
    ids = torch.randint(low, TRAINING_STEPS, (batch, groups), generator=generator)
    if per_chunk:
        ids = ids.repeat_interleave(per_chunk, dim=1)[:, :frames]
    return ids


def _levels(sigma: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return sigma.to(like)[:, None, :, None, None]


def training_sample(video: torch.Tensor, action: torch.Tensor, channel_mask: torch.Tensor,
                    starts: torch.Tensor, recipe: NoiseRecipe, *,
                    frame0_action: torch.Tensor | None = None,
                    generator: torch.Generator | None = None) -> TrainingSample:
    """Draw noise for a batch of windows.

    video (B, C, F, h, w) normalised latents; action (B, 30, F, n, 1) normalised; channel_mask
    (30,) 1 on used channels; starts (B,) bool, see the module text; frame0_action (30,) normalised
    clean action of slot 0 where `starts` (None: zeros, i.e. 'normalized_zero'). Draws are made on
    the CPU.
    """
    batch, _, frames = video.shape[:3]
    device, dtype = video.device, video.dtype
    mask = channel_mask.to(device, dtype).view(1, -1, 1, 1, 1)
    first = torch.zeros(batch, frames, dtype=torch.bool)
    first[:, 0] = starts.cpu()
    slot0 = torch.zeros(action.shape[1]) if frame0_action is None else frame0_action
    slot0 = slot0.to(device, dtype).view(1, -1, 1, 1, 1)
    first_5d = first.to(device)[:, None, :, None, None]
    action = torch.where(first_5d, slot0, action) * mask
    sides = []
    for clean, shift in ((video, recipe.video_shift), (action, recipe.action_shift)):
        ids = _draw_ids(batch, frames, recipe.per_chunk, generator)
        sigma = training_sigmas(shift)[ids].masked_fill(first, 0.0)
        weight = loss_weights(shift, recipe.uniform_mix)[ids].masked_fill(first, 0.0)
        noise = torch.randn(clean.shape, generator=generator).to(device, dtype)
        sides.append((add_noise(clean, noise, _levels(sigma, clean)), velocity(clean, noise),
                      (1000 * sigma).to(device), weight.to(device)))
    (noisy_v, target_v, t_v, w_v), (noisy_a, target_a, t_a, w_a) = sides
    history, history_t = _noised_history(video, recipe, generator)
    inputs = PackedInputs(noisy_v, history, noisy_a * mask, action, t_v, history_t, t_a,
                          torch.zeros(1, frames, device=device))
    return TrainingSample(inputs, target_v, target_a * mask, w_v, w_a, mask)


def _noised_history(video: torch.Tensor, recipe: NoiseRecipe,
                    generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    batch, frames = video.shape[0], video.shape[2]
    if recipe.history_noise <= 0:
        return video, torch.zeros(1, frames, device=video.device)
    ids = _draw_ids(batch, frames, 0, generator, low=TRAINING_STEPS // 2)
    chosen = torch.rand(batch, 1, generator=generator) < recipe.history_noise
    sigma = torch.where(chosen, training_sigmas(recipe.video_shift)[ids], torch.zeros(()))
    noise = torch.randn(video.shape, generator=generator).to(video)
    return add_noise(video, noise, _levels(sigma, video)), (1000 * sigma).to(video.device)


def flow_matching_loss(sample: TrainingSample, video: torch.Tensor,
                       action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted video and action losses (two scalars, fp32) of predicted velocities.

    Each is a mean over the frames that are predicted at all; pinned frames do not count.
    """
    error_v = (video.float() - sample.video_target.float()).square().mean(dim=(1, 3, 4))
    mask = sample.channel_mask.float()
    error_a = (mask * (action.float() - sample.action_target.float()).square())
    error_a = error_a.sum(dim=(1, 3, 4)) / (mask.sum() * action.shape[3] + 1e-6)
    counted = _counted(sample)
    return ((error_v * sample.video_weight).sum() / counted,
            (error_a * sample.action_weight).sum() / counted)


def _counted(sample: TrainingSample) -> torch.Tensor:
    pinned = (sample.inputs.noisy_video_t == 0).sum()
    return (sample.video_weight.numel() - pinned).clamp(min=1)
