# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Unitree's Python SDK, unmodified, initialised on `lo`, reads the twin and moves its arms."""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from flashwam_ros.robot.contract import load_choices

pytest.importorskip('unitree_sdk2py')
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from twin_process import TwinProcess  # noqa: E402

DOMAIN = 68
PEER = pathlib.Path(__file__).parents[1] / 'wire' / 'vendor_peer.py'
ARMS = slice(15, 29)
DEADLINE_S = 30.0
RAMP_S = 1.0


@pytest.fixture
def vendor() -> Iterator[subprocess.Popen]:
    twin = TwinProcess(DOMAIN, '--task', 'red_bottle', '--camera-ports', '')
    process = subprocess.Popen(
        [sys.executable, str(PEER), 'client', str(DOMAIN)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert json.loads(process.stdout.readline())['event'] == 'ready'
    yield process
    process.stdin.close()
    process.wait(10)
    assert twin.end()[0] == 0


def ask(vendor: subprocess.Popen, **order: object) -> dict:
    vendor.stdin.write(json.dumps(order) + '\n')
    vendor.stdin.flush()
    return json.loads(vendor.stdout.readline())


def test_vendor_sdk_reads_the_state_and_moves_the_arms(vendor: subprocess.Popen) -> None:
    end = time.monotonic() + DEADLINE_S
    while (state := ask(vendor))['q'] is None or state['gripper'] is None:
        assert time.monotonic() < end, 'the SDK received no state'
        time.sleep(0.01)
    assert (state['mode_machine'], state['crc_ok']) == (15, True)
    start = np.array(state['q'][ARMS])
    builtin = load_choices()['poses']['builtin_arm']
    np.testing.assert_allclose(start, builtin, atol=0.05)

    goal = start.copy()
    goal[[2, 9]] += (0.4, -0.4)
    begun = time.monotonic()
    while True:
        share = min(1.0, (time.monotonic() - begun) / RAMP_S)
        target = start + share * (goal - start)
        state = ask(vendor, weight=share, q=target.tolist(), grip=1.0)
        reached = np.array(state['q'][ARMS])
        # The SDK's command has no gravity feed-forward: the arms sag by some hundredths of a rad.
        close = np.abs(reached - goal).max() < 0.12 and np.abs(reached - goal)[[2, 9]].max() < 0.06
        if share == 1.0 and close and state['gripper'][0] < 1.2:
            break
        assert time.monotonic() < end, f'arms at {reached}, wanted {goal}'
        time.sleep(0.002)
    moved = reached - start
    assert moved[2] > 0.3
    assert moved[9] < -0.3
