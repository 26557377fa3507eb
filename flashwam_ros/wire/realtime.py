# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scheduling priority for the loops that must keep time: the driver's, and the twin's two."""

from __future__ import annotations

import os

# Pictures take most of a slow machine's time: they give way to the loops that move a robot.
CONTROL_PRIORITY = 2
CAMERA_PRIORITY = 1
_NICE = -10


def claim_realtime(priority: int = CONTROL_PRIORITY) -> str:
    """Ask the kernel to prefer the calling thread; what was granted, in words.

    Args:
        priority: real-time priority, one of the two above.

    A nice value is not enough on desktops: Linux shares the processor between sessions before it
    looks at nice values. Threads and processes started later do not inherit the priority. Users
    need an `rtprio` line in `/etc/security/limits.conf` for it and go without otherwise.
    """
    if (os.cpu_count() or 1) > 1:
        try:
            policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(0, policy, os.sched_param(priority))
            return f'real-time priority {priority}'
        except PermissionError:
            pass
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        return f'nice {_NICE}'
    except PermissionError:
        return 'normal priority (no rtprio limit is set for this user)'
