# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of a chunk as the policy server's protocol has them: (C, K, n), channels first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flashwam_ros.policy.msgpack_numpy import MessageError
from flashwam_ros.robot.contract import RobotContract

IMAGE = 'observation.images.'
"""Before the data set's name of a camera, the key of its picture."""


def shape_on_wire(contract: RobotContract) -> tuple[int, int, int]:
    """(channels, latent frames, rows per frame) of a chunk."""
    return len(contract.channels), contract.frames_per_chunk, contract.actions_per_frame


def to_wire(rows: np.ndarray, contract: RobotContract) -> np.ndarray:
    """(R, C) -> (C, K, n) float32."""
    channels, frames, per_frame = shape_on_wire(contract)
    return rows.reshape(frames, per_frame, channels).transpose(2, 0, 1).astype(np.float32)


def from_wire(message: Mapping[str, Any], name: str, contract: RobotContract) -> np.ndarray:
    """An entry of a message, (C, K, n) of any float type -> (R, C) float64.

    Raises:
        MessageError: it has another shape, or is no array of numbers.
    """
    value, shape = message.get(name), shape_on_wire(contract)
    if not isinstance(value, np.ndarray) or value.shape != shape:
        got = getattr(value, 'shape', type(value).__name__)
        raise MessageError(f'{name} has shape {got}, where {shape} is wanted')
    return np.asarray(value, np.float64).transpose(1, 2, 0).reshape(-1, shape[0])
