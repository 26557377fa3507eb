# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Kills every process of a running study in turn (SIGKILL, in mid-trial) and counts what was lost.

python -m benchmarks.kill_study [--out FOLDER]      real time, about a minute and a half per kill
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._stack import Place, StackError, header, header_lines, say, table

VICTIMS = ('trials', 'fieldtrial', 'policy', 'rollout', 'camera', 'g1_driver', 'twin', 'recorder',
           'flashwam trials run')  # fmt: skip
STUDY = """
name: killed
title: A study that is killed again and again
score: predicate
seed: 5
rollouts: {rollouts}
scenes: {{split: selection, first: 20}}
tasks:
  red_bottle: {{reached: at it, grasped: held, lifted: up}}
arms:
  - {{id: waits, policy: expert, execution: sync}}
  - {{id: ahead, policy: expert, execution: async}}
reference: waits
non_inferiority: {{arms: [ahead], margin: 0.3}}
"""
RUN_S = 900.0
_STARTED = re.compile(r'\[supervisor\] (\S+) started, process (\d+)')


@dataclass
class StudyUnderFire:
    """A study and the command that runs it.

    Attributes:
        folder: receives the study.
        place: domains and ports.
        rollouts: per arm.
        deaths: (process, what the journal's last entry was when it died).
    """

    folder: Path
    place: Place
    rollouts: int
    deaths: list[tuple[str, str]] = field(default_factory=list)

    @property
    def compiled(self) -> Path:
        """The compiled study."""
        return self.folder / 'studies' / 'killed'

    def start(self) -> subprocess.Popen:
        """`flashwam trials run`, in a session of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / 'killed.yaml'
        file.write_text(STUDY.format(rollouts=self.rollouts), encoding='utf-8')
        words = [f'{name}:={value}' for name, value in self.place.values().items()]
        (self.compiled / 'graph.log').unlink(missing_ok=True)
        return subprocess.Popen(
            [sys.executable, '-m', 'flashwam_ros.cli', 'trials', 'run', str(file), *words,
             '--out', str(self.folder / 'studies'), '--port', str(self.place.port + 9)],
            env={**os.environ, 'ROS_DOMAIN_ID': str(self.place.ros_domain)},
            cwd=Path(__file__).resolve().parents[1], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def journal(self) -> list[dict]:
        """Entries so far."""
        path = self.compiled / 'journal.jsonl'
        return [json.loads(line) for line in path.read_text().splitlines(True)
                if line.endswith('\n')] if path.exists() else []  # fmt: skip

    def finish(self) -> int:
        """Run to the end; the exit code."""
        process = self.start()
        try:
            return process.wait(RUN_S)
        finally:
            self._end(process)

    def kill(self, victim: str) -> None:
        """Run until a new trial has begun, kill a process, and wait until all others are gone.

        Raises:
            StackError: no trial began.
        """
        before = sum(entry['kind'] == 'begun' for entry in self.journal())
        process = self.start()
        try:
            deadline = time.monotonic() + RUN_S
            while sum(entry['kind'] == 'begun' for entry in self.journal()) <= before:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StackError(f'no trial began; see {self.compiled / "graph.log"}')
                time.sleep(0.05)
            time.sleep(1.5 * len(self.deaths))  # every one a little later in its trial
            pid = process.pid if victim == VICTIMS[-1] else self._pid(victim)
            self.deaths.append((victim, self.journal()[-1]['kind']))
            os.kill(pid, signal.SIGKILL)
            process.wait(RUN_S)
        finally:
            self._end(process)

    def _pid(self, victim: str) -> int:
        log = (self.compiled / 'graph.log').read_text(encoding='utf-8')
        pids = {name: int(pid) for name, pid in _STARTED.findall(log)}
        if victim != 'fieldtrial':
            return pids[victim]
        for entry in Path('/proc').iterdir():
            if entry.name.isdigit() and self._is_server(entry, pids['trials']):
                return int(entry.name)
        raise StackError('the server of the study was not found')

    @staticmethod
    def _is_server(entry: Path, parent: int) -> bool:
        try:
            stat = (entry / 'stat').read_text(encoding='utf-8')
        except OSError:
            return False
        return int(stat.rpartition(')')[2].split()[1]) == parent

    def _end(self, process: subprocess.Popen) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(120.0)
        time.sleep(3.0)  # children that lost their parent end by themselves

    def verdict(self) -> dict[str, int]:
        """What there is at the end, counted from rollout folders, journal and store."""
        finished: Counter[str] = Counter()
        for path in (self.compiled / 'rollouts').glob('*/summary.json'):
            summary = json.loads(path.read_text(encoding='utf-8'))
            if summary['verdict'] in ('success', 'failure'):
                finished[summary['trial']] += 1
        entries = self.journal()
        recorded = [entry['trial'] for entry in entries if entry['kind'] == 'recorded']
        return {
            'planned': 2 * self.rollouts,
            'recorded': len(set(recorded)),
            'finished rollouts': len(finished),
            'finished but not recorded': len(set(finished) - set(recorded)),
            'run twice': sum(count > 1 for count in finished.values()),
            'recorded twice': len(recorded) - len(set(recorded)),
            'void': sum(entry['kind'] == 'voided' for entry in entries),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, go on, count; the exit code is 0 if nothing was lost or repeated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('kill_study'))
    out = parser.parse_args(argv).out
    head = header(len(VICTIMS))
    study = StudyUnderFire(out.absolute(), Place(73, 74, 25900), rollouts=4)
    begun = time.monotonic()
    for victim in VICTIMS:
        study.kill(victim)
        say(f'killed {victim} after `{study.deaths[-1][1]}`')
    code = study.finish()
    found = study.verdict()
    lines = [*header_lines(head),
             *table(['killed', 'newest line of the journal then'], study.deaths), '',
             *table(list(found), [list(found.values())]), '',
             f'Exit code of the last run {code}; {(time.monotonic() - begun) / 60:.1f} min.']
    text = '\n'.join(lines) + '\n'
    (out / 'kill_study.md').write_text(text, encoding='utf-8')
    say(text)
    lost = found['finished but not recorded'] + found['run twice'] + found['recorded twice']
    return int(bool(lost or found['recorded'] != found['planned']))


if __name__ == '__main__':
    sys.exit(main())
