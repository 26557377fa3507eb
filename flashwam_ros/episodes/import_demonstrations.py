# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make demonstrations of LeRobot datasets (G1 with Dex1) or of the vendor's raw XR episodes.

The result lies beside the simulator's own demonstrations and is trained on in the same way.  What
was imported before is not imported again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashwam_ros.episodes.raw_teleop import RawEpisode, find_raw_episodes, read_raw_episode
from flashwam_ros.episodes.sidecar import write_atomically
from flashwam_ros.imaging import decode_jpeg, to_policy_size
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training import validation
from flashwam_ros.training.command import cache_folder, reporter
from flashwam_ros.training.demonstrations import episode_path
from flashwam_ros.training.episode_file import EpisodeData, write_episode
from flashwam_ros.training.latent_files import key_frame_stride, key_frames, slot_rows
from flashwam_ros.training.lerobot_meta import (
    EpisodeMeta,
    LeRobotError,
    LeRobotSet,
    Segment,
    find_sets,
    open_set,
)
from flashwam_ros.training.progress import Progress

FIRST_NUMBER = 1_000_000
"""Numbers of imported demonstrations begin beyond every seed of the simulator."""
LOG = 'imports.json'

Images = Callable[[str, np.ndarray], list[np.ndarray]]
"""(contract camera key, frame indices) -> images (h, w, 3) uint8 RGB at policy size."""


@dataclass(frozen=True)
class Source:
    """One episode, or segment, to import.

    Attributes:
        name: identifies it among all imports of a folder.
        segment: frames and instruction.
        fps: rows per s.
        state: (N, 16) measured, contract order, rad.
        action: (N, 16) commanded, contract order, rad.
        images: reads pictures.
    """

    name: str
    segment: Segment
    fps: float
    state: np.ndarray
    action: np.ndarray
    images: Images


def demonstration(source: Source, contract: RobotContract, number: int, task: str,
                  kinematics: Kinematics) -> EpisodeData:
    """A source as a demonstration; rows and key frames as the simulator's own have them.

    Raises:
        ValueError: too short, or its rate does not fit the contract.
    """
    stride = key_frame_stride(source.fps, contract, source.name)
    indices = key_frames(source.segment, stride)
    if not len(indices):
        raise ValueError(f'{source.name}: {source.segment.end - source.segment.start} frames are '
                         'too short for one latent frame')
    slots = slot_rows(source.action[:source.segment.end], indices, contract.actions_per_frame)
    rows = slots[1:].reshape(-1, slots.shape[2])
    stamps = np.round(indices * 1e9 / source.fps).astype(np.int64)
    arms = source.state[indices, :14]
    tcp = np.stack([kinematics.arm_point(arms, f'{side}_tcp') for side in ('left', 'right')], 1)
    return EpisodeData(
        task=task, prompt=source.segment.text, seed=number, contract_hash=contract.sha256,
        recovery=False, images={camera.key: np.stack(source.images(camera.key, indices))
                                for camera in contract.cameras},
        stamps_ns=stamps, due_ns=stamps, applied=rows, requested=rows,
        perturbed=np.zeros(len(rows), bool), object_names=(),
        objects=np.zeros((len(indices), 0, 3), np.float32), tcp=tcp.astype(np.float32))


def task_name(text: str) -> str:
    """A folder name made of an instruction."""
    return '_'.join(re.findall(r'[a-z0-9]+', text.lower()))[:48] or 'task'


def raw_sources(root: Path, contract: RobotContract, options: argparse.Namespace,
                report: Callable[[str], None]) -> Iterator[Source]:
    """Raw XR episodes at or below a folder.

    Raises:
        ValueError: an episode is damaged, or its commands leave the limits; it is named.
    """
    for folder in find_raw_episodes(root):
        raw = read_raw_episode(folder, contract, options.fps)
        findings = [validation.Finding('range', folder, None, frame, text)
                    for frame, text in validation.outside_limits(raw.action, contract)]
        for finding in validation.require_valid(findings, options.accept):
            report(f'accepted: {finding}')
        name = '/'.join(folder.resolve().parts[-2:])
        yield Source(name, Segment(0, len(raw.action), raw.goal), raw.fps, raw.state, raw.action,
                     _raw_images(raw, contract))


