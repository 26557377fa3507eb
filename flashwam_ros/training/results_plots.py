# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a table of results: success, success over latency, loss over noise level."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

DPI = 100
INK, SOFT, ACCENT = '#222222', '#9a9a9a', '#1f5fa8'
_MARKERS = 'osD^vP*X<>hp'
_COLOURS = ('#222222', '#1f5fa8', '#c4402f', '#2e8b57', '#b8860b', '#7b4ea3', '#008b8b', '#d2691e',
            '#708090', '#a0306a', '#556b2f', '#4682b4')


def _finish(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def _interval(axes, figures: Mapping, y: float, colour: str) -> None:
    low, high = (100 * value for value in figures['interval'])
    axes.plot([low, high], [y, y], color=colour, linewidth=1.4)
    axes.plot(100 * figures['success'] / figures['n'], y, 'o', color=colour, markersize=4)


def success(section: Mapping, path: Path) -> bool:
    """Success with 95 % intervals, a panel for all tasks and one for each; False if empty."""
    rows = [row for row in section['rows'] if row['all']['n']]
    if not rows:
        return False
    tasks = list(section['seeds'])
    figure = Figure(figsize=(3.4 + 2.0 * (1 + len(tasks)), 1.1 + 0.24 * len(rows)),
                    layout='constrained')
    panels = figure.subplots(1, 1 + len(tasks), sharey=True, sharex=True)
    for axes, title in zip(panels, ('all tasks', *tasks), strict=True):
        axes.set_title(title, fontsize=9)
        axes.grid(axis='x', color='#e4e4e4')
        axes.set(xlim=(0, 100), xlabel='success, %')
        for number, row in enumerate(rows):
            figures = row['all'] if title == 'all tasks' else row['tasks'][title]
            if figures['n']:
                _interval(axes, figures, -number, ACCENT if title == 'all tasks' else INK)
    names = [row['name'] for row in rows]
    several = {name for name in names
               if len({row['checkpoint'] for row in rows if row['name'] == name}) > 1}
    labels = [f'{row["checkpoint"] if row["name"] in several else row["name"]}, {row["steps"]}'
              + (', Euler' if row['sampler'] == 'euler' else '') for row in rows]
    panels[0].set_yticks([-number for number in range(len(rows))], labels, fontsize=8)
    _finish(figure, path)
    return True


def latency(section: Mapping, path: Path) -> bool:
    """Success over what a chunk costs; filled: own sampler, hollow: Euler. False if empty."""
    rows = [row for row in section['rows'] if row['all']['n'] and row['chunk_cpu_ms']]
    if not rows:
        return False
    figure = Figure(figsize=(8.5, 4.2), layout='constrained')
    axes = figure.subplots()
    for number, name in enumerate(dict.fromkeys(row['name'] for row in rows)):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        for row in (row for row in rows if row['name'] == name):
            share = row['all']['success'] / row['all']['n']
            low, high = row['all']['interval']
            axes.errorbar(row['chunk_cpu_ms'], 100 * share,
                          [[100 * (share - low)], [100 * (high - share)]], color=colour,
                          marker=marker, markersize=5, linewidth=0.8,
                          markerfacecolor='white' if row['sampler'] == 'euler' else colour)
        axes.plot([], [], color=colour, marker=marker, linestyle='', label=name)
    axes.set(xscale='log', ylim=(0, 100), ylabel='success, all tasks, %',
             xlabel='CPU time per chunk (encode, ground, predict), ms')
    for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        which(StrMethodFormatter('{x:g}'))
    axes.grid(color='#e4e4e4')
    figure.legend(loc='outside right upper', fontsize=8)
    _finish(figure, path)
    return True


def loss(profiles: Mapping[str, Mapping], path: Path) -> bool:
    """Error of the estimate of x0 over the noise level: own function solid, x - sigma v dotted.

    Args:
        profiles: checkpoint -> what `loss_profile.loss_profile` returns.
        path: picture.
    """
    if not profiles:
        return False
    figure = Figure(figsize=(10, 4.2), layout='constrained')
    panels = figure.subplots(1, 2)
    for number, (name, profile) in enumerate(profiles.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        sigmas = [level['sigma'] for level in profile['levels']]
        for axes, stream in zip(panels, ('video', 'action'), strict=True):
            own = [level[f'{stream}_own'] for level in profile['levels']]
            plain = [level[f'{stream}_x0'] for level in profile['levels']]
            axes.plot(sigmas, own, color=colour, linewidth=1.2, marker='o', markersize=3,
                      label=name if stream == 'video' else None)
            if own != plain:
                axes.plot(sigmas, plain, color=colour, linewidth=1.0, linestyle=':')
            axes.set(title=stream, xlabel='noise level sigma', yscale='log',
                     ylabel='mean squared error of x0, normalised units')
            axes.grid(color='#e4e4e4')
    figure.legend(loc='outside right upper', fontsize=8)
    _finish(figure, path)
    return True
