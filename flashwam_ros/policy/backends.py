# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Build a policy by name; heavy imports happen only for the backend that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flashwam_ros.policy.protocol import Policy, PolicyError
from flashwam_ros.robot.contract import RobotContract

BACKENDS = ('wam', 'expert')


@dataclass(frozen=True)
class PolicyChoice:
    """Which policy, and what it needs.

    Attributes:
        policy: one of `BACKENDS`.
        checkpoint: folder of the world-action model (wam only).
        video_steps: sampler steps of the video part, 0 as the checkpoint says.
        action_steps: sampler steps of the action part, 0 as the checkpoint says.
    """

    policy: str
    checkpoint: str = ''
    video_steps: int = 0
    action_steps: int = 0


def make_policy(
    choice: PolicyChoice,
    contract: RobotContract,
    sim_state: Callable[[], Mapping | None] | None = None,
    joints: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
) -> Policy:
    """Build the policy of a choice.

    Args:
        choice: what to build.
        contract: the robot contract in force.
        sim_state: the newest `rt/sim_state` as a mapping (expert only).
        joints: the arms (14,) and grippers (2,) as measured now, rad (expert only).

    Raises:
        PolicyError: unknown backend, or something that it needs is missing.
    """
    if choice.policy == 'expert':
        from flashwam_ros.policy.expert_policy import ExpertPolicy, world_from_state

        if sim_state is None or joints is None:
            raise PolicyError('the expert needs the state of the simulator: use the twin')
        return ExpertPolicy(
            lambda: sim_state()['task'], contract, lambda: world_from_state(sim_state()), joints
        )
    if choice.policy == 'wam':
        from flashwam_ros.policy.wam_policy import load_wam_policy

        return load_wam_policy(choice.checkpoint, choice.video_steps, choice.action_steps)
    raise PolicyError(f"there is no policy '{choice.policy}', only {', '.join(BACKENDS)}")
