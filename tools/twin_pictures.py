# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/<task>.jpg: the expert at work, from outside and through the robot's cameras.

Run: ``python tools/twin_pictures.py [--seed 1]``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashwam_ros.imaging import encode_jpeg  # noqa: E402
from flashwam_ros.robot.chunk import ActionChunk  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.twin.episode import InProcessRobot  # noqa: E402
from flashwam_ros.twin.expert import Expert  # noqa: E402
from flashwam_ros.twin.rendering import Renderer  # noqa: E402

OUT = Path(__file__).resolve().parents[1] / 'docs' / 'images'
#: Seconds into the episode at which most is to be seen.
MOMENTS_S = {'pot_potato': 8.9, 'red_bottle': 3.6, 'pink_object': 3.7}
CAMERAS = ('external', 'head', 'left_wrist', 'right_wrist')
SIZE = (640, 480)


def state_at(task: str, seed: int, moment_s: float) -> InProcessRobot:
    """The twin in the middle of the expert's episode."""
    contract = RobotContract.load()
    robot = InProcessRobot(task, contract, images=False)
    robot.reset(seed)
    expert = Expert(task, seed)
    measured = robot.measured()
    expert.reset(robot.world(), measured[:14], measured[14:])
    begun_ns, index, end_ns = robot.now_ns, 0, 0
    while robot.now_ns - begun_ns < moment_s * 1e9:
        if robot.now_ns >= end_ns - 40_000_000:
            first = contract.actions_per_frame if index == 0 else 0
            rows = np.asarray(expert.rows(contract.rows_per_chunk - first, robot.world()))
            positions = np.concatenate([np.repeat(rows[:1], first, axis=0), rows])
            robot.submit(ActionChunk(
                session='picture', contract_hash=contract.sha256, index=index,
                predecessor=index - 1, row_duration_s=contract.row_duration_s,
                positions=positions, channel_names=contract.channel_names, first_row=first,
                stamp_ns=robot.now_ns, seed=seed))  # fmt: skip
            end_ns = max(end_ns, robot.now_ns) + int(len(rows) * contract.row_duration_s * 1e9)
            index += 1
        robot.tick()
    return robot


def main() -> int:
    """Draw all tasks."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seed', type=int, default=1)
    seed = parser.parse_args().seed
    OUT.mkdir(parents=True, exist_ok=True)
    for task, moment_s in MOMENTS_S.items():
        robot = state_at(task, seed, moment_s)
        with Renderer(robot.simulation.model, *SIZE, 'pretty') as renderer:
            views = [renderer.render(robot.simulation.data, name) for name in CAMERAS]
        sheet = np.vstack([np.hstack(views[:2]), np.hstack(views[2:])])
        half = cv2.resize(sheet, (960, 720), interpolation=cv2.INTER_AREA)
        (OUT / f'{task}.jpg').write_bytes(encode_jpeg(half, 88))
    return 0


if __name__ == '__main__':
    sys.exit(main())
