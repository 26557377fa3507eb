# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""RGB arrays as image messages and back.

Uses `cv_bridge` where ROS provides the real one (with its compiled part) and numpy views
elsewhere; both
give the same results.
"""

from __future__ import annotations

from array import array

import numpy as np
from sensor_msgs.msg import Image

try:
    # The package of the same name on PyPI lacks the compiled part and does not work with numpy 2.
    import cv_bridge.boost.cv_bridge_boost  # noqa: F401
    from cv_bridge import CvBridge

    _bridge = CvBridge()
except ImportError:
    _bridge = None

_CHANNELS = {'rgb8': 3, 'bgr8': 3, 'mono8': 1}


def rgb_to_message(rgb: np.ndarray) -> Image:
    """An `rgb8` message with the pixels of an array; stamp and frame are left to the caller.

    Args:
        rgb: (height, width, 3) uint8 RGB.

    Raises:
        ValueError: wrong dtype or shape.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f'need (height, width, 3) uint8, got {rgb.shape} {rgb.dtype}')
    if _bridge is not None:
        return _bridge.cv2_to_imgmsg(np.ascontiguousarray(rgb), 'rgb8')
    return numpy_to_message(rgb)


def message_to_rgb(msg: Image) -> np.ndarray:
    """The pixels of an `rgb8`, `bgr8` or `mono8` message as (height, width, 3) uint8 RGB.

    Raises:
        ValueError: another encoding, or too little data for the stated size.
    """
    if msg.encoding not in _CHANNELS:
        raise ValueError(f"image encoding '{msg.encoding}' is not one of {sorted(_CHANNELS)}")
    channels = _CHANNELS[msg.encoding]
    if msg.step < msg.width * channels or len(msg.data) < msg.height * msg.step:
        raise ValueError(
            f'image of {msg.width}x{msg.height} {msg.encoding}, step {msg.step}, has only '
            f'{len(msg.data)} bytes'
        )
    if _bridge is not None:
        return _bridge.imgmsg_to_cv2(msg, 'rgb8')
    return message_to_numpy(msg)


def numpy_to_message(rgb: np.ndarray) -> Image:
    """`rgb_to_message` without `cv_bridge`."""
    msg = Image()
    msg.height, msg.width = rgb.shape[:2]
    msg.encoding = 'rgb8'
    msg.is_bigendian = 0
    msg.step = msg.width * 3
    # An array.array is taken over as it is; a numpy array would be converted number by number.
    msg.data = array('B', np.ascontiguousarray(rgb).tobytes())
    return msg


def message_to_numpy(msg: Image) -> np.ndarray:
    """`message_to_rgb` without `cv_bridge`."""
    channels = _CHANNELS[msg.encoding]
    rows = np.frombuffer(msg.data, np.uint8, msg.height * msg.step).reshape(msg.height, msg.step)
    pixels = rows[:, : msg.width * channels].reshape(msg.height, msg.width, channels)
    if msg.encoding == 'rgb8':
        return pixels
    if msg.encoding == 'bgr8':
        return np.ascontiguousarray(pixels[:, :, ::-1])
    return np.repeat(pixels, 3, axis=2)
