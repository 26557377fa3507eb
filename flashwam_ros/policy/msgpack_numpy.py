# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages of the policy server: msgpack maps with numpy arrays in them.

The format of openpi and LingBot-VA: an array is a map with the *bytes* keys `__ndarray__`, `data`
(raw, C order), `dtype` (numpy's string) and `shape`; a numpy scalar one with `__npgeneric__`.
Nothing is unpickled, and an array must be exactly as long as its shape says.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

LIMIT_BYTES = 64 * 2**20
"""Longest message that is sent or taken: about 800 key frames at policy size."""

_KINDS = 'biuf'
_ARRAY, _SCALAR = b'__ndarray__', b'__npgeneric__'
_DIMENSIONS = 8


class MessageError(ValueError):
    """A message that cannot be packed or is not what it claims to be."""


def pack(message: Any) -> bytes:
    """Plain data with arrays and numpy scalars as msgpack.

    Raises:
        MessageError: an array of objects, text, times or complex numbers, or some other type.
    """
    try:
        return msgpack.packb(message, default=_encode)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f'cannot be sent: {error}') from error


def unpack(data: bytes) -> Any:
    """Inverse of `pack`; arrays are read-only views of the message.

    Raises:
        MessageError: not msgpack, cut off, or an array that is not what it says.
    """
    try:
        return msgpack.unpackb(data, object_hook=_decode)
    except MessageError:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise MessageError(f'not a msgpack message ({type(error).__name__}: {error})') from error


def _encode(value: Any) -> dict:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f'{type(value).__name__} is no plain data')
    if value.dtype.kind not in _KINDS:
        raise TypeError(f'an array of {value.dtype} cannot be sent')
    if isinstance(value, np.generic):
        return {_SCALAR: True, b'data': value.item(), b'dtype': value.dtype.str}
    return {_ARRAY: True, b'data': value.tobytes(), b'dtype': value.dtype.str,
            b'shape': list(value.shape)}  # fmt: skip


def _decode(values: dict) -> Any:
    if _ARRAY in values:
        return _array(values)
    if _SCALAR in values:
        return _dtype(values).type(values.get(b'data'))
    return values


def _array(values: dict) -> np.ndarray:
    dtype, shape, data = _dtype(values), values.get(b'shape'), values.get(b'data')
    if (
        not isinstance(shape, list)
        or len(shape) > _DIMENSIONS
        or not all(isinstance(size, int) and size >= 0 for size in shape)
    ):
        raise MessageError(f'an array of shape {shape!r}')
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        held = len(data) if isinstance(data, bytes) else type(data).__name__
        raise MessageError(f'an array of {dtype} {shape} with {held} bytes')
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(values: dict) -> np.dtype:
    try:
        dtype = np.dtype(values.get(b'dtype') or 'O')
    except TypeError as error:
        raise MessageError(f'an array of {values.get(b"dtype")!r}') from error
    if dtype.kind not in _KINDS:
        raise MessageError(f'an array of {dtype} is not taken')
    return dtype
