# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from flashwam_ros.wam.text import NanoTextEncoder

POT = [-0.011702, 0.202832, 0.364544]  # frozen: a checkpoint is trained on these


def test_rows_are_words_then_end_then_zeros():
    encoder = NanoTextEncoder()
    rows = encoder.encode('Take the LID!')
    assert rows.shape == (16, 64) and rows.dtype == torch.float32
    empty = encoder.encode('')
    assert torch.equal(rows[3], empty[0]) and not empty[1:].any() and not rows[4:].any()
    assert torch.equal(rows[:3], encoder.encode('take  the lid')[:3])
    assert torch.equal(rows[1], encoder.encode('the pot')[0])
    assert abs(float(torch.cosine_similarity(rows[0], rows[1], 0))) < 0.5


def test_vectors_are_frozen():
    np.testing.assert_allclose(NanoTextEncoder().encode('pot')[0, :3].numpy(), POT, atol=1e-6)


def test_long_prompt_is_refused():
    with pytest.raises(ValueError, match='at most 15'):
        NanoTextEncoder().encode('a ' * 16)


def test_config_round_trip():
    encoder = NanoTextEncoder.from_dict(NanoTextEncoder(8, 32).to_dict())
    assert encoder.encode('x').shape == (8, 32)
    with pytest.raises(ValueError, match='UMT5'):
        NanoTextEncoder.from_dict({'_class_name': 'UMT5EncoderModel'})
