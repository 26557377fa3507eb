# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One picture of a whole episode: each camera a row, time to the right."""

from __future__ import annotations

import cv2
import numpy as np

from flashwam_ros.episodes.reader import Episode
from flashwam_ros.imaging import ImageError

CELL = (200, 150)
COLUMNS = 8
HEAD_HEIGHT = 26
_INK, _PAPER = (20, 20, 20), 250


def contact_sheet(episode: Episode, columns: int = COLUMNS) -> np.ndarray:
    """Draw the sheet.

    Args:
        episode: to be shown.
        columns: pictures per camera, evenly spread over the episode.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    width, height = CELL
    cameras = list(episode.images.values())
    sheet = np.full((HEAD_HEIGHT + len(cameras) * height, columns * width, 3), _PAPER, np.uint8)
    first, last = episode.span_ns
    times = first + np.linspace(0, last - first, columns).astype(np.int64)
    for row, images in enumerate(cameras):
        for column, stamp in enumerate(times):
            top, left = HEAD_HEIGHT + row * height, column * width
            cell = sheet[top : top + height, left : left + width]
            cell[:] = _picture(images, int(stamp))
            _write(cell, images.camera.replace('_', ' '), (4, height - 6))
            _write(cell, f'{(stamp - first) * 1e-9:.1f} s', (4, 14))
    _write(sheet, _title(episode), (4, 18), 0.5, _INK)
    return sheet


def _picture(images, stamp_ns: int) -> np.ndarray:
    width, height = CELL
    blank = np.full((height, width, 3), 60, np.uint8)
    if not len(images):
        return blank
    try:
        rgb = images.rgb(images.nearest(stamp_ns)[0])
    except ImageError:
        return blank
    return cv2.resize(rgb, CELL, interpolation=cv2.INTER_AREA)


def _title(episode: Episode) -> str:
    sidecar = episode.sidecar
    parts = [sidecar.episode, sidecar.task, sidecar.outcome, sidecar.disposition]
    if sidecar.score is not None:
        parts.append(f'quality {sidecar.score:.0f}')
    return '   '.join(filter(None, parts))


def _write(picture, text, place, scale=0.42, ink=(255, 255, 255)) -> None:
    if ink != _INK:
        shifted = (place[0] + 1, place[1] + 1)
        cv2.putText(picture, text, shifted, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
