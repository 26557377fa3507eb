# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of the scripted expert, one file per success, made by several processes.

Restarting continues where it stopped: a seed with a file, or with a note that it failed, is not
run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue as queues
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flashwam_ros.training.command import cache_folder, reporter
from flashwam_ros.training.episode_file import write_episode
from flashwam_ros.training.json_lines import append_line
from flashwam_ros.training.seeds import TASKS, require_split, seeds
from flashwam_ros.training.worker_life import end_with_parent
from flashwam_ros.twin.gl import choose_gl_backend


@dataclass(frozen=True)
class Outcome:
    """What became of one seed."""

    task: str
    seed: int
    success: bool
    reason: str
    latent_frames: int
    cpu_s: float



def episode_path(folder: Path, task: str, seed: int) -> Path:
    """File of one demonstration."""
    return folder / task / f'episode_{seed:06d}.npz'


def _worker(folder: Path, checkpoint: Path | None, tasks: multiprocessing.Queue,
            results: multiprocessing.Queue) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # Imported here: MuJoCo reads the choice of the OpenGL back-end when it is imported.
    from flashwam_ros.policy.wam_policy import load_wam_policy
    from flashwam_ros.robot.contract import RobotContract
    from flashwam_ros.training.recording import record_episode
    from flashwam_ros.twin import looks
    from flashwam_ros.twin.episode import InProcessRobot
    contract = RobotContract.load()
    policy = load_wam_policy(checkpoint) if checkpoint else None
    robot = None
    for task, seed in iter(tasks.get, None):
        if robot is None or robot.task != task:
            if robot is not None:
                robot.close()
            robot = InProcessRobot(task, contract, vary=looks.vary)
        begin = time.process_time()
        episode, reason = record_episode(robot, require_split(seed, 'training', task), policy)
        if episode is not None:
            write_episode(episode_path(folder, task, seed), episode)
        results.put(Outcome(task, seed, episode is not None, reason,
                            episode.latent_frames if episode else 0,
                            time.process_time() - begin))


def pending(folder: Path, tasks: list[str], episodes: int, start: int = 0) -> list[tuple[str,
int]]:
    """Seeds that have neither a file nor a note of failure, task by task."""
    failed = {(entry['task'], entry['seed']) for entry in _read_log(folder)
              if not entry['success']}
    todo = []
    for task in tasks:
        todo.extend((task, seed) for seed in seeds('training', task, episodes, start)
                    if (task, seed) not in failed
                    and not episode_path(folder, task, seed).exists())
    return todo


def generate(folder: Path, tasks: list[str], episodes: int, workers: int, start: int = 0,
             report: Callable[[str], None] | None = None,
             checkpoint: Path | None = None) -> list[Outcome]:
    """Run ``episodes`` seeds per task in spawned workers and keep the successes.

    Args:
        folder: where the episodes go, ``<task>/episode_<seed>.npz`` and ``log.jsonl``.
        tasks: task names, done in this order.
        episodes: seeds per task (failures are left out, not replaced).
        workers: processes.
        start: first place in the training seed range.
        report: called with a progress line.
        checkpoint: of a policy that acts until the expert takes over (``corrections``).
    """
    report = report or reporter('demos')
    unknown = set(tasks) - set(TASKS)
    if unknown:
        raise ValueError(f'unknown tasks {sorted(unknown)}: choose from {list(TASKS)}')
    choose_gl_backend()
    for task in tasks:
        (folder / task).mkdir(parents=True, exist_ok=True)
    todo = pending(folder, tasks, episodes, start)
    report(f'{len(todo)} episodes to do')
    context = multiprocessing.get_context('spawn')
    queue, results = context.Queue(), context.Queue()
    for item in [*todo, *([None] * workers)]:
        queue.put(item)
    processes = [context.Process(target=_worker, args=(folder, checkpoint, queue, results),
                                 daemon=True)
                 for _ in range(workers)]
    for process in processes:
        process.start()
    outcomes, begin = [], time.monotonic()
    try:
        while len(outcomes) < len(todo):
            outcomes.append(_next_outcome(results, processes))
            _append_log(folder, outcomes[-1])
            if len(outcomes) % 10 == 0 or len(outcomes) == len(todo):
                report(_progress(outcomes, len(todo), time.monotonic() - begin))
    finally:
        for process in processes:
            process.terminate() if len(outcomes) < len(todo) else process.join()
    return outcomes


def _next_outcome(results, processes) -> Outcome:
    while True:
        try:
            return results.get(timeout=5.0)
        except queues.Empty:
            dead = [process.exitcode for process in processes if process.exitcode]
            if dead:
                raise RuntimeError(f'a worker ended with exit code {dead[0]}: see its traceback '
                                   'above; run again to continue') from None


def _progress(outcomes: list[Outcome], total: int, wall_s: float) -> str:
    good = sum(outcome.success for outcome in outcomes)
    cpu = float(np.mean([outcome.cpu_s for outcome in outcomes]))
    left = wall_s / len(outcomes) * (total - len(outcomes))
    return (f'{len(outcomes)}/{total} {outcomes[-1].task}: {good} kept, {cpu:.2f} CPU s each, '
            f'{wall_s:.0f} s gone, about {left:.0f} s left')


def _append_log(folder: Path, outcome: Outcome) -> None:
    append_line(folder / 'log.jsonl', asdict(outcome))


def _read_log(folder: Path) -> list[dict]:
    """Everything noted; a line that a kill cut short is left out, and its seed run again."""
    path = folder / 'log.jsonl'
    lines = path.read_bytes().split(b'\n') if path.exists() else []
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam demos``."""
    parser = argparse.ArgumentParser(prog='flashwam demos', description=__doc__)
    parser.add_argument('--tasks', default='all', help='all, or names with commas')
    parser.add_argument('--episodes', type=int, default=400, help='seeds per task')
    parser.add_argument('--start', type=int, default=0, help='first place in the seed range')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='processes')
    parser.add_argument('--out', type=Path, default=cache_folder('demos'), help='folder')
    parser.add_argument('--correct', type=Path, default=None, metavar='CHECKPOINT',
                        help='this policy acts first, the expert takes over and finishes; use '
                             'another part of the seed range (--start)')
    options = parser.parse_args(argv)
    tasks = list(TASKS) if options.tasks == 'all' else options.tasks.split(',')
    outcomes = generate(options.out, tasks, options.episodes, options.workers, options.start,
                        checkpoint=options.correct)
    return 0 if not outcomes or any(outcome.success for outcome in outcomes) else 1


if __name__ == '__main__':
    sys.exit(main())
