# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scheduling priority for the two loops that must keep time: the robot's side and the driver's."""

from __future__ import annotations

import os

_NICE = -10
_RT_PRIORITY = 1


def claim_realtime() -> str:
    """Ask the kernel to prefer the calling thread; what was granted, in words.

    A nice value is not enough on desktops: Linux shares the processor between sessions before it
    looks at nice values. Threads and processes started later do not inherit the priority. Users
    need an `rtprio` line in `/etc/security/limits.conf` for it and go without otherwise.
    """
    if (os.cpu_count() or 1) > 1:
        try:
            policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(0, policy, os.sched_param(_RT_PRIORITY))
            return f'real-time priority {_RT_PRIORITY}'
        except PermissionError:
            pass
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        return f'nice {_NICE}'
    except PermissionError:
        return 'normal priority (no rtprio limit is set for this user)'
