# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A film as an animated picture that a README can show, in real time."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
from PIL import Image


def frames(path: Path, rate_hz: float, width: int) -> Iterator[Image.Image]:
    """Frames of a film at about ``rate_hz``, scaled to ``width`` pixels.

    Raises:
        ValueError: it cannot be read as a film.
    """
    film = cv2.VideoCapture(str(path))
    own_hz = film.get(cv2.CAP_PROP_FPS)
    if not film.isOpened() or own_hz <= 0:
        raise ValueError(f'{path}: no film that OpenCV can read')
    number = taken = 0
    while True:
        read, image = film.read()
        if not read:
            return
        if number / own_hz >= taken / rate_hz:
            taken += 1
            height = round(image.shape[0] * width / image.shape[1])
            small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            yield Image.fromarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
        number += 1


def main() -> int:
    """Write the animated picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('film', type=Path)
    parser.add_argument('out', type=Path, help='.webp')
    parser.add_argument('--rate', type=float, default=8.0, help='frames per second')
    parser.add_argument('--width', type=int, default=640)
    parser.add_argument('--quality', type=int, default=55)
    options = parser.parse_args()
    pictures = list(frames(options.film, options.rate, options.width))
    pictures[0].save(options.out, save_all=True, append_images=pictures[1:], loop=0,
                     duration=round(1000 / options.rate), quality=options.quality, method=6)
    sys.stdout.write(f'{options.out}: {len(pictures)} frames, '
                     f'{options.out.stat().st_size / 1e6:.2f} MB\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
