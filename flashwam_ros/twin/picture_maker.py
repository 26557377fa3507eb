# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws shared snapshots of the twin with the robot's cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mujoco

from flashwam_ros.imaging import encode_jpeg
from flashwam_ros.robot.contract import Camera
from flashwam_ros.twin.model import build_model
from flashwam_ros.twin.rendering import Renderer
from flashwam_ros.twin.snapshot import Snapshot


class PictureMaker:
    """Keeps one renderer for the scene that is being drawn.

    Args:
        cameras: the cameras, all of one wire size; their keys name the model's cameras.
    """

    def __init__(self, cameras: Sequence[Camera]) -> None:
        self._cameras = tuple(cameras)
        self._task = ''
        self._renderer: Renderer | None = None

    def draw(self, snapshot: Snapshot, quality: int) -> Iterator[tuple[Camera, bytes]]:
        """Every camera's picture of one state, as JPEG."""
        if snapshot.task != self._task:
            self.load(snapshot.task)
        snapshot.apply(self._model, self._data)
        names = [camera.key for camera in self._cameras]
        pictures = self._renderer.render_each(self._data, names)
        for camera, rgb in zip(self._cameras, pictures, strict=True):
            yield camera, encode_jpeg(rgb, quality)

    def close(self) -> None:
        """Free the OpenGL objects."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def load(self, task: str) -> None:
        """Build the scene of a task."""
        # The old renderer goes first: two contexts in one process disturb each other.
        self.close()
        self._model = build_model(task).model
        self._data = mujoco.MjData(self._model)
        size = self._cameras[0]
        self._renderer = Renderer(self._model, size.wire_width, size.wire_height, 'policy')
        self._task = task
