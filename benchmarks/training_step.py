# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training steps of the nano teacher on one core: how many windows a second, against plain eager.

Every variant takes one step in turn, so that what else runs on the machine meets them alike; the
least of all steps counts, by the wall clock and by the CPU time of the process.

    python benchmarks/training_step.py                       # eager, compiled, fused optimiser
    python benchmarks/training_step.py --sizes 2x64x4 2x80x5 # heads x width of a head x layers
"""

import argparse
import dataclasses
import platform
import sys
import time
from collections.abc import Callable

import torch

from flashwam_ros.wam.config import TransformerConfig
from flashwam_ros.wam.packed import (
    NoiseRecipe,
    flow_matching_loss,
    packed_forward,
    training_sample,
)
from flashwam_ros.wam.transformer import WanTransformer3DModel

FRAMES, CHUNK, WINDOW, ACTIONS = 8, 2, 7, 8
LATENT = (16, FRAMES, 12, 8)
TEXT = (16, 64)


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is measured; `size` is (heads, width of a head, layers)."""

    size: tuple[int, int, int]
    batch: int
    compiled: bool
    fused: bool

    def __str__(self) -> str:
        heads, width, layers = self.size
        parts = ['compiled' if self.compiled else 'eager', *(['fused AdamW'] * self.fused)]
        return f'D={heads * width} L={layers} batch {self.batch} {" + ".join(parts)}'


def make_step(variant: Variant) -> Callable[[], float]:
    """Build network, optimiser and one batch of noise; a call trains one step."""
    heads, width, layers = variant.size
    torch.manual_seed(0)
    model = WanTransformer3DModel(TransformerConfig(
        num_attention_heads=heads, attention_head_dim=width, in_channels=LATENT[0],
        out_channels=LATENT[0], text_dim=TEXT[1], freq_dim=128, ffn_dim=4 * heads * width,
        num_layers=layers, rope_theta=100.0))
    if variant.compiled:
        for block in model.blocks:
            block.compile(dynamic=False)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, fused=variant.fused)
    video = torch.randn(variant.batch, *LATENT)
    action = torch.randn(variant.batch, 30, FRAMES, ACTIONS, 1).clamp(-1, 1)
    text = torch.randn(variant.batch, *TEXT)
    starts = torch.ones(variant.batch, dtype=torch.bool)
    noise = NoiseRecipe(per_chunk=CHUNK, uniform_mix=0.5, history_noise=0.5)

    def step() -> float:
        sample = training_sample(video, action, torch.ones(30), starts, noise)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast('cpu', torch.bfloat16):
            predicted = packed_forward(model, sample.inputs, text, CHUNK, WINDOW)
        losses = flow_matching_loss(sample, *predicted)
        (losses[0] + 5 * losses[1]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        return float(losses[0].detach())

    return step


def measure(variants: list[Variant], rounds: int) -> dict[Variant, list[tuple[float, float]]]:
    """Wall and CPU seconds of every step of every variant, after two to warm up."""
    steps = {variant: make_step(variant) for variant in variants}
    for variant, step in steps.items():
        begin = time.perf_counter()
        step(), step()
        sys.stdout.write(f'{variant}: first steps {time.perf_counter() - begin:.1f} s\n')
        sys.stdout.flush()
    times = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            times[variant].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def write_table(times: dict[Variant, list[tuple[float, float]]]) -> None:
    """Windows a second and the ratio to the first variant; the spread is (median/least - 1)."""
    first = None
    for variant, rows in times.items():
        wall, cpu = (sorted(column) for column in zip(*rows, strict=True))
        rate = variant.batch / cpu[0]
        first = first or rate
        spread = cpu[len(cpu) // 2] / cpu[0] - 1
        sys.stdout.write(
            f'{str(variant):48s} {rate:6.1f} windows per CPU second, ratio {rate / first:.2f}, '
            f'spread {100 * spread:.0f} %; wall {variant.batch / wall[0]:.1f}/s, n={len(rows)}\n')


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', nargs='+', default=['2x64x4'], help='heads x width x layers')
    parser.add_argument('--batches', nargs='+', type=int, default=[4])
    parser.add_argument('--rounds', type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [tuple(int(n) for n in size.split('x')) for size in options.sizes]
    variants = [Variant(size, batch, compiled, fused)
                for size in sizes for batch in options.batches
                for compiled, fused in ((False, False), (True, False), (True, True))]
    sys.stdout.write(f'{platform.processor() or platform.machine()}, torch {torch.__version__}, '
                     f'windows of {FRAMES} latent frames\n')
    write_table(measure(variants, options.rounds))


if __name__ == '__main__':
    main()
