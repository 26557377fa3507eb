# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checksum of Unitree low-level messages.

CRC-32/MPEG-2 (polynomial 0x04C11DB7, initial value 0xFFFFFFFF, no reflection, no final xor) over
the C struct image of the message taken as little-endian 32-bit words, each fed most significant
bit first. Source: vendor SDK checksum helper; struct layouts as in its pack formats.
"""

import zlib

import numpy as np

_REVERSED_BITS = bytes(int(f'{value:08b}'[::-1], 2) for value in range(256))


def crc32_mpeg2_words(image: bytes | bytearray | np.ndarray) -> int:
    """Checksum of a struct image.

    Args:
        image: C struct image without its final crc word; the length is a multiple of 4 bytes.

    Returns:
        The checksum as an unsigned 32-bit integer.

    Raises:
        ValueError: if the length is not a multiple of 4 bytes.
    """
    if len(image) % 4:
        raise ValueError(f'CRC image has {len(image)} bytes: give a multiple of 4')
    words = np.frombuffer(image, dtype='<u4')
    # zlib has the reflected polynomial: reflect the input bytes and the result.
    reflected = words.byteswap().tobytes().translate(_REVERSED_BITS)
    inverted = zlib.crc32(reflected) ^ 0xFFFFFFFF
    return int.from_bytes(inverted.to_bytes(4, 'little').translate(_REVERSED_BITS), 'big')
