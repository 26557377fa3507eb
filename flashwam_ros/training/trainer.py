# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One training loop for the teacher and for every way of distilling it.

Batches and noise follow from (seed, step, part) alone and the state is written atomically, so a
run that is killed at any moment continues with the same loss curve.  A budget in seconds counts
training time only.

A step with a non-finite loss or gradient is left out on all processes alike (the flag is reduced
over them), counted and logged; backward runs even so, or the other processes would wait for this
one's messages for ever.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from flashwam_ros.training.distributed import Peers
from flashwam_ros.training.networks import NetworkSet, current_state
from flashwam_ros.training.objectives.base import Losses, Objective
from flashwam_ros.training.progress import Progress
from flashwam_ros.training.recipes import Recipe
from flashwam_ros.training.run_state import (
    Budget,
    CsvLog,
    Throttle,
    learning_rate,
    load_state,
    plot_log,
    save_state,
)
from flashwam_ros.training.windows import HELD_OUT_PARTS, WindowSource

SAVE_EVERY_S = 120.0
EXPORT_EVERY_S = 300.0
PLOT_EVERY_S = 60.0
MOST_SKIPPED = 50
"""So many steps left out one after the other end the run: its weights are beyond repair."""


@dataclass(frozen=True)
class Job:
    """What is trained, how, and where its files lie.

    Attributes:
        name: of the program; state, log and plot are ``<name>_state.pt``, ``.csv``, ``.png``.
        folder: of these files.
        objective: turns windows into losses.
        recipe: numbers of the run.
        parent: hash of what the run started from; another one's state is refused.
        average_warms_up: the moving average forgets the (random) start quickly.
    """

    name: str
    folder: Path
    objective: Objective
    recipe: Recipe
    parent: str = ''
    average_warms_up: bool = False


class DivergedError(RuntimeError):
    """Every one of the last steps was non-finite."""


