# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws what the head camera sees after a reset: `python -m flashwam_ros.twin.reset_picture`.

usage: python -m flashwam_ros.twin.reset_picture TASK SEED > picture.jpg
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flashwam_ros.imaging import encode_jpeg
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.twin.gl import choose_gl_backend


def reset_picture(task: str, seed: int) -> bytes:
    """JPEG of the head camera, at wire size.

    Raises:
        NoOpenGLError: no off-screen OpenGL works here.
        ValueError: unknown task.
    """
    choose_gl_backend()
    from flashwam_ros.twin.rendering import Renderer
    from flashwam_ros.twin.simulation import Simulation

    head = RobotContract.load().cameras[0]
    simulation = Simulation(task)
    simulation.reset(seed)
    with Renderer(simulation.model, head.wire_width, head.wire_height) as renderer:
        return encode_jpeg(renderer.render(simulation.data, head.key))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the JPEG to standard output."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if len(argv) != 2 or not argv[1].isdecimal():
        sys.stderr.write(__doc__)
        return 2
    sys.stdout.buffer.write(reset_picture(argv[0], int(argv[1])))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
