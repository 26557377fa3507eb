# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from flashwam_ros.wam.config import TransformerConfig
from flashwam_ros.wam.transformer import WanTransformer3DModel

TINY = TransformerConfig(num_attention_heads=2, attention_head_dim=18, in_channels=4,
                         out_channels=4, text_dim=8, freq_dim=16, ffn_dim=40, num_layers=3)


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def tiny():
    """A small model with weights large enough for every path to matter."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(TINY).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.normal_(1.0 if 'norm' in name and name.endswith('weight') else 0.0, 0.25)
    return model


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(1)