class Trainer:
    """A resumable training run; every process has one.

    Args:
        job: what is trained.
        networks: its networks.
        source: its windows.
        peers: the processes that train together.

    Attributes:
        step: the next one.
        elapsed_s: seconds of training so far.
        skipped: steps left out.
        data: what was trained on, `WindowSource.data_record` and `from_step`; more than one where
            the run was continued with other demonstrations.

    Raises:
        ValueError: the folder holds a run of another start or another recipe.
    """

    def __init__(self, job: Job, networks: NetworkSet, source: WindowSource, peers: Peers):
        self.job, self.networks, self.peers = job, networks, peers
        self._source, self._recipe, self._objective = source, job.recipe, job.objective
        self._parts = job.recipe.parts(peers.count)
        self.step, self.elapsed_s, self.skipped = 0, 0.0, 0
        self.data: list[dict] = []
        self._last_step_s, self._skipped_in_a_row = 0.0, 0
        self._asked_to_stop, self._stopped = False, False
        job.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        columns = job.objective.columns
        self._columns = ('step', 'seconds', *columns, *(f'held_out_{c}' for c in columns),
                         'learning_rate', *self._norm_columns(), 'skipped')
        self._log = CsvLog(self._file('.csv'), self._columns, self.step) if peers.first else None

    def _file(self, ending: str) -> Path:
        return self.job.folder / f'{self.job.name}{ending}'

    def _norm_columns(self) -> tuple[str, ...]:
        return tuple('gradient_norm' if name == 'student' else f'{name}_gradient_norm'
                     for name in self.networks.trained)

    @property
    def progress(self) -> float:
        """Share of the budget that is used."""
        return Budget(self._recipe.steps, self._recipe.seconds).progress(self.step,
                                                                         self.elapsed_s)

    @property
    def stopped(self) -> bool:
        """Whether the last run ended by a signal."""
        return self._stopped

    def _resume(self) -> None:
        path = self._file('_state.pt')
        state = load_state(path)
        if state is None:
            return
        state = current_state(state, path)
        if state.get('parent', self.job.parent) != self.job.parent:
            raise ValueError(f'{path} started from {state["parent"][:12]}, this run from '
                             f'{self.job.parent[:12]}: choose another --out folder')
        differences = self._recipe.differences(json.loads(state.get('recipe', '{}')))
        if differences:
            raise ValueError(f'{path} was trained with {"; ".join(differences)}: choose another '
                             '--out folder')
        self.networks.load(state)
        self.step, self.elapsed_s = state['step'], state['elapsed_s']
        self.skipped = state['skipped']
        self.data = json.loads(state.get('data', '[]'))

    def save(self) -> None:
        """Write the state that a restart continues from (all processes must call it)."""
        if self.peers.first or self.peers.sharded:
            state = self.networks.state()
        if self.peers.first:
            save_state(self._file('_state.pt'), {
                **state, 'step': self.step, 'elapsed_s': self.elapsed_s,
                'skipped': self.skipped, 'parent': self.job.parent,
                'recipe': json.dumps(self._recipe.to_dict()), 'data': json.dumps(self.data)})

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT end the run after the step, with its state saved."""
        def stop(_number, _frame) -> None:
            self._asked_to_stop = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def run(self, report: Callable[[str], None], until: int | None = None,
            on_export: Callable[[], None] | None = None) -> None:
        """Train to the end of the budget, to step ``until``, or to a signal.

        ``on_export`` is called every few minutes, on all processes.

        Raises:
            DivergedError: nothing but non-finite steps.
        """
        if self._recipe.precision == 'bf16' and self.networks.products is torch.float32:
            report('this CPU has no fast bf16: products are made in fp32')
        throttles = [Throttle(period, time.monotonic) for period in (SAVE_EVERY_S,
                                                                     EXPORT_EVERY_S)]
        plotter = Throttle(PLOT_EVERY_S, time.monotonic)
        bar = Progress(report, self.progress)
        if self.progress < 1:
            self._note_data()
        while self.progress < 1 and self.step != until and not self._stopped:
            due = [self.peers.first and throttle.ready() for throttle in throttles]
            rates = self._rates()
            figures, save_due, export_due = self._train_step(rates, due)
            self._note(figures, rates, bar)
            self.step += 1
            if self.peers.first and plotter.ready():
                self._plot()
            if save_due:
                self.save()
            if export_due and on_export is not None:
                on_export()
        self.save()
        if self.peers.first:
            self._plot()

    def _note_data(self) -> None:
        """What the steps from here on see: a run may go on with more demonstrations."""
        record = self._source.data_record()
        if not self.data or self.data[-1]['sha256'] != record['sha256']:
            self.data.append({**record, 'from_step': self.step})

    def data_entries(self) -> dict:
        """What a checkpoint's record says of the data; ``earlier_data`` where it changed."""
        noted = self.data or [self._source.data_record()]  # none: by a version that kept no note
        earlier = {'earlier_data': noted[:-1]} if len(noted) > 1 else {}
        return {'data': noted[-1], **earlier}

    def _rates(self) -> dict[str, float]:
        recipe = self._recipe
        peaks = {'student': recipe.peak_learning_rate, 'critic': recipe.critic_learning_rate}
        return {name: learning_rate(peaks[name], self.step, self.progress, recipe.warmup_steps,
                                    recipe.constant_share) for name in self.networks.trained}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.peers.device.type, torch.bfloat16,
                              enabled=self.networks.products is torch.bfloat16)

    def _losses(self, part: int) -> Losses:
        seed = (self._recipe.seed * 1_000_003 + self.step) * 4096 + part
        generator = torch.Generator().manual_seed(seed)
        windows = self._source.training(self.step, part)
        with self._autocast():
            return self._objective.losses(self.networks.view, windows, self.step, generator)

    def _train_step(self, rates: dict[str, float],
                    due: list[bool]) -> tuple[dict[str, float], bool, bool]:
        """Figures of a step over all processes, and whether to save and to export after it."""
        begin = time.monotonic()
        self.networks.zero_grad()
        mine = range(self.peers.rank, self._parts, self.peers.count)
        rows, trained = [], set()
        for part in mine:
            losses = self._losses(part)
            trained |= losses.scalars.keys()
            # nan_to_num keeps the graph: this process's backward sends what others wait for.
            total = torch.nan_to_num(sum(losses.scalars.values()), 0.0, 0.0, 0.0)
            (total / len(mine)).backward()
            missing = total.detach().new_full((), math.nan)
            values = [losses.figures.get(name, missing) for name in self._objective.columns]
            bad = [~torch.isfinite(value) for value in (*losses.scalars.values(),
                                                        *losses.figures.values())]
            rows.append(torch.stack([*(v.detach().double() for v in values),
                                     torch.stack(bad).any().double()]))
        control = torch.tensor([*due, self._asked_to_stop, self._last_step_s], dtype=torch.float64)
        sums = torch.stack(rows).mean(dim=0)
        message = self.peers.mean(torch.cat([sums, control.to(sums.device)])).tolist()
        *values, bad, save_due, export_due, stop, seconds = message
        # Together: a process that left alone would leave the others waiting.
        self._stopped = stop > 0
        self.elapsed_s += seconds
        norms = self._update(trained, rates, healthy=not bad)
        self._last_step_s = time.monotonic() - begin
        figures = dict(zip(self._objective.columns, values, strict=True))
        return {**figures, **norms}, save_due > 0, export_due > 0

    def _update(self, trained: set[str], rates: dict[str, float],
                healthy: bool) -> dict[str, float]:
        """Step the networks that this step trains, unless something is not finite."""
        norms = dict.fromkeys(self.networks.trained, math.nan)
        for name in sorted(trained):
            norms[name] = self.networks.gradient_norm(name)
        if healthy and all(math.isfinite(norms[name]) for name in trained):
            self._skipped_in_a_row = 0
            for name in sorted(trained):
                self.networks.step(name, rates[name])
            if 'student' in trained:
                self.networks.update_average(self._decay())
        else:
            self.skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row >= MOST_SKIPPED:
                raise DivergedError(f'{MOST_SKIPPED} steps in a row were not finite, the last is '
                                    f'{self.step}: lower the learning rate; the state in '
                                    f'{self.job.folder} is from before')
        return dict(zip(self._norm_columns(), norms.values(), strict=True))

    def _decay(self) -> float:
        if not self.job.average_warms_up:
            return self._recipe.ema
        # A short run should not remember its random start.
        return min(self._recipe.ema, (1 + self.step) / (10 + self.step))

    def _note(self, figures: dict[str, float], rates: dict[str, float], bar: Progress) -> None:
        held_out = dict.fromkeys(self._objective.columns, math.nan)
        look = self.step % self._recipe.held_out_every == 0
        if look:
            held_out = self.held_out_figures()
        if not self.peers.first:
            return
        if look or self.step % self._recipe.log_every == 0:
            self._log.add({'step': self.step, 'seconds': round(self.elapsed_s, 1), **figures,
                           **{f'held_out_{name}': value for name, value in held_out.items()},
                           'learning_rate': rates['student'], 'skipped': self.skipped})
        told = ', '.join(f'{name} {figures[name]:.4g}' for name in self._objective.columns)
        bar.tell(self.step, self.elapsed_s, self.progress,
                 f'{told}' + (f', {self.skipped} steps skipped' if self.skipped else ''))

    def held_out_figures(self) -> dict[str, float]:
        """Figures of the averaged weights on held-out windows with fixed noise.

        Replicas need it once: only the first process computes, NaN on the others.
        """
        columns = self._objective.columns
        if not (self.peers.first or self.peers.sharded):
            return dict.fromkeys(columns, math.nan)
        objective = dataclasses.replace(self._objective, forward_dynamics_share=0.0)
        networks = dataclasses.replace(self.networks.view, student=self.networks.average)
        generator = torch.Generator().manual_seed(12345)
        sums = dict.fromkeys(columns, 0.0)
        with torch.no_grad(), self._autocast():
            for part in range(HELD_OUT_PARTS):
                figures = objective.losses(networks, self._source.held_out(part), 0,
                                           generator).figures
                for name in columns:
                    sums[name] += float(figures.get(name, math.nan)) / HELD_OUT_PARTS
        return sums

    def _plot(self) -> None:
        columns = self._objective.columns
        plot_log(self._file('.csv'), self._file('.png'),
                 (*columns, *(f'held_out_{name}' for name in columns)))
