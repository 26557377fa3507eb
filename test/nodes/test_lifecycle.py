# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a node ends: in good order after a signal, and after an error of its own as well."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(60)]
pytest.importorskip('rclpy')

import flashwam_ros  # noqa: E402

ROOT = pathlib.Path(flashwam_ros.__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    'ROS_DOMAIN_ID': '64',
    'PYTHONUNBUFFERED': '',
    'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
}
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
        timeout=50, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert f'finishing: {reason}' in done.stdout
    assert 'still spinning' in done.stdout
    assert ('a defect' in done.stderr) == (mode == 'error')


TALKATIVE = """
import logging, sys, time
from pathlib import Path
from rclpy.node import Node
from flashwam_ros.nodes.lifecycle import run_node

NOTES = Path(sys.argv.pop())

def note(text):
    with NOTES.open('a') as stream:
        stream.write(text + ' ')

def talk(node):
    node.get_logger().error('through ROS')
    logging.getLogger('driver').error('through Python')
    sys.stdout.write('left to be flushed at the end')

class Talkative(Node):
    def __init__(self):
        super().__init__('talkative')
        self.create_timer(0.05, lambda: talk(self))
        note('ready')

def finish(node, reason):
    note(reason)
    for _ in range(20):
        talk(node)
        time.sleep(0.03)
    note('finished')

sys.exit(run_node(Talkative, None, finish=finish))
"""


def wait_for_note(notes, text):
    deadline = time.monotonic() + 30.0
    while not notes.exists() or text not in notes.read_text():
        assert time.monotonic() < deadline, f'no {text!r}'
        time.sleep(0.01)


def test_a_terminal_that_is_closed_lets_it_finish(tmp_path):
    """The kernel's own SIGHUP, and EIO at every write from then on."""
    notes = tmp_path / 'notes'
    ours, its = os.openpty()
    process = subprocess.Popen(
        ['setsid', '--ctty', sys.executable, '-c', TALKATIVE, str(notes)],
        stdin=its, stdout=its, stderr=its, env=ENVIRONMENT,
    )  # fmt: skip
    os.close(its)
    wait_for_note(notes, 'ready')
    os.close(ours)
    assert process.wait(30.0) == 0
    assert notes.read_text().split() == ['ready', 'SIGHUP', 'finished']


def test_whoever_reads_its_output_may_die_with_the_terminal(tmp_path):
    """As below `ros2 launch`: SIGHUP, a broken pipe, and the kernel's SIGINT after it."""
    notes = tmp_path / 'notes'
    process = subprocess.Popen(
        [sys.executable, '-c', TALKATIVE, str(notes)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT,
    )  # fmt: skip
    wait_for_note(notes, 'ready')
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    wait_for_note(notes, 'SIGHUP')
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        process.send_signal(number)
    assert process.wait(30.0) == 0
    assert notes.read_text().split() == ['ready', 'SIGHUP', 'finished']
