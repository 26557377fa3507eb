# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam record`: demonstrations of the expert through the teleoperation path, unattended.

usage: flashwam record task:=NAME episodes:=N [seed:=FIRST] [name:=value ...]

Starts the graph in the simulator; seed after seed the scene is reset, the episode recorded and
scored, until N are kept. A solved one is labelled keep, a failed one stays with its verdict; what
is invalid (red preflight, a machine too busy for real time), of red quality or not fit for an
export is labelled discard and its seed tried again. Seeds that are done already, in episodes_dir,
are not repeated: after an interruption the same command goes on. Takes the other arguments of
`flashwam launch teleop`.

Exit code: 0 when N are kept, 1 otherwise, 2 for wrong arguments.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flashwam_ros.bringup.command import graph_for
from flashwam_ros.bringup.settings import Settings, SettingsError
from flashwam_ros.bringup.supervisor import Supervisor
from flashwam_ros.bringup.terminal import END_SIGNALS, Log, RunError, parse, say
from flashwam_ros.episodes.grid_rows import grid_rows
from flashwam_ros.episodes.library import Entry, list_episodes
from flashwam_ros.episodes.reader import EpisodeError, read_episode
from flashwam_ros.episodes.sidecar import (
    CLOSED,
    DISCARD,
    KEEP,
    OUTCOMES,
    SUCCESS,
    Sidecar,
    change_sidecar,
    sidecar_path,
)
from flashwam_ros.nodes.run_client import STOP_S
from flashwam_ros.robot.contract import RobotContract

DEVICE, POLICY, RED = 'expert', 'teleop', 'red'
TRIES = 3
GIVE_UP = 3
"""Seeds in a row of which nothing usable came."""
CLOSED_S = 20.0
_BY = 'flashwam record'
_POLL_S = 0.1


def seeds_done(entries: Iterable[Entry], task: str) -> dict[int, bool]:
    """Seeds with a scored episode of the expert as operator -> whether one of them is kept."""
    done: dict[int, bool] = {}
    for entry in entries:
        sidecar = entry.sidecar
        ours = sidecar.policy == POLICY and sidecar.extra.get('device') == DEVICE
        scored = sidecar.outcome in OUTCOMES and entry.state != 'recording'
        if ours and scored and sidecar.task == task and sidecar.disposition != DISCARD:
            kept = sidecar.disposition == KEEP
            done[sidecar.seed] = done.get(sidecar.seed, False) or kept
    return done


