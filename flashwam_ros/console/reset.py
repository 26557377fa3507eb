# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the scene is put in order before an episode: words, and a picture to lay over the camera.

In the twin the picture is drawn from the scene of a seed. On a robot it is what the head camera
saw when the operator kept it.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from flashwam_ros.console.settings import ConsoleError
from flashwam_ros.episodes.sidecar import write_atomically
from flashwam_ros.resources import share_path

FOLDER = 'reset_pictures'
_DRAW_S = 60.0
_KEPT = 64


def instructions(task: str) -> list[str]:
    """The steps for a task, from `config/reset.yaml`.

    Raises:
        ConsoleError: the file does not know the task.
    """
    steps = yaml.safe_load(share_path('config', 'reset.yaml').read_text(encoding='utf-8'))
    if task not in steps:
        raise ConsoleError(f'config/reset.yaml says nothing about the task {task!r}')
    return [str(step) for step in steps[task]]


def draw_in_twin(task: str, seed: int) -> bytes:
    """JPEG of what the head camera sees after a reset by this seed.

    A process of its own: an OpenGL context belongs to one thread of a process.

    Raises:
        ConsoleError: it cannot be drawn here.
    """
    command = [sys.executable, '-m', 'flashwam_ros.twin.reset_picture', task, str(seed)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_DRAW_S, check=False)
    except subprocess.TimeoutExpired:
        raise ConsoleError(f'the picture was not drawn within {_DRAW_S:.0f} s') from None
    if done.returncode:
        why = done.stderr.decode(errors='replace').strip().splitlines()[-1:]
        raise ConsoleError(f'the picture could not be drawn: {" ".join(why)}')
    return done.stdout


class ResetPictures:
    """Pictures of scenes in order.

    Args:
        task: of the scene.
        folder: of the recordings; kept pictures lie in a folder of their own in it.
        draw: draws a seed's picture; None on a robot, where pictures are kept.
    """

    def __init__(self, task: str, folder: Path, draw: Callable[[str, int], bytes] | None):
        self._task, self._path = task, folder / FOLDER / f'{task}.jpg'
        self._draw = None if draw is None else functools.lru_cache(_KEPT)(draw)

    @property
    def seeded(self) -> bool:
        """Whether each seed has a picture of its own."""
        return self._draw is not None

    def picture(self, seed: int) -> bytes:
        """The JPEG; on a robot the seed has no meaning.

        Raises:
            ConsoleError: there is none.
        """
        if self._draw is not None:
            return self._draw(self._task, seed)
        if not self._path.is_file():
            raise ConsoleError('no reset picture has been kept: put the scene in order and keep '
                               'the live picture')
        return self._path.read_bytes()

    def keep(self, jpeg: bytes) -> None:
        """Make this picture the one to be matched.

        Raises:
            ConsoleError: in the twin, where the seed makes it.
        """
        if self.seeded:
            raise ConsoleError('in the twin the seed makes the reset picture')
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, jpeg)
