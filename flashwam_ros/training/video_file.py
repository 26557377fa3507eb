# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a video file by their place in time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np

SEEK_AHEAD_FRAMES = 40
"""Frames that are decoded and thrown away rather than sought over."""


class VideoError(ValueError):
    """A video that cannot be read or lacks a frame; the file is named."""


@functools.lru_cache(maxsize=64)
def frame_times(path: Path) -> np.ndarray:
    """Presentation times of all frames, (N,) s, ascending; nothing is decoded.

    Raises:
        VideoError: missing, damaged or without a video stream.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            ticks = [p.pts for p in container.demux(stream) if p.pts is not None and p.size]
            times = np.sort(np.array(ticks, np.float64)) * float(stream.time_base)
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise VideoError(f'{path}: no readable video: {error}') from error
    times.setflags(write=False)
    return times


def read_frames(path: Path, times_s: Sequence[float], tolerance_s: float,
                convert: Callable[[np.ndarray], np.ndarray] | None = None) -> list[np.ndarray]:
    """The frames shown at the given ascending times, as (h, w, 3) uint8 RGB.

    Args:
        path: video file.
        times_s: ascending presentation times in s.
        tolerance_s: how far a frame may be from its time.
        convert: applied to every frame that is kept (a resize, so that memory stays small).

    Raises:
        VideoError: the file is damaged, or a time has no frame.
    """
    places = _places(path, times_s, tolerance_s)
    wanted = frame_times(path)[places]
    out: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = 'AUTO'
            decoded, last = iter(()), -SEEK_AHEAD_FRAMES - 1
            for place, time in zip(places, wanted, strict=True):
                if place - last > SEEK_AHEAD_FRAMES:
                    container.seek(round(float(time) / stream.time_base), stream=stream)
                    decoded = container.decode(stream)
                rgb = _next_at(decoded, float(time), stream.time_base)
                if rgb is None:
                    raise VideoError(f'{path}: the frame at {time:.3f} s cannot be decoded')
                out.append(rgb if convert is None else convert(rgb))
                last = place
    except (OSError, av.error.FFmpegError) as error:
        raise VideoError(f'{path}: damaged: {error}') from error
    return out


def _places(path: Path, times_s: Sequence[float], tolerance_s: float) -> np.ndarray:
    """Index of the frame nearest to each time."""
    shown, wanted = frame_times(path), np.asarray(times_s, np.float64)
    if not len(shown):
        raise VideoError(f'{path}: holds no frame')
    right = np.clip(np.searchsorted(shown, wanted), 1, max(len(shown) - 1, 1))
    right = np.minimum(right, len(shown) - 1)
    left = np.maximum(right - 1, 0)
    places = np.where(np.abs(shown[left] - wanted) <= np.abs(shown[right] - wanted), left, right)
    off = np.abs(shown[places] - wanted) > tolerance_s
    if off.any():
        first = int(np.argmax(off))
        raise VideoError(f'{path}: no frame within {1000 * tolerance_s:.1f} ms of '
                         f'{wanted[first]:.3f} s; it ends at {shown[-1]:.3f} s')
    return places


def _next_at(decoded, time_s: float, time_base) -> np.ndarray | None:
    """Decode up to the frame with this presentation time."""
    for frame in decoded:
        if frame.pts is not None and abs(float(frame.pts * time_base) - time_s) < 1e-4:
            return frame.to_ndarray(format='rgb24')
    return None
