# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Starts a process graph without the ROS launch packages: `flashwam launch g1_task task:=…`.

Every process runs in its own session, so that Ctrl-C reaches the supervisor alone and the stop is
orderly (see `graph`). Threads only read output and wait for ends; all decisions are taken in the
one loop of `Supervisor.run`, on events from a queue.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flashwam_ros.bringup.graph import RELEASE_TIMEOUT_S, Graph, Process

#: Receives (process name, one line of its output).
Sink = Callable[[str, str], None]
_OWN_NAME = 'supervisor'
_LONGEST_WAIT_S = 5.0
_LAST_OUTPUT_S = 1.0


def write_prefixed(name: str, line: str) -> None:
    """The default sink: `[name] line` on standard output."""
    sys.stdout.write(f'[{name}] {line}\n')
    sys.stdout.flush()


@dataclass
class _Child:
    """A started process and the times (monotonic s) of the signals still to come."""

    process: Process
    popen: subprocess.Popen
    code: int | None = None
    signals: list[tuple[float, int]] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.code is None

    def send(self, number: int) -> None:
        """Sends a signal to the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)


class Supervisor:
    """Runs one graph from start to its orderly end.

    `run` blocks; `start_in_background` runs it in a thread of the calling program, which then uses
    `wait` and `request_stop`. Processes are signalled when the thread that started them ends, so
    that all of them start in `run`.

    Attributes:
        reason: why the graph stopped; the first cause wins. None while nothing asked for it.
        exit_codes: process name -> exit code, of the processes that have ended.
    """

    def __init__(self, graph: Graph, sink: Sink = write_prefixed):
        self._graph = graph
        self._sink = sink
        self._events: queue.SimpleQueue[tuple[str, str, int]] = queue.SimpleQueue()
        self._children: dict[str, _Child] = {}
        self._releases: list[_Child] = []
        self._readers: list[threading.Thread] = []
        self._stop_at: float | None = None
        self._stopping = False
        self._failed = False
        self._started = threading.Event()
        self._finished = threading.Event()
        self.reason: str | None = None
        self.exit_codes: dict[str, int] = {}

    # --- For the calling program ---

    def request_stop(self, reason: str) -> None:
        """Asks for the orderly stop; returns at once. Safe in threads and signal handlers."""
        # SimpleQueue.put is reentrant: a signal may interrupt the loop inside its own get.
        self._events.put(('stop', reason, 0))

    def start_in_background(self) -> threading.Thread:
        """Starts the graph; returns the thread, which ends when the whole graph has ended.

        When this returns, every process has been started.
        """
        thread = threading.Thread(target=self.run, name='supervisor', daemon=False)
        thread.start()
        self._started.wait()
        return thread

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether the whole graph has ended, after waiting at most `timeout_s` seconds."""
        return self._finished.wait(timeout_s)

    def pid(self, name: str) -> int | None:
        """Process id of a running process, None if it does not run."""
        child = self._children.get(name)
        return child.popen.pid if child and child.running else None

    def run(self) -> int:
        """Starts all processes and returns when all have ended.

        Returns:
            0 after a requested stop in which nothing crashed, else 1.
        """
        try:
            for process in self._graph.processes:
                self._children[process.name] = self._spawn(process)
            self._started.set()
            while any(child.running for child in self._all()):
                self._handle_event()
                self._handle_time()
        except BaseException:
            self._failed = True
            self._end_without_the_loop()
            raise
        finally:
            self._started.set()
            for reader in self._readers:
                reader.join(_LAST_OUTPUT_S)
            self._say(f'all processes have ended ({self.reason or "no reason given"})')
            self._finished.set()
        return int(self._failed)

    # --- The loop ---

    def _handle_event(self) -> None:
        with contextlib.suppress(queue.Empty):
            kind, text, code = self._events.get(timeout=max(0.0, self._next_time()))
            if kind == 'stop':
                self._begin_stop(text)
            else:
                self._note_end(text, code)

    def _next_time(self) -> float:
        """Seconds until something is due."""
        due = [at for child in self._all() if child.running for at, _ in child.signals]
        due += [self._stop_at] if self._stop_at is not None else []
        return min([_LONGEST_WAIT_S, *(at - time.monotonic() for at in due)])

    def _handle_time(self) -> None:
        now = time.monotonic()
        if self._stop_at is not None and now >= self._stop_at and not self._stopping:
            self._begin_stop(self.reason or 'a process ended')
        for child in self._all():
            while child.running and child.signals and now >= child.signals[0][0]:
                _, number = child.signals.pop(0)
                self._say(f'{child.process.name} still runs: {signal.Signals(number).name}')
                child.send(number)
                self._failed |= number == signal.SIGKILL
        if self._stopping:
            self._stop_outliving(now)

    def _note_end(self, name: str, code: int) -> None:
        release = next((c for c in self._releases if c.process.name == name), None)
        child = release or self._children[name]
        child.code = code
        child.send(signal.SIGKILL)  # whatever it started and left behind
        self.exit_codes[name] = code
        how = f'signal {signal.Signals(-code).name}' if code < 0 else f'code {code}'
        if release:
            self._failed |= code != 0
            self._say(f'{name} ended with {how}')
            return
        process = child.process
        if code != 0 and process.on_crash is not None:
            self._failed = True
            self._say(f'{name} ended with {how}: releasing the arms')
            self._release(process)
        if self._stopping:
            return
        self._failed = True
        self.reason = self.reason or f'{name} ended with {how}'
        at = time.monotonic() + process.shutdown_delay_s
        self._stop_at = at if self._stop_at is None else min(at, self._stop_at)
        self._say(f'{self.reason}: stopping everything in {process.shutdown_delay_s:g} s')

    def _begin_stop(self, reason: str) -> None:
        if self._stopping:
            waiting = [c.process.name for c in self._all() if c.running]
            self._say(f'already stopping, waiting for {", ".join(waiting)}')
            return
        self._stopping = True
        self.reason = self.reason or reason
        self._say(f'stopping: {self.reason}')
        now = time.monotonic()
        for child in self._children.values():
            if child.running and not child.process.outlive_others:
                child.send(signal.SIGINT)
                terminate_at = now + child.process.stop_timeout_s
                kill_at = terminate_at + child.process.kill_timeout_s
                child.signals = [(terminate_at, signal.SIGTERM), (kill_at, signal.SIGKILL)]

    def _stop_outliving(self, now: float) -> None:
        """Ends the processes that outlive the others, once the others and a release are gone."""
        if any(c.running for c in self._all() if not c.process.outlive_others):
            return
        for child in self._children.values():
            if child.running and not child.signals:
                child.send(signal.SIGTERM)
                child.signals = [(now + child.process.kill_timeout_s, signal.SIGKILL)]

    def _release(self, process: Process) -> None:
        release = Process(
            name=f'{process.name}_release', executable='flashwam', is_node=False,
            environment=process.environment)  # fmt: skip
        child = self._spawn(release, process.on_crash)
        child.signals = [(time.monotonic() + RELEASE_TIMEOUT_S, signal.SIGKILL)]
        self._releases.append(child)

    def _end_without_the_loop(self) -> None:
        """After an error in this class: the arms are given back all the same."""
        now = time.monotonic()
        for child in self._children.values():
            if child.popen.poll() is None and not child.process.outlive_others:
                child.send(signal.SIGINT)
        for child in self._children.values():
            if child.process.outlive_others:
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.popen.wait(max(0.0, now + child.process.stop_timeout_s - time.monotonic()))
            child.send(signal.SIGKILL)
            if child.popen.wait() != 0 and child.process.on_crash is not None:
                self._release(child.process)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._releases[-1].popen.wait(RELEASE_TIMEOUT_S)
        for child in self._all():
            child.send(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.popen.wait(_LAST_OUTPUT_S)

    # --- Processes ---

    def _all(self) -> list[_Child]:
        return [*self._children.values(), *self._releases]

    def _spawn(self, process: Process, command: tuple[str, ...] | None = None) -> _Child:
        command = command or process.command
        python = [sys.executable] if command[0] == 'python3' else [command[0]]
        popen = subprocess.Popen(
            [*process.prefix, *python, *command[1:]],
            env={**os.environ, **dict(process.environment)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threads = [
            threading.Thread(target=target, args=(process.name, popen), daemon=True)
            for target in (self._read, self._await_end)
        ]
        for thread in threads:
            thread.start()
        self._readers.append(threads[0])
        self._say(f'{process.name} started, process {popen.pid}')
        return _Child(process, popen)

    def _read(self, name: str, popen: subprocess.Popen) -> None:
        assert popen.stdout is not None
        for line in popen.stdout:
            self._tell(name, line.decode(errors='replace').rstrip())

    def _await_end(self, name: str, popen: subprocess.Popen) -> None:
        self._events.put(('end', name, popen.wait()))

    def _say(self, text: str) -> None:
        self._tell(_OWN_NAME, text)

    def _tell(self, name: str, line: str) -> None:
        """A terminal that was closed or a full disk must not cost the orderly stop."""
        with contextlib.suppress(OSError, ValueError):
            self._sink(name, line)
