# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every training run needs: learning rate, atomic state, a CSV log and a plot."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: ``steps``, or ``seconds`` of training time if that comes first."""

    steps: int
    seconds: float = math.inf

    def progress(self, step: int, elapsed_s: float) -> float:
        """Share of the budget that is used, 0..1."""
        return min(1.0, max(step / self.steps, elapsed_s / self.seconds))


def learning_rate(peak: float, step: int, progress: float, warmup_steps: int,
                  constant_share: float = 0.0, floor: float = 0.02) -> float:
    """Linear warm-up, constant, then cosine to ``floor`` times the peak at the budget's end.

    ``constant_share`` 1 leaves the cosine out (the published recipes).
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if progress <= constant_share:
        return peak
    along = (progress - constant_share) / (1 - constant_share)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, along))))


def save_state(path: Path, state: Mapping) -> None:
    """Write tensors and plain values: a kill at any moment leaves the old file or the new one."""
    part = path.with_name(path.name + '.part')
    with open(part, 'wb') as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load_state(path: Path) -> dict | None:
    """Read what ``save_state`` wrote (nothing is unpickled but tensors); None without a file."""
    if not path.exists():
        return None
    return torch.load(path, weights_only=True, map_location='cpu')


class CsvLog:
    """Rows of figures; lines of a run that was cut off after its last checkpoint are dropped."""

    def __init__(self, path: Path, columns: tuple[str, ...], resume_step: int):
        self._path, self._columns = path, columns
        kept = [row for row in read_log(path) if int(row['step']) < resume_step]
        part = path.with_name(path.name + '.part')
        with open(part, 'w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, columns, restval='nan', extrasaction='ignore')
            writer.writeheader()
            writer.writerows(kept)
        os.replace(part, path)

    def add(self, row: Mapping[str, float]) -> None:
        """Append one row."""
        with open(self._path, 'a', newline='', encoding='utf-8') as file:
            csv.DictWriter(file, self._columns).writerow(
                {name: row[name] for name in self._columns})


def read_log(path: Path) -> list[dict[str, str]]:
    """Rows of a log, [] when there is none; a last row that a kill cut short is left out."""
    if not path.exists():
        return []
    with open(path, newline='', encoding='utf-8') as file:
        text = file.read()
    whole = text[:text.rfind('\n') + 1]
    return list(csv.DictReader(whole.splitlines()))


def plot_log(path: Path, image: Path, columns: tuple[str, ...]) -> bool:
    """Draw loss columns over steps; False when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    rows = read_log(path)
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.subplots()
    for name in columns:
        points = [(int(row['step']), float(row[name] or 'nan')) for row in rows]
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1)
    axes.set(xlabel='step', ylabel='loss', yscale='log')
    if axes.lines:
        axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(image, dpi=110)
    return True


class Throttle:
    """True at most once per period, by the caller's clock."""

    def __init__(self, period_s: float, clock: Callable[[], float]):
        self._period_s, self._clock = period_s, clock
        self._last = clock()

    def ready(self) -> bool:
        """Whether the period has passed since the last True."""
        if self._clock() - self._last < self._period_s:
            return False
        self._last = self._clock()
        return True
