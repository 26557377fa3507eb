# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the scatter of its samples costs a model success: episodes with its noise scaled down.

Run: ``python -m benchmarks.noise_scale --task pink_object --episodes 67``

A model samples its chunks; two samples of the same scene differ.  Here the noise that every chunk
starts from (video and actions) is multiplied by a factor: 1 is the model as it is, 0 always takes
the same way through the flow.  If scatter is what makes episodes fail, less of it must help.  A
model never saw noise of a smaller scale in training: where it gets worse, that may be why.

Episodes run in process on test seeds, as in ``flashwam evaluate``; a factor of 1 gives the same
episodes as there.  Finished ones are kept, so running again continues.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._stack import header, header_lines, say, table  # noqa: E402
from flashwam_ros.training.command import cache_folder  # noqa: E402
from flashwam_ros.training.results import manifest_sha256, parse_steps  # noqa: E402
from flashwam_ros.training.seeds import TASKS, seeds  # noqa: E402
from flashwam_ros.training.statistics import Pairs, mcnemar, wilson  # noqa: E402
from flashwam_ros.twin.gl import choose_gl_backend  # noqa: E402

COLUMNS = ('noise x', 'success', '95 % Wilson', 'against x 1', 'exact p')


def scale_noise(engine, factor: float) -> None:
    """Multiply every noise that an engine draws."""
    draw = engine._draw
    engine._draw = lambda shape, generator: factor * draw(shape, generator)


@lru_cache(maxsize=1)
def _policy(model: str, steps: str, factor: float):
    import torch

    from flashwam_ros.policy.wam_policy import WamPolicy
    from flashwam_ros.wam.checkpoint import load_checkpoint

    torch.set_num_threads(1)
    policy = WamPolicy(load_checkpoint(Path(model)), *parse_steps(steps))
    scale_noise(policy._engine, factor)
    return policy


@lru_cache(maxsize=1)
def _robot(task: str):
    from flashwam_ros.robot.contract import RobotContract
    from flashwam_ros.twin.episode import InProcessRobot

    return InProcessRobot(task, RobotContract.load())


def run(job: tuple[str, str, float, str, int]) -> dict:
    """One episode: (model, steps, factor, task, seed)."""
    from flashwam_ros.training.rollout import run_episode
    from flashwam_ros.twin.tasks import TASKS as SPECS

    model, steps, factor, task, seed = job
    spec = SPECS[task]
    result = run_episode(_robot(task), _policy(model, steps, factor), spec.prompt, seed,
                         time_limit_s=spec.time_limit_s)
    return {'sha256': manifest_sha256(Path(model)), 'steps': steps, 'noise': factor,
            'task': task, 'seed': seed, 'success': result.success, 'reason': result.reason}


def rows(found: Sequence[dict], factors: Sequence[float]) -> list[tuple[str, ...]]:
    """Table rows of the episodes found, each factor paired with 1 on the seeds of both."""
    won = {factor: {r['seed']: r['success'] for r in found if r['noise'] == factor}
           for factor in factors}
    out = []
    for factor in factors:
        mine, plain = won[factor], won.get(1.0, {})
        low, high = wilson(sum(mine.values()), len(mine))
        both = mine.keys() & plain.keys()
        pairs = Pairs.of((mine[seed], plain[seed]) for seed in both)
        compared = factor != 1.0 and both
        out.append((f'{factor:g}', f'{sum(mine.values())}/{len(mine)}',
                    f'{100 * low:.0f}..{100 * high:.0f} %',
                    f'{pairs.first} won, {pairs.second} lost' if compared else '',
                    f'{mcnemar(pairs):.2g}' if compared else ''))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='models/g1-nano-teacher')
    parser.add_argument('--steps', default='10v/20a')
    parser.add_argument('--task', default='pink_object', choices=TASKS)
    parser.add_argument('--episodes', type=int, default=67)
    parser.add_argument('--factors', type=float, nargs='+', default=[1.0, 0.5, 0.0])
    parser.add_argument('--workers', type=int, default=os.cpu_count())
    parser.add_argument('--out', type=Path, default=cache_folder() / 'noise_scale')
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    kept, sha256 = options.out / 'episodes.jsonl', manifest_sha256(Path(options.model))
    lines = kept.read_text(encoding='utf-8').splitlines() if kept.exists() else []
    wanted = seeds('test', options.task, options.episodes)
    found = [r for r in map(json.loads, lines)
             if (r['sha256'], r['steps'], r['task']) == (sha256, options.steps, options.task)
             and r['noise'] in options.factors and r['seed'] in wanted]
    done = {(r['noise'], r['seed']) for r in found}
    jobs = [(options.model, options.steps, factor, options.task, seed)
            for factor in options.factors for seed in wanted if (factor, seed) not in done]
    head = header(len(wanted))
    choose_gl_backend()
    os.environ.update(OMP_NUM_THREADS='1', LP_NUM_THREADS='0')
    with multiprocessing.get_context('spawn').Pool(options.workers) as pool, \
            kept.open('a', encoding='utf-8') as file:
        for number, result in enumerate(pool.imap(run, jobs), start=1):
            file.write(json.dumps(result) + '\n')
            file.flush()
            found.append(result)
            say(f'{number}/{len(jobs)}: noise x {result["noise"]:g}, seed {result["seed"]}: '
                f'{result["reason"]}')
    text = '\n'.join([*header_lines(head), f'{options.model} at {options.steps}, {options.task}.',
                      '', *table(COLUMNS, rows(found, options.factors))])
    (options.out / 'table.md').write_text(text + '\n', encoding='utf-8')
    say(text)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
