# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Finished evaluation episodes: one JSON line each, found again by what was run.

They grow in ``<checkpoint>/episodes.jsonl`` below the cache, which goes with the machine. What is
published is kept in the repository as well, a packed file per checkpoint.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flashwam_ros.resources import share_path
from flashwam_ros.training.command import cache_folder
from flashwam_ros.training.json_lines import append_line
from flashwam_ros.training.seeds import TASKS, seeds

SAMPLERS = ('own', 'euler')
PROMPTS = ('own', 'held_out')
EXPERT = 'expert'
PACKED = '.jsonl.gz'


@dataclass(frozen=True)
class Setting:
    """How a policy is run: the identity of a result.

    Attributes:
        checkpoint: name of the folder, or 'expert'; for people, not compared.
        sha256: of the checkpoint's flashwam.json, '' for the expert.
        execution: 'sync', 'async' or 'async_grounded'.
        video_steps: denoising steps of the video, 0 for the expert.
        action_steps: denoising steps of the actions, 0 for the expert.
        latency_s: emulated time from prediction to arrival, s.
        sampler: 'own', or 'euler' where that replaces what the checkpoint stores.
        prompts: 'own', or 'held_out' for other words than those of the demonstrations.
    """

    checkpoint: str = field(compare=False)
    sha256: str
    execution: str = 'sync'
    video_steps: int = 3
    action_steps: int = 10
    latency_s: float = 0.1
    sampler: str = 'own'
    prompts: str = 'own'

    @property
    def steps(self) -> str:
        """Like '3v/10a'."""
        return f'{self.video_steps}v/{self.action_steps}a'

    @property
    def label(self) -> str:
        """For progress lines and headings."""
        if not self.sha256:
            return f'{self.checkpoint}, {self.execution}'
        euler = ' under Euler' if self.sampler == 'euler' else ''
        words = ', other words' if self.prompts == 'held_out' else ''
        return f'{self.checkpoint} {self.steps}{euler}, {self.execution}{words}'


@dataclass(frozen=True)
class Job:
    """One episode to run."""

    task: str
    seed: int
    blank: bool = False


Results = Mapping[Job, Mapping]
"""What ``EpisodeResult`` holds, as plain data, by job."""


def parse_steps(text: str) -> tuple[int, int]:
    """'3v/10a' -> (3, 10); ValueError for anything else."""
    parts = text.strip().split('/')
    if len(parts) != 2 or parts[0][-1:] != 'v' or parts[1][-1:] != 'a' \
            or not (parts[0][:-1] + parts[1][:-1]).isdigit():
        raise ValueError(f'steps {text!r}: write them like 3v/10a')
    steps = int(parts[0][:-1]), int(parts[1][:-1])
    if min(steps) < 1:
        raise ValueError(f'steps {text!r}: at least one of each')
    return steps


def make_jobs(counts: Mapping[str, int], split: str, blank: str = 'no') -> list[Job]:
    """The first ``counts[task]`` seeds of a split for each task, in order of tasks.

    Args:
        counts: task -> number of seeds.
        split: 'test' or 'selection'.
        blank: 'no', 'only' or 'both' (each seed with and without images).

    Raises:
        ValueError: unknown task, or more seeds than the split has.
    """
    unknown = set(counts) - set(TASKS)
    if unknown:
        raise ValueError(f'unknown tasks {sorted(unknown)}: choose from {list(TASKS)}')
    kinds = {'no': (False,), 'only': (True,), 'both': (False, True)}[blank]
    return [Job(task, seed, kind) for task in counts for kind in kinds
            for seed in seeds(split, task, counts[task])]


def manifest_sha256(checkpoint: Path) -> str:
    """Identity of a checkpoint folder: SHA-256 of its flashwam.json.

    Raises:
        ValueError: the folder is no checkpoint.
    """
    path = checkpoint / 'flashwam.json'
    if not path.is_file():
        raise ValueError(f'{checkpoint} is not a checkpoint: flashwam.json is missing')
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checkpoint_name(checkpoint: Path) -> str:
    """The folder's name; what training calls just 'export' is named after its run."""
    folder = checkpoint.resolve()
    return folder.parent.name if folder.name == 'export' else folder.name


def results_folder(name: str, root: Path | None = None) -> Path:
    """Where the results of the checkpoint called ``name`` lie."""
    return (root or cache_folder('evaluations')) / name


