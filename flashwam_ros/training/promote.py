# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Check a student on this machine and mark it as deployable.

Four checks: it is made for the installed robot contract; the merged passes give what the plain
sequential procedure gives; a chunk is ready well before the one before it ends; a recorded
evaluation shows that it is not worse than the teacher by more than the plan allows.  Only when all
pass, ``promotion.json`` is written into its folder; the checkpoint itself is not touched.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from flashwam_ros.policy.protocol import KeyFrame
from flashwam_ros.policy.wam_policy import WamPolicy
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training.command import cache_folder
from flashwam_ros.training.evaluate import checkpoint_setting
from flashwam_ros.training.program import machine
from flashwam_ros.training.results import (
    chosen,
    kept_folder,
    machines,
    make_jobs,
    of_task,
    read_tree,
)
from flashwam_ros.training.seeds import TASKS
from flashwam_ros.training.statistics import non_inferiority
from flashwam_ros.training.strips import make_engine
from flashwam_ros.training.table import find_row, pairs_of
from flashwam_ros.training.table_plan import Gate, Plan, find_checkpoint, read_plan
from flashwam_ros.wam.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from flashwam_ros.wam.engine import StreamingEngine
from flashwam_ros.wam.promotion import HASH_KEY, PROMOTION
from flashwam_ros.wam.sequential import SequentialEngine

PARITY_CHUNKS = 6
PROMPT = 'pick up the red bottle'


@dataclass(frozen=True)
class Check:
    """One condition.

    Attributes:
        passed: whether it holds.
        measured: the figure.
        bound: what it must keep (at most; for non-inferiority at least).
        detail: in words, with what to do where it failed.
    """

    passed: bool
    measured: float | str
    bound: float | str
    detail: str


def check_contract(checkpoint: Checkpoint, installed: RobotContract) -> Check:
    """The checkpoint is made for the robot contract that is installed here."""
    same = checkpoint.contract_sha256 == installed.sha256
    detail = 'the same contract'
    if not same:
        differences = RobotContract.from_dict(checkpoint.contract).differences(installed)
        detail = ('trained for another contract: ' + '; '.join(differences[:5])
                  + '; install its contract, or train for this one')
    return Check(same, checkpoint.contract_sha256, installed.sha256, detail)


