# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small synthetic demonstrations for the tests of the training room."""

import numpy as np

from flashwam_ros.training.dataset import latent_episode
from flashwam_ros.training.episode_file import EpisodeData
from flashwam_ros.training.recipes import TeacherRecipe


def make_episode(seed=100_001, frames=10, task='red_bottle'):
    """A demonstration of noise with consistent frames and rows."""
    rng = np.random.default_rng(seed)
    count, rows = 1 + 4 * (frames - 1), 8 * (frames - 1)
    sizes = {'head': 128, 'left_wrist': 64, 'right_wrist': 64}
    applied = np.cumsum(rng.normal(0, 0.02, (rows, 16)), axis=0)
    return EpisodeData(
        task=task, prompt='pick up the red bottle', seed=seed, contract_hash='0' * 64,
        recovery=False, images={key: rng.integers(0, 255, (count, size, size, 3), np.uint8)
                                for key, size in sizes.items()},
        stamps_ns=np.arange(count) * 100_000_000, due_ns=np.arange(count) * 100_000_000,
        applied=applied, requested=applied + 1e-4, perturbed=np.zeros(rows, bool),
        object_names=('red_bottle', 'yellow_bottle'),
        objects=rng.normal(0.3, 0.05, (count, 2, 3)).astype(np.float32),
        tcp=rng.normal(0.3, 0.05, (count, 2, 3)).astype(np.float32))


def make_latents(count=4, frames=10, channels=4):
    """Pre-encoded episodes with 12x8 latents; the first one belongs to the held-out split."""
    rng = np.random.default_rng(0)
    return [latent_episode(make_episode(100_000 + i, frames),
                           rng.normal(size=(frames, channels, 12, 8)).astype(np.float16))
            for i in range(count)]


def tiny_recipe(**changes):
    """A teacher that trains a step in milliseconds."""
    values = {'heads': 1, 'head_dim': 16, 'layers': 1, 'ffn_dim': 16, 'freq_dim': 8, 'batch': 2,
              'lengths': (4,), 'warmup_steps': 2, 'steps': 6, 'bf16': False,
              'task_weights': {'red_bottle': 1.0}}
    return TeacherRecipe(**{**values, **changes})
