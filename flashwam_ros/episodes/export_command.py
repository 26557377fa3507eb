# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make a LeRobot dataset of recorded episodes; run again, it continues where it stopped."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flashwam_ros.episodes.grid_rows import GridRows, grid_rows
from flashwam_ros.episodes.lerobot_writer import RECORDS, LeRobotWriter
from flashwam_ros.episodes.reader import Episode, EpisodeError, read_episode
from flashwam_ros.episodes.sidecar import (
    DISCARD,
    LABELS,
    SUFFIX,
    Sidecar,
    load_sidecar,
    sidecar_path,
    write_atomically,
)
from flashwam_ros.imaging import ImageError
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.command import reporter
from flashwam_ros.training.progress import Progress
from flashwam_ros.training.seeds import HELD_OUT, split_of

FORMATS = {'lerobot-v2.1': layout.V21, 'lerobot-v3': layout.V30}
SETTINGS = f'{RECORDS}/settings.json'
_WHY = ('a model that is trained on such scenes cannot be judged by them any more; record other '
        'seeds, or give --with-test-seeds to look at them')


@dataclass(frozen=True)
class Selection:
    """Which episodes are exported; discarded ones never are.

    Attributes:
        tasks: task names, all when empty.
        labels: of these, an episode must have one; any when empty.
        min_quality: lowest quality score; None takes episodes without an audit, too.
        test_seeds: also what the twin recorded in scenes of test and selection seeds.
    """

    tasks: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    min_quality: float | None = None
    test_seeds: bool = False

    def takes(self, sidecar: Sidecar) -> bool:
        """Whether an episode is chosen."""
        own = {sidecar.disposition, sidecar.outcome}
        return (sidecar.disposition != DISCARD
                and (not self.tasks or sidecar.task in self.tasks)
                and (not self.labels or bool(own & set(self.labels)))
                and (self.min_quality is None
                     or (sidecar.score is not None and sidecar.score >= self.min_quality)))


def select(folder: Path, selection: Selection,
           report: Callable[[str], None] | None = None) -> list[tuple[Path, Sidecar]]:
    """Chosen episodes at or below a folder, in order of their names.

    Args:
        folder: with recorded episodes.
        selection: what is chosen.
        report: told what is left out because of its seed.

    Raises:
        EpisodeError: none is chosen.
    """
    found, held_out = [], []
    for path in sorted(folder.rglob(f'*{SUFFIX}'), key=lambda path: (path.name, path)):
        beside = sidecar_path(path)
        sidecar = load_sidecar(beside) if beside.is_file() else Sidecar(path.stem, path.stem)
        if selection.takes(sidecar):
            chosen = found if selection.test_seeds or not _held_out(sidecar) else held_out
            chosen.append((path, sidecar))
    left_out = _left_out(held_out) if held_out else ''
    if not found:
        raise EpisodeError(f'{folder}: no episode fits {selection}'
                           + (f' but {left_out}' if left_out else ''))
    if left_out and report is not None:
        report(f'left out: {left_out}')
    return found


def _held_out(sidecar: Sidecar) -> bool:
    """Whether a scene is kept from training. A robot's seed draws the noise, not the scene."""
    return sidecar.robot == 'twin' and split_of(sidecar.seed, sidecar.task) in HELD_OUT


def _left_out(held_out: Sequence[tuple[Path, Sidecar]]) -> str:
    path, sidecar = held_out[0]
    return (f'{len(held_out)} recorded in scenes of test or selection seeds, {path} '
            f'({sidecar.task}, seed {sidecar.seed}) for one: {_WHY}')


def export(chosen: Sequence[tuple[Path, Sidecar]], out: Path, version: str, fps: float,
           contract: RobotContract, report: Callable[[str], None],
           test_seeds: bool = False) -> list[dict]:
    """Write the dataset; returns the records of its episodes.

    Episodes that are there already keep their indices.  One that cannot be put on the grid, or
    that shows a test or selection scene without ``test_seeds``, is named and left out.

    Raises:
        EpisodeError: the folder holds episodes that were not chosen, or another format or rate,
            or nothing is left to export.
    """
    _require_settings(out, {'version': version, 'fps': fps, 'contract': contract.sha256})
    writer = LeRobotWriter(out, version, fps, contract)
    records = writer.records()
    names = [record['source'] for record in records]
    gone = sorted(set(names) - {path.stem for path, _ in chosen})
    if gone:
        raise EpisodeError(f'{out} holds {len(gone)} episodes that were not chosen now, '
                           f'{gone[0]} for one: choose another --out')
    todo = [pair for pair in chosen if pair[0].stem not in names]
    progress, begin = Progress(report, 0.0), time.monotonic()
    for number, (path, sidecar) in enumerate(todo, 1):
        try:
            record = _episode(writer, path, sidecar, records, fps, contract, test_seeds)
        except (EpisodeError, ImageError) as error:
            report(f'left out: {error}')
            continue
        records.append(record)
        progress.tell(number, time.monotonic() - begin, number / len(todo), path.stem)
    if not records:
        raise EpisodeError(f'{out}: no episode is left to export')
    writer.finish(records, _tasks(records))
    return records


