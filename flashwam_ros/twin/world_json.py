# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The twin's world state as plain JSON, for `rt/sim_state`, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from flashwam_ros.twin.tasks import WorldState

_HANDS = ('left', 'right')


def world_to_dict(world: WorldState) -> dict[str, Any]:
    """JSON types only: poses as [x, y, z, qw, qx, qy, qz] in m, tool centre points as 4x4."""
    return {
        'sim_time': world.time_s,
        'objects': {
            name: np.round([*position, *quaternion], 9).tolist()
            for name, (position, quaternion) in world.objects.items()
        },
        'tcp': dict(zip(_HANDS, np.round(world.tcp, 9).tolist(), strict=True)),
        'jaw_gap': np.round(world.jaw_gap, 9).tolist(),
        'touched': [sorted(names) for names in world.touched],
        'held': [sorted(names) for names in world.held],
    }


def world_from_dict(state: dict[str, Any]) -> WorldState:
    """The world state in a message of `rt/sim_state`.

    Raises:
        ValueError: if a part is missing or has the wrong shape.
    """
    try:
        return WorldState(
            time_s=float(state['sim_time']),
            objects={
                name: (np.array(pose[:3], float), np.array(pose[3:], float))
                for name, pose in state['objects'].items()
            },
            tcp=np.array([state['tcp'][hand] for hand in _HANDS], float).reshape(2, 4, 4),
            jaw_gap=np.array(state['jaw_gap'], float).reshape(2),
            touched=tuple(frozenset(names) for names in state['touched']),
            held=tuple(frozenset(names) for names in state['held']),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'not a world state of the twin: {error!r}') from error
