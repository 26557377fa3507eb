# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Lets a process see another machine: a clock that is stepped, a disk that is full.

Python runs this at its start where its folder is in PYTHONPATH. The file in FLASHWAM_TEST_MACHINE
decides, at every call: {"clock_step_s": 0.1, "free_gib": 0.5}; without it nothing changes.
"""

import json
import os
import shutil
import time

_FILE = os.environ['FLASHWAM_TEST_MACHINE']
_time_ns, _disk_usage, _begun_ns = time.time_ns, shutil.disk_usage, time.monotonic_ns()
_PERIOD_NS = 200_000_000


def _fault(name):
    try:
        with open(_FILE, encoding='utf-8') as file:
            return json.load(file).get(name)
    except (OSError, ValueError):
        return None


def time_ns():
    """The system clock, set back and forth by the step five times a second."""
    step = _fault('clock_step_s') or 0.0
    odd = (time.monotonic_ns() - _begun_ns) // _PERIOD_NS % 2
    return _time_ns() + int(step * odd * 1e9)


def disk_usage(path):
    """The disk, with as little left as the fault says."""
    usage, free = _disk_usage(path), _fault('free_gib')
    return usage if free is None else usage._replace(free=int(free * 2**30))


time.time_ns, shutil.disk_usage = time_ns, disk_usage
