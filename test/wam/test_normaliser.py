# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.wam.normaliser import G1_CHANNEL_IDS, QuantileNormaliser


def _normaliser(seed=0):
    rows = np.random.default_rng(seed).normal(size=(500, 16)) * np.linspace(0.01, 2, 16)
    return QuantileNormaliser.fit(rows)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@given(seed=st.integers(0, 1000))
def test_round_trip(dtype, seed):
    normaliser = _normaliser()
    x = np.random.default_rng(seed).uniform(-3, 5.4, (2, 7, 16)).astype(dtype)
    z = normaliser.normalise(x)
    assert z.shape == (2, 7, 30) and z.dtype == dtype
    assert (z[..., :14] == 0).all()
    back = normaliser.denormalise(z)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, x, atol=1e-6, rtol=1e-6)


def test_channels_and_formula():
    assert (*range(14, 21), *range(21, 28), 28, 29) == G1_CHANNEL_IDS
    q01, q99 = np.zeros(30), np.zeros(30)
    q01[[3, 28]], q99[[3, 28]] = [-1, 0], [1, 5.4]
    normaliser = QuantileNormaliser(q01, q99, (28, 3))
    z = normaliser.normalise(np.array([5.4, 0.0]))
    assert z[28] == pytest.approx(2 * 5.4 / (5.4 + 1e-6) - 1, abs=1e-12)
    assert z[3] == pytest.approx(0, abs=1e-6) and np.count_nonzero(z) <= 2
    assert normaliser.channel_mask.sum() == 2 and normaliser.channel_mask[3] == 1


def test_fit_widens_still_channels():
    rows = np.zeros((50, 16))
    normaliser = QuantileNormaliser.fit(rows, minimum_span=0.1)
    assert normaliser.q01[14] == pytest.approx(-0.05)
    assert abs(normaliser.normalise(np.full(16, 0.05))[14]) <= 1


def test_dictionary_round_trip_and_errors():
    normaliser = _normaliser()
    assert QuantileNormaliser.from_dict(json.loads(json.dumps(normaliser.to_dict()))) == normaliser
    with pytest.raises(ValueError, match='30 entries'):
        QuantileNormaliser((0.0,), (1.0,))
    with pytest.raises(ValueError, match='distinct'):
        QuantileNormaliser((0.0,) * 30, (1.0,) * 30, (1, 1))
    with pytest.raises(ValueError, match='finite'):
        QuantileNormaliser((2.0,) * 30, (1.0,) * 30)
    with pytest.raises(ValueError, match='16'):
        normaliser.normalise(np.zeros(15))
