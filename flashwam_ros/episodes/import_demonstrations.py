# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make demonstrations of LeRobot datasets (G1 with Dex1) or of the vendor's raw XR episodes.

The result lies beside the simulator's own demonstrations and is trained on in the same way.  What
was imported before is not imported again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flashwam_ros.episodes.raw_teleop import (
    RawEpisode,
    RawEpisodeError,
    find_raw_episodes,
    read_raw_episode,
)
from flashwam_ros.episodes.sidecar import write_atomically
from flashwam_ros.imaging import ImageError, decode_jpeg, to_policy_size
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
        name: where it came from, for people.
        segment: frames and instruction.
        fps: rows per s.
        state: (N, 16) measured, contract order, rad.
        action: (N, 16) commanded, contract order, rad.
        images: reads pictures.
        cameras: contract camera key -> video feature; empty for raw episodes.
    """

    name: str
    segment: Segment
    fps: float
    state: np.ndarray
    action: np.ndarray
    images: Images
    cameras: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identifies it among all imports of a folder: names come again on the next day."""
        rows = self.action[self.segment.start:self.segment.end].astype(np.float32)
        content = rows.tobytes() + self.segment.text.encode()
        return f'{self.name} {hashlib.sha256(content).hexdigest()[:16]}'

    @property
    def options(self) -> dict:
        """What the command line may change in the demonstration besides its task, plain JSON."""
        return {'fps': self.fps, 'cameras': dict(self.cameras)}


@dataclass
class Imported:
    """What came of the sources: how many were written, there already, too short, damaged."""

    made: int = 0
    there: int = 0
    short: int = 0
    damaged: int = 0


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
                report: Callable[[str], None]) -> Iterator[Source | RawEpisodeError]:
    """Raw XR episodes at or below a folder; for a damaged one, what is wrong with it.

    Raises:
        ValueError: an episode's commands leave the limits; it is named.
    """
    for folder in find_raw_episodes(root):
        try:
            raw = read_raw_episode(folder, contract, options.fps)
        except RawEpisodeError as error:
            yield error
            continue
        findings = [validation.Finding('range', folder, None, frame, text)
                    for frame, text in validation.outside_limits(raw.action, contract)]
        for finding in validation.require_valid(findings, options.accept):
            report(f'accepted: {finding}')
        name = '/'.join(folder.resolve().parts[-2:])
        yield Source(name, Segment(0, len(raw.action), raw.goal), raw.fps, raw.state, raw.action,
                     _raw_images(raw, contract))


def _raw_images(raw: RawEpisode, contract: RobotContract) -> Images:
    def read(key: str, indices: np.ndarray) -> list[np.ndarray]:
        camera, out = contract.camera(key), []
        for path in (raw.images[key][i] for i in indices):
            try:
                out.append(to_policy_size(decode_jpeg(path.read_bytes()), camera))
            except (OSError, ImageError) as error:
                raise RawEpisodeError(f'{path}: {error}') from error
        return out

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
        yield Source(name, segment, dataset.fps, state, action, images, cameras)


def run_import(sources: Iterator[Source | RawEpisodeError], out: Path, contract: RobotContract,
               task: str | None, report: Callable[[str], None]) -> Imported:
    """Write what was not imported before; what is left out is reported.

    Raises:
        LeRobotError: a source cannot be made to fit the contract.
        ValueError: the folder's imports were noted without their content, by an earlier version;
            or a source was imported before, at another rate, from other cameras or as another
            task.
    """
    log, kinematics = out / LOG, Kinematics(load_description())
    imports = _imports(log)
    done, begin = Imported(), time.monotonic()
    progress = Progress(report, 1.0)  # the number of episodes is not known beforehand
    for source in sources:
        if isinstance(source, Source):
            key, name = source.key, task or task_name(source.segment.text)
            before = imports.get(key, {'number': FIRST_NUMBER + len(imports)})
            path = episode_path(out, name, before['number'])
            if _is_there(source, before, path, log):
                done.there += 1
                continue
        try:
            if isinstance(source, RawEpisodeError):
                raise source
            episode = demonstration(source, contract, before['number'], name, kinematics)
        except LeRobotError:
            raise
        except ValueError as error:
            report(f'left out: {error}')
            if isinstance(error, RawEpisodeError):
                done.damaged += 1
            else:
                done.short += 1
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # The number first: a file without one would be given to another episode.
        imports[key] = {'number': before['number'], **source.options}
        write_atomically(log, json.dumps(imports, indent=1).encode())
        write_episode(path, episode)
        done.made += 1
        progress.tell(done.made, time.monotonic() - begin, 0.0, f'{source.name} -> {path.name}')
    return done


def _is_there(source: Source, before: Mapping, path: Path, log: Path) -> bool:
    """Whether a source was imported before, and just so.

    Raises:
        ValueError: it was, but otherwise: once more it would be trained on twice, or not changed.
    """
    there = sorted(log.parent.glob(f'*/{path.name}'))
    redo = (f'to replace it, remove that file, and its latents if there are any; {log} has the '
            'numbers of all imports. Or give another --out')
    for other in there:
        if other != path:
            raise ValueError(f'{source.name} is already there under {other.parent.name}, not '
                             f'{path.parent.name}: {other}: {redo}')
    if not there:
        return False
    # What an earlier version imported has no options noted: it cannot be compared.
    for name, value in source.options.items():
        if name in before and before[name] != value:
            raise ValueError(f'{path}: {source.name} was imported with {name} {before[name]}, now '
                             f'it is {value}: {redo}')
    return True


def _imports(log: Path) -> dict[str, dict]:
    """What was imported before: number and options by key."""
    noted = json.loads(log.read_text(encoding='utf-8')) if log.is_file() else {}
    bare = [key for key in noted if not re.search(' [0-9a-f]{16}$', key)]
    if bare:
        raise ValueError(f'{log}: {bare[0]!r} does not tell what was imported, only from where: '
                         f'remove this file and the episodes from {FIRST_NUMBER} on, and import '
                         'them again')
    # An earlier version noted the number alone.
    return {key: entry if isinstance(entry, dict) else {'number': entry}
            for key, entry in noted.items()}


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
        done = run_import(sources, options.out, contract, options.task, report)
    except (ValueError, OSError) as error:
        report(str(error))
        return 1
    report(f'{done.made} demonstrations imported, {done.there} already there, '
           f'{done.short} too short, {done.damaged} damaged: {options.out}')
    return 1 if done.damaged else 0


if __name__ == '__main__':
    sys.exit(main())
