# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Closed-loop success of policies in the in-process twin.

Every finished episode is one line of ``episodes.jsonl``; running again continues.  Figures that
are reported use test seeds; looking at a checkpoint while it trains uses selection seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from flashwam_ros.training.episode_pool import Row, run_rows
from flashwam_ros.training.results import (
    EXPERT,
    PROMPTS,
    SAMPLERS,
    Job,
    Setting,
    checkpoint_name,
    chosen,
    make_jobs,
    manifest_sha256,
    of_task,
    parse_steps,
    read_results,
    results_folder,
    successes,
    tasks_of,
)
from flashwam_ros.training.seeds import TASKS
from flashwam_ros.training.statistics import wilson

EXECUTIONS = ('sync', 'async', 'async_grounded')


def checkpoint_setting(checkpoint: Path, steps: str, sampler: str = 'own',
                       execution: str = 'sync', latency_s: float = 0.1) -> Setting:
    """The setting of a checkpoint folder.

    Raises:
        ValueError: no checkpoint, wrong steps, 'euler' where the checkpoint stores nothing else
            (the same episodes would be counted as two rows), or an execution mode that it was not
            trained for.
    """
    sha256 = manifest_sha256(checkpoint)
    stored = json.loads((checkpoint / 'flashwam.json').read_text(encoding='utf-8'))['sampler']
    if execution == 'async_grounded' and not stored.get('forward_dynamics'):
        raise ValueError(f'{checkpoint} was not trained with forward dynamics, which '
                         'async_grounded needs: use async')
    kinds = {stored[part].get('sampler', 'euler') for part in ('video', 'action')}
    if sampler == 'euler' and kinds == {'euler'}:
        raise ValueError(f'{checkpoint}: its own sampler is Euler for both modalities, so there '
                         'is nothing to override: leave --sampler at own')
    video_steps, action_steps = parse_steps(steps)
    return Setting(checkpoint_name(checkpoint), sha256, execution, video_steps, action_steps,
                   latency_s, sampler)


def expert_setting(execution: str = 'sync', latency_s: float = 0.1) -> Setting:
    """The setting of the scripted expert; ValueError for async_grounded."""
    if execution == 'async_grounded':
        raise ValueError('the expert imagines nothing, which async_grounded needs: use async')
    return Setting(EXPERT, '', execution, 0, 0, latency_s)


def summarise(row: Row) -> dict:
    """Counts per task, with and without images, per stage, with 95 % Wilson intervals."""
    results = chosen(read_results(row.folder, row.setting), row.jobs)
    parts = []
    for task in tasks_of(results):
        for blank in (False, True):
            mine = {job: result for job, result in of_task(results, task).items()
                    if job.blank == blank}
            if mine:
                parts.append(_part(task, blank, mine))
    return {'setting': asdict(row.setting), 'rows': parts}


def _part(task: str, blank: bool, results: dict[Job, dict]) -> dict:
    success, count = successes(results)
    names = list(dict.fromkeys(name for result in results.values() for name in result['stages']))
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
        'chunk_cpu_ms': sum(r.get('chunk_cpu_ms', 0.0) for r in results.values()) / count,
        'machines': sorted({result.get('machine', '') for result in results.values()}),
    }


def markdown(summary: dict) -> str:
    """One row's summary as a table."""
    setting = Setting(**summary['setting'])
    sha256 = f' ({setting.sha256[:12]})' if setting.sha256 else ''
    lines = [
        f'`{setting.checkpoint}`{sha256}, {setting.steps}, sampler {setting.sampler}, '
        f'{setting.execution}, emulated latency {setting.latency_s} s, '
        f'{"own prompts" if setting.prompts == "own" else "held-out paraphrases"}.', '',
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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def _rows(options: argparse.Namespace) -> list[Row]:
    tasks = list(TASKS) if options.tasks == 'all' else options.tasks.split(',')
    jobs = tuple(make_jobs(dict.fromkeys(tasks, options.seeds), options.split,
                           options.blank_images))
    if options.policy == EXPERT:
        settings = [expert_setting(options.execution, options.latency)]
    elif options.checkpoint is None:
        raise ValueError('name a checkpoint folder with --checkpoint, or take --policy expert')
    else:
        settings = [replace(
            checkpoint_setting(options.checkpoint, steps, options.sampler, options.execution,
                               options.latency), prompts=options.prompts)
            for steps in options.steps.split(',')]
    folder = options.out or results_folder(settings[0].checkpoint)
    checkpoint = None if options.policy == EXPERT else options.checkpoint
    return [Row(setting, checkpoint, jobs, folder) for setting in settings]


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam evaluate``."""
    parser = argparse.ArgumentParser(prog='flashwam evaluate', description=__doc__)
    parser.add_argument('--checkpoint', type=Path, default=None, help='checkpoint folder')
    parser.add_argument('--policy', choices=('wam', EXPERT), default='wam',
                        help='a checkpoint, or the scripted expert')
    parser.add_argument('--tasks', default='all', help='all, or names with commas')
    parser.add_argument('--split', choices=('test', 'selection'), default='test')
    parser.add_argument('--seeds', type=int, default=100, help='episodes per task')
    parser.add_argument('--steps', default='3v/10a',
                        help='denoising steps; several with commas: 1v/2a,1v/1a')
    parser.add_argument('--sampler', choices=SAMPLERS, default='own',
                        help='own: as the checkpoint says; euler: whatever it says')
    parser.add_argument('--execution', choices=EXECUTIONS, default='sync')
    parser.add_argument('--latency', type=float, default=0.1,
                        help='emulated time from prediction to arrival, s')
    parser.add_argument('--prompts', choices=PROMPTS, default='own',
                        help='held_out: paraphrases that nothing was trained on')
    parser.add_argument('--blank-images', choices=('no', 'only', 'both'), default='no',
                        help='control: the policy sees mid-grey images')
    parser.add_argument('--workers', type=int, default=cores(), help='processes')
    parser.add_argument('--out', type=Path, default=None, help='results folder')
    options = parser.parse_args(argv)
    try:
        rows = _rows(options)
        run_rows(rows, options.workers)
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f'flashwam evaluate: {error}\n')
        return 1
    except KeyboardInterrupt:
        sys.stderr.write('flashwam evaluate: stopped; run again to continue\n')
        return 130
    summaries = [summarise(row) for row in rows]
    text = '\n'.join(markdown(summary) for summary in summaries)
    folder = rows[0].folder
    (folder / 'summary.json').write_text(json.dumps(summaries, indent=1), encoding='utf-8')
    (folder / 'summary.md').write_text(text, encoding='utf-8')
    sys.stdout.write(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
