# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teleoperation over the real graph: an operator by text, the vendor's program, the expert."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')
pytest.importorskip('mink')

from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from benchmarks._stack import Place, Stack  # noqa: E402
from flashwam_ros.episodes.grid_rows import grid_rows  # noqa: E402
from flashwam_ros.episodes.reader import EpisodeError, read_episode  # noqa: E402
from flashwam_ros.episodes.sidecar import load_sidecar, sidecar_path  # noqa: E402
from flashwam_ros.nodes.lifecycle import COMMAND_QOS, STATUS_QOS  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.robot.settings import load_settings  # noqa: E402
from flashwam_ros.teleop.settings import TeleopSettings  # noqa: E402
from flashwam_ros.wire.robot_bus import ArmCommand, RobotBus  # noqa: E402
from flashwam_ros.wire.sim_bus import SimBus  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PLACE = Place(ros_domain=51, unitree_domain=52, port=22010)
CONTRACT = RobotContract.load()
HOME = load_settings().home
SLOW_S = 120.0
TRIES = 8
WINDOW_NS = 1_500_000_000


class Rig:
    """A running graph with a person at it who reads the state and calls services."""

    def __init__(self, stack):
        self.stack, self.node = stack, stack.listener.node
        self.sim = SimBus(PLACE.unitree_domain, 'lo')
        self._state = {}
        self.node.create_subscription(String, 'teleop/state', self._on_state, STATUS_QOS)

    def _on_state(self, msg):
        self._state = json.loads(msg.data)

    def state(self, name='state'):
        return self._state.get(name)

    def until(self, condition, what):
        self.stack.until(condition, SLOW_S, what)

    def call(self, name):
        client = self.node.create_client(Trigger, name)
        self.until(client.service_is_ready, name)
        future = client.call_async(Trigger.Request())
        self.until(future.done, name)
        return future.result()

    def engage(self):
        """Again where the machine is too busy for a camera to be in time."""
        for _ in range(TRIES):
            answer = self.call('teleop/engage')
            if answer.success or 'camera' not in answer.message:
                break
        return answer

    def modes(self):
        return {heard.msg.mode for heard in self.stack.listener.driver}


@pytest.fixture
def rig(tmp_path, request, real_time):
    values = {'task': 'red_bottle', 'console': 'false', 'camera_rate': '5',
              'episodes_dir': str(tmp_path / 'episodes'), **request.param}  # fmt: skip
    with Stack(values, PLACE, tmp_path / 'stack.log') as stack:
        rig = Rig(stack)
        yield rig
        rig.sim.close()


# ---- an operator ----


