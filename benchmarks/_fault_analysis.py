# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the arms did after a fault, from the recorded wire; pictures and the table of all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks._stack import header_lines, table
from benchmarks._wire import Trace
from flashwam_ros.robot.contract import RobotContract

ARMS = 14
SILENCE_S = 0.5
#: A longer gap between two commands is a pause, not a tick.
PAUSE_S = 0.1
#: Commands are judged over this time: their stamps jitter by a few ms.
WINDOW_S = 0.04
SPEED_TOLERANCE = 1.15
FULL_WEIGHT = 0.999
LONGEST_TEXT = 70
_NEAR_S = 0.03
_COLOURS = {'ENGAGE': 'C0', 'HOLD': 'C1', 'EXECUTE': 'C2', 'RETREAT': 'C4', 'RELEASE': 'C3'}
COLUMNS = (
    'fault', 'reason', 'to HOLD s', 'to weight 0 s', 'to silence s', 'final weight', 'retreat',
    'command rad/s', 'step rad', 'hand-over step rad', 'command - measured rad', 'arm rad/s',
    'rollout', 'as expected',
)  # fmt: skip
NOTES = """\
Times count from the fault; HOLD is taken from `driver_status` (10 Hz), weight and silence from the
wire. *Command* is the fastest commanded joint over 40 ms, *step* the largest difference of two
successive commands, *hand-over step* that between the last command of one writer (or before a
pause) and the first one after it, *command - measured* the largest at full weight, *arm* the
fastest measured joint. Where the driver refuses a chunk and goes on, the rollout runs to its end.
"""


def select(trace: Trace, ignore_new_writers: bool) -> Trace:
    """The trace without the commands of writers that appeared after the fault, if so wanted."""
    if not ignore_new_writers:
        return trace
    keep = np.isin(trace.writer, np.unique(trace.writer[trace.t < 0]))
    fields = {name: getattr(trace, name)[keep] for name in ('t', 'q', 'dq', 'weight', 'writer')}
    measured = {name: value for name, value in trace.__dict__.items() if 'measured' in name}
    return Trace(**fields, **measured)


