# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention back-ends: scaled dot product with an explicit dense mask, flex attention on a GPU.

Streaming inference needs no mask (causality is what the cache holds). Training does, always: the
packed sequence contains the clean targets, so a dropped mask would let the network read them.
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
class PackedMask:
    """Who sees whom in a packed sequence whose first `noisy` tokens are the noisy ones.

    `dense` is (S, S) bool, True = may see. Clean tokens never see noisy ones, so the lower left
    block is empty and clean queries run against clean keys only. `block` is the flex equivalent
    (GPU only), else None.
    """

    noisy: int
    dense: torch.Tensor
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
    head = F.scaled_dot_product_attention(q[:, :, :noisy], k, v, attn_mask=mask.dense[:noisy])
    if q.shape[2] == noisy:
        return head
    tail = F.scaled_dot_product_attention(q[:, :, noisy:], k[:, :, noisy:], v[:, :, noisy:],
                                          attn_mask=mask.dense[noisy:, noisy:])
    return torch.cat([head, tail], dim=2)


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
