# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The console node: topics onto the page, requests to services, nothing while no page is open."""

import http.client
import json
import re
import threading
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(180)]
pytest.importorskip('rclpy')
pytest.importorskip('uvicorn')

from sensor_msgs.msg import CompressedImage, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from flashwam_ros.imaging import encode_jpeg  # noqa: E402
from flashwam_ros.msg import AppliedActions, DriverStatus  # noqa: E402
from flashwam_ros.nodes.clock import to_msg  # noqa: E402
from flashwam_ros.nodes.lifecycle import COMMAND_QOS, SENSOR_QOS, STATUS_QOS  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402

CONTRACT = RobotContract.load()
JPEG = encode_jpeg(np.full((48, 64, 3), (150, 115, 80), np.uint8))
PORT = re.compile(r'console: http://127\.0\.0\.1:(\d+)/')


class Robot:
    """Topics of a driver, a camera and a recorder at 20 Hz, and their services."""

    def __init__(self, node):
        self._node = node
        self.called = []
        self.mode, self.events = 'EXECUTE', []
        self._joints = node.create_publisher(JointState, 'joint_states', SENSOR_QOS)
        self._driver = node.create_publisher(DriverStatus, 'driver_status', STATUS_QOS)
        self._applied = node.create_publisher(AppliedActions, 'applied_actions', COMMAND_QOS)
        self._recorder = node.create_publisher(String, 'recorder_status', STATUS_QOS)
        self._head = node.create_publisher(CompressedImage, 'head/image_raw/compressed',
                                           STATUS_QOS)  # fmt: skip
        for name in ('g1_driver/stop', 'teleop/engage', 'recorder/stop'):
            node.create_service(Trigger, name, lambda q, r, name=name: self._on_call(name, r))
        self._count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def readers(self):
        return self._head.get_subscription_count() + self._joints.get_subscription_count()

    def _on_call(self, name, response):
        self.called.append(name)
        response.success, response.message = name != 'teleop/engage', f'{name} was called'
        return response

    def _run(self):
        while not self._stop.wait(0.05):
            self._count += 1
            now = time.time_ns() - 10_000_000
            state = JointState(name=['other', *CONTRACT.channel_names])
            state.position = [9.0, *(0.01 * i for i in range(16))]
            image = CompressedImage(format='jpeg', data=JPEG)
            status = DriverStatus(mode=self.mode, weight=1.0, events=self.events)
            self.events = []
            for message, publisher in ((state, self._joints), (image, self._head),
                                       (status, self._driver)):  # fmt: skip
                message.header.stamp = to_msg(now)
                publisher.publish(message)
            self._recorder.publish(String(data=json.dumps({'state': 'idle', 'score': None})))
            if self._count % 16 == 0:
                account = AppliedActions(session='s', index=self._count // 16, slack=0.25)
                account.start, account.row_duration = to_msg(now), 0.05
                self._applied.publish(account)

    def close(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def robot(listener):
    robot = Robot(listener.node)
    yield robot
    robot.close()


@pytest.fixture
def port(processes, until):
    processes.node('console', 'port:=0', 'device:=web', 'robot:=real',
                   f'episodes_dir:={processes.folder}')  # fmt: skip
    found = until(lambda: PORT.search(processes.log('console')), what='the address in the log')
    return int(found.group(1))


def snapshot(live):
    live.send('next')
    return json.loads(live.recv(10))['parts']


def act(port, action, **values):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    connection.request('POST', f'/api/do/{action}', json.dumps(values),
                       {'content-type': 'application/json'})  # fmt: skip
    answer = json.load(connection.getresponse())
    connection.close()
    return answer


def test_topics_are_heard_while_a_page_is_open_and_only_then(port, robot, until):
    assert robot.readers == 0
    url = f'ws://127.0.0.1:{port}'
    with connect(f'{url}/ws/state') as live, connect(f'{url}/ws/video') as video:
        wanted = {'joints', 'driver', 'chunks', 'recorder', 'camera head'}
        until(lambda: wanted <= set(snapshot(live)), what='every part')
        parts = snapshot(live)
        age_s, positions = parts['joints']
        assert positions == pytest.approx([0.01 * i for i in range(16)])
        assert 0.005 < age_s < 2.0
        assert parts['driver'][1]['mode'] == 'EXECUTE' and not parts['driver'][1]['stopped']
        assert parts['recorder'][1]['state'] == 'idle'
        until(lambda: any(bar['slack'] == 0.25 for bar in snapshot(live)['chunks'][1]),
              what='a chunk')  # fmt: skip
        video.send('head')
        assert video.recv(10)[24:] == JPEG
        robot.mode, robot.events = 'HOLD', ['stop: stop service']
        until(lambda: snapshot(live)['driver'][1]['stopped'], what='the stop')
        robot.mode = 'RETREAT'
        until(lambda: not snapshot(live)['driver'][1]['stopped'], what='the end of the stop')
    until(lambda: robot.readers == 0, what='nobody listens any more')


def test_actions_call_services_and_tell_their_answer(port, robot, until):
    until(lambda: act(port, 'stop')['ok'], what='the services to be found')
    assert act(port, 'stop') == {'ok': True, 'message': 'g1_driver/stop was called'}
    assert act(port, 'engage') == {'ok': False, 'message': 'teleop/engage was called'}
    assert act(port, 'end')['ok']
    answer = act(port, 'ready')
    assert not answer['ok'] and 'nobody offers rollout/ready' in answer['message']
    assert set(robot.called) == {'g1_driver/stop', 'teleop/engage', 'recorder/stop'}


def test_commands_reach_the_topic(port, listener, until):
    heard = listener.listen(String, 'teleop/command', COMMAND_QOS)
    with connect(f'ws://127.0.0.1:{port}/ws/teleop') as live:
        text = json.dumps({'v': 1, 'client': 'c', 'seq': 0, 'sent_ms': 1.0})

        def sent():
            live.send(text)
            return heard

        until(sent, what='a command')
    assert heard[0].data == text


def test_it_ends_in_good_order(port, processes):
    with connect(f'ws://127.0.0.1:{port}/ws/state'):
        assert processes.end('console') == 0
