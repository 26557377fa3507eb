# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scheduling priority for what must keep time: the driver's and the twin's loops, and the wire."""

from __future__ import annotations

import os
from pathlib import Path

# Pictures take most of a slow machine's time: they give way to the loops that move a robot, and to
# an operator's rows: 20 ms of work in every 100 ms, and the arms stop when it comes late.
CONTROL_PRIORITY = 3
STEERING_PRIORITY = 2
CAMERA_PRIORITY = 1
SWITCH_INTERVAL_S = 0.0005
"""How long a thread that must keep time waits for Python's lock, for `sys.setswitchinterval`."""
_NICE = -10
# How Cyclone DDS names the threads that take data from the network and hand it over.
_RECEIVERS = ('recv', 'dq.')


def claim_realtime(priority: int = CONTROL_PRIORITY) -> str:
    """Ask the kernel to prefer the calling thread; what was granted, in words.

    Args:
        priority: real-time priority, one of the three above.

    A nice value is not enough on desktops: Linux shares the processor between sessions before it
    looks at nice values. Threads and processes started later do not inherit the priority. Users
    need an `rtprio` line in `/etc/security/limits.conf` for it and go without otherwise.
    """
    if _may_share():
        try:
            _set_realtime(0, priority)
            return f'real-time priority {priority}'
        except PermissionError:
            pass
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        return f'nice {_NICE}'
    except PermissionError:
        return 'normal priority (no rtprio limit is set for this user)'


def claim_realtime_receivers(priority: int = CONTROL_PRIORITY) -> int:
    """The same for the threads with which this process hears the robot's wire.

    A control loop that keeps time on a state that is old has to hold. Threads of Cyclone DDS wait
    for no other process; those of a middleware with shared memory do and must not be raised.

    Returns:
        How many threads were raised, 0 without the right to it.
    """
    raised = 0
    if not _may_share():
        return raised
    for task in Path('/proc/self/task').iterdir():
        try:
            if (task / 'comm').read_text(encoding='utf-8').startswith(_RECEIVERS):
                _set_realtime(int(task.name), priority)
                raised += 1
        except OSError:  # no right to it, or the thread has ended
            continue
    return raised


def prefer_session() -> bool:
    """Ask for a larger share of the processor for all threads of the session that this leads.

    Python's threads hand one lock to each other: a control thread, whatever its priority, waits
    for the one that has it, and that one may have lost its processor to another program.

    Returns:
        Whether it was granted: the session is this program's own, the kernel shares by sessions,
        and the user has the right.
    """
    if os.getsid(0) != os.getpid():
        return False
    try:
        Path('/proc/self/autogroup').write_text(str(_NICE), encoding='utf-8')
    except OSError:
        return False
    return True


def _may_share() -> bool:
    """A lone processor would be left to nobody else."""
    return (os.cpu_count() or 1) > 1


def _set_realtime(thread: int, priority: int) -> None:
    policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
    os.sched_setscheduler(thread, policy, os.sched_param(priority))
