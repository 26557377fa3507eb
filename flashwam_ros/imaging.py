# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""JPEG and resize for camera images. The one place that knows about colour order.

Inside this package every image is RGB. OpenCV wants BGR: the swap happens here and nowhere
else. On the wire a JPEG is a standard JPEG: any decoder shows the right colours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from flashwam_ros.robot.contract import Camera


class ImageError(ValueError):
    """An image or JPEG that cannot be used; the message says what it is."""


def _check_rgb(rgb: np.ndarray) -> None:
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        raise ImageError(f'image must be a uint8 array, got {getattr(rgb, "dtype", type(rgb))}')
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ImageError(f'image must have shape (height, width, 3), got {rgb.shape}')


def encode_jpeg(rgb: np.ndarray, quality: int = 90) -> bytes:
    """Encodes an RGB image as a standard JPEG.

    Args:
        rgb: (height, width, 3) uint8, RGB.
        quality: JPEG quality, 1..100.

    Raises:
        ImageError: wrong dtype, shape or quality.
    """
    _check_rgb(rgb)
    if not 1 <= quality <= 100:
        raise ImageError(f'JPEG quality must be 1..100, got {quality}')
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    if not done:
        raise ImageError(f'OpenCV could not encode an image of shape {rgb.shape}')
    return data.tobytes()


def encode_png(rgb: np.ndarray) -> bytes:
    """Encodes an RGB image, (height, width, 3) uint8, as a PNG.

    Raises:
        ImageError: wrong dtype or shape.
    """
    _check_rgb(rgb)
    done, data = cv2.imencode('.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise ImageError(f'OpenCV could not encode an image of shape {rgb.shape}')
    return data.tobytes()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decodes a JPEG to (height, width, 3) uint8 RGB (grey ones become RGB too).

    Raises:
        ImageError: the bytes are not a JPEG, or are cut off before its end marker.
    """
    if len(data) < 4 or data[:2] != b'\xff\xd8':
        raise ImageError(f'not a JPEG: {len(data)} bytes beginning {bytes(data[:4])!r}')
    if b'\xff\xd9' not in data[-64:]:
        raise ImageError(f'JPEG of {len(data)} bytes is cut off: no end marker')
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ImageError(f'JPEG of {len(data)} bytes cannot be decoded')
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def to_policy_size(rgb: np.ndarray, camera: Camera) -> np.ndarray:
    """Resizes a camera image to what the policy sees, by area averaging.

    The whole picture is kept: 4:3 wire images become the square policy size by squeezing,
    so no pixel column is thrown away and training and robot agree.

    Args:
        rgb: (height, width, 3) uint8, RGB.
        camera: gives `width` and `height` of the policy image.

    Returns:
        (camera.height, camera.width, 3) uint8, RGB, contiguous.

    Raises:
        ImageError: wrong dtype or shape.
    """
    _check_rgb(rgb)
    if rgb.shape[:2] == (camera.height, camera.width):
        return np.ascontiguousarray(rgb)
    return cv2.resize(rgb, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
