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

from .rope import rotation_dtype
from .transformer import (
    Attend,
    Attention,
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
class _Run:
    """Tokens [start, stop) of a sequence that share modality and t."""

    start: int
    stop: int
    level: _Level


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU (tanh form); as x sigmoid(2u) twice as fast on a CPU, equal up to rounding."""
    if x.device.type != 'cpu' or x.dtype in (torch.bfloat16, torch.float16):
        return F.gelu(x, approximate='tanh')
    u = torch.mul(x, x).mul_(2 * 0.7978845608028654 * 0.044715).add_(2 * 0.7978845608028654)
    return u.mul_(x).sigmoid_().mul_(x)


class _FusedBlock:
    """One block's weights and its arithmetic."""

    def __init__(self, block: Block, heads: int, eps: float):
        attn = block.attn1
        self._qkv = [torch.cat([getattr(m, name).detach() for m in (attn.to_q, attn.to_k,
                                                                    attn.to_v)])
                     for name in ('weight', 'bias')]
        self._self, self._cross = attn, block.attn2
        self._norm2, self._ffn = block.norm2, block.ffn
        self._heads, self._eps = heads, eps
        self._rotation = rotation_dtype(attn.to_q.weight.dtype)

    def _rotated(self, x: torch.Tensor, norm: torch.nn.Module, rope: torch.Tensor) -> torch.Tensor:
        x = F.rms_norm(x, norm.normalized_shape, norm.weight, norm.eps)
        pairs = x.to(self._rotation).unflatten(-1, (self._heads, -1, 2))
        turned = torch.view_as_real(torch.view_as_complex(pairs) * rope)
        return turned.flatten(-2).to(x.dtype).transpose(1, 2)

    def __call__(self, h: torch.Tensor, index: int, runs: Sequence[_Run], rope: torch.Tensor,
                 attend: Attend, text: tuple[torch.Tensor, torch.Tensor],
                 keep: int) -> torch.Tensor:
        """Update the last `keep` tokens of h (B, S, D) and drop the others.

        `runs` are those of the whole sequence; rope is complex (S, 1, d/2).
        """
        dim, total = h.shape[-1], h.shape[1]
        qkv = F.linear(_modulated(h, runs, index, 0, self._eps), *self._qkv)
        q, k, v = qkv.split(dim, dim=-1)
        if keep < total:
            h, q = h[:, -keep:], q[:, -keep:]
            runs = _last_runs(runs, total - keep)
        v = v.unflatten(-1, (self._heads, -1)).transpose(1, 2)
        out = attend(index, self._rotated(q, self._self.norm_q, rope[-keep:]),
                     self._rotated(k, self._self.norm_k, rope), v)
        h = _gated(h, _output(self._self, out), runs, index, 2)
        x = F.layer_norm(_wide(h), (dim,), _wide(self._norm2.weight), _wide(self._norm2.bias),
                         self._eps).to(h.dtype)
        out = F.scaled_dot_product_attention(self._cross.query(x), *text)
        h = h + _output(self._cross, out)
        x = _modulated(h, runs, index, 3, self._eps)
        x = self._ffn.net[2](_gelu(self._ffn.net[0].proj(x)))
        return _gated(h, x, runs, index, 5)


def _output(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    return attention.to_out[0](x.transpose(1, 2).flatten(2))


def _last_runs(runs: Sequence[_Run], dropped: int) -> list[_Run]:
    """The runs behind the first `dropped` tokens, counted from there."""
    return [_Run(r.start - dropped, r.stop - dropped, r.level) for r in runs
            if r.start >= dropped]


def _modulated(h: torch.Tensor, runs: Sequence[_Run], index: int, first: int,
               eps: float) -> torch.Tensor:
    """Layer norm with each run's own shift and scale."""
    x, dim = _wide(h), h.shape[-1:]
    parts = [F.layer_norm(x[:, r.start:r.stop], dim, r.level.blocks[index][first + 1],
                          r.level.blocks[index][first], eps) for r in runs]
    return (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]).to(h.dtype)


def _gated(h: torch.Tensor, update: torch.Tensor, runs: Sequence[_Run], index: int,
           which: int) -> torch.Tensor:
    """`h + gate * update` with each run's own gate."""
    x, y = _wide(h), _wide(update)
    parts = [torch.addcmul(x[:, r.start:r.stop], y[:, r.start:r.stop],
                           r.level.blocks[index][which]) for r in runs]
    return (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]).to(h.dtype)


