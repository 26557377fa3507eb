# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The shared-backbone world-action transformer (parameter names and numerics of LingBot-VA).

Video and action tokens run through the same blocks; each modality has its own input embedding,
time embedder and output projection. With bf16 parameters, products run in bf16 and norms,
modulation and gated residuals in fp32, as in the released model; with fp32 parameters everything
is fp32.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from .attention import few_keys_attention
from .config import TransformerConfig
from .rope import apply_rope, rotation_dtype

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
TextKV = Sequence[tuple[torch.Tensor, torch.Tensor]]
VESTIGIAL_KEYS = ('patch_embedding.weight', 'patch_embedding.bias')


@dataclasses.dataclass(frozen=True)
class Segment:
    """A run of tokens of one modality.

    values: video (B, C, F, h, w) or action (B, 30, F, n, 1); timesteps: (B or 1, F), 1000*sigma.
    """

    modality: str
    values: torch.Tensor
    timesteps: torch.Tensor


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Return x in at least fp32."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def patchify(latents: torch.Tensor, patch: Sequence[int]) -> torch.Tensor:
    """(B, C, F, h, w) -> (B, F*h/p*w/p, C*p*p); features ordered (channel, p_h, p_w)."""
    b, c, f, h, w = latents.shape
    _, ph, pw = patch
    x = latents.reshape(b, c, f, h // ph, ph, w // pw, pw)
    return x.permute(0, 2, 3, 5, 1, 4, 6).reshape(b, f * (h // ph) * (w // pw), c * ph * pw)


def unpatchify(tokens: torch.Tensor, shape: Sequence[int], patch: Sequence[int]) -> torch.Tensor:
    """(B, L, p*p*C) -> shape (B, C, F, h, w); features ordered (p_h, p_w, channel)."""
    b, c, f, h, w = shape
    _, ph, pw = patch
    x = tokens.reshape(b, f, h // ph, w // pw, ph, pw, c)
    return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(b, c, f, h, w)


class _MLP(nn.Module):
    """linear_1, activation, linear_2 under the released names."""

    def __init__(self, inputs: int, dim: int, activation: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.linear_1 = nn.Linear(inputs, dim)
        self.linear_2 = nn.Linear(dim, dim)
        self._activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear_2(self._activation(self.linear_1(x)))


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate='tanh')


class ConditionEmbedder(nn.Module):
    """Time and text embedding of one modality."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self._freq_dim = config.freq_dim
        self.time_embedder = _MLP(config.freq_dim, config.dim, F.silu)
        self.time_proj = nn.Linear(config.dim, 6 * config.dim)
        self.text_embedder = _MLP(config.text_dim, config.dim, _gelu)

    def embed_time(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, F) -> temb (B, F, D) and its projection (B, F, 6, D)."""
        half = self._freq_dim // 2
        k = torch.arange(half, dtype=torch.float32, device=timesteps.device)
        angle = timesteps.float()[..., None] * torch.exp(k * (-math.log(1e4) / half))
        wave = torch.cat([angle.cos(), angle.sin()], dim=-1)
        temb = self.time_embedder(wave.to(self.time_embedder.linear_1.weight.dtype))
        return temb, self.time_proj(F.silu(temb)).unflatten(-1, (6, -1))


class Attention(nn.Module):
    """Multi-head attention with RMS norm of q and k over the whole width."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        dim = config.dim
        self._heads = config.num_attention_heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q = nn.RMSNorm(dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(dim, eps=config.eps)

    def _heads_first(self, x: torch.Tensor, rope: torch.Tensor | None) -> torch.Tensor:
        x = x.unflatten(-1, (self._heads, -1))
        if rope is not None:
            x = apply_rope(x, rope, rotation_dtype(self.to_q.weight.dtype))
        return x.transpose(1, 2)

    def query(self, x: torch.Tensor, rope: torch.Tensor | None = None) -> torch.Tensor:
        """(B, S, D) -> (B, H, S, d)."""
        return self._heads_first(self.norm_q(self.to_q(x)), rope)

    def key_value(self, x: torch.Tensor,
                  rope: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S, D) -> two (B, H, S, d)."""
        return (self._heads_first(self.norm_k(self.to_k(x)), rope),
                self._heads_first(self.to_v(x), None))

    def output(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, S, d) -> (B, S, D)."""
        return self.to_out[0](x.transpose(1, 2).flatten(2))


class _GeluProjection(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _gelu(self.proj(x))


class FeedForward(nn.Module):
    """GELU(tanh) MLP under the released names (`net.0.proj`, `net.2`)."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.net = nn.ModuleList([_GeluProjection(config.dim, config.ffn_dim), nn.Identity(),
                                  nn.Linear(config.ffn_dim, config.dim)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, S, D) -> (B, S, D)."""
        return self.net[2](self.net[0](x))


class Block(nn.Module):
    """Modulated self-attention, text cross-attention, modulated feed-forward."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self._eps = config.eps
        self.attn1 = Attention(config)
        self.attn2 = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.eps)
        self.ffn = FeedForward(config)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim ** 0.5)

    def _modulated(self, h: torch.Tensor, scale: torch.Tensor,
                   shift: torch.Tensor) -> torch.Tensor:
        x = F.layer_norm(_wide(h), h.shape[-1:], eps=self._eps)
        return (_per_unit(x, scale) * (1 + scale) + shift).flatten(1, 2).to(h.dtype)

    def forward(self, h: torch.Tensor, time: torch.Tensor, rope: torch.Tensor,
                attend: Callable[..., torch.Tensor], text: tuple[torch.Tensor, torch.Tensor],
                keep: int) -> torch.Tensor:
        """Update the first `keep` tokens of h (B, S, D); the others give only keys and values.

        time is (B or 1, U, 6, D): one entry for each of U equal runs of tokens.
        """
        unit = h.shape[1] // time.shape[1]
        modulation = _wide(self.scale_shift_table)[None] + _wide(time)
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            m.unsqueeze(2) for m in modulation.unbind(2))
        a = self._modulated(h, scale1, shift1)
        key, value = self.attn1.key_value(a, rope)
        if keep < h.shape[1]:
            h, a, rope = h[:, :keep], a[:, :keep], rope[:, :keep]
            gate1, shift2, scale2, gate2 = (
                m[:, :keep // unit] for m in (gate1, shift2, scale2, gate2))
        out = attend(self.attn1.query(a, rope) if keep else None, key, value)
        if keep == 0:
            return h
        h = _gated(h, self.attn1.output(out), gate1)
        x = F.layer_norm(_wide(h), h.shape[-1:], _wide(self.norm2.weight),
                         _wide(self.norm2.bias), self._eps).to(h.dtype)
        out = few_keys_attention(self.attn2.query(x), *text)
        h = (h + self.attn2.output(out)).to(h.dtype)
        return _gated(h, self.ffn(self._modulated(h, scale2, shift2)), gate2)


def _per_unit(x: torch.Tensor, per_unit: torch.Tensor) -> torch.Tensor:
    return x.unflatten(1, (per_unit.shape[1], -1))


def _gated(h: torch.Tensor, update: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    step = _per_unit(_wide(update), gate) * gate
    return (_wide(h) + step.flatten(1, 2)).to(h.dtype)


class WanTransformer3DModel(nn.Module):
    """The network: velocities of noisy segments given everything that `attend` lets them see."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        dim, area = config.dim, math.prod(config.patch_size)
        self.patch_embedding_mlp = nn.Linear(config.in_channels * area, dim)
        self.action_embedder = nn.Linear(config.action_dim, dim)
        self.condition_embedder = ConditionEmbedder(config)
        self.condition_embedder_action = ConditionEmbedder(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim ** 0.5)
        self.proj_out = nn.Linear(dim, config.out_channels * area)
        self.action_proj_out = nn.Linear(dim, config.action_dim)

    def tokens_per_frame(self, segment: Segment) -> int:
        """Tokens that one latent frame of the segment becomes."""
        _, _, _, rows, columns = segment.values.shape
        if segment.modality == 'action':
            return rows
        return rows // self.config.patch_size[1] * (columns // self.config.patch_size[2])

    def text_kv(self, text_rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Cross-attention keys and values of every block for text rows (B, R, text_dim).

        Both modalities use the video embedder's text projection; zero rows take part as well.
        """
        dtype = self.patch_embedding_mlp.weight.dtype
        text = self.condition_embedder.text_embedder(text_rows.to(dtype))
        return [block.attn2.key_value(text) for block in self.blocks]

    def forward(self, segments: Sequence[Segment], rope: torch.Tensor, attend: Attend,
                text: TextKV, outputs: int) -> list[torch.Tensor]:
        """Run the concatenated segments; return velocities of the first `outputs` of them.

        rope: (2, S, d/2) of the whole sequence; attend(layer, q, k, v) does the self-attention
        (q is None in the last block when nothing is wanted); text: see `text_kv`.
        The time embedding is computed per frame, never per token. In the last block the segments
        after `outputs` only contribute keys and values.
        """
        tokens, times = self._embed_all(segments)
        lengths = [t.shape[1] for t in tokens]
        widths = [self.tokens_per_frame(s) for s in segments]
        h = torch.cat(tokens, dim=1)
        time = _units([t[1] for t in times], widths, math.gcd(*widths))
        kept = sum(lengths[:outputs])
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            h = block(h, time, rope, lambda q, k, v, i=i: attend(i, q, k, v), text[i],
                      kept if i == last else h.shape[1])
        if not outputs:
            return []
        return self._heads(torch.split(h, lengths[:outputs], dim=1), segments[:outputs],
                           [t[0] for t in times])

    def _embedder(self, modality: str) -> ConditionEmbedder:
        return self.condition_embedder if modality == 'video' else self.condition_embedder_action

    def _embed_all(self, segments: Sequence[Segment]) -> tuple[list, list]:
        """Tokens and time embeddings of every segment, each modality in one go."""
        tokens, times = [None] * len(segments), [None] * len(segments)
        for modality, where in _by_modality(segments).items():
            chosen = [segments[i] for i in where]
            rows = max(s.timesteps.shape[0] for s in chosen)
            steps = torch.cat([s.timesteps.expand(rows, -1) for s in chosen], dim=1)
            frames, width = [s.values.shape[2] for s in chosen], self.tokens_per_frame(chosen[0])
            embedded = self._embed(modality, torch.cat([s.values for s in chosen], dim=2))
            both = (t.split(frames, dim=1) for t in self._embedder(modality).embed_time(steps))
            for i, part, *time in zip(where, embedded.split([f * width for f in frames], dim=1),
                                      *both, strict=True):
                tokens[i], times[i] = part, time
        return tokens, times

    def _embed(self, modality: str, values: torch.Tensor) -> torch.Tensor:
        dtype = self.patch_embedding_mlp.weight.dtype
        if modality == 'video':
            patches = patchify(values.to(dtype), self.config.patch_size)
            return self.patch_embedding_mlp(patches).to(dtype)
        return self.action_embedder(values.to(dtype).flatten(2).transpose(1, 2)).to(dtype)

    def _heads(self, tokens: Sequence[torch.Tensor], segments: Sequence[Segment],
               temb: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        out = [None] * len(segments)
        for modality, where in _by_modality(segments).items():
            frames = [segments[i].values.shape[2] for i in where]
            shape = [*segments[where[0]].values.shape]
            shape[2] = sum(frames)
            x, t = (torch.cat([parts[i] for i in where], dim=1) for parts in (tokens, temb))
            values = self._head(x, modality, shape, t)
            for i, part in zip(where, values.split(frames, dim=2), strict=True):
                out[i] = part
        return out

    def _head(self, h: torch.Tensor, modality: str, shape: list[int],
              temb: torch.Tensor) -> torch.Tensor:
        shift, scale = (self.scale_shift_table[None] + temb[:, :, None]).unsqueeze(3).unbind(2)
        x = F.layer_norm(_wide(h), h.shape[-1:], eps=self.config.eps)
        x = (_per_unit(x, scale) * (1 + scale) + shift).flatten(1, 2).to(h.dtype)
        if modality == 'video':
            shape[1] = self.config.out_channels
            return unpatchify(self.proj_out(x), shape, self.config.patch_size)
        return self.action_proj_out(x).transpose(1, 2).reshape(shape)


def _by_modality(segments: Sequence[Segment]) -> dict[str, list[int]]:
    """Indices of the segments of each modality."""
    where: dict[str, list[int]] = {}
    for i, segment in enumerate(segments):
        if segment.modality not in ('video', 'action'):
            raise ValueError(f"modality must be 'video' or 'action', got {segment.modality!r}")
        where.setdefault(segment.modality, []).append(i)
    return where


def _units(times: list[torch.Tensor], widths: list[int], unit: int) -> torch.Tensor:
    """Repeat per-frame time projections (B, F, 6, D) so that each entry covers `unit` tokens."""
    rows = max(t.shape[0] for t in times)
    parts = []
    for time, width in zip(times, widths, strict=True):
        b, f, six, dim = time.shape
        time = time.unsqueeze(2).expand(b, f, width // unit, six, dim).flatten(1, 2)
        parts.append(time.expand(rows, -1, -1, -1))
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def load_weights(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load a state dict strictly, ignoring the two vestigial tensors of released files.

    Raises ValueError naming missing, unexpected and wrongly shaped tensors.
    """
    state = {k: v for k, v in state.items() if k not in VESTIGIAL_KEYS}
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    shapes = [f'{k}: file {tuple(state[k].shape)}, model {tuple(own[k].shape)}'
              for k in sorted(own.keys() & state.keys()) if state[k].shape != own[k].shape]
    if missing or unexpected or shapes:
        raise ValueError(f'{source} does not fit the configuration: missing {missing[:5]} '
                         f'({len(missing)}), unexpected {unexpected[:5]} ({len(unexpected)}), '
                         f'wrong shape {shapes[:5]} ({len(shapes)})')
    model.load_state_dict(state)
