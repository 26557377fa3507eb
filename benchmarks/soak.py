# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole graph for a long time: real-time factor, tick lateness, CPU share, memory growth.

Run: ``python benchmarks/soak.py --minutes 10 --policy expert``

One rollout follows the other. Once a second CPU time and memory of every process are read from
/proc, and the twin's real-time factor from `rt/sim_state`; tick lateness is what the driver
reports over each activation.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._stack import (  # noqa: E402
    Place,
    Stack,
    StackError,
    end_on_sigterm,
    header,
    header_lines,
    say,
    table,
)
from flashwam_ros.bringup.settings import DEFAULT_CHECKPOINT, TASKS, SettingsError  # noqa: E402
from flashwam_ros.policy.loop import LOOKAHEAD  # noqa: E402
from flashwam_ros.training.seeds import seeds as test_seeds  # noqa: E402
from flashwam_ros.wire.sim_bus import SimBus  # noqa: E402

PERIOD_S = 1.0
RESULT_S = 300.0
SETTLED_SHARE = 0.2
PROCESSES = ('twin', 'g1_driver', 'camera', 'policy', 'rollout')
_TICKS_PER_S = os.sysconf('SC_CLK_TCK')
_PAGE_MB = os.sysconf('SC_PAGE_SIZE') / 2**20


@dataclass
class Usage:
    """One process over time: s since the start, CPU s, resident MB."""

    pid: int
    t: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)


def read_usage(pid: int) -> tuple[float, float]:
    """CPU time used so far (s) and resident memory (MB) of a process.

    Raises:
        OSError: there is no such process.
    """
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='utf-8').split()[1])
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S, pages * _PAGE_MB


class Sampler:
    """Reads every process and the twin's state once a second, in a thread.

    Args:
        stack: the running graph.
    """

    def __init__(self, stack: Stack):
        self._stack = stack
        self._sim = SimBus(stack.place.unitree_domain, 'lo')
        self._begun = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='sampler', daemon=True)
        self.usage: dict[str, Usage] = {}
        self.factors: list[tuple[float, float]] = []
        self.frames: tuple[int, int] = (0, 0)
        self._thread.start()

    def close(self) -> None:
        """Stop sampling."""
        self._stopping.set()
        self._thread.join()
        self._sim.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + PERIOD_S, time.monotonic())
            now = time.monotonic() - self._begun
            for name, pid in self._processes().items():
                self._sample(name, pid, now)
            state = self._sim.state()
            if state is not None:
                self.factors.append((now, state['real_time_factor']))
                self.frames = state['frames_sent'], state['frames_dropped']

    def _processes(self) -> dict[str, int]:
        found = {name: self._stack.supervisor.pid(name) for name in PROCESSES}
        for pid in self._stack.children('twin'):
            found['twin cameras'] = pid
        found['(this measurement)'] = os.getpid()
        return {name: pid for name, pid in found.items() if pid is not None}

    def _sample(self, name: str, pid: int, now: float) -> None:
        try:
            cpu_s, rss_mb = read_usage(pid)
        except OSError:
            return
        usage = self.usage.setdefault(name, Usage(pid))
        if usage.pid == pid:
            usage.t.append(now)
            usage.cpu_s.append(cpu_s)
            usage.rss_mb.append(rss_mb)


def summarise_usage(usage: Usage) -> dict:
    """CPU share of one core and memory; growth is the slope after the first fifth of the run."""
    t, cpu_s, rss = (np.array(values) for values in (usage.t, usage.cpu_s, usage.rss_mb))
    late = t >= t[0] + SETTLED_SHARE * (t[-1] - t[0])
    span = t[-1] - t[0]
    slope = float(np.polyfit(t[late], rss[late], 1)[0]) * 60.0 if late.sum() > 2 else 0.0
    shares = np.diff(cpu_s) / np.maximum(np.diff(t), 1e-3)
    return {
        'samples': len(t),
        'cpu_share': float((cpu_s[-1] - cpu_s[0]) / span) if span else 0.0,
        'cpu_share_p95': float(np.percentile(shares, 95)) if len(shares) else 0.0,
        'rss_start_mb': float(rss[0]),
        'rss_settled_mb': float(rss[late][0]),
        'rss_end_mb': float(rss[-1]),
        'rss_max_mb': float(rss.max()),
        'growth_mb_per_min': slope,
    }


def run(options: argparse.Namespace) -> dict:
    """Run for the wanted time; returns everything measured."""
    head = header(0)
    values = {
        'task': options.tasks[0], 'policy': options.policy, 'execution': options.execution,
        'output_dir': str(options.out / 'rollouts'),
    }  # fmt: skip
    if options.policy == 'wam':
        values['checkpoint'] = options.checkpoint
    place = Place(options.ros_domain, options.unitree_domain, options.port)
    rollouts, lateness = [], []
    with Stack(values, place, options.out / 'stack.log') as stack:
        stack.until(stack.listener.server_is_ready, 120.0, 'the rollout server')
        sampler = Sampler(stack)
        begun = time.monotonic()
        try:
            while (left_s := begun + 60.0 * options.minutes - time.monotonic()) > 0:
                rollouts.append(_rollout(stack, options, len(rollouts)))
                summary = rollouts[-1]
                lateness.append(summary['tick_lateness_s'])
                say(f'{left_s / 60.0:4.1f} min left: {summary["verdict"]}, {summary["reason"]}')
        finally:
            sampler.close()
    return {
        'header': {**head, 'n': len(rollouts)},
        'minutes': (time.monotonic() - begun) / 60.0,
        'setting': {'policy': options.policy, 'execution': options.execution},
        'processes': {n: summarise_usage(u) for n, u in sampler.usage.items() if len(u.t) > 2},
        'real_time_factor': _spread([factor for _, factor in sampler.factors]),
        'real_time_factor_of_rollouts': _spread([r['real_time_factor'] for r in rollouts]),
        'frames_sent_dropped': sampler.frames,
        'tick_lateness_s': {
            'p50': float(np.median([entry['p50'] for entry in lateness])),
            'p99_median': float(np.median([entry['p99'] for entry in lateness])),
            'p99_worst': max(entry['p99'] for entry in lateness),
            'max': max(entry['max'] for entry in lateness),
        },
        'rollouts': rollouts,
        'samples': {name: vars(usage) for name, usage in sampler.usage.items()},
        'factors': sampler.factors,
    }


