# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A window that shows the twin, in a process of its own. Closing it leaves the twin running."""

from __future__ import annotations

import argparse
import logging
import os

from flashwam_ros.twin.child import Child, die_with_parent, parent_gone

log = logging.getLogger(__name__)

_PERIOD_S = 1.0 / 30.0


def start(snapshot_fd: int) -> Child:
    """Open the window; `snapshot_fd` is the descriptor of the shared state."""
    return Child(__name__, snapshot_fd, (), {'MUJOCO_GL': 'glfw'})


def _show(snapshot_fd: int) -> None:
    import mujoco
    import mujoco.viewer

    from flashwam_ros.twin.model import build_model
    from flashwam_ros.twin.snapshot import SharedSnapshot

    shared = SharedSnapshot(snapshot_fd)
    while (snapshot := shared.read()) is None:
        if parent_gone(_PERIOD_S):
            return
    while True:
        task = snapshot.task
        model = build_model(task).model
        data = mujoco.MjData(model)
        window = mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
        with window:
            while snapshot.task == task:
                if not window.is_running() or parent_gone(_PERIOD_S):
                    return
                snapshot = shared.read() or snapshot
                if snapshot.task == task:
                    with window.lock():
                        snapshot.apply(model, data)
                    window.sync()


def main(argv: list[str] | None = None) -> int:
    """Show the twin until the window is closed or the twin ends."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--snapshot-fd', type=int, required=True)
    args = parser.parse_args(argv)
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format='twin window: %(message)s')
    if not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        log.error('no display here (DISPLAY is not set): use headless:=true')
        return 1
    _show(args.snapshot_fd)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
