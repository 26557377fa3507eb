# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make latents of a LeRobot dataset with a checkpoint's codec and text encoder.

The source is only read.  The result is a LeRobot v2.1 folder without videos, with LingBot-VA's
latents beside the rows; run again, it continues where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flashwam_ros.imaging import encode_jpeg, to_policy_size
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import latent_files, validation
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.camera_encoders import CameraEncoder, load_encoders
from flashwam_ros.training.command import reporter
from flashwam_ros.training.dataset import fit_normaliser
from flashwam_ros.training.latent_files import (
    CameraLatents,
    key_frame_stride,
    key_frames,
    latent_path,
    load_latent_set,
)
from flashwam_ros.training.lerobot_meta import (
    EpisodeMeta,
    LeRobotError,
    LeRobotSet,
    Segment,
    find_sets,
    open_set,
    read_json,
)
from flashwam_ros.training.progress import Progress
from flashwam_ros.training.video_file import VideoError
from flashwam_ros.wam.checkpoint import CheckpointError
from flashwam_ros.wam.text import TextEncoder

NORMALISER = 'meta/normaliser.json'
SOURCE = 'meta/source.json'
"""Episode index -> what its latents are made of, see ``_marks``."""
PREVIEW = 'preview'


@dataclass(frozen=True)
class Job:
    """One extraction.

    Attributes:
        source: dataset that is read.
        out: folder that is written.
        contract: the checkpoint's robot contract.
        cameras: contract camera key -> video feature.
        encoder: codec.
        text: text encoder.
    """

    source: LeRobotSet
    out: Path
    contract: RobotContract
    cameras: Mapping[str, str]
    encoder: CameraEncoder
    text: TextEncoder


def extract(job: Job, text_mark: str, report: Callable[[str], None]) -> tuple[int, int]:
    """Make what is missing.

    Returns:
        Segments made now, segments that are too short for one latent frame.

    Raises:
        LeRobotError: the folder holds latents of another codec, contract or camera choice, or an
            index that was extracted has other rows, instructions or pictures now.
    """
    stride = key_frame_stride(job.source.fps, job.contract, job.source.root)
    latent_files.write_extraction(job.out, {
        'codec': job.encoder.mark, 'text_encoder': text_mark, 'stride': stride,
        'contract': job.contract.sha256, 'cameras': dict(job.cameras)})
    _require_same_source(job)
    _write_meta(job)
    latent_files.write_empty_text(job.out, job.text.encode(''))
    todo, short = [], 0
    for episode in job.source.episodes:
        for segment in episode.segments:
            if not len(key_frames(segment, stride)):
                short += 1
            elif not all(latent_path(job.out, feature, episode.index, segment).is_file()
                         for feature in job.cameras.values()):
                todo.append((episode, segment))
    report(f'{len(todo)} segments to do' + (f', {short} too short' if short else ''))
    progress, begin = Progress(report, 0.0), time.monotonic()
    for number, (episode, segment) in enumerate(todo, 1):
        _segment(job, episode, segment, stride)
        progress.tell(number, time.monotonic() - begin, number / len(todo),
                      f'episode {episode.index}, frames {segment.start}..{segment.end}')
    return len(todo), short


def _segment(job: Job, episode: EpisodeMeta, segment: Segment, stride: int) -> None:
    """Decode, resize and encode one segment, and write a file per camera."""
    indices = key_frames(segment, stride)
    images = {}
    for key, feature in job.cameras.items():
        camera = job.contract.camera(key)
        images[key] = np.stack(job.source.frames(
            episode, feature, indices.tolist(),
            lambda rgb, camera=camera: to_policy_size(rgb, camera)))
        _preview(job.out / PREVIEW / f'{key}.jpg', images[key])
    latents = job.encoder.encode(images)
    rows = job.text.encode(segment.text)
    for key, feature in job.cameras.items():
        latent_files.write_camera(
            latent_path(job.out, feature, episode.index, segment),
            CameraLatents(latents[key], tuple(indices.tolist()), segment.text, rows), segment,
            images[key].shape[1:3], job.source.fps / stride, job.source.fps)