def _rollout(stack: Stack, options: argparse.Namespace, number: int) -> dict:
    task = options.tasks[number % len(options.tasks)]
    seed = test_seeds('test', task, 1, number // len(options.tasks))[0]
    stack.listener.clear()
    result = stack.run_goal(
        RESULT_S, task=task, prompt='', seed=seed, time_limit=0.0, execution=options.execution
    )
    summary = json.loads(result.summary_json)
    keys = ('task', 'seed', 'verdict', 'reason', 'elapsed_s', 'chunks', 'late_chunks',
            'chunk_latency_s', 'slack_s', 'limited_ticks', 'real_time_factor',
            'tick_lateness_s', 'boundary_jump_rad')  # fmt: skip
    return {key: summary[key] for key in keys}


def _spread(values: Sequence[float | None]) -> dict:
    known = [value for value in values if value is not None]
    if not known:
        return {'n': 0}
    p1, p50 = np.percentile(known, (1, 50))
    return {'n': len(known), 'min': min(known), 'p1': float(p1), 'p50': float(p50)}


def markdown(result: Mapping) -> str:
    """The result as Markdown."""
    lateness, factor = result['tick_lateness_s'], result['real_time_factor']
    rollouts = result['rollouts']
    sent, dropped = result['frames_sent_dropped']
    counts = {v: sum(r['verdict'] == v for r in rollouts) for v in
              ('success', 'failure', 'invalid')}  # fmt: skip
    rows = [
        [name, f'{100 * u["cpu_share"]:.1f} %', f'{100 * u["cpu_share_p95"]:.0f} %',
         f'{u["rss_start_mb"]:.0f}', f'{u["rss_settled_mb"]:.0f}', f'{u["rss_end_mb"]:.0f}',
         f'{u["growth_mb_per_min"]:+.2f}', u['samples']]
        for name, u in result['processes'].items()
    ]  # fmt: skip
    total = sum(u['cpu_share'] for u in result['processes'].values())
    rows.append(['all', f'{100 * total:.1f} %', *['-'] * 6])
    columns = ('process', 'CPU share of one core', 'p95 of 1 s', 'RSS start MB',
               'RSS settled MB', 'RSS end MB', 'growth MB/min', 'n')  # fmt: skip
    return '\n'.join([
        *header_lines(result['header']),
        f'{result["minutes"]:.1f} min, {len(rollouts)} rollouts in a row '
        f'({result["setting"]["policy"]}, {result["setting"]["execution"]}): '
        + ', '.join(f'{count} {name}' for name, count in counts.items()) + '.', '',
        f'- real-time factor of the twin (over 2 s each, n = {factor["n"]}): '
        f'min {factor.get("min", 0.0):.3f}, p1 {factor.get("p1", 0.0):.3f}, '
        f'p50 {factor.get("p50", 0.0):.3f}; of whole rollouts min '
        f'{result["real_time_factor_of_rollouts"].get("min", 0.0):.3f}',
        f'- 250 Hz tick lateness over {len(rollouts)} activations: p50 '
        f'{1e3 * lateness["p50"]:.2f} ms, p99 {1e3 * lateness["p99_median"]:.2f} ms (median), '
        f'{1e3 * lateness["p99_worst"]:.2f} ms (worst), max {1e3 * lateness["max"]:.2f} ms',
        f'- camera frames: {sent} sent, {dropped} left out', '',
        *table(columns, rows), '',
        'Growth: slope of a line through the resident memory after the first fifth of the run. '
        'The rollout node draws film and plot between the rollouts.', '',
    ])  # fmt: skip


def main() -> int:
    """Run and report; 0 when no rollout was invalid."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--policy', choices=('expert', 'wam'), default='expert')
    parser.add_argument('--checkpoint', default=DEFAULT_CHECKPOINT)
    parser.add_argument('--execution', choices=tuple(LOOKAHEAD), default='async')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, default=list(TASKS))
    parser.add_argument('--out', type=Path, default=Path('~/.cache/flashwam/soak').expanduser())
    parser.add_argument('--ros-domain', type=int, default=66)
    parser.add_argument('--unitree-domain', type=int, default=96)
    parser.add_argument('--port', type=int, default=21500)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end_on_sigterm()
    try:
        result = run(options)
    except (StackError, SettingsError, OSError) as error:
        sys.stderr.write(f'soak: {error}\n')
        return 1
    text = json.dumps(result, indent=1)
    (options.out / 'soak.json').write_text(text + '\n', encoding='utf-8')
    (options.out / 'soak.md').write_text(markdown(result), encoding='utf-8')
    say(markdown(result))
    return int(any(rollout['verdict'] == 'invalid' for rollout in result['rollouts']))


if __name__ == '__main__':
    sys.exit(main())
