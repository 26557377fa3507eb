# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder node: rollouts by themselves, teleoperation by service, each a whole file."""

import json
import threading
import time
from functools import partial

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(180)]
pytest.importorskip('rclpy')

from sensor_msgs.msg import CompressedImage, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from flashwam_ros.episodes.mcap_writer import EpisodeWriter  # noqa: E402
from flashwam_ros.episodes.messages import text_message  # noqa: E402
from flashwam_ros.episodes.reader import read_episode  # noqa: E402
from flashwam_ros.episodes.sidecar import DISCARD, load_sidecar  # noqa: E402
from flashwam_ros.imaging import encode_jpeg  # noqa: E402
from flashwam_ros.nodes.clock import to_msg  # noqa: E402
from flashwam_ros.nodes.episode_events import EpisodeEvents  # noqa: E402
from flashwam_ros.nodes.lifecycle import SENSOR_QOS, STATUS_QOS  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402

CONTRACT = RobotContract.load()
JPEG = encode_jpeg(np.full((48, 64, 3), (150, 115, 80), np.uint8))


class Robot:
    """Joint states at 50 Hz and pictures at 25 Hz, with stamps that are known."""

    def __init__(self, node):
        self._joints = node.create_publisher(JointState, 'joint_states', SENSOR_QOS)
        self._cameras = [
            node.create_publisher(CompressedImage, f'{camera.topic}/image_raw/compressed',
                                  STATUS_QOS)
            for camera in CONTRACT.cameras
        ]  # fmt: skip
        self.stamps = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        count = 0
        while not self._stop.wait(0.02):
            now = time.time_ns() - 1_000_000
            self.stamps.append(now)
            state = JointState(name=list(CONTRACT.channel_names))
            state.header.stamp = to_msg(now)
            state.position = [0.001 * count] * len(CONTRACT.channels)
            self._joints.publish(state)
            if count % 2 == 0:
                for camera in self._cameras:
                    image = CompressedImage(format='jpeg', data=JPEG)
                    image.header.stamp = to_msg(now)
                    camera.publish(image)
            count += 1

    def close(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def recorder(processes, listener, until, tmp_path):
    """A recorder process, its status and its folder, while a robot's topics go on."""

    class Recorder:
        folder = tmp_path / 'episodes'
        status = listener.listen(String, 'recorder_status', STATUS_QOS)

        def state(self):
            return json.loads(self.status[-1].data) if self.status else {}

        def call(self, name):
            client = listener.node.create_client(Trigger, f'recorder/{name}')
            assert client.wait_for_service(20.0)
            future = client.call_async(Trigger.Request())
            until(future.done, what=f'answer of {name}')
            return future.result()

    processes.node('recorder', 'robot:=real', f'episodes_dir:={tmp_path / "episodes"}',
                   'task:=red_bottle', 'min_free_gb:=0.001')  # fmt: skip
    robot = Robot(listener.node)
    recorder = Recorder()
    try:
        until(lambda: recorder.state().get('state') == 'idle', what='the recorder is there')
        yield recorder
    finally:
        robot.close()


def sidecar(folder):
    """The only closed episode's sidecar."""
    files = [load_sidecar(path) for path in folder.glob('*.json')]
    return next((s for s in files if s.state == 'closed'), None)


def test_rollout_is_recorded_with_its_verdict(recorder, listener, processes, until):
    events = EpisodeEvents(listener.node, 'rollout')
    until(lambda: events._events.get_subscription_count(), what='the recorder listens')
    about = {'prompt': 'pick', 'seed': 7, 'policy': 'expert', 'time_limit_s': 10.0}
    events.begin('s1', 'red_bottle', about)
    until(lambda: recorder.state().get('state') == 'recording', what='recording')
    assert not recorder.call('stop').success, 'a rollout is not stopped from here'
    until(lambda: recorder.state()['messages'] > 200, what='messages')
    events.end('s1', {'verdict': 'success', 'reason': 'success', 'stages': {'grasped': True}})
    done = until(lambda: sidecar(recorder.folder), what='the episode is whole')
    assert (done.session, done.seed, done.policy, done.kind) == ('s1', 7, 'expert', 'rollout')
    assert done.outcome == 'success' and done.verdict['stages'] == {'grasped': True}
    assert done.extra['time_limit_s'] == 10.0 and done.dropped == {}
    assert done.quality['streams']['joint_states']['messages'] > 50
    episode = read_episode(recorder.folder / f'{done.episode}.mcap')
    assert [event.text for event in episode.events] == ['begin', 'end']
    stamps = episode.joint_states.stamp_ns
    assert np.median(np.diff(stamps)) == pytest.approx(20e6, rel=0.3)
    assert (episode.joint_states.arrival_ns > stamps).all()
    assert episode.images['head'].jpeg(3) == JPEG
    assert set(episode.images['left_wrist'].stamp_ns) <= set(stamps) | set(
        episode.images['head'].stamp_ns)  # fmt: skip
    # The next one loses its rollout node in the middle.
    events.begin('s2', 'red_bottle', about)
    until(lambda: recorder.state()['session'] == 's2', what='the next episode')
    listener.node.destroy_publisher(events._events)
    until(lambda: recorder.state()['state'] != 'recording', what='the loss is noticed')
    assert 'rollout_lost' in recorder.state()['reason']
    assert processes.end('recorder') == 0


def test_manual_episodes_and_sigint(recorder, processes, until):
    assert not recorder.call('stop').success
    answer = recorder.call('start')
    assert answer.success and answer.message.endswith('.mcap')
    until(lambda: recorder.state()['messages'] > 20, what='messages')
    assert recorder.call('discard').success
    done = sidecar(recorder.folder)
    assert (done.kind, done.disposition, done.task) == ('manual', 'discard', 'red_bottle')
    assert (recorder.folder / f'{done.episode}.mcap').exists()
    second = recorder.call('start').message
    until(lambda: recorder.state()['episode'] == second and recorder.state()['messages'] > 20,
          what='messages')  # fmt: skip
    assert processes.end('recorder') == 0
    closed = load_sidecar(recorder.folder / second.split('/')[-1].replace('.mcap', '.json'))
    assert (closed.state, closed.end_reason) == ('closed', 'interrupted: SIGINT')
    assert len(read_episode(second).joint_states) > 5


@pytest.fixture
def node(monkeypatch, tmp_path):
    """A recorder node of this process, on a graph of its own, whose callbacks the test calls."""
    import rclpy

    from flashwam_ros.nodes.recorder import RecorderNode

    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'OFF')
    folder = tmp_path / 'episodes'
    rclpy.init(args=['--ros-args', '-p', 'robot:=real', '-p', f'episodes_dir:={folder}',
                     '-p', 'min_free_gb:=0.001'])  # fmt: skip
    node = RecorderNode()
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def tell(node, event, session, **values):
    message = {'event': event, 'source': 'rollout', 'session': session, 'stamp_ns': 1, **values}
    node._on_event(text_message(message), time.time_ns())


