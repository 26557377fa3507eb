# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention back-ends: dense mask, runs of unmasked tiles on a CPU, flex attention on a GPU.

Streaming inference needs no mask (causality is what the cache holds). Training does, always: the
packed sequence contains the clean targets, so a dropped mask would let the network read them.

In chunk-major order everything that a run of query tokens may see is its own noisy run and one
contiguous range of clean tokens. On a CPU these ranges are attended to without any mask, which
halves the work; the result is that of the dense mask.
"""

import dataclasses
import functools

import torch
import torch.nn.functional as F  # noqa: N812

try:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
except ImportError:
    create_block_mask = flex_attention = None


# PyTorch's own CPU kernels below F.scaled_dot_product_attention; None where a release lacks them.
_FLASH = getattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu', None)
_FLASH_BACKWARD = getattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu_backward',
                          None)


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
class PackedMask:
    """Who sees whom in a packed sequence whose first `noisy` tokens are the noisy ones.

    `dense` is (S, S) bool, True = may see; `runs` says the same as ranges, in sequence order.
    `block` is the flex equivalent (GPU only), else None.
    """

    noisy: int
    dense: torch.Tensor
    runs: tuple[Run, ...]
    block: object | None = None


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
    if q.device.type == 'cpu' and _FLASH is not None:
        runs = tuple(run for run in mask.runs if run.start < q.shape[2])
        return attention_by_runs(q, k, v, runs)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.dense[:q.shape[2]])


@torch.compiler.disable
def attention_by_runs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
                      runs: tuple[Run, ...]) -> torch.Tensor:
    """Attention of (B, H, S, d) by unmasked tiles, in fp32 or fp64 (faster than bf16 here)."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return _ByRuns.apply(q.to(dtype), k.to(dtype), v.to(dtype), runs)


def _keys(x: torch.Tensor, run: Run) -> torch.Tensor:
    clean = x[:, :, run.low:run.high]
    if run.own_stop == run.start:
        return clean
    return torch.cat([x[:, :, run.start:run.own_stop], clean], dim=2)


class _ByRuns(torch.autograd.Function):
    """Backward adds into whole gradient tensors; autograd's slices would each allocate one."""

    @staticmethod
    def forward(ctx, q, k, v, runs):
        out = torch.empty_like(q)
        sums = []
        for run in runs:
            tile, log_sum = _FLASH(q[:, :, run.start:run.stop], _keys(k, run), _keys(v, run))
            out[:, :, run.start:run.stop] = tile
            sums.append(log_sum)
        ctx.save_for_backward(q, k, v, out, *sums)
        ctx.runs = runs
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, out, *sums = ctx.saved_tensors
        grads = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for run, log_sum in zip(ctx.runs, sums, strict=True):
            own = slice(run.start, run.stop)
            dq, dk, dv = _FLASH_BACKWARD(
                grad[:, :, own], q[:, :, own], _keys(k, run), _keys(v, run), out[:, :, own],
                log_sum, 0.0, False)
            grads[0][:, :, own] = dq
            width = run.own_stop - run.start
            for total, part in zip(grads[1:], (dk, dv), strict=True):
                total[:, :, run.low:run.high] += part[:, :, width:]
                if width:
                    total[:, :, run.start:run.own_stop] += part[:, :, :width]
        return (*grads, None)


def with_block_mask(mask: PackedMask, device: torch.device) -> PackedMask:
    """Add the flex block mask on devices where flex attention is compiled (CUDA)."""
    if device.type != 'cuda' or flex_attention is None:
        return mask
    dense = mask.dense

    def may_see(_batch, _head, query, key):
        return dense[query, key]

    size = dense.shape[0]
    block = create_block_mask(may_see, None, None, size, size, device=device)
    return dataclasses.replace(mask, block=block)


@functools.lru_cache(maxsize=1)
def _compiled_flex():
    return torch.compile(flex_attention, dynamic=False)
