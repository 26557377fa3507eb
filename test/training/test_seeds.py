# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The seed ranges of training, selection and test never meet."""

import itertools

import pytest

from flashwam_ros.training import seeds


def test_ranges_are_disjoint():
    ranges = [seeds.seed_range(split, task)
              for split in ('test', 'selection', 'training') for task in seeds.TASKS]
    for one, other in itertools.combinations(ranges, 2):
        assert one.stop <= other.start or other.stop <= one.start


def test_training_seed_is_refused_as_test_seed():
    seed = seeds.seeds('training', 'red_bottle', 1)[0]
    with pytest.raises(ValueError, match='not a test seed'):
        seeds.require_split(seed, 'test', 'red_bottle')
    assert seeds.require_split(10_003, 'test', 'red_bottle') == 10_003


def test_too_many_seeds_are_refused():
    with pytest.raises(ValueError):
        seeds.seeds('test', 'pot_potato', 10_001)