def append_result(folder: Path, setting: Setting, job: Job, result: Mapping,
                  machine: str) -> None:
    """Add one finished episode."""
    append_line(folder / 'episodes.jsonl', {
        'setting': asdict(setting), 'job': asdict(job), 'result': dict(result),
        'machine': machine})


def read_all(folder: Path) -> dict[Setting, dict[Job, dict]]:
    """Every finished episode of a folder by setting and job; later lines win.

    Lines that a kill cut short are left out. A key that a line lacks (it may be older than the
    key) has its default.
    """
    path = folder / 'episodes.jsonl'
    return _parse(path.read_text(encoding='utf-8'), path) if path.exists() else {}


def _parse(text: str, path: Path) -> dict[Setting, dict[Job, dict]]:
    found: dict[Setting, dict[Job, dict]] = {}
    names = {entry.name for entry in dataclasses.fields(Setting)}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        unknown = set(entry['setting']) - names
        if unknown:
            raise ValueError(f'{path}: a newer program wrote {sorted(unknown)} into it')
        result = dict(entry['result'], machine=entry.get('machine', ''))
        setting = Setting(**entry['setting'])
        found.setdefault(setting, {})[Job(**entry['job'])] = result
    return found


def kept_folder() -> Path:
    """The episodes that are published with the package."""
    return share_path('config', 'evaluation') / 'episodes'


def read_tree(root: Path, kept: Path | None = None) -> dict[Setting, dict[Job, dict]]:
    """Everything below a folder of results: a checkpoint is known by its hash, not by its name.

    Args:
        root: a folder per checkpoint.
        kept: packed files of ``keep``; what is in both is taken from ``root``.
    """
    merged: dict[Setting, dict[Job, dict]] = {}
    found = [read_kept(path) for path in sorted(kept.glob(f'*{PACKED}'))] if kept else []
    found += [read_all(path.parent) for path in sorted(root.glob('*/episodes.jsonl'))]
    for everything in found:
        for setting, results in everything.items():
            merged.setdefault(setting, {}).update(results)
    return merged


def read_kept(path: Path) -> dict[Setting, dict[Job, dict]]:
    """The episodes of one packed file, {} where there is none."""
    if not path.exists():
        return {}
    return _parse(gzip.decompress(path.read_bytes()).decode(), path)


def keep(folder: Path, everything: Mapping[Setting, Results]) -> int:
    """Add episodes to the packed files of a folder, one per name of a checkpoint.

    The same episodes give the same bytes, in whatever order they were run.

    Returns:
        Episodes in all files that were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for name in sorted({setting.checkpoint for setting in everything}):
        path = folder / f'{name}{PACKED}'
        merged = read_kept(path)
        for setting, results in everything.items():
            if setting.checkpoint == name:
                merged.setdefault(setting, {}).update(results)
        lines = sorted(
            json.dumps({'setting': asdict(setting), 'job': asdict(job),
                        'result': {k: v for k, v in result.items() if k != 'machine'},
                        'machine': result['machine']})
            for setting, results in merged.items() for job, result in results.items())
        part = path.with_name(path.name + '.part')
        part.write_bytes(gzip.compress('\n'.join([*lines, '']).encode(), mtime=0))
        part.replace(path)
        count += len(lines)
    return count


def read_results(folder: Path, setting: Setting) -> dict[Job, dict]:
    """Finished episodes of exactly this setting."""
    return read_all(folder).get(setting, {})


def chosen(results: Results, jobs: Iterable[Job]) -> dict[Job, Mapping]:
    """Those of ``jobs`` that are finished."""
    return {job: results[job] for job in jobs if job in results}


def successes(results: Results) -> tuple[int, int]:
    """(successes, episodes)."""
    return sum(bool(result['success']) for result in results.values()), len(results)


def machines(results: Results) -> list[str]:
    """What the episodes ran on, without the number of processes."""
    return sorted({result['machine'].split(',')[0] for result in results.values()} - {''})


def of_task(results: Results, task: str) -> dict[Job, Mapping]:
    """The part of one task."""
    return {job: result for job, result in results.items() if job.task == task}


def tasks_of(jobs: Iterable[Job]) -> Sequence[str]:
    """Tasks in the package's order."""
    present = {job.task for job in jobs}
    return [task for task in TASKS if task in present]
