# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a second of the simulated robot costs this machine: limits, physics and pictures.

python test/e2e/robot_second.py      prints the fastest of some, s
"""

import sys
import time

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.twin.episode import TICK_NS, InProcessRobot
from flashwam_ros.twin.rendering import Renderer

SECONDS, PICTURE_RATE_HZ = 4, 5


def main():
    contract = RobotContract.load()
    robot = InProcessRobot('red_bottle', contract, images=False)
    robot.reset(0)
    cameras = [camera.key for camera in contract.cameras]
    ticks = 1_000_000_000 // TICK_NS
    taken, camera = [], contract.cameras[0]
    size = camera.wire_width, camera.wire_height
    with Renderer(robot.simulation.model, *size) as renderer:
        for _ in range(SECONDS):
            begun = time.monotonic()
            for number in range(ticks):
                robot.tick()
                if number % (ticks // PICTURE_RATE_HZ) == 0:
                    list(renderer.render_each(robot.simulation.data, cameras))
            taken.append(time.monotonic() - begun)
    sys.stdout.write(f'{min(taken):.3f}\n')


if __name__ == '__main__':
    main()
