# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the teacher by flow matching, data-parallel over processes, resumable at any checkpoint.

Weights, moments and moving average are fp32; products run in bf16.  Batches and noise follow from
(seed, step, rank), so an interrupted run continues exactly; a budget in seconds counts training
time only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from flashwam_ros.training.codec_data import HELD_OUT_EVERY
from flashwam_ros.training.codec_trainer import codec_hash, load_codec
from flashwam_ros.training.command import cache_folder, load_recipe, reporter
from flashwam_ros.training.dataset import LatentEpisode, WindowSampler, load_folder, row_quantiles
from flashwam_ros.training.run_state import (
    Budget,
    CsvLog,
    Throttle,
    learning_rate,
    load_state,
    plot_log,
    save_state,
)
from flashwam_ros.training.teacher_step import Losses, TeacherRecipe
from flashwam_ros.wam.checkpoint import save_checkpoint
from flashwam_ros.wam.normaliser import ACTION_CHANNELS, G1_CHANNEL_IDS, QuantileNormaliser
from flashwam_ros.wam.text import NanoTextEncoder
from flashwam_ros.wam.transformer import WanTransformer3DModel

COLUMNS = ('step', 'seconds', 'video', 'action', 'held_out_video', 'held_out_action',
           'learning_rate', 'gradient_norm')
CHUNK_FRAMES, ACTIONS_PER_FRAME = 2, 8
SAVE_EVERY_S = 120.0
EXPORT_EVERY_S = 300.0
LOG_EVERY, REPORT_EVERY, HELD_OUT_EVERY_STEPS = 10, 50, 250
HELD_OUT_WINDOWS = 32


@dataclass(frozen=True)
class Peers:
    """The processes that train together."""

    rank: int = 0
    count: int = 1

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values


def fit_normaliser(episodes: list[LatentEpisode]) -> QuantileNormaliser:
    """Quantiles of the applied rows on the universal channels."""
    low, high = row_quantiles(np.concatenate(
        [episode.rows[1:].reshape(-1, episode.rows.shape[2]) for episode in episodes]))
    q01, q99 = np.zeros(ACTION_CHANNELS), np.zeros(ACTION_CHANNELS)
    q01[list(G1_CHANNEL_IDS)], q99[list(G1_CHANNEL_IDS)] = low, high
    return QuantileNormaliser(tuple(q01), tuple(q99), G1_CHANNEL_IDS)