def _tasks(records: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(record['task'] for record in records))


def _episode(writer: LeRobotWriter, path: Path, sidecar: Sidecar, records: Sequence[dict],
             fps: float, contract: RobotContract, test_seeds: bool) -> dict:
    if sidecar.contract_sha256 not in ('', contract.sha256):
        raise EpisodeError(f'{path}: recorded for contract {sidecar.contract_sha256[:12]}, not '
                           f'{contract.sha256[:12]}')
    episode = read_episode(path, contract)
    if not test_seeds:
        _require_open_scenes(episode)
    rows = grid_rows(episode, contract, fps)
    if records:
        _require_sizes(episode, rows, records[0], contract)
    prompt = sidecar.prompt or sidecar.task
    return writer.write(len(records), sum(record['length'] for record in records), path.stem,
                        prompt, list(dict.fromkeys([*_tasks(records), prompt])), rows,
                        lambda key, index: episode.images[key].rgb(index))


def _require_open_scenes(episode: Episode) -> None:
    """What the twin said while recording: a sidecar may be missing, a scene may be reset."""
    for state in episode.sim:
        task, seed = state.values.get('task', episode.sidecar.task), state.values.get('seed')
        if (split := split_of(seed, task)) in HELD_OUT:
            raise EpisodeError(f'{episode.path}: shows a {split} scene ({task}, seed {seed}): '
                               f'{_WHY}')


def _require_sizes(episode: Episode, rows: GridRows, record: dict,
                   contract: RobotContract) -> None:
    """A dataset has one size of image per camera: that of its first episode."""
    for camera in contract.cameras:
        size = list(episode.images[camera.key].rgb(int(rows.frames[camera.key][0])).shape[:2])
        wanted = list(record['sizes'][layout.IMAGE_PREFIX + camera.dataset_key])
        if size != wanted:
            raise EpisodeError(f'{episode.path}: camera {camera.key}: images of {size}, but those '
                               f'of {record["source"]} are {wanted} (height, width): choose '
                               'another --out for one of the two')


def _require_settings(out: Path, wanted: dict) -> None:
    path = out / SETTINGS
    if path.is_file():
        old = json.loads(path.read_text(encoding='utf-8'))
        changed = sorted(name for name in wanted if old.get(name) != wanted[name])
        if changed:
            raise EpisodeError(f'{out} was made with another {", ".join(changed)}: choose another '
                               '--out')
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(wanted, indent=1).encode())


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam export``."""
    contract = RobotContract.load()
    parser = argparse.ArgumentParser(prog='flashwam export', description=__doc__)
    parser.add_argument('episodes', type=Path, help='folder with recorded episodes')
    parser.add_argument('--out', type=Path, required=True, help='folder of the dataset')
    parser.add_argument('--format', choices=sorted(FORMATS), default='lerobot-v3')
    parser.add_argument('--task', action='append', default=[], help='only this task')
    parser.add_argument('--label', action='append', default=[], choices=LABELS,
                        help='only episodes with this label or outcome')
    parser.add_argument('--min-quality', type=float, default=None, help='0..100')
    parser.add_argument('--fps', type=float, default=contract.row_rate_hz,
                        help='rows per s (default: the contract\'s, see docs/data.md)')
    parser.add_argument('--with-test-seeds', action='store_true',
                        help='also what the simulator recorded in scenes of test and selection '
                             'seeds: to look at, never to train on')
    options = parser.parse_args(argv)
    report = reporter('export')
    selection = Selection(tuple(options.task), tuple(options.label), options.min_quality,
                          options.with_test_seeds)
    try:
        records = export(select(options.episodes, selection, report), options.out,
                         FORMATS[options.format], options.fps, contract, report,
                         options.with_test_seeds)
    except (ValueError, ImageError, OSError) as error:
        report(str(error))
        return 1
    worst = max(error['max'] for r in records for error in r['image_error_ms'].values())
    means = [error['mean'] for r in records for error in r['image_error_ms'].values()]
    # Records of earlier exports do not say what was cut: nothing was.
    cut = sum(record.get('cut_rows', 0) for record in records)
    report(f'{len(records)} episodes, {sum(r["length"] for r in records)} rows'
           + (f' ({cut} more at the ends were not recorded whole and are cut)' if cut else '')
           + f'; images are {sum(means) / len(means):.1f} ms from their rows on average, '
           f'{worst:.1f} ms at most: {options.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
