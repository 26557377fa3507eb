# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers that matrix products of training are made of."""

from __future__ import annotations

import torch

_FAST_CPUS = ('AVX512', 'SVE256')
"""What ``torch.backends.cpu.get_cpu_capability`` says where PyTorch has fast bf16 products;
elsewhere they are far slower than in fp32 (docs/training.md)."""


def product_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Number format of matrix products, given a recipe's ``precision``.

    bf16 is a choice of speed only: on a CPU that has no instructions for it, products are made in
    fp32. 'legacy_bf16' is bf16 everywhere, for the rounding is what it is about.
    """
    slow = device.type == 'cpu' and torch.backends.cpu.get_cpu_capability() not in _FAST_CPUS
    if precision == 'fp32' or (precision == 'bf16' and slow):
        return torch.float32
    return torch.bfloat16
