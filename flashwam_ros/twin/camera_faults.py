# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What may be wrong with the cameras of a robot, as the twin's camera process plays it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2

from flashwam_ros.imaging import decode_jpeg, encode_jpeg

FAULTS = ('swap_wrists', 'swap_colors', 'no_left_wrist', 'slow', 'small', 'late_right_wrist')
LATE_NS = 400_000_000
_SLOW = 4
_SMALL = (160, 120)
_WRISTS = {'left_wrist': 'right_wrist', 'right_wrist': 'left_wrist'}


def to_bits(names: Sequence[str]) -> int:
    """The faults as one number.

    Raises:
        ValueError: an unknown name.
    """
    unknown = sorted(set(names) - set(FAULTS))
    if unknown:
        raise ValueError(f'no camera fault {unknown}: some of {", ".join(FAULTS)}')
    return sum(1 << FAULTS.index(name) for name in set(names))


def apply(
    bits: int, number: int, pictures: dict[str, bytes], stamp_ns: int
) -> Iterator[tuple[str, bytes, int]]:
    """Camera key, JPEG and capture stamp (ns) of what is sent instead.

    Args:
        bits: the faults.
        number: of this set of pictures.
        pictures: JPEG by camera key.
        stamp_ns: true capture stamp.
    """
    faults = {name for i, name in enumerate(FAULTS) if bits >> i & 1}
    if 'slow' in faults and number % _SLOW:
        return
    for key, jpeg in pictures.items():
        if f'no_{key}' in faults:
            continue
        if 'swap_wrists' in faults:
            jpeg = pictures[_WRISTS.get(key, key)]
        if 'swap_colors' in faults:
            jpeg = encode_jpeg(decode_jpeg(jpeg)[..., ::-1].copy())
        if 'small' in faults:
            jpeg = encode_jpeg(cv2.resize(decode_jpeg(jpeg), _SMALL))
        yield key, jpeg, stamp_ns - LATE_NS * (f'late_{key}' in faults)
