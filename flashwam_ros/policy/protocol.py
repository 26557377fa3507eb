# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every policy backend looks like to the predict-execute loop.

A policy is chunk-synchronous: it observes key frames in due order, predicts whole chunks and is
grounded
with the rows that were really commanded. Its history is a contract: frames or rows that do not
fit raise
`HistoryError` instead of desynchronising the model in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from flashwam_ros.robot.contract import RobotContract


class PolicyError(RuntimeError):
    """A policy cannot go on; the message says why and what to do."""


class HistoryError(PolicyError):
    """A key frame or applied row that the history needs is missing, late or out of order."""


class StreamError(PolicyError):
    """An input stream is missing or stale; the message names the stream and its age."""


@dataclass(frozen=True)
class KeyFrame:
    """One image per camera for one due time of the history.

    Attributes:
        images: camera key -> (height, width, 3) uint8 RGB at the policy size of that camera.
        stamps_ns: camera key -> capture stamp of that image, ns, the same clock as `due_ns`.
        due_ns: the instant that the history expects, ns.
    """

    images: Mapping[str, np.ndarray]
    stamps_ns: Mapping[str, int]
    due_ns: int


@dataclass(frozen=True)
class Prediction:
    """One predicted chunk in physical units.

    Attributes:
        positions: (R, C) float64, rows of channel targets (rad), R = rows per chunk of the
        contract.
        first_row: first row to execute: actions-per-frame for chunk 0 (its first frame is the
            observed one), else 0.
        video_steps: denoising steps of the video stream (0 for a policy without one).
        action_steps: denoising steps of the action stream (0 for a policy without one).
        seed: seed of the session that this chunk belongs to.
        latency_s: named parts of the time that the prediction took, s.
    """

    positions: np.ndarray
    first_row: int
    video_steps: int = 0
    action_steps: int = 0
    seed: int = 0
    latency_s: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Policy(Protocol):
    """A predict-and-ground policy; not thread-safe, one worker thread owns it."""

    name: str
    contract: RobotContract
    warnings: tuple[str, ...]
    """What an operator should know before this policy moves a robot."""
    mode_problems: Mapping[str, str]
    """Execution mode -> why this policy cannot be run in it; without an entry it can."""

    def reset(self, prompt: str, seed: int) -> None:
        """Start a new episode: forget the history, encode the prompt, seed the noise."""

    def observe(self, key_frame: KeyFrame) -> None:
        """Take the next key frame, in due order.

        The first call after `reset` is the initial frame; afterwards `key_frames_per_frame` per
        latent
        frame, encoded when a group is complete.

        Raises:
            HistoryError: a camera is missing, an image has the wrong shape or the order is wrong.
        """

    def predict(self) -> Prediction:
        """Predict the chunk after the last predicted one.

        Uses the grounded history and, for chunks that are not grounded yet, the policy's own
        forecast.

        Raises:
            HistoryError: before the initial frame was observed.
        """

    def ground(self, applied: np.ndarray) -> None:
        """Replace the oldest forecast by what happened.

        Args:
            applied: rows really commanded of the oldest ungrounded chunk, (R - first_row, C)
            float64,
                rad.

        Raises:
            HistoryError: nothing to ground, wrong shape, or its key frames were not all observed.
        """

    def imagine(self, rows: np.ndarray) -> None:
        """Replace the oldest forecast by what these rows should lead to.

        Predictions after it build on that outcome until the chunk is grounded.

        Args:
            rows: (R, C) float64, rad: all rows of the oldest ungrounded chunk as sent.

        Raises:
            PolicyError: the policy cannot (`mode_problems` of 'async_grounded').
            HistoryError: there is no forecast, or the rows do not fit.
        """

    def warm_up(self) -> float:
        """Do once what is slow the first time; leaves the policy reset.

        Returns:
            Seconds that a warm prediction takes, 0 where there is nothing to warm up.
        """
