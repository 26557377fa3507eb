# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where things lie in a LeRobot dataset, and what its columns are called.

Two published layouts: v2.1 has one parquet and one video file per episode and camera, v3.0 packs
many episodes into each file.  Readers and writers share what is here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

V21, V30 = 'v2.1', 'v3.0'
INFO = 'meta/info.json'
STATS = 'meta/stats.json'
EPISODES_JSONL = 'meta/episodes.jsonl'
EPISODES_STATS_JSONL = 'meta/episodes_stats.jsonl'
TASKS_JSONL = 'meta/tasks.jsonl'
TASKS_PARQUET = 'meta/tasks.parquet'
EPISODES_FOLDER = 'meta/episodes'
FILES_PER_CHUNK = 1000
DATA_PATH = {
    V21: 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
    V30: 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'}
VIDEO_PATH = {
    V21: 'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4',
    V30: 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'}
ACTION, STATE = 'action', 'observation.state'
IMAGE_PREFIX = 'observation.images.'
INDEX_FEATURES = {
    'timestamp': {'dtype': 'float32', 'shape': [1], 'names': None},
    'frame_index': {'dtype': 'int64', 'shape': [1], 'names': None},
    'episode_index': {'dtype': 'int64', 'shape': [1], 'names': None},
    'index': {'dtype': 'int64', 'shape': [1], 'names': None},
    'task_index': {'dtype': 'int64', 'shape': [1], 'names': None}}
_SIDE_LAST = re.compile(r'^(gripper|ee|dex1)_(left|right)$')
_GRIPPER_WORDS = ('gripper', 'ee', 'dex1', 'dex1_gripper', 'gripper_joint')


def vector_feature(names: Sequence[str]) -> dict:
    """Feature entry of ``observation.state`` and ``action`` with the channels' names."""
    return {'dtype': 'float32', 'shape': [len(names)], 'names': list(names)}


def video_feature(height: int, width: int, fps: float) -> dict:
    """Feature entry of a camera stored as video."""
    return {'dtype': 'video', 'shape': [height, width, 3],
            'names': ['height', 'width', 'channels'],
            'info': {'video.height': height, 'video.width': width, 'video.codec': 'h264',
                     'video.pix_fmt': 'yuv420p', 'video.is_depth_map': False, 'video.fps': fps,
                     'video.channels': 3, 'has_audio': False}}


def flat_names(names: object) -> tuple[str, ...]:
    """Channel names of a feature, however nested: a list, a list in a list, or {kind: list}."""
    if isinstance(names, dict):
        names = [name for part in names.values() for name in flat_names(part)]
    if not isinstance(names, (list, tuple)):
        return ()
    out: list[str] = []
    for name in names:
        out.extend(flat_names(name) if isinstance(name, (list, tuple, dict)) else [str(name)])
    return tuple(out)


def plain_name(name: str) -> str:
    """A channel's name reduced to what datasets agree on.

    ``kLeftShoulderPitch.pos`` and ``left_shoulder_pitch_joint`` give ``left_shoulder_pitch``. Left
    out are the vendor's leading ``k``, a quantity (``.pos``, ``.q``) and the suffix
    ``_joint``; grippers are known as gripper, ee or dex1, side first or last.
    """
    name = name.split('.')[0] if name.endswith(('.pos', '.q', '.qpos')) else name
    if re.match(r'^k[A-Z]', name):
        name = name[1:]
    name = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', name).lower().removesuffix('_joint')
    turned = _SIDE_LAST.match(name)
    if turned:
        name = f'{turned[2]}_{turned[1]}'
    side, _, part = name.partition('_')
    return f'{side}_gripper' if part in _GRIPPER_WORDS else name


def channel_columns(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Columns of a dataset vector in the order of ``wanted`` channels, found by name.

    Args:
        names: the dataset's channel names (see ``flat_names``).
        wanted: the contract's channel names.

    Raises:
        ValueError: no names, or a channel is missing or there twice; the channel is named.
    """
    if not names:
        raise ValueError('the feature has no channel names: their order cannot be known')
    known = [plain_name(name) for name in names]
    columns = []
    for channel in wanted:
        places = [i for i, name in enumerate(known) if name == plain_name(channel)]
        if len(places) != 1:
            how = 'is missing' if not places else f'is there {len(places)} times'
            raise ValueError(f'channel {channel} {how} among {list(names)}')
        columns.append(places[0])
    return columns
