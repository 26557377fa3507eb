# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The policy's part of a correction: it acts until the scripted expert takes over.

Scripted demonstrations never show what follows a missed grasp, because the expert does not miss.
So the policy under training acts first, for a random number of chunks, and the expert finishes
from whatever has become of the scene (DAgger with expert take-over, Ross et al. 2011, Kelly et al.
2019). The policy's rows are history for the model and are not imitated.
"""

from __future__ import annotations

import numpy as np

from flashwam_ros.policy.loop import PredictExecuteLoop
from flashwam_ros.policy.protocol import Policy
from flashwam_ros.training.rollout import Timeline, add_frame, work
from flashwam_ros.twin.episode import InProcessRobot
from flashwam_ros.twin.tasks import TASKS, WorldState

CHUNKS = (4, 12)
"""Range of the number of chunks after which the expert takes over as soon as it can."""
LONGEST = 16
"""Chunks after which an episode without a chance to take over is given up."""
LATENCY_NS = 100_000_000
_HELD_M = 0.015
_CHECK_EVERY_NS = 100_000_000


def holds_something(world: WorldState, rest: WorldState) -> bool:
    """Whether an object is between jaws, or higher than it was at rest.

    Taking over then would show the model how to let go of what it has just got hold of.
    """
    return any(world.is_held(name)
               or world.position(name)[2] > rest.position(name)[2] + _HELD_M
               for name in rest.objects)


def act_until_takeover(robot: InProcessRobot, policy: Policy, recorder, session: str, seed: int,
                       chunks: int) -> tuple[int, str]:
    """Let the policy act in ``sync`` execution from the initial frame that ``recorder`` has.

    The expert takes over between two chunks, while the arm holds, after at least ``chunks`` of
    them and when nothing is held.

    Returns:
        Number of chunks that were executed, and '' or the reason why the expert has nothing to do.

    Raises:
        EpisodeError: the executor stopped.
    """
    policy.reset(TASKS[robot.task].prompt, seed)
    loop = PredictExecuteLoop('sync', robot.contract)
    loop.begin(session, robot.now_ns)
    add_frame(loop, recorder.frames[0])
    rest, timeline, next_check_ns = robot.world(), Timeline(), robot.now_ns
    while loop.grounded < LONGEST:
        for chunk in work(loop, policy, robot, timeline, LATENCY_NS):
            rows = chunk.positions[chunk.first_row:]
            recorder.chunk(rows, np.ones(len(rows), bool))
        if (timeline.due and loop.grounded >= chunks
                and not holds_something(robot.world(), rest)):
            return loop.grounded, ''
        events = recorder.tick()
        for account in events.accounts:
            loop.applied(account)
        for frame in events.frames:
            add_frame(loop, frame)
        if robot.now_ns >= next_check_ns:
            next_check_ns += _CHECK_EVERY_NS
            status = robot.status()
            if status.success or status.failure:
                return loop.grounded, status.failure or 'the policy did it alone'
    return loop.grounded, 'no moment to take over'