class Page:
    """Says one command again and again, as the console's page does, until it is silenced."""

    def __init__(self, node):
        self._texts = node.create_publisher(String, 'teleop/command', COMMAND_QOS)
        self.command, self._seq, self._stop = {}, 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.04):
            self._seq += 1
            text = {'v': 1, 'client': 'test', 'seq': self._seq,
                    'sent_ms': time.monotonic() * 1e3, **self.command}  # fmt: skip
            self._texts.publish(String(data=json.dumps(text)))

    def close(self):
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize('rig', [{'device': 'web', 'record': 'false'}], indirect=True)
def test_an_operator_is_refused_on_red_moves_the_arms_and_is_missed(rig):
    """One graph for the whole story: it takes a minute to come up."""
    listener, settings = rig.stack.listener, TeleopSettings.load()
    # The graph takes the arms over by itself in the twin, unless a camera was late.
    rig.until(lambda: rig.state() == 'ready' or rig.state('note'), 'the graph')
    rig.call('teleop/release')
    rig.until(lambda: listener.mode() == 'PASSIVE', 'the arms given back')
    # Red: nothing moves, the reason is told.
    rig.sim.request({'mode': ''})
    listener.clear()
    answer = rig.call('teleop/engage')
    assert not answer.success and answer.message.startswith('preflight: robot_mode'), answer
    assert rig.modes() <= {'PASSIVE'}
    rig.until(lambda: 'robot_mode' in rig.state('note'), 'the reason in the state')
    rig.sim.request({'mode': 'ai'})
    # Green: the arms are held, and stand still until a clutch is held.
    answer = rig.engage()
    assert answer.success, answer.message
    rig.until(lambda: rig.state() == 'ready' and rig.state('note') == '', 'ready')
    page = Page(rig.node)
    try:
        rig.until(lambda: rig.state('link') == 'live', 'the link')
        assert rig.state() == 'ready' and not listener.chunks
        up = {'clutch': True, 'twist': [0.0, 0.0, 0.08, 0.0, 0.0, 0.0]}
        page.command = {'arms': {'left': up}}
        rig.until(lambda: len(listener.accounts) > 15, 'chunks')
        page.command = {}
        rig.until(lambda: not rig.state('held')['left'], 'the clutch is open')
        rows = np.array(listener.accounts[-1].msg.positions).reshape(-1, 16)
        assert np.abs(rows[-1, :7] - HOME[:7]).max() > 0.05
        np.testing.assert_allclose(rows[-1, 7:14], HOME[7:14], atol=0.02)
        rejected = [e for h in listener.driver for e in h.msg.events if 'chunk_rejected' in e]
        assert rejected == [], 'the driver takes every chunk'
    finally:
        page.close()
    # Nobody there: hold, then release.
    rig.until(lambda: rig.state('link') == 'stale', 'the stale link')
    assert rig.state() == 'streaming' and listener.mode() == 'EXECUTE'
    gone = time.monotonic()
    rig.until(lambda: rig.state() != 'streaming', 'the loss')
    assert time.monotonic() - gone > settings.release_after_s - 2.0
    rig.until(lambda: listener.mode() == 'PASSIVE', 'the arms given back')
    assert 'RETREAT' in rig.modes() and 'given back' in rig.state('note')


# ---- the vendor's program ----


class Vendor:
    """Moves the arms by `rt/arm_sdk` and closes the jaws, slowly, at 250 Hz."""

    def __init__(self):
        self.bus = RobotBus(PLACE.unitree_domain, 'lo')
        self.sent, self._stop = [], threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        still, begun = np.zeros(14), time.monotonic()
        while not self._stop.wait(0.004):
            t = time.monotonic() - begun
            row = HOME.copy()
            row[[3, 10]] -= 0.3 * (1.0 - np.cos(0.8 * t)) / 2.0
            row[14:] -= 2.0 * (1.0 - np.cos(0.8 * t)) / 2.0
            for i, side in enumerate(('left', 'right')):
                self.bus.write_gripper(side, float(row[14 + i]))
            self.bus.write_arm(ArmCommand(
                row[:14], still, still, np.full(14, 80.0), np.full(14, 3.0), min(t / 2.0, 1.0)))
            self.sent.append((time.time_ns(), row))

    def close(self):
        self._stop.set()
        self._thread.join()
        self.bus.close()


def without_gaps(rig, vendor):
    """Record five seconds; again where a busy machine left a gap that export would refuse."""
    for attempt in range(TRIES):
        episode = rig.call('recorder/start')
        assert episode.success, episode.message
        wanted, end = len(vendor.sent) + 100, time.monotonic() + 5.0
        rig.until(lambda wanted=wanted, end=end: len(vendor.sent) > wanted
                  and time.monotonic() > end, 'the motion')  # fmt: skip
        assert rig.call('recorder/stop').success
        recorded = read_episode(episode.message)
        try:
            return recorded, grid_rows(recorded, CONTRACT, CONTRACT.row_rate_hz)
        except EpisodeError:
            if attempt == TRIES - 1:
                raise


