# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read a LeRobot dataset, v2.1 or v3.0, without the ``lerobot`` package."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.video_file import read_frames


class LeRobotError(ValueError):
    """A dataset whose description cannot be read; file and entry are named."""


@dataclass(frozen=True)
class Segment:
    """One training sample of an episode: frames ``start`` to ``end`` (exclusive) and its text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class VideoSpan:
    """Where an episode's frames lie: frame ``k`` is shown at ``start_s + k / fps`` of ``path``."""

    path: Path
    start_s: float


@dataclass(frozen=True)
class EpisodeMeta:
    """What a dataset says about one episode.

    Attributes:
        index: episode index.
        length: frames, as stated.
        tasks: instructions.
        segments: training samples (LingBot-VA's ``action_config``); the whole episode when the
            dataset names none.
        data: parquet file with the episode's rows (and, in v3.0, those of others).
        videos: video feature -> where its frames lie.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    segments: tuple[Segment, ...]
    data: Path
    videos: dict[str, VideoSpan]

    @property
    def task(self) -> str:
        """First instruction."""
        return self.tasks[0] if self.tasks else ''


@dataclass(frozen=True)
class LeRobotSet:
    """A dataset's description.

    Attributes:
        root: folder.
        version: 'v2.1' or 'v3.0'.
        fps: frames and rows per s.
        features: ``info.json``'s features.
        episodes: in order of their index.
    """

    root: Path
    version: str
    fps: float
    features: dict[str, dict]
    episodes: tuple[EpisodeMeta, ...]

    @property
    def video_keys(self) -> tuple[str, ...]:
        """Features that are videos of colour images."""
        return tuple(key for key, entry in self.features.items() if entry['dtype'] == 'video'
                     and not (entry.get('info') or {}).get('video.is_depth_map'))

    def names(self, feature: str) -> tuple[str, ...]:
        """Channel names of a vector feature; LeRobotError when it does not exist."""
        if feature not in self.features:
            raise LeRobotError(f'{self.root / layout.INFO}: no feature {feature!r}; there are '
                               f'{sorted(self.features)}')
        return layout.flat_names(self.features[feature].get('names'))

    def table(self, episode: EpisodeMeta, columns: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns of an episode's rows: name -> (N,) or (N, D).

        Raises:
            LeRobotError: the file is missing or damaged, lacks a column or has no row of the
                episode, or a vector's width changes from row to row.
        """
        try:
            schema = pq.read_schema(episode.data)
            lacking = [name for name in columns if name not in schema.names]
            if lacking:
                raise LeRobotError(f'{episode.data}: no column {lacking}; there are '
                                   f'{schema.names}')
            where = [('episode_index', '=', episode.index)] if self.version == layout.V30 else None
            table = pq.read_table(episode.data, columns=list(columns), filters=where)
        except (OSError, pa.ArrowException) as error:
            raise LeRobotError(f'{episode.data}: cannot be read: {error}') from error
        if not table.num_rows:
            raise LeRobotError(f'{episode.data}: no row of episode {episode.index}: write the '
                               'episode again or leave it out')
        return {name: _column(table[name], f'{episode.data}: column {name}') for name in columns}

    def frames(self, episode: EpisodeMeta, key: str, indices: Sequence[int],
               convert: Callable[[np.ndarray], np.ndarray] | None = None) -> list[np.ndarray]:
        """Images (h, w, 3) uint8 RGB of an episode at ascending frame indices."""
        span = episode.videos[key]
        times = span.start_s + np.asarray(indices) / self.fps
        return read_frames(span.path, times.tolist(), 0.5 / self.fps, convert)


def find_sets(root: Path) -> list[Path]:
    """Folders at or below ``root`` that hold a dataset, in order of their names.

    Raises:
        LeRobotError: there is none.
    """
    found = sorted(path.parent.parent for path in root.rglob(layout.INFO))
    if not found:
        raise LeRobotError(f'{root}: no {layout.INFO} here or in a folder below')
    return found