def windowed_speed(t: np.ndarray, q: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """(N, 14) rad/s over the last `WINDOW_S`, never across a break; 0 where too little is known.

    Args:
        t: (N,) s.
        q: (N, 14) rad.
        breaks: (N,) true where a new stretch begins.
    """
    stretch = np.cumsum(breaks)
    first = np.searchsorted(t, t - WINDOW_S, side='right') - 1
    known = (first >= 0) & (stretch[np.maximum(first, 0)] == stretch)
    first = np.where(known, first, 0)
    span = np.where(known, t - t[first], np.inf)
    return np.where(known[:, None], np.abs(q - q[first]) / span[:, None], 0.0)


def motion(trace: Trace) -> dict:
    """Largest speeds, steps and distances after the fault; rad, s. NaN where there is nothing."""
    if not len(trace.t):
        return {}
    gap = np.diff(trace.t, prepend=trace.t[0] - 1.0)
    breaks = (gap > PAUSE_S) | (np.diff(trace.writer, prepend=-1) != 0)
    steps = np.abs(np.diff(trace.q, axis=0, prepend=trace.q[:1])).max(axis=1)
    after = trace.t >= 0
    contract = RobotContract.load()
    driver = after & (trace.writer == trace.writer[0])
    outside = np.maximum(trace.q - contract.upper[:ARMS], contract.lower[:ARMS] - trace.q)
    return {
        'speed': _largest(windowed_speed(trace.t, trace.q, breaks)[after]),
        'declared_speed': _largest(np.abs(trace.dq[after])),
        'step': _largest(steps[after & ~breaks]),
        'handover_step': _largest(steps[after & breaks & (np.arange(len(steps)) > 0)]),
        'outside_limits': max(0.0, _largest(outside[driver])) if driver.any() else 0.0,
        'tracking': _tracking(trace, after),
        'arm_speed': _largest(np.abs(trace.measured_dq[trace.measured_t >= 0])),
    }


def _tracking(trace: Trace, after: np.ndarray) -> float:
    chosen = after & (trace.weight >= FULL_WEIGHT)
    if not chosen.any() or len(trace.measured_t) < 2:
        return float('nan')
    t = trace.t[chosen]
    right = np.clip(np.searchsorted(trace.measured_t, t), 1, len(trace.measured_t) - 1)
    near = (trace.measured_t[right] - trace.measured_t[right - 1]) < _NEAR_S
    near &= (t >= trace.measured_t[0]) & (t <= trace.measured_t[-1])
    measured = np.stack(
        [np.interp(t, trace.measured_t, trace.measured_q[:, j]) for j in range(ARMS)], axis=1
    )
    return _largest(np.abs(trace.q[chosen] - measured)[near])


def _largest(values: np.ndarray) -> float:
    return float(values.max()) if values.size else float('nan')


def timing(trace: Trace, modes: Sequence[tuple[float, str]], end_s: float) -> dict:
    """Seconds from the fault to HOLD, weight 0 and silence (None: not seen) and the last weight.

    Args:
        trace: the wire.
        modes: (s, mode) heard from the driver.
        end_s: end of the recording.
    """
    driver = trace.writer == trace.writer[0]
    held = [at for at, mode in modes if at > 0 and mode != 'EXECUTE']
    last_s = float(trace.t[driver][-1])
    heard_s = modes[-1][0] if modes else -np.inf
    if not held and heard_s < last_s + 0.3:
        held = [max(0.0, last_s)]  # the driver fell silent while executing: the robot holds
    zero = trace.t[(trace.t > 0) & (trace.weight == 0.0)]
    silent = end_s - trace.t[-1] >= SILENCE_S
    later = trace.t[(trace.t > 0) & ~driver]
    return {
        'to_hold_s': held[0] if held else None,
        'to_zero_s': float(zero[0]) if len(zero) else None,
        'to_silence_s': float(trace.t[-1]) if silent else None,
        'to_other_writer_s': float(later[0]) if len(later) else None,
        'final_weight': float(trace.weight[-1]),
        'retreat': any(at > 0 and mode == 'RETREAT' for at, mode in modes),
    }


# -- pictures -------------------------------------------------------------------------------------


def fastest(trace: Trace, count: int) -> list[int]:
    """The joints that move most from 1 s before the fault on."""
    recent = trace.q[trace.t > -1.0]
    spread = np.ptp(recent, axis=0) if len(recent) else np.zeros(ARMS)
    return [int(j) for j in np.argsort(-spread)[:count]]


def draw(path: Path, trace: Trace, result: Mapping) -> None:
    """Weight, commanded and measured joints, and speeds against the time from the fault."""
    pyplot = _pyplot()
    names = [n.removesuffix('_joint') for n in RobotContract.load().channel_names]
    figure, (top, middle, bottom) = pyplot.subplots(
        3, 1, figsize=(11, 8), sharex=True, height_ratios=(1, 2, 1)
    )
    top.plot(trace.t, trace.weight, '.', ms=2, color='C3')
    top.set(ylabel='arm_sdk weight', ylim=(-0.05, 1.1))
    _shade(top, result['modes'], result['heard_until_s'])
    for number, joint in enumerate(fastest(trace, 3)):
        colour = f'C{number}'
        middle.plot(trace.measured_t, trace.measured_q[:, joint], color=colour, lw=3, alpha=0.35)
        middle.plot(trace.t, trace.q[:, joint], '.', ms=1.5, color=colour, label=names[joint])
    middle.set(ylabel='rad: commanded (points), measured (line)')
    middle.legend(loc='upper right', fontsize=8)
    bottom.plot(trace.t, np.abs(trace.dq).max(axis=1), '.', ms=1.5, label='commanded')
    if len(trace.measured_t):
        bottom.plot(trace.measured_t, np.abs(trace.measured_dq).max(axis=1), lw=1, color='0.5',
                    label='measured')  # fmt: skip
    bottom.axhline(float(RobotContract.load().velocity[:ARMS].max()), color='C3', lw=0.8, ls=':')
    bottom.set(ylabel='fastest joint, rad/s', xlabel='s from the fault')
    bottom.legend(loc='upper right', fontsize=8)
    for axis in (top, middle, bottom):
        axis.axvline(0.0, color='k', lw=1.0)
    middle.set_xlim(-2.5, result['end_s'])
    figure.suptitle(f'{result["what"]}: {result["reason"] or "goes on"}; rollout: '
                    f'{result["rollout"]}', fontsize=10)  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def montage(path: Path, results: Sequence[Mapping], folder: Path) -> None:
    """One small panel per fault: weight and the two joints that move most."""
    pyplot = _pyplot()
    columns = 4
    rows = -(-len(results) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(15, 2.3 * rows), squeeze=False)
    for axis in axes.ravel()[len(results):]:
        axis.set_visible(False)
    for axis, result in zip(axes.ravel(), results, strict=False):
        trace = Trace.load(folder / f'{result["fault"]}.npz')
        for number, joint in enumerate(fastest(trace, 2)):
            axis.plot(trace.measured_t, trace.measured_q[:, joint], f'C{number}', lw=2, alpha=0.4)
            axis.plot(trace.t, trace.q[:, joint], '.', color=f'C{number}', ms=0.8)
        weight = axis.twinx()
        weight.plot(trace.t, trace.weight, '.', color='C3', ms=0.8)
        weight.set(ylim=(-0.05, 1.1), yticks=(0, 1))
        axis.axvline(0.0, color='k', lw=0.8)
        axis.set_xlim(-2.0, min(result['end_s'], 16.0))
        axis.tick_params(labelsize=6)
        weight.tick_params(labelsize=6)
        end = 'goes on' if result['goes_on'] else result['reason']
        axis.set_title(f'{result["fault"]}: {end}', fontsize=8)
    figure.supxlabel('s from the fault; points: commanded (rad), lines: measured; red: weight',
                     fontsize=9)  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, dpi=75)
    pyplot.close(figure)