class TeacherTraining:
    """A resumable training run; every process has one.

    Args:
        episodes: pre-encoded demonstrations.
        folder: state, log, plot and normaliser of the run.
        recipe: see TeacherRecipe.
        peers: the processes that train together.
    """

    def __init__(self, episodes: list[LatentEpisode], folder: Path, recipe: TeacherRecipe,
                 peers: Peers | None = None):
        self.recipe, self.peers, self.folder = recipe, peers or Peers(), folder
        folder.mkdir(parents=True, exist_ok=True)
        self.normaliser = self._normaliser(episodes)
        self.text = NanoTextEncoder()
        torch.manual_seed(recipe.seed)
        config = recipe.transformer(episodes[0].latents.shape[1], self.text.text_dim)
        self.model = WanTransformer3DModel(config)
        self.average = [p.detach().clone() for p in self.model.parameters()]
        self._parameters = list(self.model.parameters())
        matrices = [p for p in self._parameters if p.ndim == 2]
        others = [p for p in self._parameters if p.ndim != 2]
        self._optimiser = torch.optim.AdamW(
            [{'params': matrices, 'weight_decay': recipe.weight_decay},
             {'params': others, 'weight_decay': 0.0}], betas=(0.9, 0.95))
        training = [e for e in episodes if e.seed % HELD_OUT_EVERY]
        held_out = [e for e in episodes if not e.seed % HELD_OUT_EVERY]
        self._sampler = self._make_sampler(training or held_out)
        self._held_out = self._make_sampler(held_out or training)
        self._losses = Losses(recipe, self.normaliser, self.text, CHUNK_FRAMES)
        self.step, self.elapsed_s, self._last_step_s = 0, 0.0, 0.0
        self._resume()
        self._log = CsvLog(folder / 'teacher.csv', COLUMNS, self.step) if self._first else None
        self._held_out_figures = (float('nan'), float('nan'))

    @property
    def _first(self) -> bool:
        return self.peers.rank == 0

    def _make_sampler(self, episodes: list[LatentEpisode]) -> WindowSampler:
        recipe = self.recipe
        weights = dict(recipe.task_weights) or {episode.task: 1.0 for episode in episodes}
        return WindowSampler(episodes, recipe.lengths, recipe.start_share, weights, recipe.seed)

    def _normaliser(self, episodes: list[LatentEpisode]) -> QuantileNormaliser:
        """Fixed at the run's first start, so that more data later does not shift the actions."""
        path = self.folder / 'normaliser.json'
        if path.exists():
            return QuantileNormaliser.from_dict(json.loads(path.read_text(encoding='utf-8')))
        normaliser = fit_normaliser(episodes)
        if self._first:
            path.write_text(json.dumps(normaliser.to_dict()), encoding='utf-8')
        return normaliser

    def _resume(self) -> None:
        state = load_state(self.folder / 'teacher_state.pt')
        if state is None:
            return
        self.model.load_state_dict(state['model'])
        for mine, saved in zip(self.average, state['average'], strict=True):
            mine.copy_(saved)
        self._optimiser.load_state_dict(state['optimiser'])
        self.step, self.elapsed_s = state['step'], state['elapsed_s']

    def save(self) -> None:
        """Write the state that a restart continues from (first process only)."""
        if self._first:
            save_state(self.folder / 'teacher_state.pt', {
                'model': self.model.state_dict(), 'average': self.average,
                'optimiser': self._optimiser.state_dict(), 'step': self.step,
                'elapsed_s': self.elapsed_s})

    def averaged_model(self) -> WanTransformer3DModel:
        """A copy of the network with the moving average of the weights."""
        model = WanTransformer3DModel(self.model.config)
        with torch.no_grad():
            for target, value in zip(model.parameters(), self.average, strict=True):
                target.copy_(value)
        return model.eval()

    def run(self, report: Callable[[str], None], until: int | None = None,
            on_export: Callable[[], None] | None = None) -> None:
        """Train to the end of the budget, or to step ``until``."""
        budget = Budget(self.recipe.steps, self.recipe.seconds)
        saver = Throttle(SAVE_EVERY_S, time.monotonic)
        exporter = Throttle(EXPORT_EVERY_S, time.monotonic)
        while budget.progress(self.step, self.elapsed_s) < 1 and self.step != until:
            rate = learning_rate(self.recipe.peak_learning_rate, self.step,
                                 budget.progress(self.step, self.elapsed_s),
                                 self.recipe.warmup_steps, self.recipe.constant_share)
            figures = self._train_step(rate)
            if self._first:
                self._note(figures, rate, report)
            self.step += 1
            if self._first and saver.ready():
                self.save()
            if self._first and on_export is not None and exporter.ready():
                on_export()
        self.save()

    def _train_step(self, rate: float) -> dict[str, float]:
        begin = time.monotonic()
        recipe = self.recipe
        batch = self._sampler.batch(self.step, recipe.batch, self.peers.rank)
        generator = torch.Generator().manual_seed(
            (recipe.seed * 1_000_003 + self.step) * 64 + self.peers.rank)
        for group in self._optimiser.param_groups:
            group['lr'] = rate
        self._optimiser.zero_grad(set_to_none=True)
        video, action = self._losses(self.model, batch, generator)
        (video + recipe.action_weight * action).backward()
        used = [p for p in self._parameters if p.grad is not None]
        # One message: gradients, losses and the last step's time: all processes must agree on it.
        message = torch.cat([*(p.grad.reshape(-1) for p in used),
                             torch.stack([video.detach(), action.detach(),
                                          torch.tensor(self._last_step_s)])])
        self.peers.average(message)
        for parameter, part in zip(used, message[:-3].split([p.numel() for p in used]),
                                   strict=True):
            parameter.grad.copy_(part.view_as(parameter))
        norm = torch.nn.utils.clip_grad_norm_(used, recipe.clip)
        self._optimiser.step()
        with torch.no_grad():
            # A short run should not remember its random start: the average warms up.
            decay = min(recipe.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.average, [p.detach() for p in self._parameters], 1 - decay)
        self.elapsed_s += float(message[-1])
        self._last_step_s = time.monotonic() - begin
        return {'video': float(message[-3]), 'action': float(message[-2]),
                'gradient_norm': float(norm)}

    def _note(self, figures: dict[str, float], rate: float, report: Callable[[str], None]) -> None:
        if self.step % HELD_OUT_EVERY_STEPS == 0:
            self._held_out_figures = self.held_out_losses()
        if self.step % LOG_EVERY == 0:
            self._log.add({'step': self.step, 'seconds': round(self.elapsed_s, 1),
                           'learning_rate': rate, 'held_out_video': self._held_out_figures[0],
                           'held_out_action': self._held_out_figures[1], **figures})
        if self.step % REPORT_EVERY == 0:
            plot_log(self.folder / 'teacher.csv', self.folder / 'teacher.png',
                     ('video', 'action', 'held_out_video', 'held_out_action'))
            report(f'step {self.step}, {self.elapsed_s:.0f} s: video {figures["video"]:.4f}, '
                   f'action {figures["action"]:.5f}, held out '
                   f'{self._held_out_figures[0]:.4f} / {self._held_out_figures[1]:.5f}')

    def held_out_losses(self) -> tuple[float, float]:
        """Losses of the averaged weights on held-out windows with fixed noise."""
        model = self.averaged_model()
        generator = torch.Generator().manual_seed(12345)
        sums = np.zeros(2)
        with torch.no_grad():
            for part in range(HELD_OUT_WINDOWS // 8):
                batch = self._held_out.batch(part, 8, rank=999)
                sums += [float(loss) for loss in self._losses(model, batch, generator)]
        return tuple(sums / (HELD_OUT_WINDOWS // 8))

    def export(self, codec_folder: Path, out: Path, data: dict) -> str:
        """Write the averaged weights as a checkpoint folder; returns its hash."""
        from flashwam_ros.robot.contract import RobotContract
        contract = RobotContract.load()
        return save_checkpoint(
            out, transformer=self.averaged_model(), codec=load_codec(codec_folder),
            text_encoder=self.text, normaliser=self.normaliser, contract=contract.to_dict(),
            sampler=self.recipe.sampler(contract.frames_per_chunk, contract.actions_per_frame),
            training={'recipe': self.recipe.to_dict(), 'steps': self.step,
                      'seconds': round(self.elapsed_s), 'processes': self.peers.count, **data})


def _connect(options: argparse.Namespace) -> Peers:
    """Join the other processes over the loopback interface."""
    if options.processes == 1:
        return Peers()
    os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{options.port}',
                            rank=options.rank, world_size=options.processes)
    return Peers(options.rank, options.processes)


def _train(options: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    recipe = TeacherRecipe(**load_recipe('nano_teacher.yaml', options.recipe))
    episodes = load_folder(options.codec / 'latents', codec_hash(load_codec(options.codec)))
    run = TeacherTraining(episodes, options.out, recipe, _connect(options))
    counts = {task: sum(e.task == task for e in episodes) for task in {e.task for e in episodes}}
    report = reporter('teacher')
    export, target = None, options.export or options.out / 'export'
    if run.peers.rank == 0:
        size = sum(p.numel() for p in run.model.parameters())
        report(f'{size / 1e6:.2f} M parameters, episodes {counts}, from step {run.step}')

        def export() -> None:
            run.export(options.codec, target, {'episodes': counts})

    if not options.export_only:
        run.run(report, on_export=export)
    if export is not None:
        export()
        report(f'done at step {run.step}: {target}')
    return 0


def _spawn(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Start one process per rank and end them together."""
    children = [subprocess.Popen([sys.executable, '-m', 'flashwam_ros.training.teacher', *argv,
                                  '--rank', str(rank)]) for rank in range(options.processes)]

    def forward(number, _frame) -> None:
        for child in children:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    codes = [child.wait() for child in children]
    return max(abs(code) for code in codes)


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam train-teacher``: train, or continue a run."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog='flashwam train-teacher', description=__doc__)
    parser.add_argument('--codec', type=Path, default=cache_folder('codec'))
    parser.add_argument('--out', type=Path, default=cache_folder('teacher'))
    parser.add_argument('--recipe', type=Path, default=None,
                        help='YAML (default: the installed nano_teacher.yaml)')
    parser.add_argument('--processes', type=int, default=1, help='one core each')
    parser.add_argument('--port', type=int, default=29517, help='loopback port of the processes')
    parser.add_argument('--export-only', action='store_true',
                        help='write the checkpoint folder of the saved state, do not train')
    parser.add_argument('--export', type=Path, default=None,
                        help='checkpoint folder (default: <out>/export)')
    parser.add_argument('--rank', type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.processes > 1 and options.rank is None and not options.export_only:
        return _spawn(options, argv)
    return _train(options)


if __name__ == '__main__':
    sys.exit(main())