def open_set(root: Path) -> LeRobotSet:
    """Read a dataset's description.

    Raises:
        LeRobotError: missing or contradictory description, or another version.
    """
    info = read_json(root / layout.INFO)
    version = str(info.get('codebase_version', ''))
    if version in ('v2.0', 'v2.1'):
        version = layout.V21  # the files that are read here did not change
    if version not in layout.DATA_PATH:
        raise LeRobotError(f'{root / layout.INFO}: version {version!r}; this reads v2.1 and v3.0')
    try:
        fps, features = float(info['fps']), dict(info['features'])
        rows = _rows_v21(root) if version == layout.V21 else _rows_v30(root)
        videos = [key for key, entry in features.items() if entry['dtype'] == 'video']
        place = _places_v21 if version == layout.V21 else _places_v30
        episodes = [_episode(root, info, row, videos, place) for row in rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise LeRobotError(f'{root}: meta/ lacks {error}') from error
    if not fps > 0:
        raise LeRobotError(f'{root / layout.INFO}: fps {fps}')
    episodes.sort(key=lambda episode: episode.index)
    return LeRobotSet(root, version, fps, features, tuple(episodes))


def read_json(path: Path) -> dict:
    """A JSON object from a file; LeRobotError naming it otherwise."""
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise LeRobotError(f'{path}: cannot be read: {error}') from error
    if not isinstance(value, dict):
        raise LeRobotError(f'{path}: not a JSON object')
    return value


def read_json_lines(path: Path) -> list[dict]:
    """JSON objects, one per line; LeRobotError naming file and line otherwise."""
    out = []
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise LeRobotError(f'{path}: cannot be read: {error}') from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                out.append(json.loads(line))
            except ValueError as error:
                raise LeRobotError(f'{path}, line {number}: {error}') from error
    return out


def _rows_v21(root: Path) -> list[dict]:
    return read_json_lines(root / layout.EPISODES_JSONL)


def _rows_v30(root: Path) -> list[dict]:
    files = sorted((root / layout.EPISODES_FOLDER).glob('*/*.parquet'))
    if not files:
        raise LeRobotError(f'{root / layout.EPISODES_FOLDER}: no parquet file')
    rows: list[dict] = []
    for path in files:
        try:
            kept = [n for n in pq.read_schema(path).names if not n.startswith('stats/')]
            rows += pq.read_table(path, columns=kept).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise LeRobotError(f'{path}: cannot be read: {error}') from error
    return rows


def _places_v21(root: Path, info: dict, row: dict,
                videos: Sequence[str]) -> tuple[Path, dict[str, VideoSpan]]:
    index = int(row['episode_index'])
    place = {'episode_index': index,
             'episode_chunk': index // int(info.get('chunks_size', layout.FILES_PER_CHUNK))}
    video_path = info.get('video_path') or layout.VIDEO_PATH[layout.V21]
    data = root / info.get('data_path', layout.DATA_PATH[layout.V21]).format(**place)
    return data, {key: VideoSpan(root / video_path.format(video_key=key, **place), 0.0)
                  for key in videos}


def _places_v30(root: Path, info: dict, row: dict,
                videos: Sequence[str]) -> tuple[Path, dict[str, VideoSpan]]:
    data = root / info.get('data_path', layout.DATA_PATH[layout.V30]).format(
        chunk_index=row['data/chunk_index'], file_index=row['data/file_index'])
    video_path = info.get('video_path') or layout.VIDEO_PATH[layout.V30]
    return data, {key: VideoSpan(root / video_path.format(
        video_key=key, chunk_index=row[f'videos/{key}/chunk_index'],
        file_index=row[f'videos/{key}/file_index']), float(row[f'videos/{key}/from_timestamp']))
        for key in videos}


def _episode(root: Path, info: dict, row: dict, videos: Sequence[str],
             place: Callable) -> EpisodeMeta:
    data, spans = place(root, info, row, videos)
    length, tasks = int(row['length']), tuple(str(task) for task in row.get('tasks') or ())
    segments = []
    for entry in row.get('action_config') or ():
        segment = Segment(int(entry['start_frame']), int(entry['end_frame']),
                          str(entry['action_text']))
        if not 0 <= segment.start < segment.end <= length:
            raise LeRobotError(f'{root}: episode {row["episode_index"]}: segment '
                               f'{segment.start}..{segment.end} of {length} frames')
        segments.append(segment)
    if not segments:
        segments = [Segment(0, length, tasks[0] if tasks else '')]
    return EpisodeMeta(int(row['episode_index']), length, tasks, tuple(segments), data, spans)


def _column(column: pa.ChunkedArray, where: str) -> np.ndarray:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        widths = set(pc.list_value_length(column).unique().to_pylist())
        if len(widths) > 1:
            raise LeRobotError(f'{where}: vectors of different widths {sorted(widths, key=str)}')
        flat = pa.concat_arrays([chunk.flatten() for chunk in column.chunks]) \
            if column.num_chunks else pa.array([], kind.value_type)
        return flat.to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return column.to_numpy()
