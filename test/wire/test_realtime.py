# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Priority is asked for per thread and never an error."""

import os
import threading

import pytest

from flashwam_ros.wire.realtime import claim_realtime


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
