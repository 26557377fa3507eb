# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write a LeRobot dataset, v2.1 or v3.0, episode by episode, so that a kill costs one episode.

Every episode has files of its own in both layouts (v3.0 allows many in one and asks for none), and
a record below ``export/`` that is written last.  The description in ``meta/`` is made of the
records alone: writing twice gives identical files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flashwam_ros.episodes.grid_rows import GridRows
from flashwam_ros.episodes.reader import EpisodeError
from flashwam_ros.episodes.sidecar import write_atomically
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import lerobot_layout as layout

RECORDS = 'export'
STAT_FRAMES, STAT_WIDTH = 100, 160
ROBOT_TYPE = 'Unitree_G1_Dex1'
_VIDEO = {'g': '2', 'crf': '18', 'preset': 'fast', 'x264-params': 'mbtree=0'}
"""A key frame every second frame, so that training can seek; nearly no visible loss.

Without x264's macroblock tree, which gains little with such short groups: where the processor has
AVX-512 it does not give the same bytes in every run.
"""


class LeRobotWriter:
    """Writes one dataset.

    Args:
        root: its folder.
        version: 'v2.1' or 'v3.0'.
        fps: rows and frames per s.
        contract: channels and cameras.
    """

    def __init__(self, root: Path, version: str, fps: float, contract: RobotContract):
        if version not in layout.DATA_PATH:
            raise ValueError(f'version {version!r} is not one of {sorted(layout.DATA_PATH)}')
        self._root, self._version, self._contract = root, version, contract
        self._fps = int(fps) if float(fps).is_integer() else float(fps)

    def records(self) -> list[dict]:
        """What was noted of the episodes that are complete, in order of their indices."""
        out = []
        while (path := self._root / RECORDS / f'episode_{len(out):06d}.json').is_file():
            out.append(json.loads(path.read_text(encoding='utf-8')))
        return out

    def write(self, index: int, before: int, source: str, prompt: str, tasks: Sequence[str],
              rows: GridRows, image: Callable[[str, int], np.ndarray]) -> dict:
        """Write an episode's rows and videos; returns its record.

        Args:
            index: episode index.
            before: rows of all episodes before it.
            source: name of the recording.
            prompt: instruction.
            tasks: all instructions of the dataset.
            rows: see ``grid_rows``.
            image: (camera key, index into the recording's images) -> (h, w, 3) uint8 RGB.

        Raises:
            EpisodeError: an image is of another size than the first.
        """
        stats, sizes = {layout.STATE: _vector_stats(rows.state),
                        layout.ACTION: _vector_stats(rows.action)}, {}
        for camera in self._contract.cameras:
            key = layout.IMAGE_PREFIX + camera.dataset_key
            frames = (image(camera.key, int(i)) for i in rows.frames[camera.key])
            path = self._path(layout.VIDEO_PATH, index, key)
            sizes[key], stats[key] = write_video(path, frames, len(rows.stamps_ns), self._fps,
                                                 f'{source}: camera {camera.key}')
        table = self._table(index, before, tasks.index(prompt), rows)
        for name in layout.INDEX_FEATURES:
            stats[name] = _vector_stats(table[name].to_numpy()[:, None])
        path = self._path(layout.DATA_PATH, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        record = {
            'source': source, 'length': len(rows.stamps_ns), 'cut_rows': rows.cut_rows,
            'task': prompt, 'sizes': sizes,
            'image_error_ms': {key: {'mean': float(np.abs(error).mean() / 1e6),
                                     'max': float(np.abs(error).max() / 1e6)}
                               for key, error in rows.errors_ns.items()}, 'stats': stats}
        self._json(f'{RECORDS}/episode_{index:06d}.json', record)
        return record

    def finish(self, records: Sequence[Mapping], tasks: Sequence[str]) -> None:
        """Write the description of the dataset."""
        stats = _all_stats([record['stats'] for record in records])
        self._json(layout.STATS, stats)
        if self._version == layout.V21:
            self._lines(layout.TASKS_JSONL, ({'task_index': i, 'task': task}
                                             for i, task in enumerate(tasks)))
            self._lines(layout.EPISODES_JSONL, (
                {'episode_index': i, 'tasks': [record['task']], 'length': record['length']}
                for i, record in enumerate(records)))
            self._lines(layout.EPISODES_STATS_JSONL, (
                {'episode_index': i, 'stats': record['stats']}
                for i, record in enumerate(records)))
        else:
            self._tasks_v30(tasks)
            self._episodes_v30(records)
        self._json(layout.INFO, self._info(records, tasks))  # last: a folder with it is whole

    def _path(self, patterns: Mapping[str, str], index: int, key: str = '') -> Path:
        chunk, place = divmod(index, layout.FILES_PER_CHUNK)
        return self._root / patterns[self._version].format(
            episode_chunk=chunk, episode_index=index, chunk_index=chunk, file_index=place,
            video_key=key)

    def _table(self, index: int, before: int, task: int, rows: GridRows) -> pa.Table:
        count = len(rows.stamps_ns)
        columns = {name: pa.FixedSizeListArray.from_arrays(
            values.astype(np.float32).reshape(-1), values.shape[1])
            for name, values in ((layout.STATE, rows.state), (layout.ACTION, rows.action))}
        columns |= {
            'stamp_ns': rows.stamps_ns,
            **{_capture(key): rows.stamps_ns + error for key, error in rows.errors_ns.items()},
            'timestamp': (np.arange(count) / self._fps).astype(np.float32),
            'frame_index': np.arange(count), 'episode_index': np.full(count, index),
            'index': before + np.arange(count), 'task_index': np.full(count, task)}
        return pa.table(columns)

    def _info(self, records: Sequence[Mapping], tasks: Sequence[str]) -> dict:
        names, frames = self._contract.channel_names, sum(r['length'] for r in records)
        stamp = {'dtype': 'int64', 'shape': [1], 'names': None}
        features = {
            **{name: layout.vector_feature(names) for name in (layout.STATE, layout.ACTION)},
            **{key: layout.video_feature(*size, self._fps)
               for key, size in records[0]['sizes'].items()},
            'stamp_ns': stamp,
            **{_capture(camera.key): stamp for camera in self._contract.cameras},
            **layout.INDEX_FEATURES}
        chunks = 1 + (len(records) - 1) // layout.FILES_PER_CHUNK
        counts = {'total_videos': len(records) * len(self._contract.cameras),
                  'total_chunks': chunks} if self._version == layout.V21 else {
                      'data_files_size_in_mb': 100, 'video_files_size_in_mb': 200}
        return {'codebase_version': self._version, 'robot_type': ROBOT_TYPE,
                'total_episodes': len(records), 'total_frames': frames, 'total_tasks': len(tasks),
                **counts, 'chunks_size': layout.FILES_PER_CHUNK, 'fps': self._fps,
                'splits': {'train': f'0:{len(records)}'},
                'data_path': layout.DATA_PATH[self._version],
                'video_path': layout.VIDEO_PATH[self._version], 'features': features}

    def _tasks_v30(self, tasks: Sequence[str]) -> None:
        """The instruction is the table's index, as readers with pandas expect."""
        kinds = (('task_index', 'int64', 'int64'), ('task', 'unicode', 'object'))
        about = {'index_columns': ['task'], 'column_indexes': [], 'pandas_version': '2.2.0',
                 'columns': [{'name': name, 'field_name': name, 'pandas_type': kind,
                              'numpy_type': plain, 'metadata': None}
                             for name, kind, plain in kinds]}
        table = pa.table({'task_index': np.arange(len(tasks)), 'task': list(tasks)})
        pq.write_table(table.replace_schema_metadata({'pandas': json.dumps(about)}),
                       self._root / layout.TASKS_PARQUET)

    def _episodes_v30(self, records: Sequence[Mapping]) -> None:
        rows, before = [], 0
        for index, record in enumerate(records):
            chunk, place = divmod(index, layout.FILES_PER_CHUNK)
            row = {'episode_index': index, 'tasks': [record['task']], 'length': record['length'],
                   'data/chunk_index': chunk, 'data/file_index': place,
                   'dataset_from_index': before, 'dataset_to_index': before + record['length'],
                   'meta/episodes/chunk_index': 0, 'meta/episodes/file_index': 0}
            for key in record['sizes']:
                row |= {f'videos/{key}/chunk_index': chunk, f'videos/{key}/file_index': place,
                        f'videos/{key}/from_timestamp': 0.0,
                        f'videos/{key}/to_timestamp': record['length'] / self._fps}
            row |= {f'stats/{feature}/{name}': value
                    for feature, values in record['stats'].items()
                    for name, value in values.items()}
            rows.append(row)
            before += record['length']
        path = self._root / layout.EPISODES_FOLDER / 'chunk-000' / 'file-000.parquet'
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)

    def _json(self, name: str, values: Mapping) -> None:
        self._text(name, json.dumps(values, indent=1, ensure_ascii=False) + '\n')

    def _lines(self, name: str, values: Iterable[Mapping]) -> None:
        self._text(name, ''.join(json.dumps(value, ensure_ascii=False) + '\n' for value in values))

    def _text(self, name: str, text: str) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode('utf-8'))


