# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plot and film of a recorded rollout: `python -m flashwam_ros.episodes.rollout_drawing FOLDER`.

Runs in a process of its own that ends when it is done, see `rollout_report`.
"""

from __future__ import annotations

import argparse
import os
import signal
import textwrap
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from flashwam_ros.episodes import rollout_file
from flashwam_ros.episodes.film_strip import SIDE_SIZE
from flashwam_ros.episodes.rollout_log import Outcome, RolloutLog, RolloutSetting
from flashwam_ros.episodes.rollout_report import RECORDING
from flashwam_ros.imaging import decode_jpeg

VIDEO_PERIOD_NS = 100_000_000
MOST_FRAMES = 1200
VIEW_SIZE = (640, 480)
_NICE = 10
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)

ExternalView = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]
"""Draws simulated states, qpos arrays, as (480, 640, 3) uint8 RGB pictures."""


def main(argv: list[str] | None = None) -> int:
    """Draw `plot.png` and `rollout.mp4` from `recording.npz`, and remove that when all is done."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder', type=Path, help='folder of a rollout')
    folder = parser.parse_args(argv).folder
    # Ctrl-C is for the node that waits for this; the next rollout is more urgent than a film.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    log, outcome, channel_names = rollout_file.load(folder / RECORDING)
    plot(folder / 'plot.png', log, outcome, channel_names)
    view = None
    if log.sim:
        from flashwam_ros.episodes.twin_view import external_view

        view = partial(external_view, log.setting.task, log.setting.seed, size=VIEW_SIZE)
    video(folder / 'rollout.mp4', log, outcome, view)
    (folder / RECORDING).unlink()
    return 0


# -- plot -----------------------------------------------------------------------------------------