def _raw_images(raw: RawEpisode, contract: RobotContract) -> Images:
    def read(key: str, indices: np.ndarray) -> list[np.ndarray]:
        camera = contract.camera(key)
        return [to_policy_size(decode_jpeg(raw.images[key][i].read_bytes()), camera)
                for i in indices]

    return read


def lerobot_sources(root: Path, contract: RobotContract, options: argparse.Namespace,
                    report: Callable[[str], None]) -> Iterator[Source]:
    """Segments of the LeRobot datasets at or below a folder, which are checked first.

    Raises:
        ValueError: a dataset has findings that were not accepted.
    """
    for folder in find_sets(root):
        dataset = open_set(folder)
        cameras = validation.camera_features(dataset, contract,
                                             validation.camera_names(options.camera))
        findings = validation.validate(dataset, contract, cameras, report)
        for finding in validation.require_valid(findings, options.accept):
            report(f'accepted: {finding}')
        for episode in dataset.episodes:
            yield from _segments(dataset, episode, contract, cameras)


def _segments(dataset: LeRobotSet, episode: EpisodeMeta, contract: RobotContract,
              cameras: dict[str, str]) -> Iterator[Source]:
    table = dataset.table(episode, [layout.STATE, layout.ACTION])
    state, action = (table[name][:, layout.channel_columns(dataset.names(name),
                                                           contract.channel_names)]
                     for name in (layout.STATE, layout.ACTION))

    def images(key: str, indices: np.ndarray) -> list[np.ndarray]:
        camera = contract.camera(key)
        return dataset.frames(episode, cameras[key], indices.tolist(),
                              lambda rgb: to_policy_size(rgb, camera))

    for segment in episode.segments:
        name = f'{dataset.root.resolve().name}/{episode.index}/{segment.start}'
        yield Source(name, segment, dataset.fps, state, action, images)


def run_import(sources: Iterator[Source], out: Path, contract: RobotContract, task: str | None,
               report: Callable[[str], None]) -> tuple[int, int]:
    """Write what was not imported before; returns how many now, and how many were left out."""
    log, kinematics = out / LOG, Kinematics(load_description())
    numbers = json.loads(log.read_text(encoding='utf-8')) if log.is_file() else {}
    made, short, begin = 0, 0, time.monotonic()
    progress = Progress(report, 1.0)  # the number of episodes is not known beforehand
    for source in sources:
        name = task or task_name(source.segment.text)
        number = numbers.get(source.name, FIRST_NUMBER + len(numbers))
        path = episode_path(out, name, number)
        if path.is_file():
            continue
        try:
            episode = demonstration(source, contract, number, name, kinematics)
        except LeRobotError:
            raise
        except ValueError as error:
            report(f'left out: {error}')
            short += 1
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # The number first: a file without one would be given to another episode.
        numbers[source.name] = number
        write_atomically(log, json.dumps(numbers, indent=1).encode())
        write_episode(path, episode)
        made += 1
        progress.tell(made, time.monotonic() - begin, 0.0, f'{source.name} -> {path.name}')
    return made, short


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam import``."""
    parser = argparse.ArgumentParser(prog='flashwam import', description=__doc__)
    validation.accepting(parser)
    parser.add_argument('--out', type=Path, default=cache_folder('demos'), help='demonstrations')
    parser.add_argument('--task', default=None, help='default: made of the instruction')
    parser.add_argument('--fps', type=float, default=None,
                        help='rate of the recording loop of raw episodes, if not its cameras\'')
    options = parser.parse_args(argv)
    report, contract = reporter('import'), RobotContract.load()
    try:
        if any(options.dataset.rglob(layout.INFO)):
            sources = lerobot_sources(options.dataset, contract, options, report)
        elif find_raw_episodes(options.dataset):
            sources = raw_sources(options.dataset, contract, options, report)
        else:
            raise ValueError(f'{options.dataset}: neither a LeRobot dataset nor raw episodes here '
                             'or below')
        made, short = run_import(sources, options.out, contract, options.task, report)
    except (ValueError, OSError) as error:
        report(str(error))
        return 1
    report(f'{made} demonstrations imported, {short} left out: {options.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
