# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Time of a chunk: the reference's sequential passes against the merged ones, in one run.

    python -m benchmarks.engine_passes --checkpoint models/g1-nano-teacher --chunks 40

Closed loop on random latents, one CPU thread: ground the last chunk, predict the next one. Two
procedures besides ours: `reference`, a pass for each group, and `reference - 1`, the same without
the pass over the predicted actions, which a closed loop drops unread. They take turns chunk by
chunk in changing order; a ratio is formed of times that were taken one after another. Times are
those of the thread on the CPU, so what else the machine does counts little. Writes a table, and
JSON with every time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from flashwam_ros.wam.checkpoint import load_checkpoint
from flashwam_ros.wam.config import ModalitySampler, SamplerSettings, TransformerConfig
from flashwam_ros.wam.engine import StreamingEngine
from flashwam_ros.wam.sequential import SequentialEngine
from flashwam_ros.wam.streaming import Streaming
from flashwam_ros.wam.transformer import WanTransformer3DModel

STEPS = ((1, 1), (1, 2), (3, 10))
GUIDANCE = (1.0, 5.0)
WARM_CHUNKS = 6
TOLERANCE = 1e-4


class _WithoutDeadPass(SequentialEngine):
    """Leaves out the pass over predicted actions: nothing reads it in a closed loop."""

    def _write(self, modality: str, values: torch.Tensor, chunk: int) -> None:
        if modality == 'video' or chunk < self.grounded:
            super()._write(modality, values, chunk)


PROCEDURES = {'reference': SequentialEngine, 'reference - 1': _WithoutDeadPass,
              'merged': StreamingEngine}


def find_model(checkpoint: Path | None) -> tuple:
    """Model, settings, latent size and text rows (R, T); without a checkpoint random weights."""
    if checkpoint is not None:
        c = load_checkpoint(checkpoint)
        return (c.transformer, c.sampler, c.codec.latent_size,
                c.text_encoder.encode('pick up the red bottle'))
    torch.manual_seed(0)
    config = TransformerConfig.nano()
    settings = SamplerSettings(video=ModalitySampler(shift=5.0), window=7)
    return (WanTransformer3DModel(config).eval().requires_grad_(False), settings, (12, 8),
            torch.randn(16, config.text_dim))


class Episode:
    """One procedure in closed loop; all of them see the same noise and the same truth."""

    def __init__(self, kind: type[Streaming], model, settings, size, text):
        self.engine = kind(model, settings, size, torch.ones(30))
        self._shape = (model.config.in_channels, settings.frames_per_chunk, *size)
        self._rows = settings.rows_per_chunk
        self.engine.reset(text, torch.zeros_like(text))
        truth = torch.Generator().manual_seed(1)
        self.engine.set_initial(torch.randn(self._shape[0], *size, generator=truth))
        self.actions = torch.zeros(0)

    def chunk(self, steps: tuple[int, int]) -> float:
        """Ground what is open, predict; CPU seconds."""
        engine, index = self.engine, self.engine.predicted
        draw = torch.Generator().manual_seed(index)
        latents = torch.randn(self._shape, generator=draw)[:, int(index == 1):]
        rows = torch.rand(self._rows, 30, generator=draw) * 2 - 1
        begun = time.thread_time()
        if index:
            engine.ground(latents, rows)
        self.actions = engine.predict(*steps, generator=draw).actions
        return time.thread_time() - begun


def measure(model: tuple, steps: tuple[int, int], guidance: float,
            chunks: int) -> dict[str, list[float]]:
    """CPU seconds of each chunk of each procedure; refuses procedures that disagree."""
    network, settings, *rest = model
    model = network, dataclasses.replace(settings, video_guidance=guidance), *rest
    episodes = {name: Episode(kind, *model) for name, kind in PROCEDURES.items()}
    order = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in PROCEDURES}
    for index in range(WARM_CHUNKS + chunks):
        for name in order.permutation(list(PROCEDURES)):
            seconds = episodes[name].chunk(steps)
            if index >= WARM_CHUNKS:
                times[name].append(seconds)
        for episode in episodes.values():
            difference = (episode.actions - episodes['reference'].actions).abs().max()
            if not difference < TOLERANCE:
                raise RuntimeError(f'chunk {index}: procedures differ by {difference:.2g}')
    return times


def passes(name: str, steps: tuple[int, int]) -> int:
    """Passes of the network for one chunk in closed loop."""
    return sum(steps) + {'reference': 4, 'reference - 1': 3, 'merged': 0}[name]


def row(steps: tuple[int, int], guidance: float, times: dict[str, list[float]]) -> str:
    """One line of the table for each procedure."""
    lines = []
    merged = np.array(times['merged'])
    for name, seconds in times.items():
        low, middle, high = 1e3 * np.percentile(seconds, [5, 50, 95])
        ratio = np.percentile(np.array(seconds) / merged, [25, 50, 75])
        lines.append(f'| {steps[0]}v/{steps[1]}a | {guidance:g} | {name} | '
                     f'{passes(name, steps)} | {middle:.1f} ({low:.1f} to {high:.1f}) | '
                     f'{ratio[1]:.2f} ({ratio[0]:.2f} to {ratio[2]:.2f}) |')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, write the table to stdout and everything to --json."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--checkpoint', type=Path, default=None,
                        help='folder (default: random weights of the nano size)')
    parser.add_argument('--chunks', type=int, default=60, help='timed chunks of each procedure')
    parser.add_argument('--json', type=Path, default=None, help='write every time here')
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    out = sys.stdout.write
    model = find_model(options.checkpoint)
    out(f'{options.checkpoint.name if options.checkpoint else "nano, random"}, '
        f'{platform.processor() or platform.machine()}, one thread, torch {torch.__version__}, '
        f'{options.chunks} chunks each, interleaved\n\n'
        '| steps | guidance | procedure | passes | CPU ms a chunk, median (5 to 95 %) | '
        'times merged, median (quartiles) |\n|---|---|---|---|---|---|\n')
    record = {}
    for guidance in GUIDANCE:
        for steps in STEPS:
            times = measure(model, steps, guidance, options.chunks)
            record[f'{steps[0]}v/{steps[1]}a, guidance {guidance:g}'] = times
            out(row(steps, guidance, times) + '\n')
    if options.json is not None:
        options.json.write_text(json.dumps(record), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
