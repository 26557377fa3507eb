# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A study of the scripted expert, and a rig that needs neither robot nor time."""

import contextlib
import json
import os
import socket
import threading

from flashwam_ros.policy.handshake import Handshake
from flashwam_ros.policy.server import PolicyServer
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.trials.rehearsal import find_summary
from flashwam_ros.trials.study import study_from

STAGES = {'reached': 'at it', 'grasped': 'held', 'lifted': 'up'}


@contextlib.contextmanager
def server_that_says(port=0, **said):
    """A policy server that is only asked what it serves."""
    said = {'sha256': 'a' * 64, 'contract': RobotContract.load(), 'video_steps': 1,
            'action_steps': 2, 'sampler': 'own', **said}
    server = PolicyServer(None, Handshake('m', **said), port=port)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.address
    finally:
        server.close()
        thread.join(10)


def study_values(**changes):
    return {
        'name': 'small', 'title': 'Small', 'score': 'predicate', 'seed': 3, 'rollouts': 2,
        'scenes': {'split': 'selection', 'first': 0},
        'tasks': {'red_bottle': dict(STAGES)},
        'arms': [{'id': 'waits', 'policy': 'expert', 'execution': 'sync'},
                 {'id': 'ahead', 'policy': 'expert', 'execution': 'async'}],
        'reference': 'waits',
        'non_inferiority': {'arms': ['ahead'], 'margin': 0.2},
        **changes,
    }  # fmt: skip


def small_study(**changes):
    return study_from(study_values(**changes))


def summary_of(request, *, success=True, moved=True, reason='', **changes):
    """As a rollout leaves it."""
    verdict = 'success' if success else 'failure'
    return {
        'task': request.task, 'seed': request.seed, 'arm': request.arm, 'trial': request.trial,
        'execution': request.execution, 'verdict': verdict, 'success': success,
        'predicate': success, 'reason': reason or ('success' if success else 'time_limit'),
        'stages': {name: success or name == 'reached' for name in STAGES}, 'elapsed_s': 4.5,
        'first_action_s': 0.4 if moved else None, 'chunks': 6, 'executed_s': 4.4,
        'chunk_latency_s': {'n': 6, 'p50': 0.1, 'p95': 0.12, 'min': 0.09, 'max': 0.13},
        'slack_s': {'n': 5, 'p1': 0.5, 'p50': 0.6, 'min': 0.5, 'max': 0.7}, 'late_chunks': 0,
        'hold_s': 0.0, 'limited_ticks': 0, 'arm_limited_ticks': 0, 'real_time_factor': 1.0,
        'session': 's', **changes,
    }  # fmt: skip


class PaperRig:
    """Leaves what a rollout leaves, at once; the log tells how often the arms moved for what.

    Args:
        folder: of the study.
        outcome: summary for (request, how often this trial was begun).
        pause: called in the middle of a rollout.
    """

    def __init__(self, folder, outcome=None, pause=lambda: None):
        self.folder = folder / 'rollouts'
        self.folder.mkdir(exist_ok=True)
        self.log = folder / 'moved.log'
        self.outcome = outcome or (lambda request: summary_of(request))
        self.pause = pause

    def run(self, request, stop):
        self._note('began', request)
        self.pause()
        summary = self.outcome(request)
        place = self.folder / request.trial
        place.mkdir(exist_ok=True)
        (place / 'rollout.mp4').write_bytes(b'film')
        part = place / 'summary.part'
        part.write_text(json.dumps(summary))
        part.rename(place / 'summary.json')
        self._note('ended', request)
        return {**summary, 'folder': str(place)}

    def recover(self, trial):
        return find_summary(self.folder, trial)

    def _note(self, what, request):
        with open(self.log, 'a') as file:
            file.write(f'{what} {request.trial} {request.arm} {request.seed}\n')
            file.flush()
            os.fsync(file.fileno())


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