def _preview(path: Path, images: np.ndarray) -> None:
    """First and last image of the first segment, to be looked at: a JPEG shows true colours."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(np.concatenate([images[0], images[-1]], axis=1)))


def _require_same_source(job: Job) -> None:
    """Note what the latents are made of; nothing is written when it is not what was noted.

    Raises:
        LeRobotError: an episode has other rows, instructions or pictures now: its latents would
            not fit.
    """
    noted, now = _noted(job), _marks(job.source, job.contract, job.cameras.values())
    for index, marks in now.items():
        old = noted.get(index, {})
        other = [name for name, mark in marks.items() if old.get(name, mark) != mark]
        if other:
            raise LeRobotError(
                f'{job.out / SOURCE}: episode {index} of {job.source.root} is another one than '
                f'that of these latents (other {", ".join(other)}): choose another --out or '
                'remove this folder')
        noted[index] = {**old, **marks}
    _write_text(job.out / SOURCE, json.dumps(noted, indent=1) + '\n')


def _noted(job: Job) -> dict[str, dict[str, str]]:
    """What ``_marks`` gave when the latents were made, as far as it is known."""
    path = job.out / SOURCE
    noted = read_json(path) if path.is_file() else {}
    if noted and all(isinstance(marks, dict) for marks in noted.values()):
        return noted
    # Earlier versions noted nothing, or a hash of the rows alone: the result tells the rest.
    made = (_marks(open_set(job.out), job.contract, ())
            if (job.out / layout.INFO).is_file() else {})
    return {**{index: {'rows': mark} for index, mark in noted.items()}, **made}


def _marks(source: LeRobotSet, contract: RobotContract,
           features: Iterable[str]) -> dict[str, dict[str, str]]:
    """Episode index -> what changes when its rows, an instruction or its pictures do.

    Length, rows and time stamps are one SHA-256, the same for source and result; so are the
    pictures of each video feature; instructions are themselves.
    """
    out = {}
    for episode in source.episodes:
        digest = hashlib.sha256(str(episode.length).encode())
        for values in _columns(source, episode, contract).values():
            digest.update(np.ascontiguousarray(values))
        out[str(episode.index)] = {
            'rows': digest.hexdigest(),
            **{f'instruction of frames {s.start}..{s.end}': s.text for s in episode.segments}}
    for feature in features:
        for index, mark in _pictures(source, feature).items():
            out[index][f'pictures of {feature}'] = mark
    return out


def _pictures(source: LeRobotSet, feature: str) -> dict[str, str]:
    """Episode index -> SHA-256 of its coded pictures.

    Not of the file: LeRobot appends new episodes to a v3.0 file, and a copy has another date.
    """
    out, path, times, hashes = {}, None, np.zeros(0), []
    for episode in source.episodes:
        span = episode.videos[feature]
        if span.path != path:
            path, (times, hashes) = span.path, _packets(span.path)
        edges = span.start_s + (np.array([0, episode.length]) - 0.5) / source.fps
        first, last = np.searchsorted(times, edges)
        out[str(episode.index)] = hashlib.sha256(b''.join(hashes[first:last])).hexdigest()
    return out


def _packets(path: Path) -> tuple[np.ndarray, list[bytes]]:
    """Times (P,) in s, ascending, and SHA-256 of a video's packets; nothing is decoded.

    Raises:
        VideoError: missing, damaged or without a video stream.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            # The header says how packets become pictures; their colours, too.
            header = bytes(stream.codec_context.extradata or b'')
            found = sorted((packet.pts, hashlib.sha256(header + bytes(packet)).digest())
                           for packet in container.demux(stream)
                           if packet.pts is not None and packet.size)
            times = np.array([pts for pts, _ in found], np.float64) * float(stream.time_base)
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise VideoError(f'{path}: no readable video: {error}') from error
    return times, [digest for _, digest in found]


def _columns(source: LeRobotSet, episode: EpisodeMeta,
             contract: RobotContract) -> dict[str, np.ndarray]:
    """Action, state where there is one, (N, C) in contract order, and time stamps; float32."""
    kept = _kept(source)
    columns = source.table(episode, [*kept, 'timestamp'])
    for name in kept:
        order = layout.channel_columns(source.names(name), contract.channel_names)
        columns[name] = columns[name][:, order]
    return {name: values.astype(np.float32) for name, values in columns.items()}


def _kept(source: LeRobotSet) -> list[str]:
    return [name for name in (layout.ACTION, layout.STATE) if name in source.features]