@torch.inference_mode()
def check_parity(checkpoint: Checkpoint, gate: Gate) -> Check:
    """Merged and sequential passes give the same chunks, from the first to beyond the window."""
    sampler, encoder = checkpoint.sampler, checkpoint.text_encoder
    generator = torch.Generator().manual_seed(0)
    shape = checkpoint.codec.latent_channels, *checkpoint.codec.latent_size
    mask = torch.from_numpy(checkpoint.normaliser.channel_mask).float()
    engines = [make_engine(checkpoint, kind) for kind in (StreamingEngine, SequentialEngine)]
    initial = torch.randn(shape, generator=generator)
    for engine in engines:
        engine.reset(encoder.encode(PROMPT), encoder.encode(''))
        engine.set_initial(initial)
    differences, chunks = [], max(PARITY_CHUNKS, sampler.window // 2 + 3)
    for chunk in range(chunks):
        merged, plain = (engine.predict(generator=torch.Generator().manual_seed(chunk))
                         for engine in engines)
        differences += [float((merged.latents - plain.latents).abs().max()),
                        float((merged.actions - plain.actions).abs().max())]
        frames = sampler.frames_per_chunk - (chunk == 0)
        latents = torch.randn(shape[0], frames, *shape[1:], generator=generator)
        rows = torch.randn(sampler.rows_per_chunk, len(mask), generator=generator) * mask
        for engine in engines:
            engine.ground(latents, rows)
    worst = float(np.max(differences))  # not a number, if one is
    passed = worst <= gate.parity
    detail = f'largest difference over {chunks} chunks, normalised units'
    return Check(passed, worst, gate.parity,
                 detail if passed else detail + ': the merged engine is wrong for this model')


def chunk_latencies(checkpoint: Checkpoint, chunks: int) -> np.ndarray:
    """Wall time of encode + ground + predict of each chunk after the first two, s."""
    policy = WamPolicy(checkpoint)
    contract, rng = policy.contract, np.random.default_rng(0)
    still = np.tile(checkpoint.normaliser.denormalise(
        np.zeros(len(checkpoint.normaliser.channel_mask))), (contract.rows_per_chunk, 1))
    due = 0

    def observe() -> None:
        nonlocal due
        images = {camera.key: rng.integers(0, 256, (camera.height, camera.width, 3), np.uint8)
                  for camera in contract.cameras}
        policy.observe(KeyFrame(images, dict.fromkeys(images, due), due))
        due += 1

    policy.reset(PROMPT, 0)
    observe()
    prediction = policy.predict()
    spent = []
    for chunk in range(chunks + 1):
        frames = contract.frames_per_chunk - (chunk == 0)
        for _ in range(frames * contract.key_frames_per_frame):
            observe()
        policy.ground(still[prediction.first_row:])
        prediction = policy.predict()
        spent.append(sum(prediction.latency_s.values()))
    return np.array(spent[1:])


def check_latency(checkpoint: Checkpoint, gate: Gate) -> Check:
    """A chunk is ready in time: p95 within a share of the chunk's duration, on this machine."""
    duration = RobotContract.from_dict(checkpoint.contract).chunk_duration_s
    spent = chunk_latencies(checkpoint, gate.latency_chunks)
    p95, bound = float(np.percentile(spent, 95)), gate.latency_share * duration
    detail = (f's, p95 of {len(spent)} chunks (median {np.median(spent):.3f}), load '
              f'{os.getloadavg()[0]:.1f}; a chunk lasts {duration:.2f} s')
    if p95 > bound:
        detail += ': take a faster or idler machine, fewer steps or a smaller model'
    return Check(p95 <= bound, p95, bound, detail)


def check_non_inferiority(folder: Path, checkpoint: Checkpoint, plan: Plan,
                          results: Path) -> Check:
    """The recorded evaluations show that it keeps the plan's margin to the reference.

    They are looked at once: on the first ``pairs_per_task`` seeds of every task, however many more
    were run. Else running more of the tasks that go well, or until it passes, would pass.
    """
    steps = f'{checkpoint.sampler.video.steps}v/{checkpoint.sampler.action.steps}a'
    margin = plan.margins.get(steps)
    if margin is None:
        return Check(False, '-', '-', f'the plan states no margin for {steps}, only for '
                                      f'{list(plan.margins)}')
    bound = -margin
    everything = read_tree(results, kept_folder())
    at = find_row(plan.reference, plan, everything)
    if at.setting is None:
        return Check(False, '-', bound, f'reference {plan.reference.id}: {at.problem}')
    setting = checkpoint_setting(folder, steps, 'own', plan.execution, plan.latency_s)
    jobs = make_jobs(dict.fromkeys(TASKS, plan.gate.pairs_per_task), plan.split)
    mine, theirs = (chosen(everything.get(one, {}), jobs) for one in (setting, at.setting))
    pairs = {task: pairs_of(of_task(mine, task), of_task(theirs, task)) for task in TASKS}
    short = {task: found.count for task, found in pairs.items()
             if found.count < plan.gate.pairs_per_task}
    if short:
        counts = ', '.join(f'{task} {count}' for task, count in short.items())
        return Check(False, '-', bound, (
            f'too few {plan.split} episodes shared with {plan.reference.id} at {steps}: {counts} '
            f'of {plan.gate.pairs_per_task}; run `flashwam evaluate --checkpoint {folder} --steps '
            f'{steps} --seeds {plan.gate.pairs_per_task}`, and the same of the reference'))
    result = non_inferiority(list(pairs.values()), margin, plan.alpha)
    detail = (f'success at {steps} less {plan.reference.id}: {100 * result.difference:+.1f} '
              f'points, lower bound {100 * result.lower:+.1f} (one-sided '
              f'{100 * (1 - plan.alpha):.0f} %, {result.count} pairs, stratified by task)')
    if machines(mine) != machines(theirs):
        detail += f'; run on {machines(mine)}, the reference on {machines(theirs)}'
    return Check(result.shown, result.lower, bound, detail)


def run_checks(folder: Path, plan: Plan, results: Path) -> dict[str, Check]:
    """All checks of a checkpoint folder by name."""
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(folder)
    return {'contract': check_contract(checkpoint, RobotContract.load()),
            'parity': check_parity(checkpoint, plan.gate),
            'latency': check_latency(checkpoint, plan.gate),
            'non_inferiority': check_non_inferiority(folder, checkpoint, plan, results)}


def write_promotion(folder: Path, sha256: str, checks: dict[str, Check], plan: Plan) -> Path:
    """Write the mark; a reader sees the whole of it or none."""
    content = {
        HASH_KEY: sha256, 'plan_sha256': plan.sha256,
        'checks': {name: asdict(check) for name, check in checks.items()},
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'machine': machine(1, torch.device('cpu')),
    }
    path = folder / PROMOTION
    part = folder / f'.{PROMOTION}.{os.getpid()}.part'
    part.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    os.replace(part, path)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam promote``."""
    parser = argparse.ArgumentParser(prog='flashwam promote', description=__doc__)
    parser.add_argument('checkpoint', help='folder, or a name as in the plan')
    parser.add_argument('--config', type=Path, default=None,
                        help='plan (default: the installed config/evaluation/table.yaml)')
    parser.add_argument('--results', type=Path, default=cache_folder('evaluations'),
                        help='where evaluations lie, a folder per checkpoint')
    options = parser.parse_args(argv)
    folder = find_checkpoint(options.checkpoint)
    try:
        if folder is None:
            raise ValueError(f'{options.checkpoint}: no such checkpoint')
        plan = read_plan(options.config)
        sha256 = load_checkpoint(folder).sha256
        checks = run_checks(folder, plan, options.results)
    except (ValueError, CheckpointError, FileNotFoundError) as error:
        sys.stderr.write(f'flashwam promote: {error}\n')
        return 1
    for name, check in checks.items():
        sys.stdout.write(f'{"ok  " if check.passed else "FAIL"} {name}: {check.measured} '
                         f'(bound {check.bound}); {check.detail}\n')
    if not all(check.passed for check in checks.values()):
        sys.stdout.write(f'not promoted: {folder} is unchanged\n')
        return 1
    sys.stdout.write(f'promoted: {write_promotion(folder, sha256, checks, plan)}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
