# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention back-ends: dense mask, tiles of a chunk on a CPU, flex attention on a GPU.

Streaming inference needs no mask (causality is what the cache holds). Training does, always: the
packed sequence contains the clean targets, so a dropped mask would let the network read them.

In chunk-major order everything that the tokens of a chunk may see is the chunk's own noisy range
and one contiguous range of clean tokens. On a CPU each chunk is one tile with its part of the
mask, which halves the work; the result is that of the dense mask. The tiles are one operator, so
that `torch.compile` keeps a block in one graph.
"""

import dataclasses
import functools

import torch
import torch.nn.functional as F  # noqa: N812

try:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
except ImportError:
    create_block_mask = flex_attention = None


class MissingMaskError(ValueError):
    """A packed (training) attention was asked for without its mask."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Queries [start, stop) see clean tokens [low, high) and noisy tokens [start, own_stop).

    `own_stop` is `stop` where noisy tokens see their own group, beyond it where they see the next
    one too, and `start` for clean queries, which see no noisy token.
    """

    start: int
    stop: int
    low: int
    high: int
    own_stop: int


@dataclasses.dataclass(frozen=True)
class Tile:
    """A chunk: noisy and clean queries [start, stop), noisy keys [start, stop), clean [low, stop).

    Ranges count from the first noisy, or the first clean, token. `bias` (queries, keys) is 0 where
    a query sees the key and -inf elsewhere; noisy ones come first on both sides.
    """

    start: int
    stop: int
    low: int
    bias: torch.Tensor


@dataclasses.dataclass(frozen=True)
class PackedMask:
    """Who sees whom in a packed sequence whose first `noisy` tokens are the noisy ones.

    `dense` is (S, S) bool, True = may see; `runs` says the same as ranges, in sequence order.
    `block` is the flex equivalent (GPU only), `tiles` the equivalent for a CPU.
    """

    noisy: int
    dense: torch.Tensor
    runs: tuple[Run, ...]
    block: object | None = None
    tiles: tuple[Tile, ...] = ()


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Unmasked attention on (B, H, S, d); scale d^-0.5."""
    return F.scaled_dot_product_attention(q, k, v)


def packed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
                     mask: PackedMask | None) -> torch.Tensor:
    """Masked attention of a packed sequence; q may hold only the noisy head of the sequence.

    q, k, v are (B, H, S, d). Raises MissingMaskError without a mask, ValueError on other lengths.
    """
    if not isinstance(mask, PackedMask):
        raise MissingMaskError('packed attention without a mask would leak the clean targets; '
                               'build one with packed.packed_mask')
    total, noisy = mask.dense.shape[0], mask.noisy
    if k.shape[2] != total or q.shape[2] not in (total, noisy):
        raise ValueError(f'mask is for {total} tokens ({noisy} noisy), got q {q.shape[2]}, '
                         f'k {k.shape[2]}')
    if mask.block is not None and q.shape[2] == total:
        return _compiled_flex()(q, k, v, block_mask=mask.block)
    if mask.tiles and q.device.type == 'cpu':
        return _attention_by_tiles(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.dense[:q.shape[2]])


def few_keys_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Unmasked attention to a handful of keys, in training on a CPU.

    The backward pass of the library's kernel pads the keys there and takes ten times as long.
    """
    if not (torch.is_grad_enabled() and q.device.type == 'cpu'):
        return attention(q, k, v)
    weights = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    return weights.softmax(-1).to(v.dtype) @ v


def _attention_by_tiles(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
                        mask: PackedMask) -> torch.Tensor:
    """Attention of (B, H, S, d) by chunks, in the autocast dtype or that of q."""
    dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else q.dtype
    ranges = [n for tile in mask.tiles for n in (tile.start, tile.stop, tile.low)]
    biases = [tile.bias for tile in mask.tiles]
    if q.shape[2] == mask.noisy:
        biases = [tile.bias[:tile.stop - tile.start] for tile in mask.tiles]
    q = q * q.shape[-1] ** -0.5
    return _by_tiles(q.to(dtype), k.to(dtype), v.to(dtype), biases, ranges, mask.noisy)[0]


def _spans(start: int, stop: int, low: int, noisy: int, total: int) -> tuple[list, list]:
    """Query and key ranges of a tile in a packed sequence; `total` is the number of queries."""
    own = (start, stop)
    queries = [own] if total == noisy else [own, (noisy + start, noisy + stop)]
    return queries, [own, (noisy + low, noisy + stop)]


def _take(x: torch.Tensor, spans: list) -> torch.Tensor:
    """Copy ranges of (B, H, S, d) to one contiguous (B*H, n, d)."""
    b, h, _, d = x.shape
    out = x.new_empty(b, h, sum(stop - start for start, stop in spans), d)
    for part, (start, stop) in zip(_parts(out, spans), spans, strict=True):
        part.copy_(x[:, :, start:stop])
    return out.flatten(0, 1)


def _parts(x: torch.Tensor, spans: list) -> tuple[torch.Tensor, ...]:
    return x.split([stop - start for start, stop in spans], dim=2)


def _put(into: torch.Tensor, spans: list, x: torch.Tensor, add: bool = False) -> None:
    """Write (B*H, n, d) to ranges of (B, H, S, d), or add it."""
    parts = _parts(x.unflatten(0, into.shape[:2]), spans)
    for part, (start, stop) in zip(parts, spans, strict=True):
        if add:
            into[:, :, start:stop] += part
        else:
            into[:, :, start:stop] = part


def _tiles(ranges: list[int]) -> list[list[int]]:
    return [ranges[i:i + 3] for i in range(0, len(ranges), 3)]


@torch.library.custom_op('flashwam::attention_by_tiles', mutates_args=())
def _by_tiles(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, biases: list[torch.Tensor],
              ranges: list[int], noisy: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Output (B, H, S, d) and the weights of every tile (B*H, queries, keys); q is scaled."""
    out, kept = torch.empty_like(q), []
    for bias, tile in zip(biases, _tiles(ranges), strict=True):
        queries, keys = _spans(*tile, noisy, q.shape[2])
        scores = torch.bmm(_take(q, queries), _take(k, keys).transpose(1, 2))
        kept.append(scores.add_(bias).softmax(-1))
        _put(out, queries, torch.bmm(kept[-1], _take(v, keys)))
    return out, kept