def _shade(axis, modes: Sequence[Sequence], end_s: float) -> None:
    ends = [at for at, _ in modes[1:]] + [end_s]
    for (begin, mode), end in zip(modes, ends, strict=True):
        if mode in _COLOURS and end > begin:
            axis.axvspan(begin, end, color=_COLOURS[mode], alpha=0.15, lw=0)
            if end - begin > 0.6 and end > -2.4:
                axis.text(max(begin, -2.4), 1.03, mode, fontsize=7)


def _pyplot():
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    return pyplot


# -- the table of all -----------------------------------------------------------------------------


def read_results(folder: Path, order: Sequence[str]) -> list[dict]:
    """The results of all faults that were run into this folder, in a given order."""
    paths = [folder / f'{name}.json' for name in order]
    return [json.loads(p.read_text(encoding='utf-8')) for p in paths if p.exists()]


def markdown(results: Sequence[Mapping]) -> str:
    """Header of the last run and one row per fault."""
    newest = max(results, key=lambda result: result['header']['date'])
    head = {**newest['header'], 'n': len(results)}
    return '\n'.join([*header_lines(head), *table(COLUMNS, [_row(r) for r in results]), '', NOTES])


def _row(result: Mapping) -> list[str]:
    goes_on = result['goes_on']

    def number(key: str, form: str = '.2f') -> str:
        value = result.get(key)
        return '-' if value is None or value != value else format(value, form)

    return [
        result['fault'],
        'goes on' if goes_on else result['reason'] or '-',
        *('-' if goes_on else number(k) for k in ('to_hold_s', 'to_zero_s', 'to_silence_s')),
        number('final_weight'),
        '-' if goes_on else ('yes' if result['retreat'] else 'no'),
        number('speed'), number('step', '.3f'), number('handover_step', '.3f'),
        number('tracking', '.3f'), number('arm_speed'),
        result['rollout'][:LONGEST_TEXT],
        'yes' if not result['problems'] else 'NO: ' + '; '.join(result['problems']),
    ]  # fmt: skip
