# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Questions to the robot's services over real DDS, ours and the vendor SDK's."""

import json
import subprocess
import sys
import threading

import pytest

from flashwam_ros.wire.participant import open_participant
from flashwam_ros.wire.services import (
    CHECK_MODE,
    GET_FSM_ID,
    MOTION_SWITCHER,
    SPORT,
    RobotServices,
    ServiceServer,
)

DOMAIN = 58
VENDOR = '''
import json, sys
from unitree_sdk2py.core.channel import ChannelFactoryInitialize
from unitree_sdk2py.comm.motion_switcher.motion_switcher_client import MotionSwitcherClient
ChannelFactoryInitialize(int(sys.argv[1]), 'lo')
client = MotionSwitcherClient()
client.SetTimeout(5.0)
client.Init()
print('ANSWER ' + json.dumps(client.CheckMode()))
'''


class Robot:
    """A served robot in a thread."""

    def __init__(self):
        self.fsm, self.battery = 501, 77
        self.server = ServiceServer(open_participant(DOMAIN, 'lo'), {
            (MOTION_SWITCHER, CHECK_MODE): lambda: {'form': '0', 'name': 'ai'},
            (SPORT, GET_FSM_ID): lambda: {'data': self.fsm},
        })  # fmt: skip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.01):
            self.server.answer()
            self.server.publish_battery(self.battery)

    def close(self):
        self._stop.set()
        self._thread.join()
        self.server.close()


@pytest.fixture
def robot():
    robot = Robot()
    yield robot
    robot.close()


def test_mode_state_and_battery(robot):
    services = RobotServices(DOMAIN, 'lo')
    assert services.mode_name(10.0) == 'ai'
    assert services.fsm_id(10.0) == 501
    assert services.battery_percent(10.0) == 77
    services.close()


def test_silence_is_no_answer():
    services = RobotServices(DOMAIN + 1, 'lo')
    assert services.mode_name(0.1) is None
    assert services.battery_percent(0.1) is None
    services.close()


def test_the_vendor_sdk_gets_an_answer(robot):
    pytest.importorskip('unitree_sdk2py')
    done = subprocess.run([sys.executable, '-c', VENDOR, str(DOMAIN)], capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    answer = [line for line in done.stdout.splitlines() if line.startswith('ANSWER ')]
    assert answer, done.stdout + done.stderr
    assert json.loads(answer[0][7:]) == [0, {'form': '0', 'name': 'ai'}]