@_by_tiles.register_fake
def _(q, k, v, biases, ranges, noisy):
    heads = q.shape[0] * q.shape[1]
    return torch.empty_like(q), [q.new_empty(heads, *bias.shape) for bias in biases]


@torch.library.custom_op('flashwam::attention_by_tiles_backward', mutates_args=())
def _by_tiles_backward(
        grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
        kept: list[torch.Tensor], ranges: list[int],
        noisy: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    wide = torch.float32 if q.dtype == torch.bfloat16 else q.dtype
    grad_q = torch.empty_like(q)
    grad_k, grad_v = torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
    for weights, tile in zip(kept, _tiles(ranges), strict=True):
        queries, keys = _spans(*tile, noisy, q.shape[2])
        above = _take(grad, queries)
        slope = torch._softmax_backward_data(
            torch.bmm(above, _take(v, keys).transpose(1, 2)), weights, -1, q.dtype)
        _put(grad_q, queries, torch.bmm(slope, _take(k, keys)))
        _put(grad_k, keys, torch.bmm(slope.transpose(1, 2), _take(q, queries)), add=True)
        _put(grad_v, keys, torch.bmm(weights.transpose(1, 2), above), add=True)
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype)


@_by_tiles_backward.register_fake
def _(grad, q, k, v, kept, ranges, noisy):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _save(ctx, inputs, output):
    q, k, v, _, ctx.ranges, ctx.noisy = inputs
    ctx.save_for_backward(q, k, v, *output[1])


def _differentiate(ctx, grad, _):
    q, k, v, *kept = ctx.saved_tensors
    grads = _by_tiles_backward(grad, q, k, v, kept, ctx.ranges, ctx.noisy)
    return (*grads, [None] * len(kept), None, None)


_by_tiles.register_autograd(_differentiate, setup_context=_save)


def with_block_mask(mask: PackedMask, device: torch.device) -> PackedMask:
    """Add the flex block mask where flex attention is compiled (CUDA), tiles on a CPU."""
    if device.type == 'cpu':
        return dataclasses.replace(mask, tiles=_chunk_tiles(mask))
    if device.type != 'cuda' or flex_attention is None:
        return mask
    dense = mask.dense

    def may_see(_batch, _head, query, key):
        return dense[query, key]

    size = dense.shape[0]
    block = create_block_mask(may_see, None, None, size, size, device=device)
    return dataclasses.replace(mask, block=block)


def _chunk_tiles(mask: PackedMask) -> tuple[Tile, ...]:
    """One tile per chunk; its runs are video and action, noisy and clean."""
    half = len(mask.runs) // 2
    tiles = []
    for first in range(0, half, 2):
        chunk = [*mask.runs[first:first + 2], *mask.runs[half + first:half + first + 2]]
        start, stop = chunk[0].start, chunk[1].stop
        low = min(run.low for run in chunk) - mask.noisy
        queries, keys = _spans(start, stop, low, mask.noisy, mask.dense.shape[0])
        seen = torch.cat([mask.dense[a:b] for a, b in queries])
        seen = torch.cat([seen[:, a:b] for a, b in keys], dim=1)
        bias = torch.zeros(seen.shape).masked_fill(~seen, float('-inf'))
        tiles.append(Tile(start, stop, low, bias))
    return tuple(tiles)


@functools.lru_cache(maxsize=1)
def _compiled_flex():
    return torch.compile(flex_attention, dynamic=False)
