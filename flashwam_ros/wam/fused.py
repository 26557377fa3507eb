# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The transformer's arithmetic arranged for inference, from the weights of the training module.

At batch 1 a small network is bound by the number of operations, a large one by reading weights.
So: one product for q, k and v; time embeddings and what every block makes of them computed once
for each noise level; modulation inside the layer norm; the rotation as one complex product; in the
last block only the tokens whose outputs are wanted. Precision changes where the training module
changes it (see `transformer`).
"""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812

from .config import TransformerConfig
from .rope import rotation_dtype
from .transformer import (
    Attend,
    Block,
    TextKV,
    WanTransformer3DModel,
    patchify,
    unpatchify,
)

_KEPT_LEVELS = 256


@dataclasses.dataclass(frozen=True)
class Part:
    """Tokens of one modality: video (1, C, F, h, w) or action (1, 30, F, n, 1) and t per frame."""

    modality: str
    values: torch.Tensor
    times: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class _Level:
    """All that depends on (modality, t): six vectors for each block, two for the head."""

    blocks: list[tuple[torch.Tensor, ...]]
    head: tuple[torch.Tensor, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class _Runs:
    """Successive runs of tokens that share modality and t: their lengths and levels."""

    lengths: tuple[int, ...]
    levels: tuple[_Level, ...]

    def last(self, tokens: int) -> '_Runs':
        """The runs that make up the last `tokens` tokens."""
        count = 0
        while tokens > 0:
            count += 1
            tokens -= self.lengths[-count]
        return _Runs(self.lengths[-count:], self.levels[-count:])

    def modulated(self, x: torch.Tensor, vectors: Sequence[tuple[torch.Tensor, ...]], first: int,
                  eps: float) -> torch.Tensor:
        """Layer norm of x (B, S, D) with each run's own shift `first` and scale `first + 1`."""
        dim = x.shape[-1:]
        if len(self.lengths) == 1:
            return torch.layer_norm(x, dim, vectors[0][first + 1], vectors[0][first], eps)
        parts = torch.split_with_sizes(x, self.lengths, 1)
        return torch.cat([torch.layer_norm(part, dim, v[first + 1], v[first], eps)
                          for part, v in zip(parts, vectors, strict=True)], 1)

    def gated(self, h: torch.Tensor, update: torch.Tensor,
              vectors: Sequence[tuple[torch.Tensor, ...]], gate: int) -> torch.Tensor:
        """`h + gate * update` with each run's own gate."""
        if len(self.lengths) == 1:
            return torch.addcmul(h, update, vectors[0][gate])
        parts = zip(torch.split_with_sizes(h, self.lengths, 1),
                    torch.split_with_sizes(update, self.lengths, 1), vectors, strict=True)
        return torch.cat([torch.addcmul(x, y, v[gate]) for x, y, v in parts], 1)


