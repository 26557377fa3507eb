# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Worker processes that do not outlive the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

ORPHANED = 3
"""Exit code of a worker whose parent is gone."""


def end_with_parent() -> None:
    """End this worker, at once and without clean-up, when its parent has ended in any way.

    A parent that is killed tells its daemon processes nothing, and a worker that waits for a queue
    waits for ever: it holds the other end of the queue's pipe itself.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(ORPHANED)

    threading.Thread(target=watch, name='parent', daemon=True).start()
