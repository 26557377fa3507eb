# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a node ends: in good order after a signal, and after an error of its own as well."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(60)]
pytest.importorskip('rclpy')

import flashwam_ros  # noqa: E402

ROOT = pathlib.Path(flashwam_ros.__file__).parents[1]
PROGRAM = """
import os, signal, sys, time
from rclpy.node import Node
from flashwam_ros.nodes.lifecycle import run_node

class Fragile(Node):
    def __init__(self):
        super().__init__('fragile')
        self.create_timer(0.05, self.work)
        self.finishing = False

    def work(self):
        if self.finishing:
            print('still spinning', flush=True)
        elif MODE == 'error':
            raise RuntimeError('a defect')
        else:
            os.kill(os.getpid(), signal.SIGINT)

def finish(node, reason):
    node.finishing = True
    print('finishing:', reason, flush=True)
    time.sleep(0.3)
    return MODE != 'refuses'

MODE = sys.argv.pop()
sys.exit(run_node(Fragile, None, finish=finish))
"""


@pytest.mark.parametrize(('mode', 'reason', 'code'), [
    ('signal', 'SIGINT', 0), ('error', 'error', 1), ('refuses', 'SIGINT', 1),
])  # fmt: skip
def test_it_finishes_while_it_still_spins(mode, reason, code):
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, mode], capture_output=True, text=True, check=False,
        timeout=50, env={**os.environ, 'ROS_DOMAIN_ID': '64', 'PYTHONPATH': os.pathsep.join(
            [str(ROOT), os.environ.get('PYTHONPATH', '')])},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert f'finishing: {reason}' in done.stdout
    assert 'still spinning' in done.stdout
    assert ('a defect' in done.stderr) == (mode == 'error')
