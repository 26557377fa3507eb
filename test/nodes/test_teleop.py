# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The teleop node as a process: what it tells and refuses where there is no driver to move."""

import json
import threading
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(180)]
pytest.importorskip('rclpy')
pytest.importorskip('mink')

from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from flashwam_ros.msg import ActionChunk  # noqa: E402
from flashwam_ros.nodes.g1_driver import WEIGHT_NAME  # noqa: E402
from flashwam_ros.nodes.lifecycle import CHUNK_QOS, COMMAND_QOS, SENSOR_QOS, STATUS_QOS  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.wire.robot_bus import ArmCommand, RobotBus  # noqa: E402

CONTRACT = RobotContract.load()
DOMAIN = 41
STILL = np.zeros(14)


class Vendor:
    """The vendor's program: commands rows of (16,) rad at 100 Hz, each once."""

    def __init__(self):
        self.bus = RobotBus(DOMAIN, 'lo')
        self.sent = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def arms(self, q, weight=1.0):
        self.bus.write_arm(
            ArmCommand(q, STILL, STILL, np.full(14, 80.0), np.full(14, 3.0), weight))

    def start(self):
        self._thread.start()

    def _run(self):
        k = 0
        while not self._stop.wait(0.01):
            row = np.float32(np.linspace(-0.3, 0.3, 16) + 0.002 * k)
            for i, side in enumerate(('left', 'right')):
                self.bus.write_gripper(side, float(abs(row[14 + i])))
            self.sent.append((time.time_ns(), row[:14]))
            self.arms(row[:14].astype(float))
            k += 1

    def close(self):
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.bus.close()


@pytest.fixture
def call(listener, until):
    def call(name):
        client = listener.node.create_client(Trigger, f'teleop/{name}')
        assert client.wait_for_service(30.0)
        future = client.call_async(Trigger.Request())
        until(future.done, what=f'answer of {name}')
        return future.result()

    return call


def start(processes, device):
    processes.node('teleop', f'device:={device}', 'robot:=real', f'unitree_domain:={DOMAIN}',
                   'network_interface:=lo')  # fmt: skip


def test_xr_tells_what_the_vendors_program_commands_and_nothing_else(
    processes, listener, until, call
):
    commands = listener.listen(JointState, 'joint_commands', SENSOR_QOS)
    chunks = listener.listen(ActionChunk, 'action_chunk', CHUNK_QOS)
    states = listener.listen(String, 'teleop/state', STATUS_QOS)
    vendor = Vendor()
    try:
        start(processes, 'xr')
        state = lambda: json.loads(states[-1].data) if states else {}  # noqa: E731
        until(lambda: 'nobody commands rt/arm_sdk' in state().get('note', ''), what='the node')
        # Arms alone are no action of this robot: half a row is not recorded.
        until(lambda: vendor.arms(STILL) or 'gripper' in state()['note'], what='the arm command')
        assert not commands
        vendor.start()
        until(lambda: len(commands) > 50, what='commands')
        assert state()['note'] == '' and state()['weight'] == 1.0
        for service in ('engage', 'preflight'):
            answer = call(service)
            assert not answer.success and 'listens only' in answer.message
        assert vendor.bus.foreign_writers() == [], 'the node writes nothing to the robot'
    finally:
        vendor.close()
    sent = {row.tobytes(): stamp for stamp, row in vendor.sent}
    last = 0
    for msg in commands[:50]:
        assert list(msg.name) == [*CONTRACT.channel_names, WEIGHT_NAME]
        row = np.float32(msg.position)
        stamp = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
        assert row[:14].tobytes() in sent, 'a command that was never sent'
        assert sent[row[:14].tobytes()] <= stamp + 2_000_000 and stamp > last
        last = stamp
    assert not chunks
    assert processes.end('teleop') == 0


def test_web_refuses_what_it_cannot_read_and_says_who_is_missing(
    processes, listener, until, call
):
    states = listener.listen(String, 'teleop/state', STATUS_QOS)
    texts = listener.node.create_publisher(String, 'teleop/command', COMMAND_QOS)
    start(processes, 'web')
    state = lambda: json.loads(states[-1].data) if states else {}  # noqa: E731

    def say(text, key, value):
        until(lambda: texts.publish(String(data=text)) or state().get(key) == value, what=text)

    say('{"v": 2}', 'refused_command', "message: 'client' is missing")
    assert state()['link'] == 'waiting', 'a refused text is no sign of an operator'
    say('{"v": 1, "client": "t", "seq": 1, "sent_ms": 5}', 'link', 'live')
    assert state()['state'] == 'waiting'
    answer = call('engage')
    assert not answer.success and 'g1_driver' in answer.message
    answer = call('reset')
    assert not answer.success and 'simulated' in answer.message
    assert processes.end('teleop') == 0


def test_a_mapping_that_is_none_ends_the_node_with_its_name(processes, tmp_path):
    file = tmp_path / 'pad.yaml'
    file.write_text('deadzone: 0.1')
    processes.node('teleop', 'device:=joy', 'robot:=real', f'mapping:={file}',
                   f'unitree_domain:={DOMAIN}')  # fmt: skip
    assert processes.started['teleop'].wait(60.0) != 0
    assert 'pad.yaml' in processes.log('teleop') and 'give exactly' in processes.log('teleop')
