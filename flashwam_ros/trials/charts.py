# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Charts of the report as SVG text, light and self-contained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLORS = ('#1b4f8a', '#c0504d', '#4f8a3c', '#8a5aa8', '#c98a1b', '#2a9d9d', '#7a7a7a', '#a8324f')
_LABEL, _PANEL, _GAP, _ROW, _TOP = 150, 200, 44, 22, 40
_INK, _FAINT = '#222', '#d8d8d8'


def _text(x: float, y: float, text: str, size: int = 11, anchor: str = 'start',
          color: str = _INK) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{color}">{escape(text)}</text>')


def _line(x1: float, y1: float, x2: float, y2: float, color: str = _FAINT,
          width: float = 1.0) -> str:
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
            f'stroke-width="{width}"/>')


def _svg(width: float, height: float, parts: Sequence[str], what: str) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" font-family="sans-serif" role="img" '
            f'aria-label="{escape(what)}">{"".join(parts)}</svg>')


def _size(figures: Mapping, panels: int) -> tuple[float, float]:
    return (_LABEL + panels * (_PANEL + _GAP),
            _TOP + _ROW * len(figures['arms']) + 24)  # fmt: skip


def _frame(figures: Mapping, panels: Sequence[str]) -> list[str]:
    """Names of arms and panels, and grid lines at 0, 50 and 100 %."""
    parts = []
    bottom = _TOP + _ROW * len(figures['arms'])
    for number, arm in enumerate(figures['arms']):
        parts.append(_text(_LABEL - 10, _TOP + _ROW * (number + 0.65), arm['id'], anchor='end',
                           color=COLORS[number % len(COLORS)]))  # fmt: skip
    for number, name in enumerate(panels):
        left = _LABEL + number * (_PANEL + _GAP)
        parts.append(_text(left, _TOP - 16, name.replace('_', ' '), 12))
        for share in (0.0, 0.5, 1.0):
            x = left + share * _PANEL
            parts.append(_line(x, _TOP - 6, x, bottom))
            parts.append(_text(x, bottom + 14, f'{100 * share:.0f} %', 9, 'middle', '#777'))
    return parts


def success_chart(figures: Mapping) -> str:
    """Success of every arm, with its 95 % interval; hollow: deployment-valid rollouts only."""
    groups = figures['groups']
    parts = _frame(figures, groups)
    for panel, group in enumerate(groups):
        left = _LABEL + panel * (_PANEL + _GAP)
        for row, arm in enumerate(figures['arms']):
            color, cell = COLORS[row % len(COLORS)], figures['cells'][group][arm['id']]
            y = _TOP + _ROW * (row + 0.5)
            for shift, share, solid in ((-3, cell, True), (5, cell['valid'], False)):
                if not share['n']:
                    continue
                low, high = (left + end * _PANEL for end in share['interval'])
                x = left + share['success'] / share['n'] * _PANEL
                parts.append(_line(low, y + shift, high, y + shift, color, 2 if solid else 1))
                parts.append(f'<circle cx="{x:.1f}" cy="{y + shift:.1f}" r="{4 if solid else 3}" '
                             f'fill="{color if solid else "#fff"}" stroke="{color}"/>')
    return _svg(*_size(figures, len(groups)), parts, 'success by arm and task')


def funnel_chart(figures: Mapping) -> str:
    """Share of rollouts that reached each stage: one bar per stage, in order, lighter to dark."""
    tasks = list(figures['tasks'])
    parts = _frame(figures, tasks)
    for panel, task in enumerate(tasks):
        left = _LABEL + panel * (_PANEL + _GAP)
        stages = list(figures['tasks'][task])
        height = (_ROW - 6) / len(stages)
        for row, arm in enumerate(figures['arms']):
            cell = figures['cells'][task][arm['id']]
            for index, stage in enumerate(stages if cell['n'] else []):
                width = cell['stages'][stage] / cell['n'] * _PANEL
                y = _TOP + _ROW * row + 3 + index * height
                parts.append(
                    f'<rect x="{left}" y="{y:.1f}" width="{width:.1f}" '
                    f'height="{height - 0.6:.1f}" fill="{COLORS[row % len(COLORS)]}" '
                    f'fill-opacity="{0.4 + 0.6 * (index + 1) / len(stages):.2f}"/>')
    return _svg(*_size(figures, len(tasks)), parts, 'share of rollouts that reached each stage')


def time_chart(figures: Mapping) -> str:
    """Share of all rollouts that had succeeded by a time, for every arm."""
    tasks, height = list(figures['tasks']), 140.0
    parts = []
    for panel, task in enumerate(tasks):
        left, cells = 40 + panel * (_PANEL + 2 * _GAP), figures['cells'][task]
        times = [t for cell in cells.values() for t in cell['success_times_s']]
        end = max([1.0, *times]) * 1.05
        parts.append(_text(left, 16, task.replace('_', ' '), 12))
        for share in (0.0, 0.5, 1.0):
            y = 24 + (1 - share) * height
            parts.append(_line(left, y, left + _PANEL, y))
            parts.append(_text(left - 4, y + 3, f'{100 * share:.0f} %', 9, 'end', '#777'))
        parts.append(_text(left, 24 + height + 14, '0 s', 9, 'middle', '#777'))
        parts.append(_text(left + _PANEL, 24 + height + 14, f'{end:.0f} s', 9, 'middle', '#777'))
        for row, arm in enumerate(figures['arms']):
            parts.append(_steps(cells[arm['id']], left, height, end, COLORS[row % len(COLORS)]))
    width = 40 + len(tasks) * (_PANEL + 2 * _GAP)
    return _svg(width, height + 46, parts, 'time to success')


def _steps(cell: Mapping, left: float, height: float, end: float, color: str) -> str:
    if not cell['n']:
        return ''
    points, share = [(left, 24 + height)], 0.0
    for time_s in cell['success_times_s']:
        x = left + time_s / end * _PANEL
        points.append((x, 24 + (1 - share) * height))
        share += 1 / cell['n']
        points.append((x, 24 + (1 - share) * height))
    points.append((left + _PANEL, 24 + (1 - share) * height))
    path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>'
