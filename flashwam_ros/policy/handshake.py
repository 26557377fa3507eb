# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy server says of itself, in the metadata map that opens every connection.

The protocol leaves that map to the server; a stock server sends an empty one, or other entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from flashwam_ros.policy.protocol import PolicyError
from flashwam_ros.robot.contract import RobotContract

KEY = 'flashwam'
SCHEME = 'ws://'
AHEAD = ('async', 'async_grounded')
SILENT = (
    'the server does not say for which robot its model was trained: only the shape of its chunks '
    'is checked'
)
ONE_BY_ONE = "a server of the plain protocol predicts one chunk at a time: use 'sync'"


def is_server(checkpoint: str) -> bool:
    """Whether what is given as a checkpoint is the address of a policy server."""
    return checkpoint.startswith(SCHEME)


def describe(model: Sequence) -> str:
    """As much of a `Handshake.model` as is known, in words."""
    sha256, *served = model
    words = '{}v/{}a {}'.format(*served).rstrip() if served else ''
    return f'{sha256[:12] or "no hash"} {words}'.rstrip()


@dataclass(frozen=True)
class Handshake:
    """One entry of the metadata map, under `KEY`.

    Attributes:
        checkpoint: name of the model.
        sha256: of the model's manifest; '' where nothing is known of the model.
        contract: the robot contract that it was trained for; None where nothing is said.
        video_steps: denoising steps of the video stream, 0 where nothing is said.
        action_steps: denoising steps of the action stream, 0 where nothing is said.
        sampler: 'own' or 'euler', '' where nothing is said.
        warnings: see `Policy.warnings`.
        mode_problems: see `Policy.mode_problems`.
    """

    checkpoint: str = ''
    sha256: str = ''
    contract: RobotContract | None = None
    video_steps: int = 0
    action_steps: int = 0
    sampler: str = ''
    warnings: tuple[str, ...] = ()
    mode_problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> tuple[str, int, int, str]:
        """What a client is locked to: SHA-256, steps of video and action, sampler."""
        return self.sha256, self.video_steps, self.action_steps, self.sampler

    def to_metadata(self) -> dict[str, Any]:
        """The map to be sent."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values['contract'] = self.contract.to_dict()
        values['warnings'] = list(self.warnings)
        return {KEY: values}

    @classmethod
    def from_metadata(cls, metadata: Any) -> Handshake:
        """What a server said; of a stock server everything is unknown.

        Raises:
            PolicyError: it says something that cannot be understood.
        """
        if not isinstance(metadata, Mapping):
            raise PolicyError(f'it opened with {type(metadata).__name__}, not with a map')
        if KEY not in metadata:
            return cls(warnings=(SILENT,), mode_problems=dict.fromkeys(AHEAD, ONE_BY_ONE))
        try:
            values = dict(metadata[KEY])
            values['contract'] = RobotContract.from_dict(values['contract'])
            values['warnings'] = tuple(values['warnings'])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError(f'its handshake cannot be understood ({error}): another version of '
                              'flashwam?') from error
