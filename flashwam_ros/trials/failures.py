# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Contact sheets: the last picture of every failed rollout, by arm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from flashwam_ros.imaging import ImageError, decode_jpeg, encode_jpeg
from flashwam_ros.trials.figures import Trial
from flashwam_ros.trials.rehearsal import LAST

CELL = (240, 180)
COLUMNS = 5
_CAPTION = 20
_FILM = 'rollout.mp4'


def contact_sheet(path: Path, arms: Sequence[str], trials: Sequence[Trial]) -> bool:
    """Write the sheet of one task: one row per arm, at most `COLUMNS` failures, by scene.

    Returns:
        False where there is nothing to show.
    """
    rows = []
    for arm in arms:
        failed = sorted((t for t in trials if t.arm == arm and not t.success),
                        key=lambda trial: trial.seed)
        shown = [(t, last_picture(Path(t.summary.get('folder', '')))) for t in failed]
        shown = [(trial, picture) for trial, picture in shown if picture is not None]
        if shown:
            rows.append(_row(shown[:COLUMNS], len(failed)))
    if rows:
        path.write_bytes(encode_jpeg(np.concatenate(rows)))
    return bool(rows)


def last_picture(folder: Path) -> np.ndarray | None:
    """Last picture of a rollout, (height, width, 3) uint8 RGB; None where there is none."""
    try:
        if (folder / LAST).is_file():
            return decode_jpeg((folder / LAST).read_bytes())
        if (folder / _FILM).is_file():
            return _last_frame(folder / _FILM)
    except (OSError, ImageError, ValueError):
        return None
    return None


def _last_frame(path: Path) -> np.ndarray | None:
    import av

    with av.open(str(path)) as container:
        if container.duration:
            container.seek(max(0, container.duration - av.time_base))
        frame = None
        for frame in container.decode(video=0):  # noqa: B007 (the last one is wanted)
            pass
    return None if frame is None else frame.to_ndarray(format='rgb24')


def _row(shown: Sequence[tuple[Trial, np.ndarray]], failed: int) -> np.ndarray:
    width, height = CELL
    row = np.full((height + 2 * _CAPTION, COLUMNS * width, 3), 250, np.uint8)
    _write(row, f'{shown[0][0].arm}: {failed} failed', 4, 15, 0.48)
    for column, (trial, picture) in enumerate(shown):
        left = column * width
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        row[_CAPTION : _CAPTION + size[1], left : left + size[0]] = small
        mark = '' if trial.valid else ' (not deployment-valid)'
        text = f'{trial.seed}: {trial.notes or trial.termination}{mark}'
        _write(row[:, left : left + width], text[:40], 4, height + _CAPTION + 14, 0.36)
    return row


def _write(picture: np.ndarray, text: str, x: int, y: int, scale: float) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1,
                cv2.LINE_AA)
