# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from flashwam_ros.wam.codec import (
    NanoCodec,
    NanoCodecConfig,
    PositionProbe,
    assemble_canvas,
    canvas_to_tensor,
    tensor_to_canvas,
)


@pytest.fixture(scope='module')
def codec():
    torch.manual_seed(0)
    codec = NanoCodec().eval().requires_grad_(False)
    codec.set_latent_statistics(torch.linspace(-1, 1, 16), torch.linspace(0.5, 2, 16))
    return codec


def test_streaming_equals_one_shot(codec, rng):
    images = torch.rand(1, 9, 3, 192, 128, generator=rng) * 2 - 1
    whole = codec.encode(images)
    assert whole.shape == (1, 16, 3, 12, 8)
    stream = codec.stream()
    parts = [stream.push(images[:, :1]), stream.push(images[:, 1:5]), stream.push(images[:, 5:])]
    torch.testing.assert_close(torch.cat(parts, 2), whole, atol=1e-5, rtol=1e-5)
    both = codec.stream()
    both.push(images[:, :1])
    torch.testing.assert_close(both.push(images[:, 1:]), whole[:, :, 1:], atol=1e-5, rtol=1e-5)
    first = codec.encode_group(images[:, :1].repeat(1, 4, 1, 1, 1))
    torch.testing.assert_close(first, whole[:, :, 0], atol=1e-5, rtol=1e-5)
    raw = codec.encode_raw(images[:, 1:5])
    normal = (raw - codec.latents_mean.view(16, 1, 1)) / codec.latents_std.view(16, 1, 1)
    torch.testing.assert_close(normal, whole[:, :, 1], atol=1e-5, rtol=1e-5)


def test_decode_shapes_and_range(codec, rng):
    images = codec.decode(torch.randn(2, 16, 3, 12, 8, generator=rng) * 9)
    assert images.shape == (2, 9, 3, 192, 128)
    assert images.abs().max() <= 1


def test_stream_refuses_wrong_counts(codec):
    stream = codec.stream()
    with pytest.raises(ValueError, match='takes 1 image'):
        stream.push(torch.zeros(1, 4, 3, 192, 128))
    stream.push(torch.zeros(1, 1, 3, 192, 128))
    for count in (1, 3, 0):
        with pytest.raises(ValueError, match='multiple of 4'):
            stream.push(torch.zeros(1, count, 3, 192, 128))
    with pytest.raises(ValueError, match='a group is'):
        codec.encode_group(torch.zeros(1, 4, 3, 128, 128))


def test_size_budget(codec):
    count = sum(p.numel() for p in codec.parameters())
    assert count == 615_360
    macs = 0

    def add(module, inputs, output):
        nonlocal macs
        if isinstance(module, torch.nn.Conv2d):
            macs += module.weight.numel() * output.shape[-1] * output.shape[-2]

    hooks = [m.register_forward_hook(add) for m in codec.encoder.modules()]
    codec.encode_group(torch.zeros(1, 4, 3, 192, 128))
    for hook in hooks:
        hook.remove()
    assert macs < 100e6
    assert NanoCodecConfig.from_dict(codec.config.to_dict()) == codec.config


def test_canvas_places_and_errors():
    images = {'head': np.full((128, 128, 3), 1, np.uint8),
              'left_wrist': np.full((64, 64, 3), 2, np.uint8),
              'right_wrist': np.full((64, 64, 3), 3, np.uint8)}
    canvas = assemble_canvas(images)
    assert canvas.shape == (192, 128, 3)
    assert canvas[0, 0, 0] == 2 and canvas[0, 127, 0] == 3 and canvas[64, 0, 0] == 1
    with pytest.raises(ValueError, match='head'):
        assemble_canvas({k: v for k, v in images.items() if k != 'head'})
    with pytest.raises(ValueError, match='left_wrist'):
        assemble_canvas({**images, 'left_wrist': images['head']})
    with pytest.raises(ValueError, match='float'):
        assemble_canvas({**images, 'head': images['head'].astype(np.float32)})


def test_canvas_tensor_round_trip(rng):
    canvases = torch.randint(0, 256, (2, 192, 128, 3), generator=rng, dtype=torch.uint8).numpy()
    tensor = canvas_to_tensor(canvases)
    assert tensor.shape == (2, 3, 192, 128) and tensor.min() >= -1 and tensor.max() <= 1
    np.testing.assert_array_equal(tensor_to_canvas(tensor), canvases)


def test_probe(codec, rng):
    assert PositionProbe(6)(torch.randn(2, 16, 12, 8, generator=rng)).shape == (2, 6)
