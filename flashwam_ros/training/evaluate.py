# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Closed-loop success of a checkpoint in the in-process twin, with a blanked-image control.

Every finished episode is one line of ``episodes.jsonl``; running again continues.  Figures that
are reported use test seeds; looking at a checkpoint while it trains uses selection seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import queue as queues
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flashwam_ros.training.command import cache_folder, reporter
from flashwam_ros.training.seeds import TASKS, seeds
from flashwam_ros.training.statistics import wilson
from flashwam_ros.twin.gl import choose_gl_backend


@dataclass(frozen=True)
class Setting:
    """How a checkpoint is run; part of the identity of a result."""

    checkpoint: str
    sha256: str
    execution: str = 'sync'
    video_steps: int = 3
    action_steps: int = 10
    latency_s: float = 0.1


@dataclass(frozen=True)
class Job:
    """One episode to run."""

    task: str
    seed: int
    blank: bool


def parse_steps(text: str) -> tuple[int, int]:
    """'3v/10a' -> (3, 10); ValueError for anything else."""
    parts = text.split('/')
    if len(parts) != 2 or parts[0][-1:] != 'v' or parts[1][-1:] != 'a':
        raise ValueError(f'steps {text!r}: write them like 3v/10a')
    steps = int(parts[0][:-1]), int(parts[1][:-1])
    if min(steps) < 1:
        raise ValueError(f'steps {text!r}: at least one of each')
    return steps


def make_jobs(tasks: list[str], split: str, count: int, blank: str) -> list[Job]:
    """Episodes to run; blank 'no', 'only' or 'both' (each seed with and without images)."""
    unknown = set(tasks) - set(TASKS)
    if unknown:
        raise ValueError(f'unknown tasks {sorted(unknown)}: choose from {list(TASKS)}')
    kinds = {'no': (False,), 'only': (True,), 'both': (False, True)}[blank]
    return [Job(task, seed, kind) for task in tasks for kind in kinds
            for seed in seeds(split, task, count)]


def evaluate(setting: Setting, checkpoint: Path, jobs: list[Job], out: Path, workers: int,
             report: Callable[[str], None] | None = None) -> dict:
    """Run what is not done yet and return (and write) the summary of all ``jobs``.

    Args:
        setting: what is run, part of every result.
        checkpoint: its folder.
        jobs: episodes.
        out: folder for ``episodes.jsonl``, ``summary.json`` and ``summary.md``.
        workers: processes, one torch thread each.
        report: called with progress lines.
    """
    report = report or reporter('evaluate')
    choose_gl_backend()
    out.mkdir(parents=True, exist_ok=True)
    done = read_results(out, setting)
    todo = [job for job in jobs if job not in done]
    report(f'{len(todo)} of {len(jobs)} episodes to run')
    context = multiprocessing.get_context('spawn')
    queue, results = context.Queue(), context.Queue()
    for item in [*todo, *([None] * workers)]:
        queue.put(item)
    processes = [context.Process(target=_worker, args=(setting, checkpoint, queue, results),
    daemon=True)
                 for _ in range(workers)]
    for process in processes:
        process.start()
    begin = time.monotonic()
    try:
        for number in range(1, len(todo) + 1):
            job, result = _next(results, processes)
            done[job] = result
            with open(out / 'episodes.jsonl', 'a', encoding='utf-8') as file:
                file.write(json.dumps({'setting': asdict(setting), 'job': asdict(job),
                                       'result': result}) + '\n')
            if number % 10 == 0 or number == len(todo):
                wall = time.monotonic() - begin
                report(f'{number}/{len(todo)} {job.task}{" blank" if job.blank else ""}: '
                       f'{_successes(done, job)}, about {wall / number * (len(todo) - number):.0f}'
                       ' s left')
    finally:
        for process in processes:
            process.terminate()
    summary = summarise(setting, {job: done[job] for job in jobs})
    (out / 'summary.json').write_text(json.dumps(summary, indent=1), encoding='utf-8')
    (out / 'summary.md').write_text(markdown(summary), encoding='utf-8')
    return summary


def _successes(done: dict[Job, dict], like: Job) -> str:
    same = [result for job, result in done.items()
            if (job.task, job.blank) == (like.task, like.blank)]
    return f'{sum(result["success"] for result in same)}/{len(same)} succeeded'


def _next(results, processes) -> tuple[Job, dict]:
    while True:
        try:
            return results.get(timeout=5.0)
        except queues.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError('an evaluation worker died: see its traceback above; '
                                   'run again to continue') from None


