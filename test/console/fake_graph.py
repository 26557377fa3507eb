# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A graph that only pretends: moving pictures and joints, and a memory of what it was asked."""

import math
import threading
import time

import numpy as np

from flashwam_ros.console.app import make_app
from flashwam_ros.console.backend import Answer
from flashwam_ros.console.board import Board
from flashwam_ros.console.server import Server
from flashwam_ros.console.settings import ConsoleSettings
from flashwam_ros.console.timeline import ChunkLine
from flashwam_ros.imaging import encode_jpeg
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.teleop.link import LinkWatch
from flashwam_ros.teleop.settings import TeleopSettings
from flashwam_ros.teleop.web import WebDevice

CONTRACT = RobotContract.load()
PERIOD_S = 0.05
COLOURS = {'head': (150, 115, 80), 'left_wrist': (90, 120, 140), 'right_wrist': (120, 140, 90)}


def picture(colour, phase, size=(240, 320)):
    rgb = np.full((*size, 3), colour, np.uint8)
    column = int((0.5 + 0.4 * math.sin(phase)) * size[1])
    rgb[80:160, max(0, column - 30) : column + 30] = (200, 40, 40)
    return encode_jpeg(rgb)


class FakeGraph:
    """Feeds a board at 20 Hz and takes commands through the real web device and link watch."""

    def __init__(self, folder, task='red_bottle', robot='twin', device='web', **settings):
        self.board = Board()
        self.texts, self.actions = [], []
        self.answers = {}
        self.quiet = set()
        self.mode, self.stopped = 'HOLD', False
        self.recorder = {'state': 'idle', 'reason': '', 'episode': '', 'kind': '', 'seconds': 0.0,
                         'score': None, 'level': '', 'findings': [], 'dropped': {},
                         'free': 120 * 10**9}  # fmt: skip
        teleop = TeleopSettings.load()
        self.device, self._watch = WebDevice(teleop), LinkWatch(teleop)
        self._line, self._count = ChunkLine(), 0
        self.settings = ConsoleSettings(task=task, robot=robot, device=device, episodes=folder,
                                        port=0, **settings)  # fmt: skip
        app = make_app(self.settings, self.board, self, CONTRACT)
        self.server = Server(app, self.settings.host, 0)
        self.server.start()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self):
        return self.settings.address(self.server.port)

    def close(self):
        self._stop.set()
        self._thread.join()
        self.server.close()

    # -- backend ----------------------------------------------------------------------------------

    def teleop(self, text):
        self.texts.append(text)
        self.device.feed(text, time.monotonic_ns())

    def act(self, action, values):
        self.actions.append((action, dict(values)))
        if action == 'stop':
            self.mode, self.stopped = ('RETREAT', False) if self.stopped else ('HOLD', True)
        return self.answers.get(action, Answer(True))

    # -- what it tells ----------------------------------------------------------------------------

    def link(self):
        command = self.device.command(0)
        stamp_ns = command.stamp_ns if command else None
        return self._watch.state(stamp_ns, time.monotonic_ns())

    def held(self):
        command = self.device.command(0)
        return [arm.clutch for arm in command.arms] if command else [False, False]

    def _run(self):
        while not self._stop.wait(PERIOD_S):
            self._count += 1
            self.tell()

    def tell(self):
        phase = self._count * PERIOD_S
        for key, colour in COLOURS.items():
            if key not in self.quiet:
                stamp_ns = time.monotonic_ns() - 20_000_000
                self.board.put_frame(key, picture(colour, phase), stamp_ns)
        middle, half = (CONTRACT.upper + CONTRACT.lower) / 2, (CONTRACT.upper - CONTRACT.lower) / 2
        joints = middle + 0.5 * half * np.sin(phase + np.arange(16))
        parts = {
            'joints': joints, 'commands': joints + 0.02,
            'driver': {'mode': self.mode, 'reason': '', 'weight': 1.0, 'stopped': self.stopped,
                       'lateness_p99_s': 0.0006, 'limited_ticks': 0, 'tracking_error_rad': 0.012},
            'recorder': self.recorder,
            'twin': {'task': 'red_bottle', 'seed': 0, 'success': False, 'failure': None,
                     'stages': {'reached': True, 'grasped': False, 'lifted': False},
                     'real_time_factor': 1.0},
            'robot': {'hottest winding C': '41', 'motor errors': '{}', 'problem': ''},
        }  # fmt: skip
        if self.settings.device:
            sides = ('left', 'right')
            parts['teleop'] = {
                'state': 'streaming', 'note': '', 'device': 'web', 'link': str(self.link()),
                'held': dict(zip(sides, self.held(), strict=True)), 'refused_command': '',
                'latency_ms': {'p50': 112.0, 'p95': 150.0, 'max': 160.0},
            }  # fmt: skip
        if self._count % 16 == 0:
            self._chunk(self._count // 16)
        parts['chunks'] = self._line.bars(time.monotonic_ns())
        for name, value in parts.items():
            if name not in self.quiet:
                self.board.put(name, value)

    def _chunk(self, index):
        start_ns = time.monotonic_ns()
        slack = -0.04 if index % 7 == 0 else 0.25 + 0.1 * math.sin(index)
        account = AppliedChunk(
            'fake', index, 0, start_ns, 0.05, np.zeros((16, 16)), (), (), True, slack, 0.001,
            index % 5 == 0, 0,
        )  # fmt: skip
        rows = np.zeros((16, 16))
        chunk = ActionChunk('fake', '', index, index - 1, 0.05, rows, CONTRACT.channel_names, 0, 0)
        self._line.chunk(chunk, start_ns - round(max(slack, 0.0) * 1e9))
        self._line.applied(account, start_ns)
