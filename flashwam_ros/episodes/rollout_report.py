# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The folder that a rollout leaves: `summary.json`, `plot.png` and `rollout.mp4`.

The numbers are written here; plot and film are drawn by a process of their own. Drawing in the
caller's process costs it hundreds of megabytes that it never gives back (fragments in the heaps of
its threads, the software renderer), though nothing of it is in use.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import flashwam_ros
from flashwam_ros.episodes import rollout_file
from flashwam_ros.episodes.rollout_log import Outcome, RolloutLog, summarise

RECORDING = 'recording.npz'
DRAW_LIMIT_S = 300.0
_DRAWING = 'flashwam_ros.episodes.rollout_drawing'


def write_report(
    folder: Path,
    log: RolloutLog,
    outcome: Outcome,
    channel_names: tuple[str, ...],
    extra: dict | None = None,
    film: bool = True,
) -> dict:
    """Write the folder and return the summary; blocks until plot and film are drawn, if they are.

    A verdict must never be lost to a picture: whatever goes wrong is told as `report_error` in the
    summary that is returned, and the recording stays, to be drawn again by
    `python -m flashwam_ros.episodes.rollout_drawing FOLDER`.

    Args:
        folder: made if it does not exist.
        log: what was collected.
        outcome: how it ended.
        channel_names: column order.
        extra: more entries for the summary.
        film: whether plot and film are drawn; without, the recording stays.
    """
    with log.lock:
        summary = {**summarise(log, outcome), **(extra or {})}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_summary(folder, summary)
        with log.lock:
            rollout_file.save(folder / RECORDING, log, outcome, channel_names)
        error = draw(folder) if film else ''
        if error:
            summary['report_error'] = error
            _write_summary(folder, summary)
    except OSError as failure:
        summary['report_error'] = f'{type(failure).__name__}: {failure}'
    return summary


def undrawn(rollouts: Path) -> list[Path]:
    """Folders below ``rollouts`` whose film and plot are still to be drawn, oldest first."""
    return sorted(path.parent for path in rollouts.glob(f'*/{RECORDING}'))


def draw(folder: Path, limit_s: float = DRAW_LIMIT_S) -> str:
    """Draw the recording of a folder in a child process; what went wrong, '' for nothing."""
    root = str(Path(flashwam_ros.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get('PYTHONPATH')])]
    try:
        done = subprocess.run(
            [sys.executable, '-m', _DRAWING, str(folder)],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f'drawing took longer than {limit_s:.0f} s'
    if done.returncode == 0:
        return ''
    said = done.stderr.strip().splitlines()
    return f'drawing ended with code {done.returncode}: {said[-1] if said else "nothing said"}'


def _write_summary(folder: Path, summary: dict) -> None:
    """All of it or nothing: a study that was killed looks here for what had finished."""
    part, path = folder / 'summary.json.part', folder / 'summary.json'
    with part.open('w', encoding='utf-8') as file:
        file.write(json.dumps(summary, indent=1) + '\n')
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
