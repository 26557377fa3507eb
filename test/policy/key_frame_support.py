# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Key frames of noise, and a policy that sees them."""

import dataclasses

import numpy as np

from flashwam_ros.policy.protocol import KeyFrame
from flashwam_ros.policy.wam_policy import WamPolicy
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.wam.checkpoint import load_checkpoint

CONTRACT = RobotContract.load()


def frame(due_ms, seed=0):
    rng = np.random.default_rng([seed, due_ms])
    images = {
        camera.key: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
        for camera in CONTRACT.cameras
    }
    return KeyFrame(images, dict.fromkeys(images, due_ms * 1_000_000), due_ms * 1_000_000)


def run_chunk(policy, first_ms, frames):
    for i in range(frames):
        policy.observe(frame(first_ms + 100 * (i + 1)))


def imagining(folder):
    checkpoint = load_checkpoint(folder)
    sampler = dataclasses.replace(checkpoint.sampler, forward_dynamics=True)
    return WamPolicy(dataclasses.replace(checkpoint, sampler=sampler), 1, 1)
