# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pick the frames that a policy's history asks for out of live camera streams, by stamp."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flashwam_ros.policy.protocol import HistoryError, KeyFrame, StreamError

MARGIN_NS = 5_000_000
"""Slack beyond half a frame period within which a frame still counts as the one that was due."""

FIRST_PATIENCE_NS = 5_000_000_000
"""How long the first complete set of frames may take: streams connect one after the other."""


@dataclass
class _Stream:
    stamps_ns: list[int] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)


def _milliseconds(duration_ns: int) -> str:
    return f'{duration_ns / 1e6:+.1f} ms'


class KeyFrameBuffer:
    """Recent frames of every camera and the rule that picks one per due time.

    The nearest frame wins, and only within half a frame period + 5 ms of the due time.

    Args:
        cameras: camera keys, all required for a key frame.
        frame_period_s: nominal time between two frames of a camera, s.
        stale_after_s: age beyond which a stream counts as dead, s.
        capacity: frames kept per camera.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        frame_period_s: float = 0.05,
        stale_after_s: float = 0.5,
        capacity: int = 96,
    ):
        if not frame_period_s > 0 or not stale_after_s > 0:
            raise ValueError('frame_period_s and stale_after_s must be positive')
        self.cameras = tuple(cameras)
        self.half_period_ns = int(frame_period_s * 5e8)
        self.tolerance_ns = self.half_period_ns + MARGIN_NS
        self.stale_after_ns = int(stale_after_s * 1e9)
        self._capacity = capacity
        self._streams = {key: _Stream() for key in self.cameras}

    def add(self, camera: str, image: np.ndarray, stamp_ns: int) -> None:
        """Store one frame; a frame that is not newer than the stream's newest is dropped.

        Args:
            camera: camera key.
            image: (height, width, 3) uint8 RGB at policy size; not copied.
            stamp_ns: capture stamp, ns.

        Raises:
            StreamError: a camera that the contract does not know.
        """
        stream = self._streams.get(camera)
        if stream is None:
            raise StreamError(
                f'camera "{camera}" is not in the contract, which has {self.cameras}'
            )
        if stream.stamps_ns and stamp_ns <= stream.stamps_ns[-1]:
            return
        stream.stamps_ns.append(int(stamp_ns))
        stream.images.append(image)
        if len(stream.stamps_ns) > self._capacity:
            del stream.stamps_ns[0], stream.images[0]

    def newest_ns(self, camera: str) -> int | None:
        """Capture stamp of the newest frame of a camera, or None before the first one."""
        stamps = self._streams[camera].stamps_ns
        return stamps[-1] if stamps else None

    def check_fresh(self, now_ns: int) -> None:
        """Refuse to go on with a dead camera.

        Raises:
            StreamError: names every camera without frames or whose newest frame is too old.
        """
        faults = []
        for camera in self.cameras:
            newest = self.newest_ns(camera)
            if newest is None:
                faults.append(f"camera '{camera}' has sent no frame")
            elif now_ns - newest > self.stale_after_ns:
                faults.append(
                    f"camera '{camera}' is stale: newest frame {(now_ns - newest) / 1e9:.2f} s "
                    f'old, limit {self.stale_after_ns / 1e9:.2f} s'
                )
        if faults:
            raise StreamError('; '.join(faults) + '. Check the camera server and its node')

    def pick(self, due_ns: int, now_ns: int) -> KeyFrame | None:
        """Return the key frame of one due time, or None while it may still arrive.

        A camera's choice is settled once a frame at or after the due time has arrived, or once its
        newest frame is so near before it that no later one can be nearer.

        Raises:
            HistoryError: a camera has no frame within the tolerance and none can come any more.
        """
        picked = {}
        for camera in self.cameras:
            index = self._nearest(camera, due_ns, now_ns)
            if index is None:
                return None
            picked[camera] = index
        return KeyFrame(
            images={key: self._streams[key].images[i] for key, i in picked.items()},
            stamps_ns={key: self._streams[key].stamps_ns[i] for key, i in picked.items()},
            due_ns=int(due_ns),
        )

    def pick_first(self, start_ns: int, now_ns: int) -> KeyFrame | None:
        """Return the newest complete set of a scene at rest that is not older than `start_ns`.

        Before the first motion the history asks for no exact time: a dropped frame does no harm.

        Raises:
            StreamError: a camera sends nothing.
        """
        newest = [self.newest_ns(camera) for camera in self.cameras]
        if None not in newest and min(newest) >= start_ns - self.tolerance_ns:
            due_ns = min(newest)
            if max(self._distance(camera, due_ns) for camera in self.cameras) <= self.tolerance_ns:
                return self.pick(due_ns, now_ns)
        if now_ns - start_ns > FIRST_PATIENCE_NS:
            self.check_fresh(now_ns)
        return None

    def _distance(self, camera: str, due_ns: int) -> int:
        return min(abs(stamp - due_ns) for stamp in self._streams[camera].stamps_ns)

    def _nearest(self, camera: str, due_ns: int, now_ns: int) -> int | None:
        stamps = self._streams[camera].stamps_ns
        after = bisect_left(stamps, due_ns)
        if after == len(stamps):
            near_enough = bool(stamps) and due_ns - stamps[-1] <= self.half_period_ns
            if not near_enough:
                if now_ns - due_ns <= self.stale_after_ns:
                    return None
                self._fail(camera, due_ns)
        candidates = [i for i in (after - 1, after) if 0 <= i < len(stamps)]
        best = min(candidates, key=lambda i: abs(stamps[i] - due_ns))
        if abs(stamps[best] - due_ns) > self.tolerance_ns:
            self._fail(camera, due_ns)
        return best

    def _fail(self, camera: str, due_ns: int) -> None:
        stamps = self._streams[camera].stamps_ns
        if not stamps:
            nearest = 'it has sent no frame'
        else:
            stamp = min(stamps, key=lambda value: abs(value - due_ns))
            nearest = f'nearest stamp {stamp} ns is {_milliseconds(stamp - due_ns)} off'
        raise HistoryError(
            f"no key frame from camera '{camera}' for due time {due_ns} ns: {nearest}, "
            f'tolerance {self.tolerance_ns / 1e6:.1f} ms. The camera drops frames or its clock is '
            'off'
        )
