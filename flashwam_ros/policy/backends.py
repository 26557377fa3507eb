# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Build a policy by name; heavy imports happen only for the backend that is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashwam_ros.policy.handshake import is_server
from flashwam_ros.policy.protocol import Policy, PolicyError
from flashwam_ros.robot.contract import RobotContract

BACKENDS = ('wam', 'expert')


@dataclass(frozen=True)
class PolicyChoice:
    """Which policy, and what it needs.

    Attributes:
        policy: one of `BACKENDS`.
        checkpoint: folder of the world-action model, or address of its server (wam only).
        video_steps: sampler steps of the video part, 0 as the checkpoint says.
        action_steps: sampler steps of the action part, 0 as the checkpoint says.
        sampler: 'own', or 'euler' where that replaces what the checkpoint stores.
        sha256: the model that must be there, in the folder or at the server; '' for any.
        served: steps of video and action and sampler that its server must use; () for any.
    """

    policy: str
    checkpoint: str = ''
    video_steps: int = 0
    action_steps: int = 0
    sampler: str = 'own'
    sha256: str = ''
    served: tuple[int, int, str] | tuple[()] = ()

    def __post_init__(self) -> None:
        """JSON has lists only."""
        object.__setattr__(self, 'served', tuple(self.served))

    @property
    def model(self) -> tuple:
        """What is expected of a server, see `RemotePolicy`."""
        return (self.sha256, *self.served) if self.sha256 or self.served else ()


def read_arms(path: str | Path) -> dict[str, PolicyChoice]:
    """The policies of a study's arms by blind code, from its `arms.json`.

    Raises:
        PolicyError: no such file, or it holds something else.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding='utf-8'))
        arms = {code: PolicyChoice(**entry) for code, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PolicyError(f'arms: {path}: {error}; compile the study again') from error
    if not arms:
        raise PolicyError(f'arms: {path} is empty; compile the study again')
    return arms


def make_policy(
    choice: PolicyChoice,
    contract: RobotContract,
    sim_state: Callable[[], Mapping | None] | None = None,
    joints: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
    loaded: dict | None = None,
) -> Policy:
    """Build the policy of a choice.

    Args:
        choice: what to build.
        contract: the robot contract in force.
        sim_state: the newest `rt/sim_state` as a mapping (expert only).
        joints: the arms (14,) and grippers (2,) as measured now, rad (expert only).
        loaded: see `load_wam_policy`; hand the same dictionary in for every arm of a study.

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
    if choice.policy == 'wam' and is_server(choice.checkpoint):
        from flashwam_ros.policy.remote_policy import RemotePolicy

        if choice.video_steps or choice.action_steps or choice.sampler != 'own':
            raise PolicyError(f'{choice.checkpoint}: steps and sampler are the server\'s: give '
                              'them to flashwam serve')
        return RemotePolicy(choice.checkpoint, contract, choice.model)
    if choice.policy == 'wam':
        from flashwam_ros.policy.wam_policy import load_wam_policy

        return load_wam_policy(
            choice.checkpoint, choice.video_steps, choice.action_steps, choice.sampler, loaded,
            choice.sha256,
        )
    raise PolicyError(f"there is no policy '{choice.policy}', only {', '.join(BACKENDS)}")


def leave(policy: Policy | None) -> None:
    """Drop a policy; one with a connection gives it up."""
    close = getattr(policy, 'close', None)
    if close is not None:
        close()