class Recording:
    """The episodes of one command line.

    Args:
        settings: of the graph.
        episodes: how many shall be kept.
    """

    def __init__(self, settings: Settings, episodes: int):
        self._settings, self._wanted = settings, episodes
        self._folder = Path(settings.episodes_dir)
        self._interrupted = threading.Event()
        self._supervisor: Supervisor | None = None
        self._began = time.monotonic()
        self._made = 0

    def run(self, graph, log: Path) -> None:
        """Record what is still missing.

        Raises:
            RunError: it cannot go on; what was recorded stays.
        """
        done = seeds_done(list_episodes(self._folder), self._settings.task)
        say(self._standing(done))
        if sum(done.values()) >= self._wanted:
            return
        from flashwam_ros.nodes.rollout_client import RolloutClient

        os.environ.update(dict(graph['teleop'].environment))
        for number in END_SIGNALS:
            signal.signal(number, lambda *_: self._interrupted.set())
        self._supervisor = Supervisor(graph, Log(log))
        self._supervisor.start_in_background()
        client, seed, lost = None, self._settings.seed, 0
        try:
            client = RolloutClient(self._settings.namespace, self._check)
            while sum(done.values()) < self._wanted:
                if seed not in done:
                    kept = self._record(client, seed)
                    lost = lost + 1 if kept is None else 0
                    if kept is not None:
                        done[seed] = kept
                    say('  ' + self._standing(done))
                if lost == GIVE_UP:
                    raise RunError(f'nothing usable in {TRIES} tries of {GIVE_UP} seeds each')
                seed += 1
        finally:
            if client is not None:
                client.close()
            say('stopping')
            self._supervisor.request_stop('everything is recorded')
            if not self._supervisor.wait(STOP_S):
                say(f'  some processes have not ended within {STOP_S:.0f} s')

    def _record(self, client, seed: int) -> bool | None:
        """Whether the episode of a seed is kept, None if no usable one could be made."""
        from flashwam_ros.action import RunRollout

        for _ in range(TRIES):
            goal = RunRollout.Goal(task=self._settings.task, seed=seed, execution='sync')
            result = client.run(goal)
            summary = json.loads(result.summary_json)
            sidecar = self._label(summary) if summary['recorded'] else None
            say(_line(seed, summary, sidecar))
            if sidecar is not None and sidecar.disposition != DISCARD:
                self._made += 1
                return sidecar.disposition == KEEP
        return None

    def _label(self, summary: Mapping) -> Sidecar:
        """Wait for the recorder to close the file, then say what it is good for."""
        entry = self._find(summary['session'])
        label = KEEP if summary['verdict'] == SUCCESS else ''
        if fault := _fault(entry, summary):
            say(f'  discarded: {fault}')
            label = DISCARD
        if not label:
            return entry.sidecar
        return change_sidecar(sidecar_path(entry.path), lambda old: old.labelled(label, _BY))

    def _find(self, session: str) -> Entry:
        deadline = time.monotonic() + CLOSED_S
        while time.monotonic() < deadline:
            for entry in reversed(list_episodes(self._folder)):
                if entry.sidecar.session == session and entry.state == CLOSED:
                    return entry
            self._check()
            time.sleep(_POLL_S)
        raise RunError(f'session {session} was not recorded in {self._folder}')

    def _check(self) -> None:
        if self._interrupted.is_set():
            raise RunError('interrupted')
        if self._supervisor is not None and self._supervisor.wait(0.0):
            raise RunError(f'the processes have ended: {self._supervisor.reason}')

    def _standing(self, done: Mapping[int, bool]) -> str:
        kept = sum(done.values())
        text = f'{kept} of {self._wanted} kept'
        if len(done) > kept:
            text += f', {len(done) - kept} failed'
        if self._made and kept < self._wanted:
            each_s = (time.monotonic() - self._began) / self._made
            text += f', about {each_s * (self._wanted - kept) / 60.0:.0f} min to go'
        return text


def _fault(entry: Entry, summary: Mapping) -> str:
    """Why an episode is of no use, whatever its outcome; '' if it is of use."""
    quality = entry.sidecar.quality
    if summary['verdict'] not in OUTCOMES:
        return summary['reason']
    if quality is None or quality['level'] == RED:
        return 'quality red: ' + ', '.join(
            sorted({finding['name'] for finding in (quality or {}).get('findings', ())}))
    contract = RobotContract.load()
    try:
        grid_rows(read_episode(entry.path, contract), contract, contract.row_rate_hz)
    except EpisodeError as error:
        return f'not fit for an export: {error}'
    return ''


def _line(seed: int, summary: Mapping, sidecar: Sidecar | None) -> str:
    text = f'seed {seed}: {summary["verdict"]}'
    if summary['verdict'] != SUCCESS:
        text += f' ({summary["reason"]})'
    text += f', {summary["elapsed_s"]:.1f} s, {summary["late_chunks"]} late chunks'
    if sidecar is not None and sidecar.quality is not None:
        text += f', quality {sidecar.score:g} {sidecar.quality["level"]}'
    if sidecar is not None and sidecar.disposition:
        text += f': {sidecar.disposition}'
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """`flashwam record`; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if {'-h', '--help'} & set(argv):
        sys.stdout.write(__doc__.split('\n', 2)[2])
        return 0
    try:
        values = {'console': 'false', **parse(argv), 'device': DEVICE}
        count = values.pop('episodes', '')
        if not count.isdecimal() or not int(count):
            raise SettingsError(f'episodes:={count or "..."} is not a number of episodes')
        settings, graph = Settings.parse(values), graph_for(values)
        if not settings.record:
            raise SettingsError('record:=false leaves nothing to keep')
    except SettingsError as error:
        sys.stderr.write(f'flashwam record: {error}\n')
        return 2
    log = Path(settings.episodes_dir) / 'last_record.log'
    say(f'{settings.task} into {settings.episodes_dir}; all output: {log}')
    code = 0
    try:
        Recording(settings, int(count)).run(graph, log)
    except RunError as error:
        sys.stderr.write(f'flashwam record: {error}; the same command goes on from here\n')
        code = 1
    from flashwam_ros.nodes.lifecycle import leave_at_exit

    leave_at_exit(code)
    return code


if __name__ == '__main__':
    sys.exit(main())