class FusedTransformer:
    """Velocity of the last part of a sequence; under `torch.inference_mode` only.

    Weights are read when it is made and when a noise level is first met: a model that is still
    being trained needs a new one after each step.
    """

    def __init__(self, model: WanTransformer3DModel):
        config = model.config
        self._model = model
        self._patch = config.patch_size
        self._blocks = [_FusedBlock(b, config.num_attention_heads, config.eps)
                        for b in model.blocks]
        self._dtype = model.patch_embedding_mlp.weight.dtype
        self._rotation = rotation_dtype(self._dtype)
        self._levels: dict[tuple[str, float], _Level] = {}

    def tokens(self, part: Part) -> int:
        """Tokens of a part."""
        _, _, frames, height, width = part.values.shape
        if part.modality == 'action':
            return frames * height
        return frames * (height // self._patch[1]) * (width // self._patch[2])

    def __call__(self, parts: Sequence[Part], rope: torch.Tensor, attend: Attend, text: TextKV,
                 rows: int) -> torch.Tensor:
        """Run the concatenated parts in `rows` equal rows, one for each row of text.

        rope: (2, S, d/2); attend and text: see `transformer.WanTransformer3DModel.forward`, but
        attend's q holds the last part only in the last block. Returns (rows, ...) in the shape of
        the last part's values.
        """
        tokens = [self._embed(p) for p in parts]
        h = torch.cat(tokens, dim=1) if len(tokens) > 1 else tokens[0]
        h = h.expand(rows, -1, -1)
        runs = self._runs(parts)
        turn = torch.complex(*rope.to(self._rotation)).unsqueeze(1)
        wanted, last = tokens[-1].shape[1], len(self._blocks) - 1
        for i, block in enumerate(self._blocks):
            h = block(h, i, runs, turn, attend, text[i], wanted if i == last else h.shape[1])
        return self._head(h, parts[-1], _last_runs(runs, runs[-1].stop - wanted))

    def _embed(self, part: Part) -> torch.Tensor:
        values, model = part.values.to(self._dtype), self._model
        if part.modality == 'video':
            return model.patch_embedding_mlp(patchify(values, self._patch))
        return model.action_embedder(values.flatten(2).transpose(1, 2))

    def _runs(self, parts: Sequence[Part]) -> list[_Run]:
        runs, start = [], 0
        for part in parts:
            width = self.tokens(part) // len(part.times)
            for i, t in enumerate(part.times):
                if i and t == part.times[i - 1]:
                    runs[-1] = dataclasses.replace(runs[-1], stop=start + width)
                else:
                    runs.append(_Run(start, start + width, self._level(part.modality, t)))
                start += width
        return runs

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

    def _head(self, h: torch.Tensor, part: Part, runs: Sequence[_Run]) -> torch.Tensor:
        model, x = self._model, _wide(h)
        parts = [F.layer_norm(x[:, r.start:r.stop], x.shape[-1:], r.level.head[1],
                              r.level.head[0], model.config.eps) for r in runs]
        x = (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]).to(h.dtype)
        _, channels, frames, height, width = part.values.shape
        if part.modality == 'video':
            shape = (len(h), model.config.out_channels, frames, height, width)
            return unpatchify(model.proj_out(x), shape, self._patch)
        out = model.action_proj_out(x).transpose(1, 2)
        return out.reshape(len(h), channels, frames, height, width)
