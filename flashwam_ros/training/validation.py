# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Find what is wrong with a LeRobot dataset before anything is trained on it.

Every finding names file, episode and frame.  See docs/data.md for what each check can and cannot
see.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import colour_check
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.command import reporter
from flashwam_ros.training.lerobot_meta import (
    EpisodeMeta,
    LeRobotError,
    LeRobotSet,
    find_sets,
    open_set,
)
from flashwam_ros.training.video_file import VideoError, frame_times

CHECKS = ('layout', 'channels', 'cameras', 'frame count', 'fps', 'gap', 'non-finite', 'range',
          'colour order')
STAMP_TOLERANCE_S = 1e-3
"""Stamps are float32: 1 ms is far above their rounding and far below a frame."""
LIMIT_MARGIN = 0.05
"""rad, added to the contract's operational limits, which are the description's pulled in by it."""
SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Attributes:
        check: name of the check, one of CHECKS.
        path: file.
        episode: episode index, None when it concerns the whole dataset.
        frame: first frame concerned, None when it concerns the whole episode.
        message: what is wrong, with the measured value.
    """

    check: str
    path: Path
    episode: int | None
    frame: int | None
    message: str

    def __str__(self) -> str:
        """One line."""
        where = '' if self.episode is None else f', episode {self.episode}'
        where += '' if self.frame is None else f', frame {self.frame}'
        return f'{self.check}: {self.path}{where}: {self.message}'


class DatasetRefused(ValueError):
    """A dataset with findings that were not accepted; the message lists them."""


def camera_features(dataset: LeRobotSet, contract: RobotContract,
                    named: Mapping[str, str] | None = None) -> dict[str, str]:
    """Contract camera key -> video feature: ``observation.images.<dataset key>`` unless named.

    Raises:
        LeRobotError: a camera is not there; the ones that are, are named.
    """
    out = {}
    for camera in contract.cameras:
        feature = (named or {}).get(camera.key, layout.IMAGE_PREFIX + camera.dataset_key)
        if feature not in dataset.video_keys:
            raise LeRobotError(
                f'{dataset.root / layout.INFO}: camera {camera.key} ({feature}) is not there; '
                f'videos: {list(dataset.video_keys)}. Say which with --camera '
                f'{camera.key}=FEATURE')
        out[camera.key] = feature
    return out


def validate(dataset: LeRobotSet, contract: RobotContract, cameras: Mapping[str, str],
             report: Callable[[str], None] | None = None) -> list[Finding]:
    """All findings of a dataset.

    Args:
        dataset: see ``open_set``.
        contract: channels and limits to compare with.
        cameras: contract camera key -> video feature, see ``camera_features``.
        report: told about progress.
    """
    findings = list(_whole_set(dataset, contract, cameras))
    colours: dict[str, list[colour_check.EpisodeColour]] = {}
    for number, episode in enumerate(dataset.episodes, 1):
        broken = list(_episode(dataset, episode, contract, cameras))
        findings += broken
        damaged = {finding.path for finding in broken}
        for feature in cameras.values():
            path = episode.videos[feature].path
            if path in damaged:
                continue
            try:
                colour = colour_check.measure(dataset, episode, feature)
            except VideoError as error:
                findings.append(Finding('frame count', path, episode.index, None, str(error)))
                continue
            colours.setdefault(feature, []).append(colour)
        if report is not None and number % 50 == 0:
            report(f'checked {number}/{len(dataset.episodes)} episodes, {len(findings)} findings')
    for feature, measured in colours.items():
        findings += [Finding('colour order', path, index, None, text)
                     for path, index, text in colour_check.suspects(dataset, feature, measured)]
    return findings


def require_valid(findings: Sequence[Finding], accepted: Iterable[str] = ()) -> list[Finding]:
    """Findings that were accepted by the name of their check.

    Raises:
        DatasetRefused: others are left.
        ValueError: an accepted name is no check.
    """
    accepted = set(accepted)
    unknown = accepted - set(CHECKS)
    if unknown:
        raise ValueError(f'no such check {sorted(unknown)}: choose from {list(CHECKS)}')
    left = [finding for finding in findings if finding.check not in accepted]
    if left:
        more = f'\n... and {len(left) - SHOWN} more' if len(left) > SHOWN else ''
        raise DatasetRefused(f'{len(left)} findings:\n'
                             + '\n'.join(str(finding) for finding in left[:SHOWN]) + more)
    return list(findings)


def _whole_set(dataset: LeRobotSet, contract: RobotContract,
               cameras: Mapping[str, str]) -> Iterable[Finding]:
    info = dataset.root / layout.INFO
    indices = [episode.index for episode in dataset.episodes]
    if not indices or indices != list(range(len(indices))):
        yield Finding('layout', info, None, None,
                      f'episode indices are not 0..{len(indices) - 1}: {indices[:10]}')
    for feature in (layout.ACTION, layout.STATE):
        if feature not in dataset.features:
            yield Finding('channels', info, None, None, f'no feature {feature}')
            continue
        try:
            layout.channel_columns(dataset.names(feature), contract.channel_names)
        except ValueError as error:
            yield Finding('channels', info, None, None, f'{feature}: {error}')
    for key, feature in cameras.items():
        shape = list(dataset.features[feature]['shape'])
        if len(shape) != 3 or 3 not in (shape[0], shape[2]):
            yield Finding('cameras', info, None, None,
                          f'{key} ({feature}) has shape {shape}, not a colour image')


def _episode(dataset: LeRobotSet, episode: EpisodeMeta, contract: RobotContract,
             cameras: Mapping[str, str]) -> Iterable[Finding]:
    vectors = [f for f in (layout.ACTION, layout.STATE) if f in dataset.features]
    try:
        table = dataset.table(episode, ['timestamp', 'frame_index', *vectors])
    except LeRobotError as error:
        yield Finding('layout', episode.data, episode.index, None, str(error))
        return
    if len(table['timestamp']) != episode.length:
        yield Finding('frame count', episode.data, episode.index, None,
                      f'{len(table["timestamp"])} rows, meta/ says {episode.length}')
    yield from _stamps(dataset, episode, table)
    for feature in vectors:
        yield from _values(dataset, episode, feature, table[feature], contract)
    for feature in cameras.values():
        yield from _video(dataset, episode, feature)


def _stamps(dataset: LeRobotSet, episode: EpisodeMeta,
            table: Mapping[str, np.ndarray]) -> Iterable[Finding]:
    index, stamps = table['frame_index'].reshape(-1), table['timestamp'].reshape(-1)
    wrong = np.flatnonzero(index != np.arange(len(index)))
    if len(wrong):
        yield Finding('gap', episode.data, episode.index, int(wrong[0]),
                      f'frame_index {index[wrong[0]]}, expected {wrong[0]}')
    if len(stamps) < 2:
        yield Finding('frame count', episode.data, episode.index, None, f'{len(stamps)} frames')
        return
    steps = np.diff(stamps.astype(np.float64))
    middle = float(np.median(steps))
    if not abs(middle - 1 / dataset.fps) <= STAMP_TOLERANCE_S:
        rate = 1 / middle if middle > 0 else float('nan')
        yield Finding('fps', episode.data, episode.index, None,
                      f'rows come at {rate:.2f} Hz, info.json says {dataset.fps:g}')
        return
    wrong = np.flatnonzero(~(np.abs(steps - 1 / dataset.fps) <= STAMP_TOLERANCE_S))
    if len(wrong):
        first = int(wrong[0])
        yield Finding('gap', episode.data, episode.index, first + 1,
                      f'{1000 * steps[first]:.1f} ms after the frame before instead of '
                      f'{1000 / dataset.fps:.1f}; {len(wrong)} such steps')


def _values(dataset: LeRobotSet, episode: EpisodeMeta, feature: str, values: np.ndarray,
            contract: RobotContract) -> Iterable[Finding]:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        yield Finding('non-finite', episode.data, episode.index, int(bad[0]),
                      f'{feature} is not finite in {len(bad)} rows')
        return
    if feature != layout.ACTION:
        return
    try:
        columns = layout.channel_columns(dataset.names(feature), contract.channel_names)
    except ValueError:
        return  # reported for the whole set
    for frame, text in outside_limits(values[:, columns], contract):
        yield Finding('range', episode.data, episode.index, frame, f'{feature} {text}')


def outside_limits(rows: np.ndarray, contract: RobotContract) -> list[tuple[int, str]]:
    """(first row, message) of every channel of rows (N, C) that leaves the limits."""
    outside = (rows < contract.lower - LIMIT_MARGIN) | (rows > contract.upper + LIMIT_MARGIN)
    out = []
    for column in np.flatnonzero(outside.any(axis=0)):
        channel = contract.channels[column]
        out.append((int(np.argmax(outside[:, column])),
                    f'{channel.name} runs {rows[:, column].min():.3f}..'
                    f'{rows[:, column].max():.3f} {channel.unit}, limits {channel.lower:.3f}..'
                    f'{channel.upper:.3f} in {int(outside[:, column].sum())} rows'))
    return out


def _video(dataset: LeRobotSet, episode: EpisodeMeta, feature: str) -> Iterable[Finding]:
    span = episode.videos[feature]
    try:
        times = frame_times(span.path)
    except VideoError as error:
        yield Finding('frame count', span.path, episode.index, None, str(error))
        return
    half = 0.5 / dataset.fps
    shown = times[times >= span.start_s - half]
    if dataset.version == layout.V30:
        shown = shown[:episode.length]
    if len(shown) != episode.length:
        yield Finding('frame count', span.path, episode.index, None,
                      f'{len(shown)} video frames for {episode.length} rows')
        return
    off = np.abs(shown - span.start_s - np.arange(len(shown)) / dataset.fps)
    if (off > half).any():
        first = int(np.argmax(off > half))
        yield Finding('gap', span.path, episode.index, first,
                      f'the video frame is {1000 * off[first]:.1f} ms from its row')


def accepting(parser: argparse.ArgumentParser) -> None:
    """Add the options that checking and extraction share."""
    parser.add_argument('--dataset', type=Path, required=True, help='LeRobot v2.1 or v3.0 folder')
    parser.add_argument('--camera', action='append', default=[], metavar='KEY=FEATURE',
                        help='video feature of a contract camera, if not the usual name')
    parser.add_argument('--accept', action='append', default=[], choices=CHECKS,
                        help='go on although this check has findings')


def camera_names(options: Sequence[str]) -> dict[str, str]:
    """``KEY=FEATURE`` options as a mapping; ValueError for another form."""
    if any('=' not in option for option in options):
        raise ValueError(f'--camera takes KEY=FEATURE, got {list(options)}')
    return dict(option.split('=', 1) for option in options)


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam check-dataset``: 0 when nothing is wrong, 1 otherwise."""
    parser = argparse.ArgumentParser(prog='flashwam check-dataset', description=__doc__)
    accepting(parser)
    options = parser.parse_args(argv)
    report, contract, bad = reporter('check'), RobotContract.load(), 0
    try:
        for root in find_sets(options.dataset):
            dataset = open_set(root)
            cameras = camera_features(dataset, contract, camera_names(options.camera))
            findings = validate(dataset, contract, cameras, report)
            report(f'{root}: {dataset.version}, {len(dataset.episodes)} episodes, '
                   f'{len(findings)} findings')
            for finding in findings:
                report(str(finding))
            bad += sum(finding.check not in options.accept for finding in findings)
    except ValueError as error:
        report(str(error))
        return 1
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
