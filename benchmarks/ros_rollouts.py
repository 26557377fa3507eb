# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rollouts over ROS, DDS and all nodes: success and timing, beside the same seeds in process.

Run: ``python benchmarks/ros_rollouts.py --policy wam --execution async --seeds 20``

One graph is kept up for all tasks (started again if it breaks) and gets one `run_rollout` goal
after the other. Every finished rollout is one line of ``rollouts.jsonl``; running again continues.
``--in-process episodes.jsonl`` of ``flashwam evaluate`` adds the agreement seed by seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._stack import (  # noqa: E402
    Place,
    Stack,
    StackError,
    end_on_sigterm,
    header,
    header_lines,
    say,
    table,
)
from flashwam_ros.bringup.settings import DEFAULT_CHECKPOINT, TASKS, SettingsError  # noqa: E402
from flashwam_ros.episodes.rollout_report import RECORDING  # noqa: E402
from flashwam_ros.policy.loop import LOOKAHEAD  # noqa: E402
from flashwam_ros.resources import share_path  # noqa: E402
from flashwam_ros.training.seeds import seeds as test_seeds  # noqa: E402
from flashwam_ros.training.statistics import wilson  # noqa: E402

RESULT_S = 300.0
STARTS = 5
COLUMNS = (
    'task', 'n', 'valid', 'success', '95 % Wilson (of valid)', 'time to success s p50',
    'chunk latency ms p50 / p95', 'slack ms p1 / p50', 'late chunks', 'boundary jump rad p95',
    'tick lateness ms p99 (worst)', 'real-time factor min', 'limited ticks',
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """How the stack is run; part of the identity of a result."""

    policy: str
    checkpoint: str
    sha256: str
    execution: str
    video_steps: int
    action_steps: int


def checkpoint_folder(options: argparse.Namespace) -> Path:
    """A folder as given, or one of the shipped models."""
    folder = Path(options.checkpoint).expanduser()
    return folder if folder.is_dir() else share_path('models', options.checkpoint)


def make_setting(options: argparse.Namespace) -> Setting:
    """The setting, with the checkpoint's manifest hashed as ``flashwam evaluate`` does."""
    if options.policy != 'wam':
        return Setting(options.policy, '', '', options.execution, 0, 0)
    folder = checkpoint_folder(options)
    sha256 = hashlib.sha256((folder / 'flashwam.json').read_bytes()).hexdigest()
    return Setting(
        options.policy, folder.name, sha256, options.execution, options.video_steps,
        options.action_steps,
    )  # fmt: skip


def parse_seeds(text: str, task: str) -> list[int]:
    """'20': the first 20 test seeds of the task; '10000:10020': that range.

    Raises:
        ValueError: neither of the two.
    """
    first, colon, last = text.partition(':')
    if colon:
        return list(range(int(first), int(last)))
    return test_seeds('test', task, int(first))


def read_lines(path: Path, setting: Setting) -> dict[tuple[str, int], dict]:
    """Finished rollouts of exactly this setting by (task, seed); later lines win."""
    done = {}
    if path.exists():
        for line in path.read_text(encoding='utf-8').splitlines():
            entry = json.loads(line)
            if entry['setting'] == asdict(setting):
                done[entry['task'], entry['seed']] = entry
    return done


def collect(listener, result) -> dict:
    """What a finished rollout contributes; s and rad."""
    summary = json.loads(result.summary_json)
    chunks = [h.msg for h in listener.chunks if h.msg.session == summary['session']]
    starts = [h.msg for h in listener.starts if h.msg.session == summary['session']]
    keys = ('elapsed_s', 'late_chunks', 'hold_s', 'limited_ticks', 'real_time_factor',
            'tick_lateness_s', 'tracking_error_rad', 'first_action_s', 'events')  # fmt: skip
    return {
        'verdict': result.verdict,
        'reason': result.reason,
        'success': result.success,
        'stages': dict(zip(result.stages, result.stage_reached, strict=True)),
        'folder': result.folder,
        **{key: summary[key] for key in keys},
        'latency_s': [sum(msg.latency) for msg in chunks],
        'slack_s': [msg.slack for msg in starts if msg.index > 0],
        'jump_rad': [msg.boundary_jump for msg in starts],
    }


class Runner:
    """Works through the jobs, with as many starts of the graph as that takes."""

    def __init__(self, options: argparse.Namespace, setting: Setting, out: Path):
        self._options, self._setting, self._out = options, setting, out
        self._place = options.ros_domain, options.unitree_domain, options.port

    def run(self, jobs: Sequence[tuple[str, int]]) -> None:
        """Run all jobs.

        Raises:
            StackError: the graph broke too often in a row without a result.
        """
        left, failures = list(jobs), 0
        while left:
            before = len(left)
            try:
                self._with_one_graph(left, failures)
            except StackError as error:
                say(f'{error}; starting the graph again')
            failures = 0 if len(left) < before else failures + 1
            if failures >= STARTS:
                raise StackError(f'{STARTS} starts without a result; see {self._out}/stack.log')

    def _with_one_graph(self, left: list[tuple[str, int]], attempt: int) -> None:
        options, setting = self._options, self._setting
        values = {
            'task': left[0][0], 'policy': setting.policy, 'execution': setting.execution,
            'video_steps': str(setting.video_steps), 'action_steps': str(setting.action_steps),
            'output_dir': str(self._out / 'rollouts'),
            'film': str(self._options.films).lower(),
        }  # fmt: skip
        if setting.policy == 'wam':
            values['checkpoint'] = options.checkpoint
        ros, unitree, port = self._place
        place = Place(ros + attempt, unitree + attempt, port + 4 * attempt)
        with Stack(values, place, self._out / 'stack.log') as stack:
            while left:
                task, seed = left[0]
                stack.listener.clear()
                begun = time.monotonic()
                result = stack.run_goal(
                    RESULT_S, task=task, prompt='', seed=seed, time_limit=0.0,
                    execution=setting.execution,
                )  # fmt: skip
                entry = {
                    'setting': asdict(setting), 'task': task, 'seed': seed,
                    'wall_s': round(time.monotonic() - begun, 1),
                    **collect(stack.listener, result),
                }  # fmt: skip
                with open(self._out / 'rollouts.jsonl', 'a', encoding='utf-8') as file:
                    file.write(json.dumps(entry) + '\n')
                left.pop(0)
                say(f'{task} {seed}: {result.verdict} ({result.reason}), '
                    f'{len(left)} left')  # fmt: skip
                if not self._options.films:
                    (Path(result.folder) / RECORDING).unlink(missing_ok=True)


# -- report ---------------------------------------------------------------------------------------


def _percentiles(entries: Sequence[Mapping], key: str, scale: float, *q: float) -> str:
    values = [value for entry in entries for value in entry[key]]
    if not values:
        return '-'
    return ' / '.join(f'{scale * float(np.percentile(values, each)):.1f}' for each in q)


def row(task: str, entries: Sequence[Mapping]) -> list[object]:
    """One task's line of the table; timing over all valid rollouts, pooled."""
    valid = [entry for entry in entries if entry['verdict'] != 'invalid']
    success = sum(entry['success'] for entry in valid)
    low, high = wilson(success, len(valid))
    times = [entry['elapsed_s'] for entry in valid if entry['success']]
    jumps = [jump for entry in valid for jump in entry['jump_rad']]
    factors = [e['real_time_factor'] for e in entries if e['real_time_factor'] is not None]
    return [
        task, len(entries), len(valid), f'{success}/{len(valid)}',
        f'{100 * low:.0f}..{100 * high:.0f} %',
        f'{float(np.median(times)):.1f}' if times else '-',
        _percentiles(valid, 'latency_s', 1e3, 50, 95),
        _percentiles(valid, 'slack_s', 1e3, 1, 50),
        f'{sum(e["late_chunks"] for e in valid)} of {sum(len(e["slack_s"]) for e in valid)}',
        f'{float(np.percentile(jumps, 95)):.4f}' if jumps else '-',
        f'{1e3 * max((e["tick_lateness_s"]["p99"] for e in valid), default=0.0):.2f}',
        f'{min(factors):.3f}' if factors else '-',
        sum(e['limited_ticks'] for e in valid),
    ]  # fmt: skip


def reasons(done: Mapping[tuple[str, int], Mapping]) -> list[str]:
    """How often each task ended for which reason other than success."""
    counts: dict[tuple[str, str], int] = {}
    for (task, _), entry in done.items():
        if not entry['success']:
            # Time stamps would make every reason another one.
            said = re.sub(r'\d{4,}', '…', entry['reason'])[:120]
            key = task, f'{entry["verdict"]}: {said}'
            counts[key] = counts.get(key, 0) + 1
    return [f'- {task}: {count} x {text}' for (task, text), count in sorted(counts.items())]


def agreement(
    path: Path, done: Mapping[tuple[str, int], Mapping], same: Mapping[str, Any]
) -> list[str]:
    """Table of seeds that succeeded in both, in one, in neither, per task.

    Args:
        path: ``episodes.jsonl`` of ``flashwam evaluate``.
        done: rollouts over ROS by (task, seed).
        same: what the setting of a line must be to count: one file holds many settings.

    Raises:
        ValueError: no line of the file belongs to these rollouts.
    """
    cells: dict[str, dict[tuple[bool, bool], int]] = {}
    times: dict[str, list[float]] = {}
    for line in path.read_text(encoding='utf-8').splitlines():
        entry = json.loads(line)
        job, result = entry['job'], entry['result']
        mine = done.get((job['task'], job['seed']))
        if mine is None or job['blank'] or mine['verdict'] == 'invalid':
            continue
        if any(entry['setting'].get(name) != value for name, value in same.items()):
            continue
        key = bool(mine['success']), bool(result['success'])
        count = cells.setdefault(job['task'], {})
        count[key] = count.get(key, 0) + 1
        if all(key):
            times.setdefault(job['task'], []).append(mine['elapsed_s'] - result['duration_s'])
    if not cells:
        raise ValueError(f'{path}: no episode with the seeds and the checkpoint of these rollouts')
    rows = []
    for task, count in cells.items():
        n = sum(count.values())
        alike = count.get((True, True), 0) + count.get((False, False), 0)
        later = f'{float(np.median(times[task])):+.1f}' if task in times else '-'
        rows.append([
            task, n, *(count.get(key, 0) for key in
                       ((True, True), (True, False), (False, True), (False, False))),
            f'{alike}/{n}', later,
        ])  # fmt: skip
    columns = ('task', 'seeds', 'both', 'only over ROS', 'only in process', 'neither', 'same',
               'ROS - in process, s p50')  # fmt: skip
    return table(columns, rows)


def same_setting(options: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """What the in-process setting shares with these rollouts; execution and latency may differ."""
    if setting.policy != 'wam':
        return {'sha256': ''}
    sampler = json.loads((checkpoint_folder(options) / 'flashwam.json').read_bytes())['sampler']
    return {
        'sha256': setting.sha256, 'sampler': 'own', 'prompts': 'own',
        'video_steps': setting.video_steps or sampler['video']['steps'],
        'action_steps': setting.action_steps or sampler['action']['steps'],
    }  # fmt: skip


def report(options: argparse.Namespace, setting: Setting, jobs, head: dict) -> str:
    """The whole result as Markdown."""
    everything = read_lines(options.out / 'rollouts.jsonl', setting)
    done = {job: everything[job] for job in jobs if job in everything}
    lines = header_lines({**head, 'n': len(done)})
    lines += [f'Policy {setting.policy} {setting.checkpoint} {setting.sha256[:12]}, '
              f'{setting.execution}, steps {setting.video_steps}v/{setting.action_steps}a '
              '(0: as the checkpoint says).', '']  # fmt: skip
    rows = []
    for task in options.tasks:
        entries = [entry for (name, _), entry in done.items() if name == task]
        if entries:
            rows.append(row(task, entries))
    lines += [*table(COLUMNS, rows), '', *reasons(done), '']
    if options.in_process:
        lines += ['Against the same seeds in process:', '']
        lines += [*agreement(options.in_process, done, same_setting(options, setting)), '']
    return '\n'.join(lines)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--policy', choices=('expert', 'wam'), default='expert')
    parser.add_argument('--checkpoint', default=DEFAULT_CHECKPOINT)
    parser.add_argument('--execution', choices=tuple(LOOKAHEAD), default='async')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, default=list(TASKS))
    parser.add_argument('--seeds', default='20', help='N first test seeds per task, or FROM:TO')
    parser.add_argument('--video-steps', type=int, default=0, help='0: as the checkpoint')
    parser.add_argument('--action-steps', type=int, default=0, help='0: as the checkpoint')
    parser.add_argument('--in-process', type=Path, help='episodes.jsonl of flashwam evaluate')
    parser.add_argument('--again', action='store_true', help='repeat rollouts that were invalid')
    parser.add_argument('--films', action='store_true', help='draw plot and film of every rollout')
    parser.add_argument('--out', type=Path,
                        default=Path('~/.cache/flashwam/ros_rollouts').expanduser())
    parser.add_argument('--ros-domain', type=int, default=60)
    parser.add_argument('--unitree-domain', type=int, default=90)
    parser.add_argument('--port', type=int, default=21400)
    return parser.parse_args(argv)


def main() -> int:
    """Run what is not done yet, then print the table."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    end_on_sigterm()
    try:
        setting = make_setting(options)
        jobs = [(task, s) for task in options.tasks for s in parse_seeds(options.seeds, task)]
        head = header(len(jobs))
        done = read_lines(options.out / 'rollouts.jsonl', setting)
        bad = {job for job, entry in done.items() if entry['verdict'] == 'invalid'}
        left = [job for job in jobs if job not in done or (options.again and job in bad)]
        say(f'{len(left)} of {len(jobs)} rollouts to run')
        Runner(options, setting, options.out).run(left)
        text = report(options, setting, jobs, head)
    except (StackError, SettingsError, ValueError, OSError) as error:
        sys.stderr.write(f'ros_rollouts: {error}\n')
        return 1
    (options.out / f'{setting.policy}-{setting.execution}.md').write_text(text, encoding='utf-8')
    say(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
