# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""bf16 is a choice of speed, so a CPU that is slow at it gets fp32."""

import pytest
import torch

from flashwam_ros.training.precision import product_dtype

CPU, GPU = torch.device('cpu'), torch.device('cuda')


@pytest.mark.parametrize(('capability', 'device', 'precision', 'products'), [
    ('AVX2', CPU, 'bf16', torch.float32),
    ('DEFAULT', CPU, 'bf16', torch.float32),
    ('AVX512', CPU, 'bf16', torch.bfloat16),
    ('AVX2', GPU, 'bf16', torch.bfloat16),
    ('AVX2', CPU, 'legacy_bf16', torch.bfloat16),
    ('AVX512', GPU, 'fp32', torch.float32),
])
def test_products(monkeypatch, capability, device, precision, products):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    assert product_dtype(precision, device) is products
