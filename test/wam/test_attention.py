# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention in training: one graph for a compiler, reduced precision under autocast."""

import pytest
import torch

from flashwam_ros.wam.attention import few_keys_attention, packed_attention
from flashwam_ros.wam.packed import packed_mask


@pytest.fixture
def mask():
    return packed_mask(4, 4, 2, 2, 2, torch.device('cpu'))


@pytest.fixture
def qkv(mask, rng):
    shape = (3, 2, 2, len(mask.dense), 16)
    return torch.randn(shape, generator=rng, requires_grad=True).unbind(0)


def _gradients(out, qkv):
    weight = torch.linspace(-1, 1, out.numel()).view_as(out)
    return torch.autograd.grad((out.float() * weight).sum(), qkv, retain_graph=True)


def test_a_compiler_keeps_it_in_one_graph(mask, qkv):
    compiled = torch.compile(lambda q, k, v: packed_attention(q, k, v, mask),
                             backend='aot_eager', fullgraph=True)
    want, got = packed_attention(*qkv, mask), compiled(*qkv)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(_gradients(got, qkv), _gradients(want, qkv))


def test_autocast_computes_in_bf16(mask, qkv):
    exact = packed_attention(*qkv, mask)
    with torch.autocast('cpu', torch.bfloat16):
        rough = packed_attention(*qkv, mask)
    assert rough.dtype == torch.bfloat16 and exact.dtype == torch.float32
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)
    for a, b in zip(_gradients(rough, qkv), _gradients(exact, qkv), strict=True):
        assert (a - b).norm() < 0.03 * b.norm()


def test_few_keys_attention_is_attention(rng):
    q = torch.randn(2, 2, 9, 16, generator=rng, requires_grad=True)
    k, v = torch.randn(2, 2, 2, 5, 16, generator=rng, requires_grad=True).unbind(0)
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    got = few_keys_attention(q, k, v)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(_gradients(got, (q, k, v)), _gradients(want, (q, k, v)),
                               atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(few_keys_attention(q, k, v), want.detach())
