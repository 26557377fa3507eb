# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One pool of processes for the episodes of many settings, so that no core waits for the last."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import queue as queues
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flashwam_ros.training.command import load_paraphrases, reporter
from flashwam_ros.training.results import (
    Job,
    Setting,
    append_result,
    read_results,
    successes,
)
from flashwam_ros.training.worker_life import end_with_parent
from flashwam_ros.twin.gl import choose_gl_backend

REPORT_EVERY_S = 20.0


@dataclass(frozen=True)
class Row:
    """Episodes of one setting.

    Attributes:
        setting: what is run.
        checkpoint: its folder; None for the expert.
        jobs: the episodes wanted.
        folder: where the results lie.
    """

    setting: Setting
    checkpoint: Path | None
    jobs: tuple[Job, ...]
    folder: Path


def run_rows(rows: Sequence[Row], workers: int,
             report: Callable[[str], None] | None = None) -> None:
    """Run what is not done yet of all rows in one pool, row after row and task after task.

    So a worker loads a scene once per task and row, and a model once per row.

    Args:
        rows: in the order wanted.
        workers: processes, one torch thread each.
        report: called with progress lines.

    Raises:
        RuntimeError: a worker died; what it finished is kept.
    """
    if workers < 1:
        raise ValueError(f'{workers} workers: at least one has to run the episodes')
    report = report or reporter('evaluate')
    todo = []
    for number, row in enumerate(rows):
        row.folder.mkdir(parents=True, exist_ok=True)
        done = read_results(row.folder, row.setting)
        todo += [(number, job) for job in row.jobs if job not in done]
    wanted = sum(len(row.jobs) for row in rows)
    report(f'{len(todo)} of {wanted} episodes to run, {len(rows)} rows')
    if not todo:
        return
    _prepare_environment()
    context = multiprocessing.get_context('spawn')
    queue, results = context.Queue(), context.Queue()
    for item in [*todo, *([None] * workers)]:
        queue.put(item)
    where = _machine(workers)
    processes = [context.Process(target=_main, args=(rows, queue, results), daemon=True)
                 for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        _collect(rows, todo, results, processes, where, report)
    finally:
        for process in processes:
            process.terminate()


def _prepare_environment() -> None:
    """Before the workers start: one OpenGL route, and no threads that fight over the cores."""
    choose_gl_backend()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    os.environ.setdefault('LP_NUM_THREADS', '0')  # Mesa draws in the thread that asks


def _machine(workers: int) -> str:
    import torch

    from flashwam_ros.training.program import machine
    return machine(workers, torch.device('cpu'))


def _collect(rows, todo, results, processes, where: str, report) -> None:
    begin = told = time.monotonic()
    tally: dict[tuple[int, Job], dict] = {}
    for count in range(1, len(todo) + 1):
        number, job, result = _next(results, processes)
        row = rows[number]
        append_result(row.folder, row.setting, job, result, where)
        tally[number, job] = result
        now = time.monotonic()
        if now - told >= REPORT_EVERY_S or count == len(todo):
            told = now
            left = (now - begin) / count * (len(todo) - count)
            mine = {j: r for (n, j), r in tally.items()
                    if n == number and (j.task, j.blank) == (job.task, job.blank)}
            good, n = successes(mine)
            report(f'{count}/{len(todo)} {row.setting.label}, {job.task}'
                   f'{" blank" if job.blank else ""}: {good}/{n} now; about {left / 60:.0f} min '
                   'left')


def _next(results, processes) -> tuple[int, Job, dict]:
    while True:
        try:
            return results.get(timeout=5.0)
        except queues.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError('an evaluation worker died: see its traceback above; '
                                   'run again to continue') from None


class _Stage:
    """The scene and the policy that a worker has loaded."""

    def __init__(self) -> None:
        self._robot, self._scene = None, None
        self._policy, self._setting = None, None
        self._checkpoint, self._loaded = None, None

    def robot(self, job: Job, contract):
        from flashwam_ros.twin.episode import InProcessRobot
        scene = (job.task, job.blank, contract.sha256)
        if self._scene != scene:
            if self._robot is not None:
                self._robot.close()
            self._robot = InProcessRobot(job.task, contract, images=not job.blank)
            self._scene = scene
        return self._robot

    def policy(self, row: Row):
        from flashwam_ros.policy.wam_policy import WamPolicy, with_sampler
        from flashwam_ros.wam.checkpoint import load_checkpoint
        setting = row.setting
        if self._loaded != row.checkpoint:
            self._checkpoint, self._loaded = load_checkpoint(row.checkpoint), row.checkpoint
            if self._checkpoint.sha256 != setting.sha256:
                raise RuntimeError(f'{row.checkpoint} has been replaced since the evaluation '
                                   'began: run again')
        if self._setting != setting:
            self._policy = WamPolicy(with_sampler(self._checkpoint, setting.sampler),
                                     setting.video_steps, setting.action_steps)
            self._setting = setting
        return self._policy


def _expert(robot):
    from flashwam_ros.policy.expert_policy import ExpertPolicy

    def joints():
        measured = robot.measured()
        return measured[:14], measured[14:]
    return ExpertPolicy(robot.task, robot.contract, robot.world, joints)


def _prompt(job: Job, prompts: str) -> str:
    """The task's own prompt, or one of its held-out paraphrases by turns."""
    from flashwam_ros.twin.tasks import TASKS as TASK_SPECS
    own = TASK_SPECS[job.task].prompt
    if prompts == 'own':
        return own
    others = load_paraphrases(prompts)[own]
    return others[job.seed % len(others)]


def _main(rows: Sequence[Row], queue, results) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    work(rows, queue, results)


def work(rows: Sequence[Row], queue, results) -> None:
    """What one worker does: (row number, job) from ``queue`` until None, results to ``results``.

    Scene and model stay loaded between episodes that share them.
    """
    import torch

    from flashwam_ros.robot.contract import RobotContract
    from flashwam_ros.training.rollout import run_episode
    from flashwam_ros.twin.tasks import TASKS as TASK_SPECS
    torch.set_num_threads(1)
    stage = _Stage()
    for number, job in iter(queue.get, None):
        row = rows[number]
        if row.checkpoint is None:
            # The expert looks at the world, not at images.
            robot = stage.robot(dataclasses.replace(job, blank=True), RobotContract.load())
            policy = _expert(robot)
        else:
            policy = stage.policy(row)
            robot = stage.robot(job, policy.contract)
        begin = time.process_time()
        result = run_episode(
            robot, policy, _prompt(job, row.setting.prompts), job.seed,
            execution=row.setting.execution, latency_s=row.setting.latency_s,
            time_limit_s=TASK_SPECS[job.task].time_limit_s,
            blank_images=job.blank or row.checkpoint is None)
        cpu_s = round(time.process_time() - begin, 3)
        results.put((number, job, {**asdict(result), 'cpu_s': cpu_s}))
