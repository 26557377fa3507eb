# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np

from flashwam_ros.robot.chunk import ActionChunk
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.executor import Executor, ExecutorInput, Mode
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.robot.settings import load_settings

TICK_NS = 4_000_000


@functools.cache
def contract():
    return RobotContract.load()


@functools.cache
def kinematics():
    return Kinematics(load_description())


def home():
    return load_settings().home


def make_chunk(index, positions, **changes):
    fields = {
        'session': 'test',
        'contract_hash': contract().sha256,
        'index': index,
        'predecessor': index - 1,
        'row_duration_s': contract().row_duration_s,
        'positions': positions,
        'channel_names': contract().channel_names,
        'first_row': 0,
        'stamp_ns': 0,
    }
    return ActionChunk(**{**fields, **changes})


def smooth_rows(base, count, rng=None, size=0.2):
    """Rows within velocity and acceleration limits that start at rest at ``base``."""
    rng = np.random.default_rng(0) if rng is None else rng
    t = np.arange(1, count + 1) * contract().row_duration_s
    rate = rng.uniform(0.5, 3.0, (1, len(base)))
    # Open grippers can only close.
    side = np.where(np.arange(len(base)) < 14, rng.uniform(-1, 1, (1, len(base))), -1.0)
    return base + size * side * (1 - np.cos(rate * t[:, None]))


class Rig:
    """An executor with a perfect robot behind it and a clock that the test moves."""

    def __init__(self, pose=None, retreat_pose=None, **options):
        self.now = 1_000_000_000
        self.measured = home() if pose is None else np.array(pose, dtype=float)
        self.executor = Executor(contract(), kinematics(), retreat_pose, self.now, **options)
        self.events = []
        self.accounts = []
        self.out = None

    def tick(self, step_ns=TICK_NS, follow=True, **inputs):
        self.now += step_ns
        fields = {
            'now_ns': self.now,
            'measured_q': self.measured,
            'measured_dq': np.zeros_like(self.measured),
            'state_age_s': 0.002,
        }
        self.out = self.executor.tick(ExecutorInput(**{**fields, **inputs}))
        self.events += self.out.events
        self.accounts += [a for a in (self.out.applied_done, self.out.applied_started) if a]
        if follow and self.out.write:
            self.measured = self.out.command
        return self.out

    def run(self, seconds, **inputs):
        end = self.now + int(seconds * 1e9)
        outputs = []
        while self.now < end:
            outputs.append(self.tick(**inputs))
        return outputs

    def until(self, mode, limit_s=30.0, **inputs):
        end = self.now + int(limit_s * 1e9)
        outputs = [self.tick(**inputs)]
        while self.out.mode is not mode:
            assert self.now < end, f'still {self.out.mode}, wanted {mode}'
            outputs.append(self.tick(**inputs))
        return outputs

    def engaged(self):
        self.executor.activate(self.now)
        self.until(Mode.HOLD)
        return self

    def submit(self, chunk):
        self.executor.submit(chunk, self.now)

    def send(self, index, positions, **changes):
        self.submit(make_chunk(index, positions, stamp_ns=self.now, **changes))

    def done(self):
        return [a for a in self.accounts if a.complete]
