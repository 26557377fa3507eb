# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The split of a sampled chunk's error into bias and spread."""

import numpy as np
import pytest

from benchmarks.few_steps import interval, split_error


@pytest.mark.parametrize('bias, spread', [(0.0, 0.3), (0.5, 0.1), (0.2, 0.2)])
def test_bias_and_spread_are_told_apart_with_few_samples(bias, spread):
    random = np.random.default_rng(0)
    target = random.normal(size=(40_000, 2))
    found = split_error(target + bias + spread * random.normal(size=(3, *target.shape)), target)
    assert found == pytest.approx((bias**2, spread**2), abs=0.003)


def test_the_interval_is_over_episodes_not_over_their_chunks():
    """Chunks of one episode agree; counting them one by one would promise too much."""
    records = [{'task': 'a', 'seed': seed, 'x': float(seed % 2)}
               for seed in range(20) for _ in range(50)]
    text = interval(records, lambda found: np.mean([record['x'] for record in found]))
    low, high = text.split('(')[1].rstrip(')').split('..')
    assert text.startswith('0.50') and float(high) - float(low) > 0.3
