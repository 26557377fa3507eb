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


def test_a_seed_tells_its_split():
    for split, seed in (('test', 10_000), ('selection', 59_999), ('training', 100_000)):
        assert seeds.split_of(seed, 'red_bottle') == split
    # another task's range, no range, no seed, no such task
    for seed, task in ((30_000, 'red_bottle'), (7, 'red_bottle'), (None, 'red_bottle'),
                       (10_000, 'juggle')):
        assert seeds.split_of(seed, task) is None
    assert seeds.split_of(30_000, 'pot_potato') in seeds.HELD_OUT


def test_too_many_seeds_are_refused():
    with pytest.raises(ValueError):
        seeds.seeds('test', 'pot_potato', 10_001)