def _write_meta(job: Job) -> None:
    """Description and rows of the result; v2.1 whatever the source is, rows in contract order."""
    names, kept = list(job.contract.channel_names), _kept(job.source)
    tasks = sorted({task for episode in job.source.episodes for task in episode.tasks})
    lines = [{'episode_index': e.index, 'tasks': list(e.tasks), 'length': e.length,
              'action_config': [{'start_frame': s.start, 'end_frame': s.end,
                                 'action_text': s.text} for s in e.segments]}
             for e in job.source.episodes]
    info = {'codebase_version': layout.V21, 'robot_type': job.contract.name,
            'fps': job.source.fps, 'total_episodes': len(lines),
            'total_frames': sum(line['length'] for line in lines), 'total_tasks': len(tasks),
            'total_videos': 0, 'total_chunks': 1 + (len(lines) - 1) // layout.FILES_PER_CHUNK,
            'chunks_size': layout.FILES_PER_CHUNK, 'splits': {'train': f'0:{len(lines)}'},
            'data_path': layout.DATA_PATH[layout.V21], 'video_path': None,
            'features': {**{name: layout.vector_feature(names) for name in kept},
                         **layout.INDEX_FEATURES}}
    for episode in job.source.episodes:
        _write_rows(job, episode, tasks)
    # The description comes last: a folder with one is whole.
    _write_text(job.out / layout.TASKS_JSONL, ''.join(
        json.dumps({'task_index': i, 'task': task}) + '\n' for i, task in enumerate(tasks)))
    _write_text(job.out / layout.EPISODES_JSONL,
                ''.join(json.dumps(line, ensure_ascii=False) + '\n' for line in lines))
    _write_text(job.out / layout.INFO, json.dumps(info, indent=1) + '\n')


def _write_rows(job: Job, episode: EpisodeMeta, tasks: list[str]) -> None:
    """Always anew: the number of an instruction changes when others are added."""
    path = job.out / layout.DATA_PATH[layout.V21].format(
        episode_chunk=episode.index // layout.FILES_PER_CHUNK, episode_index=episode.index)
    arrays = _columns(job.source, episode, job.contract)
    for name in _kept(job.source):
        arrays[name] = pa.FixedSizeListArray.from_arrays(arrays[name].reshape(-1),
                                                         arrays[name].shape[1])
    arrays['timestamp'] = arrays['timestamp'].reshape(-1)
    frames = job.source.table(episode, ['frame_index'])['frame_index']
    count = len(frames)
    before = sum(e.length for e in job.source.episodes[:episode.index])
    arrays['frame_index'] = frames.reshape(-1).astype(np.int64)
    arrays['episode_index'] = np.full(count, episode.index, np.int64)
    arrays['index'] = before + np.arange(count)
    arrays['task_index'] = np.full(count, tasks.index(episode.task) if tasks else 0, np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    pq.write_table(pa.table(arrays), part)
    os.replace(part, path)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    part.write_text(text, encoding='utf-8')
    os.replace(part, path)


def _one(root: Path, out: Path, options: argparse.Namespace, contract: RobotContract,
         encoders: tuple[CameraEncoder, TextEncoder, str], report: Callable[[str], None]) -> None:
    """Check and extract one dataset, then fit its normaliser."""
    source = open_set(root)
    cameras = validation.camera_features(source, contract,
                                         validation.camera_names(options.camera))
    findings = validation.validate(source, contract, cameras, report)
    for finding in validation.require_valid(findings, options.accept):
        report(f'accepted: {finding}')
    encoder, text, mark = encoders
    job = Job(source, out, contract, cameras, encoder, text)
    made, _ = extract(job, mark, report)
    latents = load_latent_set(out, contract, encoder.mark, report=report)
    _write_text(out / NORMALISER, json.dumps(fit_normaliser(latents.episodes).to_dict()) + '\n')
    frames = sum(len(episode.latents) for episode in latents.episodes)
    report(f'{made} segments made, {len(latents.episodes)} in all, {frames} latent frames: {out}; '
           f'look at {out / PREVIEW}')


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam extract-latents``: check the dataset, then make its latents."""
    parser = argparse.ArgumentParser(prog='flashwam extract-latents', description=__doc__)
    validation.accepting(parser)
    parser.add_argument('--checkpoint', type=Path, required=True,
                        help='whose codec, text encoder and robot contract are used')
    parser.add_argument('--out', type=Path, default=None, help='default: <dataset>-latents')
    options = parser.parse_args(argv)
    report = reporter('latents')
    try:
        # '.' has no name, and beside '..' would be inside it.
        dataset = options.dataset.resolve()
        out = options.out or dataset.with_name(dataset.name + '-latents')
        encoders = load_encoders(options.checkpoint)
        stored = json.loads((options.checkpoint / 'contract.json').read_text(encoding='utf-8'))
        contract = RobotContract.from_dict(stored['robot'])
        for root in find_sets(dataset):
            _one(root, out / root.relative_to(dataset), options, contract, encoders, report)
    except (ValueError, OSError, CheckpointError) as error:
        report(str(error))
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
