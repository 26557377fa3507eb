# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Priority is asked for per thread and never an error."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flashwam_ros.wire.realtime import claim_realtime
from flashwam_ros.wire.robot_bus import RobotBus


def _in_thread() -> tuple[str, int, int]:
    found: list = []

    def work() -> None:
        words = claim_realtime()
        policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
        found.append((words, policy, os.getpriority(os.PRIO_PROCESS, 0)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def test_only_the_calling_thread_is_raised() -> None:
    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    words, policy, nice = _in_thread()
    assert policy == os.SCHED_RR or nice < before[1] or 'normal' in words
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == before


def test_users_without_the_right_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, 'sched_setscheduler', refuse)
    monkeypatch.setattr(os, 'setpriority', refuse)
    assert 'normal priority' in claim_realtime()


def _raised() -> list[str]:
    """Names of the threads of this process that have real-time priority."""
    tasks = Path('/proc/self/task').iterdir()
    return [(task / 'comm').read_text().strip() for task in tasks
            if os.sched_getscheduler(int(task.name)) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR]


@pytest.mark.parametrize('own', [True, False])
def test_only_a_session_of_its_own_is_preferred(own: bool) -> None:
    code = ('from pathlib import Path; from flashwam_ros.wire.realtime import prefer_session; '
            'file = Path("/proc/self/autogroup"); before = file.exists() and file.read_text(); '
            'print(prefer_session(), file.exists() and file.read_text() != before)')
    done = subprocess.run([sys.executable, '-c', code], start_new_session=own, text=True,
                          capture_output=True, check=True)
    granted, changed = done.stdout.split()
    assert granted == changed, 'it says what it did'
    assert own or granted == 'False'


def test_who_commands_a_robot_hears_it_in_time() -> None:
    """The threads that take the state from the wire, and the one that hands it on."""
    if 'real-time' not in _in_thread()[0]:
        pytest.skip('no right to real-time priority here')
    before = _raised()
    bus = RobotBus(62, 'lo')
    try:
        deadline = time.monotonic() + 10.0
        while len(_raised()) < len(before) + 3:
            assert time.monotonic() < deadline, _raised()
            time.sleep(0.01)
        raised = _raised()
        assert any(name.startswith('recv') for name in raised)
        assert not any(name.startswith('gc') for name in raised), 'only those that receive'
    finally:
        bus.close()
    assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_RR
