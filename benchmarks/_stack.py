# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Shared by the measurements of the running stack: a private graph, a listener, a header."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flashwam_ros.bringup.command import graph_for
from flashwam_ros.bringup.graph import Graph
from flashwam_ros.bringup.supervisor import Supervisor

READY_S = 120.0
STOP_S = 75.0
SECOND_NS = 1_000_000_000
_POLL_S = 0.01
#: Not measured, unless asked for: the console, and recordings in the current folder.
_WITHOUT = {'console': 'false', 'record': 'false'}


class StackError(RuntimeError):
    """The stack did not do what the measurement needs; the message says what."""


def say(text: str) -> None:
    """One line for the person who waits."""
    sys.stdout.write(text + '\n')
    sys.stdout.flush()


# -- header of every result -----------------------------------------------------------------------


def _cpu_model() -> str:
    for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.processor() or 'unknown CPU'


def _commit() -> str:
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        ['git', '-C', str(root), 'describe', '--always', '--dirty'],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or 'unknown'


def header(n: int) -> dict:
    """Command, machine, load and number of runs, for the head of a result file."""
    memory_kb = int(Path('/proc/meminfo').read_text(encoding='utf-8').split()[1])
    name = Path(sys.argv[0])
    return {
        'command': ' '.join(['python', f'benchmarks/{name.name}', *sys.argv[1:]]),
        'machine': f'{_cpu_model()}, {len(os.sched_getaffinity(0))} cores, '
                   f'{memory_kb / 2**20:.0f} GiB, Linux {platform.release()}, '
                   f'Python {platform.python_version()}',
        'load_at_start': [round(load, 2) for load in os.getloadavg()],
        'date': time.strftime('%Y-%m-%d %H:%M:%S %z'),
        'commit': _commit(),
        'n': n,
    }  # fmt: skip


def header_lines(head: Mapping) -> list[str]:
    """The header as Markdown lines."""
    load = ' '.join(f'{value:.2f}' for value in head['load_at_start'])
    return [
        f'`{head["command"]}`',
        '',
        f'{head["machine"]}; load before {load}; {head["date"]}; commit {head["commit"]}; '
        f'n = {head["n"]}.',
        '',
    ]


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
    return lines + ['| ' + ' | '.join(str(cell) for cell in row) + ' |' for row in rows]


# -- a private graph ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Domains and ports of one stack, apart from all others.

    Attributes:
        ros_domain: ROS_DOMAIN_ID. unitree_domain: DDS domain of the twin, another number.
        port: first of four TCP ports: three cameras and the request port.
    """

    ros_domain: int
    unitree_domain: int
    port: int

    def values(self) -> dict[str, str]:
        """The launch arguments that say so."""
        return {
            'unitree_domain': str(self.unitree_domain),
            'camera_port': str(self.port),
            'camera_request_port': str(self.port + 3),
        }


def only(graph: Graph, *names: str) -> Graph:
    """A part of a graph; a twin that nobody watches has no cameras."""
    chosen = [process for process in graph.processes if process.name in names]
    if 'camera' not in names:
        chosen = [replace(p, arguments=_without_cameras(p.arguments)) for p in chosen]
    return Graph(tuple(chosen))


def _without_cameras(arguments: tuple[str, ...]) -> tuple[str, ...]:
    words = list(arguments)
    if '--camera-ports' in words:
        words[words.index('--camera-ports') + 1] = ''
    return tuple(words)


class Stack:
    """A graph with a listening ROS node beside it; use as a context manager.

    Whatever happens inside, all processes have ended afterwards.

    Args:
        values: launch arguments (`task`, `policy`, ...).
        place: where to run.
        log: file that receives all output.
        change: alters the graph before it starts.

    Attributes:
        supervisor: the running graph.
        listener: what is heard on the topics (see `benchmarks._listener`).
        lines: all output as (process, line).
    """

    def __init__(
        self,
        values: Mapping[str, str],
        place: Place,
        log: Path,
        change: Callable[[Graph], Graph] = lambda graph: graph,
    ):
        self.place = place
        os.environ['ROS_DOMAIN_ID'] = str(place.ros_domain)
        graph = graph_for({**_WITHOUT, **place.values(), **values})
        os.environ.update(dict(graph.processes[0].environment))
        self._graph = change(graph)
        self._log = log
        self._lock = threading.Lock()
        self.lines: list[tuple[str, str]] = []
        self.supervisor = Supervisor(self._graph, self._write)

    def __enter__(self) -> Stack:
        """Start everything; nothing is waited for."""
        from benchmarks._listener import Listener

        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._log.open('w', encoding='utf-8')
        self.supervisor.start_in_background()
        try:
            self.listener = Listener(self.place.ros_domain)
        except BaseException:
            self._end_processes()
            raise
        return self

    def __exit__(self, *_) -> None:
        """Stop everything in good order, then by force."""
        try:
            self._end_processes()
        finally:
            self.listener.close()
            self._file.close()

    def _end_processes(self) -> None:
        self.supervisor.request_stop('the measurement is over')
        if not self.supervisor.wait(STOP_S):
            for process in self._graph.processes:
                self.kill(process.name, signal.SIGKILL)
            self.supervisor.wait(5.0)

    def _write(self, process: str, line: str) -> None:
        with self._lock:
            self.lines.append((process, line))
            if not self._file.closed:
                self._file.write(f'{time.strftime("%H:%M:%S")} [{process}] {line}\n')
                self._file.flush()

    def said(self, text: str) -> bool:
        """Whether some process has said this."""
        with self._lock:
            return any(text in line for _, line in self.lines)

    def kill(self, name: str, number: int) -> int:
        """Signal a process; the monotonic time just before, ns."""
        pid = self.supervisor.pid(name)
        at_ns = time.monotonic_ns()
        if pid is not None:
            _signal(pid, number)
        return at_ns

    def children(self, name: str) -> list[int]:
        """Process ids of what a process has started itself."""
        return children(self.supervisor.pid(name))

    def until(self, condition: Callable[[], object], limit_s: float, what: str) -> None:
        """Wait for a condition.

        Raises:
            StackError: it did not come true in time, or all processes have ended.
        """
        deadline = time.monotonic() + limit_s
        while not condition():
            if self.supervisor.wait(0.0):
                raise StackError(f'{what}: the processes have ended ({self.supervisor.reason})')
            if time.monotonic() > deadline:
                raise StackError(f'{what}: not within {limit_s:.0f} s')
            time.sleep(_POLL_S)

    def start_goal(self, **goal):
        """Send a goal to `run_rollout`; returns what `Listener.send` returns.

        Raises:
            StackError: the server is not there, or refuses.
        """
        self.until(self.listener.server_is_ready, READY_S, 'the rollout server')
        running = self.listener.send(**goal)
        self.until(lambda: running.answered, READY_S, 'answer to the goal')
        if not running.accepted:
            raise StackError(f'the goal {goal} was refused; see {self._log}')
        return running

    def run_goal(self, limit_s: float, **goal):
        """Run one rollout and return its result message."""
        running = self.start_goal(**goal)
        self.until(lambda: running.result is not None, limit_s, 'result of the rollout')
        return running.result


def children(pid: int | None) -> list[int]:
    """Process ids whose parent is `pid`."""
    found = []
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / 'stat').read_text(encoding='utf-8')
        except OSError:
            continue
        if int(stat.rpartition(')')[2].split()[1]) == pid:
            found.append(int(entry.name))
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def end_on_sigterm() -> None:
    """Turn SIGTERM into an exception, so that everything is cleaned up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('terminated'))
