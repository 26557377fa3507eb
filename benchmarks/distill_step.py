# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Time of a distillation step: guided teacher passes batched against the plain order, in one run.

    python -m benchmarks.distill_step --checkpoint models/g1-nano-teacher --rounds 20

A step is losses and backward on windows of noise, without the optimiser (the same for all).
`plain` runs the teacher's conditional and unconditional pass one after the other, `batched` as one
forward, `w = 1` leaves the unconditional one out. On a CPU the time is that of the process, which
other work on the machine hardly stretches. The variants take turns in changing order; a ratio is
formed of times of the same round. Prints a table, and JSON with every time where asked.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from flashwam_ros.training.objectives.base import Networks, Objective, Windows
from flashwam_ros.training.objectives.registry import build_objective
from flashwam_ros.wam.checkpoint import Checkpoint, load_checkpoint

METHODS = ('flashwam', 'linear_substeps', 'joint_dmd2')
STUDENT_STEP = 4
WARM_ROUNDS = 1


def variants(method: str, window: int) -> dict[str, Objective]:
    """Name -> objective; DMD2's guidance is one number, the others' a range."""
    guided, off = ((3.0, 1.0) if 'dmd2' in method else ((2.0, 10.0), (1.0, 1.0)))
    common = {'window': window}
    return {'plain': build_objective(method, {**common, 'guidance': guided,
                                              'batched_guidance': False}),
            'batched': build_objective(method, {**common, 'guidance': guided}),
            'w = 1': build_objective(method, {**common, 'guidance': off})}


def make_windows(checkpoint: Checkpoint, batch: int, frames: int, device: str) -> Windows:
    """Noise in the shapes of the checkpoint."""
    generator = torch.Generator().manual_seed(0)
    channels, (height, width) = checkpoint.transformer.config.in_channels, \
        checkpoint.codec.latent_size
    mask = torch.from_numpy(checkpoint.normaliser.channel_mask).float()
    rows = checkpoint.sampler.actions_per_frame
    action = torch.randn(batch, 30, frames, rows, 1, generator=generator).clamp(-1.5, 1.5)
    text = checkpoint.text_encoder.encode('pick up the red bottle').float()
    empty = checkpoint.text_encoder.encode('').float()
    return Windows(
        video=torch.randn(batch, channels, frames, height, width, generator=generator).to(device),
        action=(action * mask.view(1, -1, 1, 1, 1)).to(device), channel_mask=mask.to(device),
        starts=torch.ones(batch, dtype=torch.bool), keep=torch.ones(batch, frames, device=device),
        text=text.expand(batch, -1, -1).to(device), empty_text=empty.to(device))


def make_networks(checkpoint: Checkpoint) -> Networks:
    """A teacher and its copies; a student and a critic that learn."""
    teacher = checkpoint.transformer
    student, target, critic = (copy.deepcopy(teacher) for _ in range(3))
    return Networks(student.requires_grad_(True), teacher, target, critic.requires_grad_(True))


def step_timer(networks: Networks, windows: Windows, device: str,
               bf16: bool) -> Callable[[Objective], float]:
    """Return the function that runs one step and gives its seconds."""
    def now() -> float:
        if device == 'cpu':
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def run(objective: Objective) -> float:
        for network in (networks.student, networks.critic):
            network.zero_grad(set_to_none=True)
        begin = now()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            losses = objective.losses(networks, windows, STUDENT_STEP,
                                      torch.Generator().manual_seed(1))
        for scalar in losses.scalars.values():
            scalar.backward()
        return now() - begin

    return run


def measure(run: Callable[[Objective], float], choices: dict[str, Objective],
            rounds: int) -> dict[str, list[float]]:
    """Seconds of every variant in every round."""
    names = list(choices)
    times: dict[str, list[float]] = {name: [] for name in names}
    for index in range(WARM_ROUNDS + rounds):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            seconds = run(choices[name])
            if index >= WARM_ROUNDS:
                times[name].append(seconds)
    return times


def table(times: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: median time of each variant, median and quartiles of the paired ratios."""
    lines = ['| method | plain, ms | batched, ms | w = 1, ms | plain : batched | plain : w = 1 |',
             '|---|---|---|---|---|---|']
    for method, own in times.items():
        plain = np.array(own['plain'])
        cells = [f'{1000 * np.median(own[name]):.1f}' for name in own]
        for name in ('batched', 'w = 1'):
            low, middle, high = np.percentile(plain / np.array(own[name]), (25, 50, 75))
            cells.append(f'{middle:.2f} [{low:.2f}, {high:.2f}]')
        lines.append(f'| {method} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--checkpoint', type=Path, default=Path('models/g1-nano-teacher'))
    parser.add_argument('--batch', type=int, default=4, help='windows of a step')
    parser.add_argument('--frames', type=int, default=8, help='latent frames of a window')
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--fp32', action='store_true', help='products in fp32 instead of bf16')
    parser.add_argument('--json', type=Path, help='write every time here')
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(options.checkpoint, options.device)
    networks = make_networks(checkpoint)
    windows = make_windows(checkpoint, options.batch, options.frames, options.device)
    run = step_timer(networks, windows, options.device, not options.fp32)
    times = {method: measure(run, variants(method, checkpoint.sampler.window), options.rounds)
             for method in METHODS}
    machine = (torch.cuda.get_device_name() if options.device == 'cuda'
               else f'{platform.processor() or platform.machine()}, one thread, CPU time')
    about = (f'{options.checkpoint.name}, batch {options.batch}, {options.frames} frames, '
             f'{"fp32" if options.fp32 else "bf16"} products, {options.rounds} rounds, {machine}, '
             f'torch {torch.__version__}; medians, ratios with quartiles')
    sys.stdout.write(f'{about}\n\n{table(times)}\n')
    if options.json:
        options.json.write_text(json.dumps({'about': about, 'seconds': times}), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
