# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A parent of one worker that waits for work for ever; says the worker's id.

    python worker_process.py demonstrations|episode_pool
"""

import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class Waiting:
    """A queue that tells when a worker asks it, and has nothing."""

    def __init__(self, asked):
        self.asked = asked

    def get(self):
        self.asked.set()
        time.sleep(600)


def main(kind):
    """Start the pool's own worker function and wait."""
    context = multiprocessing.get_context('spawn')
    asked = context.Event()
    if kind == 'demonstrations':
        from flashwam_ros.training.demonstrations import _worker
        target, arguments = _worker, (Path(), None, Waiting(asked), None)
    else:
        from flashwam_ros.training.episode_pool import _main
        target, arguments = _main, ((), Waiting(asked), None)
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    asked.wait()
    sys.stdout.write(f'{process.pid}\n')
    sys.stdout.flush()
    time.sleep(600)


if __name__ == '__main__':
    main(sys.argv[1])