def write_video(path: Path, frames: Iterable[np.ndarray], count: int, fps: float,
                where: str) -> tuple[tuple[int, int], dict]:
    """Encode H.264; returns (height, width) and the colour statistics of some of the frames.

    Raises:
        EpisodeError: odd sizes, or sizes that change; ``where`` is named.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sampled = set(np.round(np.linspace(0, count - 1, min(count, STAT_FRAMES))).astype(int))
    size, samples = None, []
    # One thread and no writing program's name: the same frames give the same bytes.
    with av.open(str(path), 'w', options={'fflags': '+bitexact'}) as container:
        stream = container.add_stream('libx264', rate=Fraction(fps).limit_denominator(1000),
                                      options=_VIDEO)
        stream.thread_count, stream.pix_fmt = 1, 'yuv420p'
        for number, rgb in enumerate(frames):
            if size is None:
                size = rgb.shape[:2]
                stream.height, stream.width = size
            if rgb.shape[:2] != size or size[0] % 2 or size[1] % 2:
                raise EpisodeError(f'{where}: frame {number} is {rgb.shape[:2]}, the first one '
                                   f'{size}; sizes must be even and equal')
            frame = av.VideoFrame.from_ndarray(rgb, format='rgb24')
            container.mux(stream.encode(frame))
            if number in sampled:
                step = max(1, size[1] // STAT_WIDTH)
                samples.append(rgb[::step, ::step])
        container.mux(stream.encode(None))
    pixels = np.stack(samples).astype(np.float64) / 255
    stats = {name: getattr(pixels, name)(axis=(0, 1, 2)).reshape(3, 1, 1).tolist()
             for name in ('min', 'max', 'mean', 'std')}
    return size, {**stats, 'count': [len(samples)]}


def _capture(camera: str) -> str:
    return f'capture_ns.{camera}'


def _vector_stats(values: np.ndarray) -> dict:
    values = values.astype(np.float64)
    return {**{name: getattr(values, name)(axis=0).tolist()
               for name in ('min', 'max', 'mean', 'std')}, 'count': [len(values)]}


def _all_stats(parts: Sequence[Mapping]) -> dict:
    """Statistics of all episodes from those of each."""
    out = {}
    for feature in parts[0]:
        column = {name: np.array([part[feature][name] for part in parts], np.float64)
                  for name in ('min', 'max', 'mean', 'std', 'count')}
        weight = column['count'].reshape(-1, *[1] * (column['mean'].ndim - 1))
        total = weight.sum()
        mean = (weight * column['mean']).sum(axis=0) / total
        spread = (weight * (column['std'] ** 2 + (column['mean'] - mean) ** 2)).sum(axis=0) / total
        out[feature] = {'min': column['min'].min(axis=0).tolist(),
                        'max': column['max'].max(axis=0).tolist(), 'mean': mean.tolist(),
                        'std': np.sqrt(spread).tolist(), 'count': [int(total)]}
    return out