def _worker(setting: Setting, checkpoint: Path, queue, results) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from flashwam_ros.policy.wam_policy import load_wam_policy
    from flashwam_ros.training.rollout import run_episode
    from flashwam_ros.twin.episode import InProcessRobot
    from flashwam_ros.twin.tasks import TASKS as TASK_SPECS
    torch.set_num_threads(1)
    policy = load_wam_policy(checkpoint, setting.video_steps, setting.action_steps)
    robot, scene = None, None
    for job in iter(queue.get, None):
        if scene != (job.task, job.blank):
            if robot is not None:
                robot.close()
            robot = InProcessRobot(job.task, policy.contract, images=not job.blank)
            scene = (job.task, job.blank)
        result = run_episode(
            robot, policy, TASK_SPECS[job.task].prompt, job.seed, execution=setting.execution,
            latency_s=setting.latency_s, time_limit_s=TASK_SPECS[job.task].time_limit_s,
            blank_images=job.blank)
        results.put((job, asdict(result)))


def read_results(out: Path, setting: Setting) -> dict[Job, dict]:
    """Finished episodes of exactly this setting."""
    path = out / 'episodes.jsonl'
    done = {}
    if path.exists():
        for line in path.read_text(encoding='utf-8').splitlines():
            entry = json.loads(line)
            if entry['setting'] == asdict(setting):
                done[Job(**entry['job'])] = entry['result']
    return done


def summarise(setting: Setting, results: dict[Job, dict]) -> dict:
    """Counts per task, with and without images, per stage, with 95 % Wilson intervals."""
    rows = []
    for task in TASKS:
        for blank in (False, True):
            mine = {job: result for job, result in results.items()
                    if (job.task, job.blank) == (task, blank)}
            if mine:
                rows.append(_row(task, blank, mine))
    return {'setting': asdict(setting), 'rows': rows}


def _row(task: str, blank: bool, results: dict[Job, dict]) -> dict:
    count = len(results)
    names = list(dict.fromkeys(name for result in results.values() for name in result['stages']))
    success = sum(result['success'] for result in results.values())
    reasons: dict[str, int] = {}
    for result in results.values():
        reasons[result['reason']] = reasons.get(result['reason'], 0) + 1
    return {
        'task': task, 'blank_images': blank, 'n': count,
        'seeds': [min(job.seed for job in results), max(job.seed for job in results)],
        'success': success, 'success_interval': wilson(success, count),
        'stages': {name: sum(bool(result['stages'].get(name)) for result in results.values())
                   for name in names},
        'reasons': reasons,
        'limited_ticks': sum(result['limited_ticks'] for result in results.values()),
        'predict_ms': sum(result['predict_ms'] for result in results.values()) / count,
    }


def markdown(summary: dict) -> str:
    """The summary as a table."""
    setting = summary['setting']
    lines = [
        f'Checkpoint `{Path(setting["checkpoint"]).name}` ({setting["sha256"][:12]}), '
        f'{setting["video_steps"]}v/{setting["action_steps"]}a, {setting["execution"]}, '
        f'emulated latency {setting["latency_s"]} s.', '',
        '| task | images | seeds | success | 95 % Wilson | stages reached |',
        '|---|---|---|---|---|---|',
    ]
    for row in summary['rows']:
        low, high = row['success_interval']
        stages = ', '.join(f'{name} {count}' for name, count in row['stages'].items())
        lines.append(
            f'| {row["task"]} | {"blanked" if row["blank_images"] else "seen"} '
            f'| {row["seeds"][0]}..{row["seeds"][1]} | {row["success"]}/{row["n"]} '
            f'| {100 * low:.0f}..{100 * high:.0f} % | {stages} |')
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam evaluate``."""
    parser = argparse.ArgumentParser(prog='flashwam evaluate', description=__doc__)
    parser.add_argument('--checkpoint', type=Path, required=True, help='checkpoint folder')
    parser.add_argument('--tasks', default='all', help='all, or names with commas')
    parser.add_argument('--split', choices=('test', 'selection'), default='test')
    parser.add_argument('--seeds', type=int, default=100, help='episodes per task')
    parser.add_argument('--steps', default='3v/10a', help='denoising steps')
    parser.add_argument('--execution', choices=('sync', 'async'), default='sync')
    parser.add_argument('--latency', type=float, default=0.1,
                        help='emulated time from prediction to arrival, s')
    parser.add_argument('--blank-images', choices=('no', 'only', 'both'), default='no',
                        help='control: the policy sees mid-grey images')
    parser.add_argument('--workers', type=int, default=2, help='processes')
    parser.add_argument('--out', type=Path, default=None, help='results folder')
    options = parser.parse_args(argv)
    tasks = list(TASKS) if options.tasks == 'all' else options.tasks.split(',')
    manifest = (options.checkpoint / 'flashwam.json').read_bytes()
    video_steps, action_steps = parse_steps(options.steps)
    setting = Setting(options.checkpoint.name, hashlib.sha256(manifest).hexdigest(),
                      options.execution, video_steps, action_steps, options.latency)
    jobs = make_jobs(tasks, options.split, options.seeds, options.blank_images)
    out = options.out or cache_folder('evaluations', options.checkpoint.name)
    summary = evaluate(setting, options.checkpoint, jobs, out, options.workers)
    sys.stdout.write(markdown(summary))
    return 0


if __name__ == '__main__':
    sys.exit(main())
