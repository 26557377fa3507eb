# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The robot contract: what a policy, a driver and an episode file must agree on.

The normaliser is not part of it: two fine-tunes on one robot have different quantiles.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flashwam_ros.resources import share_path
from flashwam_ros.robot.description import Description, load_description

GRIPPER_GROUPS = ('left_gripper', 'right_gripper')


@dataclass(frozen=True)
class Channel:
    """One column of an action row: limits in ``unit``, ``unit``/s, ``unit``/s2; motor gains."""

    name: str
    unit: str
    lower: float
    upper: float
    velocity: float
    acceleration: float
    kp: float
    kd: float
    motor_index: int | None
    group: str


@dataclass(frozen=True)
class Camera:
    """One camera under all of its names; ``width`` x ``height`` is what the policy sees."""

    key: str
    topic: str
    wire_name: str
    dataset_key: str
    zmq_port: int
    wire_width: int
    wire_height: int
    width: int
    height: int
    frame_id: str
    color_order: str = 'rgb'


@dataclass(frozen=True)
class RobotContract:
    """Channels, cameras and chunk timing, with a hash over all of it."""

    name: str
    channels: tuple[Channel, ...]
    cameras: tuple[Camera, ...]
    frames_per_chunk: int
    actions_per_frame: int
    row_rate_hz: float
    key_frames_per_frame: int

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names in column order."""
        return tuple(c.name for c in self.channels)

    @property
    def row_duration_s(self) -> float:
        """Time from one row to the next (s)."""
        return 1.0 / self.row_rate_hz

    @property
    def rows_per_chunk(self) -> int:
        """Rows of a whole chunk."""
        return self.frames_per_chunk * self.actions_per_frame

    @property
    def rows_per_key_frame(self) -> int:
        """Rows between two key frames."""
        return self.actions_per_frame // self.key_frames_per_frame

    @property
    def chunk_duration_s(self) -> float:
        """Time that a whole chunk takes (s)."""
        return self.rows_per_chunk / self.row_rate_hz

    @functools.cached_property
    def lower(self) -> np.ndarray:
        """Lower position limits, (C,), read-only."""
        return self._column('lower')

    @functools.cached_property
    def upper(self) -> np.ndarray:
        """Upper position limits, (C,), read-only."""
        return self._column('upper')

    @functools.cached_property
    def velocity(self) -> np.ndarray:
        """Velocity limits, (C,), read-only."""
        return self._column('velocity')

    @functools.cached_property
    def acceleration(self) -> np.ndarray:
        """Acceleration limits, (C,), read-only."""
        return self._column('acceleration')

    @functools.cached_property
    def kp(self) -> np.ndarray:
        """Motor position gains, (C,), read-only."""
        return self._column('kp')

    @functools.cached_property
    def kd(self) -> np.ndarray:
        """Motor velocity gains, (C,), read-only."""
        return self._column('kd')

    def group(self, *names: str) -> np.ndarray:
        """Column indices of the channels in the named groups, in column order."""
        return np.array([i for i, c in enumerate(self.channels) if c.group in names], dtype=int)

    def camera(self, key: str) -> Camera:
        """The camera called ``key``; KeyError naming the known ones otherwise."""
        for camera in self.cameras:
            if camera.key == key:
                return camera
        known = ', '.join(c.key for c in self.cameras)
        raise KeyError(f'contract {self.name!r} has no camera {key!r}; it has {known}')

    @functools.cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the canonical JSON of :meth:`to_dict`."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(',', ':'))
        return hashlib.sha256(text.encode('utf-8')).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; :meth:`from_dict` is the inverse."""
        out = dataclasses.asdict(self)
        out['channels'] = list(out['channels'])
        out['cameras'] = list(out['cameras'])
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RobotContract:
        """Rebuild a contract from :meth:`to_dict`'s output.

        Raises:
            ValueError: Fields are missing, unknown or inconsistent.
        """
        try:
            fields = dict(data)
            fields['channels'] = tuple(Channel(**c) for c in data['channels'])
            fields['cameras'] = tuple(Camera(**c) for c in data['cameras'])
            contract = cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f'not a robot contract: {error}') from error
        contract._check()
        return contract

    @classmethod
    def load(cls, path: str | Path | None = None) -> RobotContract:
        """Read the contract file and complete it from the robot description.

        Args:
            path: A file like ``config/robot/g1_dex1.yaml``, which is the default.
        """
        choices = load_choices(path)
        description = load_description(choices['variant'])
        contract = cls(
            name=choices['name'],
            channels=_channels(choices['channels'], description),
            cameras=tuple(Camera(topic=c['key'], **c) for c in choices['cameras']),
            frames_per_chunk=int(choices['frames_per_chunk']),
            actions_per_frame=int(choices['actions_per_frame']),
            row_rate_hz=float(choices['row_rate_hz']),
            key_frames_per_frame=int(choices['key_frames_per_frame']),
        )
        contract._check()
        return contract

    def differences(self, other: RobotContract) -> list[str]:
        """Readable lines, one per field that differs; empty when the contracts are equal."""
        return _differences('', self.to_dict(), other.to_dict())

    def _column(self, field: str) -> np.ndarray:
        values = np.array([getattr(c, field) for c in self.channels], dtype=np.float64)
        values.setflags(write=False)
        return values

    def _check(self) -> None:
        if len(set(self.channel_names)) != len(self.channels):
            raise ValueError(f'contract {self.name!r}: channel names repeat')
        for c in self.channels:
            if not (c.lower < c.upper and c.velocity > 0 and c.acceleration > 0):
                raise ValueError(f'contract {self.name!r}: limits of channel {c.name} are empty')
        if self.key_frames_per_frame < 1 or self.actions_per_frame % self.key_frames_per_frame:
            raise ValueError(
                f'contract {self.name!r}: {self.actions_per_frame} rows per frame cannot hold '
                f'{self.key_frames_per_frame} evenly spaced key frames'
            )