def ask(callback):
    """Answer of a service callback."""
    return callback(Trigger.Request(), Trigger.Response())


def test_a_label_right_after_the_end_is_that_episodes(node, until, monkeypatch):
    tell(node, 'begin', 'good', task='red_bottle')
    tell(node, 'end', 'good', verdict={'verdict': 'success'})
    until(lambda: node.core.state().state == 'idle' and node.core.state().session == 'good',
          what='the first is whole')  # fmt: skip
    close, go_on = EpisodeWriter.close, threading.Event()
    monkeypatch.setattr(EpisodeWriter, 'close', lambda writer, reason='stopped': (
        go_on.wait(30), close(writer, reason))[1])
    tell(node, 'begin', 'bad', task='red_bottle')
    tell(node, 'end', 'bad', verdict={'verdict': 'failure'})
    until(lambda: not node.core.session, what='its end is heard')
    asked = []
    thread = threading.Thread(target=lambda: asked.append(ask(partial(node._on_label, DISCARD))))
    thread.start()
    time.sleep(0.2)
    # While it is being closed, the next one begins.
    tell(node, 'begin', 'next', task='red_bottle')
    go_on.set()
    thread.join()
    assert asked[0].success and '_bad.mcap' in asked[0].message
    labels = {s.session: s.disposition
              for s in map(load_sidecar, node.core.folder.glob('*.json'))}  # fmt: skip
    assert labels == {'good': '', 'bad': DISCARD, 'next': ''}


def test_a_full_disk_at_the_end_leaves_the_node_alive_and_says_so(node, until, monkeypatch):
    from flashwam_ros.episodes import sidecar as module

    def full(*_):
        raise OSError(28, 'No space left on device')

    for kind in ('manual', 'rollout'):
        if kind == 'manual':
            assert ask(node._on_start).success
        else:
            tell(node, 'begin', 's', task='red_bottle')
        session = node.core.session
        with monkeypatch.context() as patch:
            patch.setattr(module, 'save_sidecar', full)
            if kind == 'manual':
                answer = ask(node._on_stop)
                assert not answer.success and 'No space left' in answer.message
            else:
                tell(node, 'end', 's')
            until(lambda: node.core.state().state == 'error', what='the error is said')
            answer = ask(partial(node._on_label, DISCARD))
            assert not answer.success and 'No space left' in answer.message
        state = node.core.state()
        assert state.session == session and 'flashwam episodes recover' in state.reason
        node._publish_status()
    assert ask(partial(node._on_label, DISCARD)).success
