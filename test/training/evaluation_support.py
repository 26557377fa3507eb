# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoints and invented results for the tests of evaluation."""

import dataclasses

import numpy as np
import torch

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training.results import append_result
from flashwam_ros.wam.checkpoint import save_checkpoint
from flashwam_ros.wam.codec import NanoCodec, NanoCodecConfig
from flashwam_ros.wam.config import ModalitySampler, SamplerSettings, TransformerConfig
from flashwam_ros.wam.normaliser import QuantileNormaliser
from flashwam_ros.wam.text import NanoTextEncoder
from flashwam_ros.wam.transformer import WanTransformer3DModel


def tiny_checkpoint(path, parametrisation='velocity', seed=0, contract=None):
    """A checkpoint with random weights; 'lcm' brings its own sampler along."""
    torch.manual_seed(seed)
    contract = contract or RobotContract.load().to_dict()
    config = TransformerConfig(num_attention_heads=1, attention_head_dim=16, in_channels=4,
                               out_channels=4, text_dim=8, ffn_dim=16, freq_dim=8, num_layers=1)
    model = WanTransformer3DModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    part = ModalitySampler(steps=1, shift=5.0, parametrisation=parametrisation,
                           sampler='consistency' if 'lcm' in parametrisation else 'euler')
    sampler = SamplerSettings(window=7, video=part, action=dataclasses.replace(part, shift=1.0))
    rows = np.random.default_rng(seed).uniform(-1, 1, (50, 16))
    save_checkpoint(path, transformer=model,
                    codec=NanoCodec(NanoCodecConfig(4, (8, 8, 8), (8, 8, 8))),
                    text_encoder=NanoTextEncoder(text_dim=8),
                    normaliser=QuantileNormaliser.fit(rows), contract=contract, sampler=sampler)
    return path


def invent_results(folder, setting, outcomes, machine='a test'):
    """Write episodes: job -> success."""
    folder.mkdir(parents=True, exist_ok=True)
    for job, success in outcomes.items():
        append_result(folder, setting, job, {
            'task': job.task, 'seed': job.seed, 'success': success,
            'reason': 'success' if success else 'time limit', 'stages': {'reached': True},
            'duration_s': 4.0, 'chunks': 5, 'limited_ticks': 0, 'arm_limited_ticks': 0,
            'predict_ms': 20.0, 'chunk_cpu_ms': 30.0}, machine)