def load_choices(path: str | Path | None = None) -> dict[str, Any]:
    """The contract file as plain data (default ``config/robot/g1_dex1.yaml``)."""
    import yaml

    path = share_path('config', 'robot', 'g1_dex1.yaml') if path is None else Path(path)
    with open(path, encoding='utf-8') as file:
        return yaml.safe_load(file)


def _arm_channels(group: str, choice: dict, description: Description) -> list[Channel]:
    channels = []
    for index in description.motor_groups[group]:
        joint = description.motor_joint(index)
        gains = [g for part, g in choice['gains'].items() if part in joint.name]
        if len(gains) != 1:
            raise ValueError(f'g1_dex1: joint {joint.name} matches {len(gains)} gain entries')
        margin = choice['position_margin']
        channels.append(
            Channel(
                name=joint.name,
                unit='rad',
                # Rounded so that the hash does not depend on floating-point dust.
                lower=round(joint.lower + margin, 6),
                upper=round(joint.upper - margin, 6),
                velocity=min(float(choice['velocity']), joint.velocity),
                acceleration=float(choice['acceleration']),
                kp=float(gains[0][0]),
                kd=float(gains[0][1]),
                motor_index=index,
                group=group,
            )
        )
    return channels


def _channels(choice: dict, description: Description) -> tuple[Channel, ...]:
    channels = []
    for group in choice['arms']:
        channels += _arm_channels(group, choice['arm'], description)
    grip = choice['gripper']
    for name in choice['grippers']:
        channels.append(
            Channel(
                name=name,
                unit='rad',
                lower=description.gripper.motor_closed,
                upper=description.gripper.motor_open,
                velocity=float(grip['velocity']),
                acceleration=float(grip['acceleration']),
                kp=float(grip['gains'][0]),
                kd=float(grip['gains'][1]),
                motor_index=None,
                group=name,
            )
        )
    return tuple(channels)


def _differences(where: str, a: Any, b: Any) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        lines = []
        for key in sorted(set(a) | set(b)):
            place = f'{where}.{key}' if where else key
            lines += _differences(place, a.get(key), b.get(key))
        return lines
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return [f'{where}: {len(a)} entries here, {len(b)} there']
        return [
            line
            for i, pair in enumerate(zip(a, b, strict=True))
            for line in _differences(f'{where}[{i}]{_label(pair[0])}', *pair)
        ]
    return [] if a == b else [f'{where}: {a!r} here, {b!r} there']


def _label(item: Any) -> str:
    if not isinstance(item, dict):
        return ''
    return f'({item.get("name") or item.get("key")})'
