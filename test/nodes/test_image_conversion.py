# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages: round trips, encodings, padding, and equality with the real cv_bridge."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')

from flashwam_ros.nodes import image_conversion as ic  # noqa: E402

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)


def test_round_trip_keeps_every_pixel():
    msg = ic.rgb_to_message(RGB)
    assert (msg.height, msg.width, msg.encoding, msg.step) == (12, 17, 'rgb8', 51)
    np.testing.assert_array_equal(ic.message_to_rgb(msg), RGB)


def test_a_view_that_is_not_contiguous():
    np.testing.assert_array_equal(ic.message_to_rgb(ic.rgb_to_message(RGB[:, ::-1])), RGB[:, ::-1])


def test_bgr_and_mono_become_rgb():
    msg = ic.numpy_to_message(RGB[:, :, ::-1])
    msg.encoding = 'bgr8'
    np.testing.assert_array_equal(ic.message_to_rgb(msg), RGB)
    msg = ic.Image(height=12, width=17, encoding='mono8', step=17, data=RGB[:, :, 0].tobytes())
    np.testing.assert_array_equal(ic.message_to_rgb(msg), np.repeat(RGB[:, :, :1], 3, 2))


def test_padded_rows():
    padded = np.zeros((12, 60), np.uint8)
    padded[:, :51] = RGB.reshape(12, 51)
    msg = ic.Image(height=12, width=17, encoding='rgb8', step=60, data=padded.tobytes())
    np.testing.assert_array_equal(ic.message_to_rgb(msg), RGB)


def test_bad_messages_and_arrays():
    with pytest.raises(ValueError, match="encoding '16UC1'"):
        ic.message_to_rgb(ic.Image(height=1, width=1, encoding='16UC1', step=2, data=b'ab'))
    with pytest.raises(ValueError, match='has only 3 bytes'):
        ic.message_to_rgb(ic.Image(height=2, width=1, encoding='rgb8', step=3, data=b'abc'))
    with pytest.raises(ValueError, match='need'):
        ic.rgb_to_message(RGB.astype(np.float32))


@pytest.mark.skipif(ic._bridge is None, reason='no real cv_bridge here')
def test_same_as_cv_bridge():
    for encoding in ('rgb8', 'bgr8'):
        msg = ic.numpy_to_message(RGB)
        msg.encoding = encoding
        np.testing.assert_array_equal(ic.message_to_numpy(msg), ic.message_to_rgb(msg))
    ours, theirs = ic.numpy_to_message(RGB), ic.rgb_to_message(RGB)
    assert (bytes(ours.data), ours.step, ours.encoding) == (
        bytes(theirs.data),
        theirs.step,
        theirs.encoding,
    )
