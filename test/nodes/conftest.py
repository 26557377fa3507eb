# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Processes and a listening node on private domains."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

import flashwam_ros

ROOT = pathlib.Path(flashwam_ros.__file__).parents[1]
ROS_DOMAIN = 61
UNITREE_DOMAIN = 41
LIMIT_S = 40.0


def wait_for(condition, limit_s=LIMIT_S, what='condition'):
    """Poll until the condition holds; its value."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f'timed out: {what}'
        time.sleep(0.01)


class Processes:
    """Starts modules of the package and ends what is left of them."""

    def __init__(self, folder):
        self.folder = folder
        self.started = {}

    def start(self, name, module, *arguments):
        env = {
            **os.environ,
            'ROS_DOMAIN_ID': str(ROS_DOMAIN),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_LOCALHOST_ONLY': '1',
            'PYTHONPATH': os.pathsep.join(
                [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
            ),
        }
        log = (self.folder / f'{name}.log').open('w')
        process = subprocess.Popen(
            [sys.executable, '-m', module, *arguments], env=env, stdout=log, stderr=log
        )
        self.started[name] = process
        return process

    def node(self, name, *parameters):
        words = [word for parameter in parameters for word in ('-p', parameter)]
        return self.start(name, f'flashwam_ros.nodes.{name}', '--ros-args', *words)

    def twin(self, task='red_bottle', *arguments):
        return self.start(
            'twin', 'flashwam_ros.twin.server', '--task', task, '--domain', str(UNITREE_DOMAIN),
            '--interface', 'lo', *arguments,
        )  # fmt: skip

    def end(self, name, number=signal.SIGINT, limit_s=20.0):
        """Signal a process and return its exit code."""
        self.started[name].send_signal(number)
        return self.started[name].wait(limit_s)

    def log(self, name):
        return (self.folder / f'{name}.log').read_text()

    def close(self):
        for process in self.started.values():
            if process.poll() is None:
                process.terminate()
        for process in self.started.values():
            try:
                process.wait(15.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5.0)


@pytest.fixture
def processes(tmp_path, monkeypatch):
    # Claims of the arms: those of a test that failed must not end up in the user's folder.
    monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))
    processes = Processes(tmp_path)
    yield processes
    processes.close()


@pytest.fixture
def until():
    return wait_for


class Listener:
    """A node whose executor spins in a thread, with every message that came."""

    def __init__(self):
        import rclpy
        from rclpy.executors import MultiThreadedExecutor

        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=ROS_DOMAIN)
        self.node = rclpy.create_node('listener', context=self._context)
        self._executor = MultiThreadedExecutor(2, context=self._context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def listen(self, kind, topic, qos):
        messages = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def close(self):
        self._stop.set()
        self._thread.join(2.0)
        self.node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture
def listener():
    pytest.importorskip('rclpy')
    listener = Listener()
    yield listener
    listener.close()
