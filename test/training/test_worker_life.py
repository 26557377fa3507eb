# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A pool's workers end with their parent, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('worker_process.py')
LIMIT_S = 60.0


def alive(pid):
    """Whether a process runs (one that nobody has waited for yet does not)."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.parametrize(('kind', 'number'), [
    ('demonstrations', signal.SIGKILL), ('demonstrations', signal.SIGTERM),
    ('episode_pool', signal.SIGKILL),
])
def test_a_worker_that_waits_for_work_ends_with_its_parent(kind, number):
    pytest.importorskip('mujoco' if kind == 'demonstrations' else 'torch')
    parent = subprocess.Popen(
        [sys.executable, str(SCRIPT), kind], stdout=subprocess.PIPE, text=True)
    worker = None
    try:
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.send_signal(number)
        parent.wait(LIMIT_S)
        deadline = time.monotonic() + LIMIT_S
        while alive(worker):
            assert time.monotonic() < deadline, 'the worker lives on'
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.wait()
        if worker is not None and alive(worker):
            os.kill(worker, signal.SIGKILL)
