# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashwam_ros.imaging import ImageError, decode_jpeg, encode_jpeg, to_policy_size


@dataclasses.dataclass(frozen=True)
class Size:
    width: int
    height: int


def flat(colour, height=48, width=64):
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize('colour', [(220, 20, 30), (20, 200, 40), (30, 40, 230)])
def test_colours_survive_the_round_trip(colour):
    back = decode_jpeg(encode_jpeg(flat(colour)))
    assert back.shape == (48, 64, 3)
    assert np.abs(back.astype(int) - colour).max() <= 4


def test_wire_is_a_standard_jpeg():
    """A decoder that is not ours must see red where we put red."""
    image = pytest.importorskip('PIL.Image')
    data = encode_jpeg(flat((220, 20, 30)))
    other = np.asarray(image.open(io.BytesIO(data)).convert('RGB'))
    assert np.abs(other.astype(int) - (220, 20, 30)).max() <= 4


def test_grey_jpeg_becomes_rgb():
    image = pytest.importorskip('PIL.Image')
    stream = io.BytesIO()
    image.fromarray(np.full((16, 16), 90, np.uint8)).save(stream, 'JPEG')
    back = decode_jpeg(stream.getvalue())
    assert back.shape == (16, 16, 3)
    assert np.abs(back.astype(int) - 90).max() <= 2


def test_policy_size_averages_areas():
    checker = np.zeros((240, 320, 3), np.uint8)
    checker[::2, ::2] = checker[1::2, 1::2] = 200
    small = to_policy_size(checker, Size(64, 64))
    assert small.shape == (64, 64, 3)
    assert abs(float(small.mean()) - 100.0) < 2.0


def test_policy_size_keeps_left_and_up():
    rgb = flat((0, 0, 0), 240, 320)
    rgb[:120, :160] = (250, 10, 20)
    small = to_policy_size(rgb, Size(128, 128))
    assert small[10, 10, 0] > 240 and small[100, 10, 0] < 10 and small[10, 100, 0] < 10


def test_policy_size_leaves_an_image_of_that_size_alone():
    rgb = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    assert np.array_equal(to_policy_size(rgb, Size(64, 64)), rgb)


@pytest.mark.parametrize('bad', [
    np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
    np.zeros((0, 4, 3), np.uint8), None,
])
def test_bad_images_are_refused(bad):
    with pytest.raises(ImageError):
        encode_jpeg(bad)
    with pytest.raises(ImageError):
        to_policy_size(bad, Size(8, 8))


@pytest.mark.parametrize('quality', [0, 101, -3])
def test_bad_quality_is_refused(quality):
    with pytest.raises(ImageError):
        encode_jpeg(flat((1, 2, 3)), quality)


def test_cut_off_jpeg_is_refused():
    rng = np.random.default_rng(1)
    data = encode_jpeg(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(ImageError, match='cut off'):
        decode_jpeg(data[:len(data) // 2])


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_noise_never_crashes_the_decoder(data):
    with pytest.raises(ImageError):
        decode_jpeg(data)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=200))
def test_noise_behind_a_jpeg_header_gives_an_image_or_a_named_error(data):
    try:
        rgb = decode_jpeg(b'\xff\xd8' + data + b'\xff\xd9')
    except ImageError:
        return
    assert rgb.ndim == 3 and rgb.dtype == np.uint8
