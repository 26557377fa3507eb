# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Quantile normalisation between a robot's action channels and the universal 30-channel vector."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ACTION_CHANNELS = 30
# Universal vector: 14-20 left arm joints, 21-27 right arm joints, 28 and 29 the grippers.
G1_CHANNEL_IDS = tuple(range(14, 30))
_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class QuantileNormaliser:
    """`a_n = 2 (a - q01) / (q99 - q01 + 1e-6) - 1` on the used channels, 0 elsewhere.

    q01, q99: physical units, one per universal channel (30); `used_action_channel_ids[i]` is the
    universal channel of the robot's channel i. No clipping here.
    """

    q01: tuple[float, ...]
    q99: tuple[float, ...]
    used_action_channel_ids: tuple[int, ...] = G1_CHANNEL_IDS

    def __post_init__(self) -> None:
        """Refuse wrong lengths, repeated channels, non-finite or reversed quantiles."""
        for name, kind in (('q01', float), ('q99', float), ('used_action_channel_ids', int)):
            object.__setattr__(self, name, tuple(kind(v) for v in getattr(self, name)))
        ids = self.used_action_channel_ids
        if len(self.q01) != ACTION_CHANNELS or len(self.q99) != ACTION_CHANNELS:
            raise ValueError(f'q01 and q99 need {ACTION_CHANNELS} entries, got {len(self.q01)} '
                             f'and {len(self.q99)}')
        if len(set(ids)) != len(ids) or not all(0 <= i < ACTION_CHANNELS for i in ids):
            raise ValueError(f'used_action_channel_ids must be distinct and < {ACTION_CHANNELS}: '
                             f'{ids}')
        low, span = self._arrays()
        if not (np.isfinite(low).all() and np.isfinite(span).all() and (span > 0).all()):
            raise ValueError('quantiles must be finite with q99 >= q01 on every used channel')

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        ids = list(self.used_action_channel_ids)
        low = np.asarray(self.q01)[ids]
        return low, np.asarray(self.q99)[ids] - low + _EPS

    @property
    def channel_mask(self) -> np.ndarray:
        """Float32 (30,): 1 on used channels."""
        mask = np.zeros(ACTION_CHANNELS, np.float32)
        mask[list(self.used_action_channel_ids)] = 1.0
        return mask

    def normalise(self, physical: np.ndarray) -> np.ndarray:
        """(..., C) in physical units -> (..., 30); float32 stays float32, all else is float64."""
        physical = np.asarray(physical)
        if physical.shape[-1:] != (len(self.used_action_channel_ids),):
            raise ValueError(f'expected (..., {len(self.used_action_channel_ids)}) channels, got '
                             f'{physical.shape}')
        dtype = np.float32 if physical.dtype == np.float32 else np.float64
        low, span = self._arrays()
        out = np.zeros((*physical.shape[:-1], ACTION_CHANNELS), dtype)
        out[..., list(self.used_action_channel_ids)] = 2 * (physical - low) / span - 1
        return out

    def denormalise(self, normalised: np.ndarray) -> np.ndarray:
        """(..., 30) -> (..., C) in physical units and the robot's channel order."""
        normalised = np.asarray(normalised)
        if normalised.shape[-1:] != (ACTION_CHANNELS,):
            raise ValueError(f'expected (..., {ACTION_CHANNELS}) channels, got {normalised.shape}')
        dtype = np.float32 if normalised.dtype == np.float32 else np.float64
        low, span = self._arrays()
        used = normalised[..., list(self.used_action_channel_ids)].astype(np.float64)
        return ((used + 1) / 2 * span + low).astype(dtype)

    @classmethod
    def fit(cls, rows: np.ndarray, used_action_channel_ids: Sequence[int] = G1_CHANNEL_IDS,
            minimum_span: float = 0.05) -> 'QuantileNormaliser':
        """Take the 1 % and 99 % quantiles of rows (N, C) in physical units.

        A channel that hardly moves is widened about its middle to `minimum_span` (physical units),
        so that its noise is not blown up to the full range.
        """
        low, high = np.quantile(np.asarray(rows, np.float64), [0.01, 0.99], axis=0)
        pad = np.maximum(0.0, minimum_span - (high - low)) / 2
        q01, q99 = np.zeros(ACTION_CHANNELS), np.zeros(ACTION_CHANNELS)
        ids = list(used_action_channel_ids)
        q01[ids], q99[ids] = low - pad, high + pad
        return cls(tuple(q01), tuple(q99), tuple(ids))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {k: list(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'QuantileNormaliser':
        """Read plain data."""
        return cls(values['q01'], values['q99'], values['used_action_channel_ids'])