@pytest.mark.parametrize('rig', [{'device': 'xr', 'record': 'true'}], indirect=True)
def test_the_vendors_commands_are_recorded_as_the_action(rig):
    listener = rig.stack.listener
    rig.until(lambda: rig.state() == 'listening' and listener.mode(), 'the graph')
    vendor = Vendor()
    try:
        rig.until(lambda: rig.state('weight') == 1.0, 'the vendor has the arms')
        recorded, rows = without_gaps(rig, vendor)
        assert not rig.call('teleop/engage').success
    finally:
        vendor.close()
    assert recorded.sidecar.seed == 0, 'the seed of the scene belongs to the episode'
    # The driver looked on: no authority, no chunk, no command of its own.
    assert rig.modes() == {'PASSIVE'} and not listener.chunks
    assert {heard.msg.weight for heard in listener.driver} == {0.0}
    sent_ns = np.array([stamp for stamp, _ in vendor.sent], np.int64)
    sent = np.float32([row for _, row in vendor.sent])
    known = {row[:14].tobytes() for row in sent}
    told = recorded.joint_commands
    assert len(told) > 80
    arms = np.float32(told.columns(CONTRACT.channel_names[:14]))
    assert all(row.tobytes() in known for row in arms), 'a command that was never sent'
    ends = rows.stamps_ns + round(CONTRACT.row_duration_s * 1e9)
    for end, action in zip(ends, rows.action, strict=True):
        # What was sent around that instant: a busy machine delays a message, it changes none.
        near = sent[np.searchsorted(sent_ns, end - WINDOW_NS) - 1 :
                    np.searchsorted(sent_ns, end + WINDOW_NS) + 1]  # fmt: skip
        assert (action >= near.min(axis=0) - 1e-5).all()
        assert (action <= near.max(axis=0) + 1e-5).all()
    # The arms did follow, and the recording shows it.
    elbow = rows.state[:, 3]
    assert elbow.max() - elbow.min() > 0.15
    assert load_sidecar(sidecar_path(recorded.path)).policy == 'teleop'


# ---- the expert ----


def record(folder, episodes):
    return subprocess.run(
        [
            sys.executable, '-m', 'flashwam_ros.cli', 'record', 'task:=red_bottle',
            f'episodes:={episodes}', 'seed:=5', f'episodes_dir:={folder}',
            *(f'{name}:={value}' for name, value in PLACE.values().items()),
        ],
        cwd=ROOT, env={**os.environ, 'ROS_DOMAIN_ID': str(PLACE.ros_domain)},
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip


def test_the_experts_demonstration_is_recorded_scored_and_labelled(tmp_path, real_time):
    for _ in range(TRIES):  # a busy machine: the same command goes on
        done = record(tmp_path, 1)
        if 'nothing usable' not in done.stderr:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    assert '1 of 1 kept' in done.stdout
    sidecars = [load_sidecar(path) for path in tmp_path.glob('*.json')]
    (kept,) = [sidecar for sidecar in sidecars if sidecar.disposition == 'keep']
    assert kept.outcome == 'success' and kept.verdict['stages']['lifted']
    assert (kept.policy, kept.extra['device'], kept.task) == ('teleop', 'expert', 'red_bottle')
    assert kept.prompt and kept.quality['level'] != 'red' and kept.state == 'closed'
    episode = read_episode(tmp_path / f'{kept.episode}.mcap')
    assert {'begin', 'end'} <= {event.text for event in episode.events}
    # The whole path of an operator: short chunks, chained, and the driver's account of each.
    assert len(episode.applied) > 20
    assert {len(chunk.row_stamps_ns) for chunk in episode.applied} == {2}
    starts = [chunk.index for chunk in episode.applied_starts]
    assert starts == list(range(len(starts)))
    assert len({chunk.session for chunk in episode.chunks}) == 1
    rows = grid_rows(episode, CONTRACT, CONTRACT.row_rate_hz)
    assert np.isfinite(rows.action).all() and np.isfinite(rows.state).all()
    assert (rows.action[:, 14:].min(axis=0) < 4.0).any(), 'a jaw closed on the bottle'
    for camera in CONTRACT.cameras:
        assert len(episode.images[camera.key]) > 20
    # Once more with the same words: there is nothing left to do, and nothing is started.
    before = sorted(tmp_path.iterdir())
    again = record(tmp_path, 1)
    assert again.returncode == 0 and '1 of 1 kept' in again.stdout and 'seed' not in again.stdout
    assert sorted(tmp_path.iterdir()) == before
