# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A world-action model with random weights, for every test of this room that needs one."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    torch = pytest.importorskip('torch')
    from key_frame_support import CONTRACT

    from flashwam_ros.wam.checkpoint import save_checkpoint
    from flashwam_ros.wam.codec import NanoCodec
    from flashwam_ros.wam.config import SamplerSettings, TransformerConfig
    from flashwam_ros.wam.normaliser import QuantileNormaliser
    from flashwam_ros.wam.text import NanoTextEncoder
    from flashwam_ros.wam.transformer import WanTransformer3DModel

    torch.manual_seed(0)
    config = TransformerConfig.nano()
    random = np.random.default_rng(0)
    rows = random.uniform(CONTRACT.lower, CONTRACT.upper, (200, len(CONTRACT.channels)))
    path = tmp_path_factory.mktemp('models') / 'random'
    save_checkpoint(
        path,
        transformer=WanTransformer3DModel(config),
        codec=NanoCodec(),
        text_encoder=NanoTextEncoder(text_dim=config.text_dim),
        normaliser=QuantileNormaliser.fit(rows),
        contract=CONTRACT.to_dict(),
        sampler=SamplerSettings(),
    )
    return path