def _as(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x if x.dtype == dtype else x.to(dtype)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU (tanh form); as x sigmoid(2u) twice as fast on a CPU, equal up to rounding."""
    if x.device.type != 'cpu' or x.dtype in (torch.bfloat16, torch.float16):
        return F.gelu(x, approximate='tanh')
    u = torch.mul(x, x).mul_(2 * 0.7978845608028654 * 0.044715).add_(2 * 0.7978845608028654)
    return u.mul_(x).sigmoid_().mul_(x)


class _FusedBlock:
    """One block's weights and its arithmetic; plain tensors, as every module call costs."""

    def __init__(self, block: Block, config: TransformerConfig):
        own, cross = block.attn1, block.attn2
        self._heads, self._eps = config.num_attention_heads, config.eps
        three = (own.to_q, own.to_k, own.to_v)
        self._qkv = (torch.cat([m.weight.detach() for m in three]),
                     torch.cat([m.bias.detach() for m in three]))
        self._norm_qk = _wide(torch.stack([own.norm_q.weight, own.norm_k.weight]).detach())
        self._norm_text = _wide(cross.norm_q.weight.detach())
        self._norm2 = _wide(block.norm2.weight.detach()), _wide(block.norm2.bias.detach())
        self._out, self._text_q, self._text_out, self._up, self._down = (
            (m.weight.detach(), m.bias.detach())
            for m in (own.to_out[0], cross.to_q, cross.to_out[0], block.ffn.net[0].proj,
                      block.ffn.net[2]))
        self._small = torch.tensor(config.eps, dtype=self._norm_text.dtype,
                                   device=self._norm_text.device)
        self._dtype = own.to_q.weight.dtype
        self._rotation = rotation_dtype(self._dtype)

    def _rms_norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMS norm over the last dimension; x may be overwritten."""
        x = _wide(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = torch.addcmul(self._small, length, length, value=1 / x.shape[-1]).rsqrt_()
        return x.mul_(inverse).mul_(weight)

    def text(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, H, R, d) of the text, with what follows them multiplied in.

        With few rows, value and output products become one: row r of head h contributes
        `v W_h + b / H`, as a head's weights sum to 1. Reduced precision rounds between the two.
        """
        rows, heads, count, _ = key.shape
        dim = self._out[0].shape[0]
        if heads * count > dim or self._dtype in (torch.bfloat16, torch.float16):
            return key, value
        weight, bias = self._text_out
        per_head = weight.view(dim, heads, -1).permute(1, 2, 0)
        mixed = torch.matmul(value, per_head) + bias / heads
        return (key * key.shape[-1] ** -0.5).transpose(2, 3), mixed.flatten(1, 2)

    def _read_text(self, h: torch.Tensor, q: torch.Tensor, key: torch.Tensor,
                   value: torch.Tensor) -> torch.Tensor:
        """Add the cross-attention of q (B, H, S, d) to h, on what `text` made."""
        if value.ndim == 3:
            weights = torch.softmax(torch.matmul(q, key), dim=-1)
            return torch.baddbmm(h, weights.transpose(1, 2).flatten(2), value)
        out = F.scaled_dot_product_attention(q, key, value)
        return h + F.linear(out.transpose(1, 2).flatten(2), *self._text_out)

    def __call__(self, h: torch.Tensor, runs: _Runs, index: int, rope: torch.Tensor,
                 attend: Attend, text: tuple[torch.Tensor, torch.Tensor],
                 keep: int) -> torch.Tensor:
        """Update the last `keep` tokens of h (B, S, D) and drop the others.

        `runs` are those of the whole sequence; rope is complex (S, 1, 1, d/2).
        """
        (rows, total, dim), dtype, heads = h.shape, self._dtype, self._heads
        vectors = [level.blocks[index] for level in runs.levels]
        x = runs.modulated(_wide(h), vectors, 0, self._eps)
        qkv = F.linear(_as(x, dtype), *self._qkv).view(rows, total, 3, dim)
        qk = _as(self._rms_norm(qkv[:, :, :2], self._norm_qk), dtype)
        pairs = torch.view_as_complex(_as(qk, self._rotation).view(rows, total, 2, heads, -1, 2))
        turned = _as(torch.view_as_real(pairs * rope).flatten(-2), dtype)
        q, k = turned.transpose(1, 3).unbind(2)
        if keep < total:
            h, q, runs = h[:, -keep:], q[:, :, -keep:], runs.last(keep)
            vectors = vectors[-len(runs.levels):]
        out = attend(index, q, k, qkv[:, :, 2].view(rows, total, heads, -1).transpose(1, 2))
        out = F.linear(out.transpose(1, 2).flatten(2), *self._out)
        h = runs.gated(_wide(h), _wide(out), vectors, 2)
        x = _as(torch.layer_norm(h, (dim,), *self._norm2, self._eps), dtype)
        q = _as(self._rms_norm(F.linear(x, *self._text_q), self._norm_text), dtype)
        h = self._read_text(_as(h, dtype), q.view(rows, keep, heads, -1).transpose(1, 2), *text)
        x = _as(runs.modulated(_wide(h), vectors, 3, self._eps), dtype)
        x = F.linear(_gelu(F.linear(x, *self._up)), *self._down)
        return _as(runs.gated(_wide(h), _wide(x), vectors, 5), dtype)


class FusedTransformer:
    """Velocity of the last part of a sequence; under `torch.inference_mode` only.

    Weights are read when it is made and when a noise level is first met: a model that is still
    being trained needs a new one after each step.
    """

    def __init__(self, model: WanTransformer3DModel):
        config = model.config
        self._model = model
        self._patch = config.patch_size
        self._blocks = [_FusedBlock(block, config) for block in model.blocks]
        self._dtype = model.patch_embedding_mlp.weight.dtype
        self._rotation = rotation_dtype(self._dtype)
        self._levels: dict[tuple[str, float], _Level] = {}

    def text(self, rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """What the blocks want of the text rows (B, R, text_dim)."""
        return [block.text(*kv) for block, kv in zip(self._blocks, self._model.text_kv(rows),
                                                     strict=True)]

    def tokens(self, part: Part) -> int:
        """Tokens of a part."""
        _, _, frames, height, width = part.values.shape
        if part.modality == 'action':
            return frames * height
        return frames * (height // self._patch[1]) * (width // self._patch[2])

    def __call__(self, parts: Sequence[Part], rope: torch.Tensor, attend: Attend, text: TextKV,
                 rows: int) -> torch.Tensor:
        """Run the concatenated parts in `rows` equal rows, one for each row of text.

        rope: (2, S, d/2); text: of `text`; attend: see
        `transformer.WanTransformer3DModel.forward`, but its q holds the last part only in the
        last block. Returns (rows, ...) in the shape of the last part's values.
        """
        tokens = [self._embed(p) for p in parts]
        h = torch.cat(tokens, dim=1) if len(tokens) > 1 else tokens[0]
        h = h.expand(rows, -1, -1)
        runs = self._runs(parts)
        turn = torch.complex(*rope.to(self._rotation))[:, None, None]
        wanted, last = tokens[-1].shape[1], len(self._blocks) - 1
        for i, block in enumerate(self._blocks):
            h = block(h, runs, i, turn, attend, text[i], wanted if i == last else h.shape[1])
        return self._head(h, parts[-1], runs.last(wanted))

    def _embed(self, part: Part) -> torch.Tensor:
        values, model = part.values.to(self._dtype), self._model
        if part.modality == 'video':
            return model.patch_embedding_mlp(patchify(values, self._patch))
        return model.action_embedder(values.flatten(2).transpose(1, 2))

    def _runs(self, parts: Sequence[Part]) -> _Runs:
        lengths, found = [], []
        for part in parts:
            width = self.tokens(part) // len(part.times)
            for i, t in enumerate(part.times):
                if i and t == part.times[i - 1]:
                    lengths[-1] += width
                else:
                    lengths.append(width)
                    found.append(self._level(part.modality, t))
        return _Runs(tuple(lengths), tuple(found))

    def _level(self, modality: str, t: float) -> _Level:
        key = (modality, t)
        if key not in self._levels:
            if len(self._levels) >= _KEPT_LEVELS:
                self._levels.clear()
            self._levels[key] = self._make_level(modality, t)
        return self._levels[key]

    def _make_level(self, modality: str, t: float) -> _Level:
        model = self._model
        embedder = (model.condition_embedder if modality == 'video'
                    else model.condition_embedder_action)
        device = model.scale_shift_table.device
        temb, projected = embedder.embed_time(torch.full((1, 1), t, device=device))
        blocks = []
        for block in model.blocks:
            m = (_wide(block.scale_shift_table) + _wide(projected)[0, 0])[0]
            blocks.append((m[0], 1 + m[1], m[2], m[3], 1 + m[4], m[5]))
        shift, scale = (model.scale_shift_table + temb[0, :, None])[0]
        return _Level(blocks, (_wide(shift), _wide(1 + scale)))

    def _head(self, h: torch.Tensor, part: Part, runs: _Runs) -> torch.Tensor:
        model = self._model
        vectors = [level.head for level in runs.levels]
        x = runs.modulated(_wide(h), vectors, 0, model.config.eps).to(h.dtype)
        _, channels, frames, height, width = part.values.shape
        if part.modality == 'video':
            shape = (len(h), model.config.out_channels, frames, height, width)
            return unpatchify(model.proj_out(x), shape, self._patch)
        out = model.action_proj_out(x).transpose(1, 2)
        return out.reshape(len(h), channels, frames, height, width)
