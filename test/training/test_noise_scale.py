# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scaled noise: what an engine draws, and the pairing of a factor with the model as it is."""

import torch

from benchmarks.noise_scale import rows, scale_noise
from flashwam_ros.wam.streaming import Streaming


class Drawing(Streaming):
    def __init__(self):
        self._mask = torch.ones(1)


def test_the_same_noise_smaller():
    plain, scaled = Drawing(), Drawing()
    scale_noise(scaled, 0.5)
    draws = [engine._draw((2, 3), torch.Generator().manual_seed(1)) for engine in (plain, scaled)]
    torch.testing.assert_close(draws[1], draws[0] / 2)


def test_pairs_are_on_the_seeds_of_both():
    def episodes(factor, outcomes):
        return [{'noise': factor, 'seed': seed, 'success': won} for seed, won in outcomes.items()]

    found = episodes(1.0, {1: True, 2: False, 3: True})
    found += episodes(0.5, {1: True, 2: True, 9: True})
    whole, half = rows(found, (1.0, 0.5))
    assert whole[1] == '2/3' and whole[3:] == ('', '')
    assert half[1] == '3/3' and half[3:] == ('1 won, 0 lost', '1')
