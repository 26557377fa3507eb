# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which part's denoising steps change success: two numbers of video by two of action steps.

Run: ``flashwam evaluate --checkpoint models/g1-nano-teacher --steps 10v/20a,10v/2a,1v/20a,1v/2a
--seeds 67`` and then ``python -m benchmarks.step_effects``, which reads what that kept.

All four settings meet the same scenes.  The effect of fewer steps of one part is the sum over
scenes of (successes with few - successes with many), both settings of the other part taken
together; its p-value is exact: the share of all ways to flip the scenes' signs that give a sum as
far from 0 (two-sided).  Scenes are what is exchanged, so an outcome seen twice is not counted as
two.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._stack import header, header_lines, say, table  # noqa: E402
from flashwam_ros.training.evaluate import checkpoint_setting  # noqa: E402
from flashwam_ros.training.results import (  # noqa: E402
    chosen,
    make_jobs,
    read_results,
    results_folder,
)
from flashwam_ros.training.seeds import TASKS  # noqa: E402
from flashwam_ros.training.statistics import holm, sign_flip, wilson  # noqa: E402

COLUMNS = ('video steps', 'action steps', 'success', '95 % Wilson')


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table per task and both effects."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--checkpoint', type=Path, default=Path('models/g1-nano-teacher'))
    parser.add_argument('--video', type=int, nargs=2, default=[1, 10], metavar=('FEW', 'MANY'))
    parser.add_argument('--action', type=int, nargs=2, default=[2, 20], metavar=('FEW', 'MANY'))
    parser.add_argument('--tasks', nargs='+', default=list(TASKS), choices=TASKS)
    parser.add_argument('--seeds', type=int, default=67, help='scenes per task')
    options = parser.parse_args(argv)
    lines, found_p = header_lines(header(options.seeds)), []
    for task in options.tasks:
        jobs = make_jobs({task: options.seeds}, 'test')
        won: dict[tuple[int, int], list[bool]] = {}
        rows = []
        for video in options.video:
            for action in options.action:
                setting = checkpoint_setting(options.checkpoint, f'{video}v/{action}a')
                folder = results_folder(setting.checkpoint)
                found = chosen(read_results(folder, setting), jobs)
                if len(found) < len(jobs):
                    parser.error(f'{task} at {setting.steps}: {len(found)} of {len(jobs)} '
                                 f'episodes in {folder}; run flashwam evaluate first')
                won[video, action] = [bool(found[job]['success']) for job in jobs]
                low, high = wilson(sum(won[video, action]), len(jobs))
                rows.append((video, action, f'{sum(won[video, action])}/{len(jobs)}',
                             f'{100 * low:.0f}..{100 * high:.0f} %'))
        lines += [f'{options.checkpoint}, {task}:', '', *table(COLUMNS, rows), '']
        for name, text in (
            ('video', f'{options.video[0]} v {options.video[1]} video steps'),
            ('action', f'{options.action[0]} v {options.action[1]} action steps'),
        ):
            gains = effects(won, options.video, options.action, name)
            found_p.append(sign_flip(gains))
            lines.append(f'- {text}: {sum(gains):+d} of {2 * len(jobs)}, p = {found_p[-1]:.2g}')
        lines.append('')
    lines.append(f'Smallest p after Holm, over all {len(found_p)}: {min(holm(found_p)):.2g}')
    say('\n'.join(lines))
    return 0


def effects(won: dict[tuple[int, int], list[bool]], video: Sequence[int], action: Sequence[int],
            part: str) -> list[int]:
    """What fewer steps of a part gain in each scene, -2..2; few come first in both sequences."""
    few = [(v, a) for v in video for a in action if (v == video[0] if part == 'video'
                                                     else a == action[0])]
    return [sum((1 if key in few else -1) * outcomes[scene] for key, outcomes in won.items())
            for scene in range(len(won[video[0], action[0]]))]


if __name__ == '__main__':
    raise SystemExit(main())
