# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write small LeRobot datasets, v2.1 and v3.0, with real video, from synthetic episodes."""

import json
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.training import lerobot_layout as layout

CONTRACT = RobotContract.load()
NAMES = CONTRACT.channel_names
CAMERAS = tuple(layout.IMAGE_PREFIX + camera.dataset_key for camera in CONTRACT.cameras)
VENDOR_NAMES = tuple(
    f'k{side}{part}' for side in ('Left', 'Right')
    for part in ('ShoulderPitch', 'ShoulderRoll', 'ShoulderYaw', 'Elbow', 'WristRoll',
                 'WristPitch', 'WristYaw')) + ('kLeftGripper', 'kRightGripper')
WIDTH, HEIGHT = 64, 48


@dataclass
class Synthetic:
    """An episode: rows (N, 16), images by video feature (N, h, w, 3), instruction, segments."""

    action: np.ndarray
    images: dict
    task: str = 'pick up the red bottle'
    segments: list = field(default_factory=list)
    stamps: np.ndarray | None = None


def synthetic(seed=0, frames=33, fps=20):
    """A smooth motion about the home pose; every image tells its frame number by brightness."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / fps
    rate, phase = rng.uniform(0.5, 2, 16), rng.uniform(0, 6, 16)
    action = load_settings().home + 0.1 * np.sin(rate * time + phase)
    action[:, 14:] = 2.7 + 2 * np.sin(time + phase[14:])
    images = {}
    for number, feature in enumerate(CAMERAS):
        base = np.zeros((HEIGHT, WIDTH, 3))
        base[:, :, 0] = 140 - 10 * number + np.linspace(0, 20, WIDTH)
        base[:, :, 1] = 80
        base[:, :, 2] = 40 + np.linspace(0, 20, HEIGHT)[:, None]
        lift = (2 * (np.arange(frames) % 30))[:, None, None, None]
        images[feature] = np.clip(base + lift, 0, 255).astype(np.uint8)
    return Synthetic(action.astype(np.float32), images)


def write_video(path, frames, fps):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = 'yuv420p', {'g': '2', 'crf': '10', 'preset': 'ultrafast'}
        stream.thread_count = 1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode(None))


def table(episode, index, before, fps):
    count = len(episode.action)
    stamps = np.arange(count) / fps if episode.stamps is None else episode.stamps
    vectors = pa.FixedSizeListArray.from_arrays(
        episode.action.reshape(-1), episode.action.shape[1])
    return pa.table({
        'observation.state': vectors, 'action': vectors,
        'timestamp': stamps.astype(np.float32), 'frame_index': np.arange(count),
        'episode_index': np.full(count, index), 'index': before + np.arange(count),
        'task_index': np.zeros(count, np.int64)})


def info(version, episodes, fps, names):
    vector = {'dtype': 'float32', 'shape': [len(names)], 'names': {'motors': list(names)}}
    return {'codebase_version': version, 'robot_type': 'Unitree_G1_Dex1', 'fps': fps,
            'total_episodes': len(episodes), 'chunks_size': 1000,
            'data_path': layout.DATA_PATH[version], 'video_path': layout.VIDEO_PATH[version],
            'features': {'observation.state': vector, 'action': vector,
                         **{key: layout.video_feature(HEIGHT, WIDTH, fps) for key in CAMERAS},
                         **layout.INDEX_FEATURES}}


def image_stats(episode):
    return {key: {'mean': [[[float(v)]] for v in images.reshape(-1, 3).mean(axis=0) / 255]}
            for key, images in episode.images.items()}


def write_v21(root, episodes, fps=20, names=NAMES, stats=True):
    """One file per episode and camera."""
    (root / 'meta').mkdir(parents=True)
    lines, stat_lines, before = [], [], 0
    for index, episode in enumerate(episodes):
        place = {'episode_chunk': 0, 'episode_index': index}
        path = root / layout.DATA_PATH[layout.V21].format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(episode, index, before, fps), path)
        for key, images in episode.images.items():
            write_video(root / layout.VIDEO_PATH[layout.V21].format(video_key=key, **place),
                        images, fps)
        line = {'episode_index': index, 'tasks': [episode.task], 'length': len(episode.action)}
        if episode.segments:
            line['action_config'] = [dict(zip(('start_frame', 'end_frame', 'action_text'), s,
                                              strict=True)) for s in episode.segments]
        lines.append(json.dumps(line))
        stat_lines.append(json.dumps({'episode_index': index, 'stats': image_stats(episode)}))
        before += len(episode.action)
    (root / layout.EPISODES_JSONL).write_text('\n'.join(lines))
    (root / layout.TASKS_JSONL).write_text(json.dumps({'task_index': 0, 'task': 'x'}))
    if stats:
        (root / layout.EPISODES_STATS_JSONL).write_text('\n'.join(stat_lines))
    (root / layout.INFO).write_text(json.dumps(info(layout.V21, episodes, fps, names)))
    return root


def write_v30(root, episodes, fps=20, names=NAMES):
    """All episodes in one file per camera."""
    (root / layout.EPISODES_FOLDER / 'chunk-000').mkdir(parents=True)
    place = {'chunk_index': 0, 'file_index': 0}
    rows, tables, before = [], [], 0
    for index, episode in enumerate(episodes):
        count = len(episode.action)
        row = {'episode_index': index, 'tasks': [episode.task], 'length': count,
               'data/chunk_index': 0, 'data/file_index': 0, 'dataset_from_index': before,
               'dataset_to_index': before + count}
        for key in CAMERAS:
            row.update({f'videos/{key}/chunk_index': 0, f'videos/{key}/file_index': 0,
                        f'videos/{key}/from_timestamp': before / fps,
                        f'videos/{key}/to_timestamp': (before + count) / fps})
        rows.append(row)
        tables.append(table(episode, index, before, fps))
        before += count
    data = root / layout.DATA_PATH[layout.V30].format(**place)
    data.parent.mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), data)
    for key in CAMERAS:
        write_video(root / layout.VIDEO_PATH[layout.V30].format(video_key=key, **place),
                    np.concatenate([episode.images[key] for episode in episodes]), fps)
    pq.write_table(pa.Table.from_pylist(rows),
                   root / layout.EPISODES_FOLDER / 'chunk-000' / 'file-000.parquet')
    (root / layout.INFO).write_text(json.dumps(info(layout.V30, episodes, fps, names)))
    return root
