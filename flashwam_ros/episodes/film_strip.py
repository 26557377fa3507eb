# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small pictures of one camera for the film of a rollout, within bounded memory and time."""

from __future__ import annotations

import cv2
import numpy as np

from flashwam_ros.imaging import encode_jpeg

SIDE_SIZE = (214, 160)
"""(width, height) of a camera's picture in the film."""
PERIOD_NS = 90_000_000
KEPT = 600


class FilmStrip:
    """Keeps a picture every 90 ms; when it is full, every other one goes and the period doubles.

    So a strip covers the whole rollout with 300 to 600 pictures, however long that is.

    Args:
        kept: most pictures kept, at least 2.

    Attributes:
        frames: (stamp in ns, JPEG) in the order of their stamps.
    """

    def __init__(self, kept: int = KEPT):
        self._kept, self._period_ns = kept, PERIOD_NS
        self.frames: list[tuple[int, bytes]] = []

    def wants(self, stamp_ns: int) -> bool:
        """Whether a picture taken then would be kept; to be asked before it is decoded."""
        return not self.frames or stamp_ns - self.frames[-1][0] >= self._period_ns

    def add(self, stamp_ns: int, rgb: np.ndarray) -> None:
        """Keep a picture, (height, width, 3) uint8 RGB.

        Raises:
            ImageError: wrong dtype or shape.
        """
        # Linear: averaging over areas costs six times as much and shows no difference here.
        small = cv2.resize(rgb, SIDE_SIZE, interpolation=cv2.INTER_LINEAR)
        self.frames.append((stamp_ns, encode_jpeg(small)))
        if len(self.frames) >= self._kept:
            del self.frames[1::2]
            self._period_ns *= 2
