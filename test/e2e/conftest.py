# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One whole rollout, started as a user starts it, on private domains and ports.

The tests of this room share preflight_support.py.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

import pytest

import flashwam_ros

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from preflight_support import undisturbed  # noqa: E402

ROOT = pathlib.Path(flashwam_ros.__file__).parents[1]
ROS_DOMAIN, UNITREE_DOMAIN = 63, 43
LIMIT_S = 240.0
TRIES = 5
SLOW_MOTION = 'real_time_factor:=0.5'
#: Seconds of this machine for one of the robot, on two processors at once; with more, a graph, an
#: operator's browser and a simulator cannot all keep time. 0.2 to 0.3 where these tests pass on
#: a machine that does nothing else.
REAL_TIME_S = 0.4


@dataclass(frozen=True)
class Run:
    """What `flashwam run` left: exit code, what it said, its folder and summary.

    `shared` is what it left in shared memory, which nobody would ever free.
    """

    code: int
    text: str
    log: str
    folder: pathlib.Path | None
    summary: dict
    shared: set


def shared_memory():
    """Segments of Fast DDS on this machine; none with another middleware."""
    return {path.name for path in pathlib.Path('/dev/shm').glob('fastdds_*')}


def free_ports():
    """A request port and three neighbouring camera ports that are free now."""
    for first in range(57400, 59400, 7):
        sockets = []
        try:
            for port in range(first, first + 4):
                probe = socket.socket()
                sockets.append(probe)
                probe.bind(('127.0.0.1', port))
            return first, first + 1
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
    raise RuntimeError('no free ports')


def run_once(folder, arguments):
    request_port, camera_port = free_ports()
    before = shared_memory()
    process = subprocess.Popen(
        [
            sys.executable, '-m', 'flashwam_ros.cli', 'run', *arguments,
            f'unitree_domain:={UNITREE_DOMAIN}', f'camera_request_port:={request_port}',
            f'camera_port:={camera_port}', f'output_dir:={folder}',
            f'episodes_dir:={folder}/episodes',
        ],
        cwd=ROOT,
        env={
            **os.environ,
            'ROS_DOMAIN_ID': str(ROS_DOMAIN),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_LOCALHOST_ONLY': '1',
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        text, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=60)
        pytest.fail(f'the rollout did not end in {LIMIT_S:.0f} s:\n{text}')
    log = (folder / 'last_run.log').read_text()
    summaries = sorted(folder.glob('*/summary.json'))
    newest = summaries[-1] if summaries else None
    return Run(
        process.returncode, text, log, newest and newest.parent,
        json.loads(newest.read_text()) if newest else {}, shared_memory() - before,
    )  # fmt: skip


@pytest.fixture(scope='session', autouse=True)
def state_folder(tmp_path_factory):
    """Claims of the arms of a graph that a test killed stay out of the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_STATE_HOME', str(tmp_path_factory.mktemp('state')))
        yield


@pytest.fixture(scope='session')
def real_time():
    """For teleoperation, which cannot run in slow motion: skips on a machine that is too slow."""
    command = [sys.executable, str(pathlib.Path(__file__).with_name('robot_second.py'))]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    seconds = max(float(process.communicate(timeout=LIMIT_S)[0]) for process in both)
    if seconds > REAL_TIME_S:
        pytest.skip(f'a second of the simulated robot takes {seconds:.2f} s here, more than '
                    f'{REAL_TIME_S}: too slow for teleoperation in real time')


@pytest.fixture
def rollout(tmp_path):
    """Run a rollout in slow motion, as tests share their machine; again where it was too busy.

    `around` makes, of the rollout's folder, a context that every try runs in; `enough` says
    whether a try will do for the test.
    """

    def run(*arguments, around=contextlib.nullcontext, enough=undisturbed):
        for attempt in range(TRIES):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            with around(folder):
                result = run_once(folder, (*arguments, SLOW_MOTION))
            if enough(result):
                break
        return result

    return run