def plot(path: Path, log: RolloutLog, outcome: Outcome, channel_names: tuple[str, ...]) -> None:
    """Draw joints commanded and measured, chunk boundaries, weight and slack against time."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    zero_ns = log.starts[0].start_ns if log.starts else log.activated_ns
    rows = len(channel_names) // 2 + 1
    figure, axes = pyplot.subplots(rows, 2, figsize=(15, 2.0 * rows), sharex=True)
    measured_s, measured = _series(log.measured, zero_ns)
    commanded_s, commanded = _series(log.commanded, zero_ns)
    order = _left_and_right(channel_names)
    for axis, channel in zip(axes[:-1].ravel(), order, strict=True):
        if len(measured_s):
            axis.plot(measured_s, measured[:, channel], color='0.55', lw=2.0, label='measured')
        if len(commanded_s):
            axis.plot(commanded_s, commanded[:, channel], color='C0', lw=1.0, label='commanded')
        axis.set_ylabel(channel_names[channel].replace('_joint', '').replace('_', '\n', 1))
        _boundaries(axis, log, zero_ns)
    axes[0, 0].legend(loc='upper right', fontsize=7)
    weight, slack = axes[-1]
    weight.plot(commanded_s, [entry[2] for entry in log.commanded], color='C3')
    weight.set(ylabel='arm_sdk weight', ylim=(-0.05, 1.05), xlabel='s from the first row')
    later = [account for account in log.starts if account.index > 0]
    starts_s = [(account.start_ns - zero_ns) * 1e-9 for account in later]
    slack.bar(starts_s, [account.slack_s for account in later], width=0.15, color='C2')
    slack.axhline(0.0, color='k', lw=0.5)
    slack.set(ylabel='slack, s', xlabel='s from the first row')
    for axis in (weight, slack):
        _boundaries(axis, log, zero_ns)
    setting = log.setting
    title = f'{setting.task}, seed {setting.seed}, {_driven_by(setting)}: {outcome}'
    figure.suptitle(textwrap.fill(title, 120))
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _driven_by(setting: RolloutSetting) -> str:
    """Who moved the arms; of a blind trial only its code."""
    return f'arm {setting.arm}' if setting.arm else f'{setting.policy}, {setting.execution}'


def _series(entries: list[tuple], zero_ns: int) -> tuple[np.ndarray, np.ndarray]:
    seconds = np.array([(entry[0] - zero_ns) * 1e-9 for entry in entries])
    return seconds, np.array([entry[1] for entry in entries])


def _left_and_right(channel_names: tuple[str, ...]) -> list[int]:
    """Channels so that the left column shows the left arm and the right one the right arm."""
    left = [i for i, name in enumerate(channel_names) if name.startswith('left')]
    right = [i for i, name in enumerate(channel_names) if not name.startswith('left')]
    return [channel for pair in zip(left, right, strict=True) for channel in pair]


def _boundaries(axis, log: RolloutLog, zero_ns: int) -> None:
    for account in log.starts:
        axis.axvline((account.start_ns - zero_ns) * 1e-9, color='0.8', lw=0.7, zorder=0)


# -- video ----------------------------------------------------------------------------------------


def video(
    path: Path, log: RolloutLog, outcome: Outcome, external_view: ExternalView | None = None
) -> None:
    """Write an H.264 film: the scene from outside on the left, the three cameras on the right."""
    import av

    times_ns = _video_times(log)
    if not times_ns:
        return
    period_ns = times_ns[1] - times_ns[0] if len(times_ns) > 1 else VIDEO_PERIOD_NS
    views = _external_frames(log, times_ns, external_view)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=Fraction(1_000_000_000, period_ns))
        stream.width, stream.height = VIEW_SIZE[0] + SIDE_SIZE[0], VIEW_SIZE[1]
        stream.pix_fmt = 'yuv420p'
        stream.options = {'crf': '24', 'preset': 'veryfast'}
        for time_ns, view in zip(times_ns, views, strict=True):
            last = time_ns == times_ns[-1]
            picture = _compose(log, time_ns, view, outcome if last else None)
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _video_times(log: RolloutLog) -> list[int]:
    stamps = [entries[0][0] for entries in log.frames.values() if entries]
    stamps += [log.sim[0][0]] if log.sim else []
    if not stamps:
        return []
    begin = max(min(stamps), log.activated_ns - 1_000_000_000)
    end = max(log.ended_ns, begin + 1)
    # Long ones are shown at fewer pictures per second: each takes 50 ms to draw on a CPU.
    return list(range(begin, end, max(VIDEO_PERIOD_NS, (end - begin) // MOST_FRAMES)))


def _external_frames(
    log: RolloutLog, times_ns: list[int], external_view: ExternalView | None
) -> Iterator[np.ndarray]:
    blank = np.full((VIEW_SIZE[1], VIEW_SIZE[0], 3), 40, np.uint8)
    if external_view is None or not log.sim:
        return iter([blank] * len(times_ns))
    stamps = [stamp for stamp, _ in log.sim]
    return external_view(
        log.sim[max(0, bisect_right(stamps, time_ns) - 1)][1] for time_ns in times_ns
    )


def _compose(
    log: RolloutLog, time_ns: int, view: np.ndarray, outcome: Outcome | None
) -> np.ndarray:
    picture = np.zeros((VIEW_SIZE[1], VIEW_SIZE[0] + SIDE_SIZE[0], 3), np.uint8)
    picture[:, : VIEW_SIZE[0]] = view
    for row, (camera, entries) in enumerate(sorted(log.frames.items())):
        index = bisect_right([stamp for stamp, _ in entries], time_ns) - 1
        if index < 0:
            continue
        small = decode_jpeg(entries[index][1])
        top = row * SIDE_SIZE[1]
        picture[top : top + SIDE_SIZE[1], VIEW_SIZE[0] :] = small
        _write(picture, camera.replace('_', ' '), (VIEW_SIZE[0] + 6, top + 16), 0.42)
    zero_ns = log.starts[0].start_ns if log.starts else log.activated_ns
    setting = log.setting
    _write(picture, setting.prompt or setting.task, (10, 22), 0.5)
    clock = f'{_driven_by(setting)}   {max(0.0, (time_ns - zero_ns) * 1e-9):5.1f} s'
    _write(picture, clock, (10, VIEW_SIZE[1] - 12), 0.5)
    if outcome is not None:
        _write(picture, str(outcome), (10, 48), 0.5)
    return picture


def _write(picture: np.ndarray, text: str, place: tuple[int, int], scale: float) -> None:
    # The outline is drawn by shifting: a thicker pen would also set the letters wider.
    shifts = [(x, y, _BLACK) for x in (-1, 0, 1) for y in (-1, 0, 1)] + [(0, 0, _WHITE)]
    for x, y, color in shifts:
        at = (place[0] + x, place[1] + y)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)


if __name__ == '__main__':
    raise SystemExit(main())
