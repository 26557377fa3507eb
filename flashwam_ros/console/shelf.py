# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The recorded episodes as the page shows them: rows, labels, pictures."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flashwam_ros.console.settings import ConsoleError
from flashwam_ros.episodes import messages as decode
from flashwam_ros.episodes.contact_sheet import contact_sheet
from flashwam_ros.episodes.library import Entry, list_episodes
from flashwam_ros.episodes.mcap_scan import McapDamagedError, messages
from flashwam_ros.episodes.reader import EpisodeError, read_episode
from flashwam_ros.episodes.schemas import image_topic, topic_key
from flashwam_ros.episodes.sidecar import (
    PART_SUFFIX,
    SidecarError,
    change_sidecar,
    sidecar_path,
)
from flashwam_ros.imaging import ImageError, decode_jpeg, encode_jpeg
from flashwam_ros.robot.contract import RobotContract

SHOWN = 60
_MOMENTS = (0.02, 0.5, 0.98)
_CELL = (112, 84)
_KEPT = 200
_QUALITY = 80
_BLANK = 60


class Shelf:
    """Episodes below one folder.

    Args:
        folder: of the recordings; it may not exist yet.
        contract: names the cameras.
    """

    def __init__(self, folder: Path, contract: RobotContract):
        self.folder = folder
        self._head = image_topic(contract.cameras[0].topic)
        self._lock = threading.Lock()
        self._pictures: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def rows(self) -> dict[str, Any]:
        """The newest episodes first, and how many there are in all."""
        entries = list_episodes(self.folder) if self.folder.is_dir() else ()
        return {'total': len(entries), 'episodes': [_row(e) for e in entries[: -SHOWN - 1 : -1]]}

    def label(self, name: str, label: str, by: str) -> dict[str, Any]:
        """Put a label on an episode, or take the last one back ('undo'); its new row.

        Raises:
            ConsoleError: no such episode, unknown label, nothing to undo, or it cannot be written.
        """
        path = sidecar_path(self._find(name).path)
        try:
            change_sidecar(path, lambda sidecar: sidecar.labelled(label, by))
        except (SidecarError, OSError) as error:
            raise ConsoleError(str(error)) from error
        return _row(self._find(name))

    def thumbnail(self, name: str) -> bytes:
        """JPEG: the head camera at the beginning, in the middle and at the end.

        Raises:
            ConsoleError: no such episode, or its file cannot be read.
        """
        return self._kept('thumbnail', name, self._draw_thumbnail)

    def sheet(self, name: str) -> bytes:
        """JPEG: the contact sheet with all cameras.

        Raises:
            ConsoleError: no such episode, or its file cannot be read.
        """
        return self._kept('sheet', name, lambda path: contact_sheet(read_episode(path)))

    def _find(self, name: str) -> Entry:
        entries = list_episodes(self.folder) if self.folder.is_dir() else ()
        for entry in entries:
            if entry.name == name:
                return entry
        raise ConsoleError(f'there is no episode {name!r:.80} in {self.folder}')

    def _kept(self, kind: str, name: str, draw) -> bytes:
        """One picture at a time, each once per state of its file: drawing must leave room."""
        with self._lock:
            path = self._find(name).path
            if path.name.endswith(PART_SUFFIX):
                raise ConsoleError(f'{name} is not complete yet')
            key = (f'{kind} {path}', path.stat().st_mtime_ns)
            if key not in self._pictures:
                try:
                    self._pictures[key] = encode_jpeg(draw(path), _QUALITY)
                except (McapDamagedError, EpisodeError, decode.MessageError, OSError) as error:
                    raise ConsoleError(f'{name}: {error}') from error
                while len(self._pictures) > _KEPT:
                    self._pictures.popitem(last=False)
            return self._pictures[key]

    def _draw_thumbnail(self, path: Path) -> np.ndarray:
        frames = [raw.data for raw in messages(path) if topic_key(raw.topic, (self._head,))]
        width, height = _CELL
        strip = np.full((height, width * len(_MOMENTS), 3), _BLANK, np.uint8)
        for column, part in enumerate(_MOMENTS if frames else ()):
            data = frames[round(part * (len(frames) - 1))]
            try:
                rgb = decode_jpeg(bytes(decode.image_jpeg(data)))
            except ImageError:
                continue
            small = cv2.resize(rgb, _CELL, interpolation=cv2.INTER_AREA)
            strip[:, column * width : (column + 1) * width] = small
        return strip


def _row(entry: Entry) -> dict[str, Any]:
    sidecar = entry.sidecar
    quality = sidecar.quality or {}
    verdict = sidecar.verdict or {}
    began = datetime.fromtimestamp(sidecar.began_ns * 1e-9).astimezone()
    return {
        'name': entry.name,
        'task': sidecar.task,
        'kind': sidecar.kind,
        'began': began.isoformat(timespec='seconds') if sidecar.began_ns else '',
        'seconds': round(sidecar.duration_s, 1),
        'state': entry.state,
        'score': sidecar.score,
        'level': quality.get('level', ''),
        'findings': [f'{f["name"]} ({f["stream"]}): {f["text"]}'
                     for f in quality.get('findings', ())],
        'outcome': sidecar.outcome,
        'disposition': sidecar.disposition,
        'reason': verdict.get('reason', '') or sidecar.end_reason,
        'picture': not entry.path.name.endswith(PART_SUFFIX),
    }  # fmt: skip
