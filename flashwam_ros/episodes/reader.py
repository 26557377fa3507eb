# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The one way to read an episode: typed streams with true stamps, for audit, export and replay.

    episode = read_episode(path)                   # .mcap, or the .part of a killed recorder
    episode.joint_states.columns(names)            # (N, C) rad at episode.joint_states.stamp_ns
    head = episode.images['head']                  # contract key of the camera
    index, error_ns = head.nearest(stamp_ns)       # by capture stamp
    rgb = head.rgb(index)                          # decoded now, not before

All stamps are ROS time in ns (int64). `stamp_ns` says when something was so (capture of an image,
arrival of the robot's state, instant of a command); `arrival_ns` when the recorder received it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flashwam_ros.episodes import messages as decode
from flashwam_ros.episodes import schemas
from flashwam_ros.episodes.mcap_scan import McapDamagedError, RawMessage, messages
from flashwam_ros.episodes.messages import Diagnostic, DriverState, PolicyState
from flashwam_ros.episodes.schemas import topic_key
from flashwam_ros.episodes.sidecar import Sidecar, load_sidecar, sidecar_path
from flashwam_ros.imaging import decode_jpeg
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.contract import RobotContract


class EpisodeError(ValueError):
    """An episode that cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class JointSeries:
    """Joints over time, in order of stamp.

    Attributes:
        stamp_ns: (N,) when the state was so, or the command was in force.
        arrival_ns: (N,) when the recorder received it.
        names: J joint names.
        position: (N, J) rad.
        velocity: (N, J) rad/s; (N, 0) for commands.
    """

    stamp_ns: np.ndarray
    arrival_ns: np.ndarray
    names: tuple[str, ...]
    position: np.ndarray
    velocity: np.ndarray

    def __len__(self) -> int:
        return len(self.stamp_ns)

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Positions of the named joints, (N, len(names)) rad.

        Raises:
            EpisodeError: a name was not recorded.
        """
        if not len(self):
            return np.zeros((0, len(names)))
        missing = [name for name in names if name not in self.names]
        if missing:
            raise EpisodeError(f'joints {missing} were not recorded; there are {self.names}')
        return self.position[:, [self.names.index(name) for name in names]]

    def at(self, stamps_ns: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Positions at given stamps, linear between samples, held at the ends, (M, C) rad."""
        values = self.columns(names)
        stamps = np.asarray(stamps_ns, np.int64)
        # Relative to the first: a double holds ns since 1970 only to 256 ns.
        along, own = stamps - self.stamp_ns[0], self.stamp_ns - self.stamp_ns[0]
        return np.stack([np.interp(along, own, column) for column in values.T], axis=1)


@dataclass(frozen=True)
class ImageStream:
    """Pictures of one camera in order of capture; decoded when asked for.

    Attributes:
        camera: contract key.
        stamp_ns: (N,) capture.
        arrival_ns: (N,) when the recorder received it.
        jpegs: the frames as they came off the wire, views into the file.
    """

    camera: str
    stamp_ns: np.ndarray
    arrival_ns: np.ndarray
    jpegs: tuple[memoryview, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.stamp_ns)

    def jpeg(self, index: int) -> bytes:
        """One frame as it came off the wire."""
        return bytes(self.jpegs[index])

    def rgb(self, index: int) -> np.ndarray:
        """One frame, (height, width, 3) uint8 RGB.

        Raises:
            ImageError: the JPEG is damaged.
        """
        return decode_jpeg(self.jpeg(index))

    def nearest(self, stamp_ns: int) -> tuple[int, int]:
        """Index of the frame captured nearest to a stamp, and capture minus stamp (ns).

        Raises:
            EpisodeError: no frame was recorded.
        """
        if not len(self):
            raise EpisodeError(f"no frame of camera '{self.camera}' was recorded")
        stamp_ns = int(stamp_ns)
        after = int(np.searchsorted(self.stamp_ns, stamp_ns))
        around = [i for i in (after - 1, after) if 0 <= i < len(self)]
        best = min(around, key=lambda i: abs(int(self.stamp_ns[i]) - stamp_ns))
        return best, int(self.stamp_ns[best]) - stamp_ns


@dataclass(frozen=True)
class Event:
    """Something named that happened: `source` is driver, rollout or recorder."""

    stamp_ns: int
    source: str
    text: str


@dataclass(frozen=True)
class SimState:
    """What the twin said of its world (see docs/twin.md); `values` as it sent them."""

    stamp_ns: int
    values: Mapping


@dataclass(frozen=True)
class Episode:
    """One recorded episode.

    Attributes:
        path: its file.
        sidecar: what it is and what people say of it; a bare one when the file is missing.
        topics: number of messages by topic, as recorded (with namespace).
        joint_states: all joints as measured (29 of the body, 2 grippers; names as in the URDF).
        joint_commands: the channels as commanded after limits, and the weight of authority.
        images: by contract key of the camera; every camera of the contract is there.
        chunks: as predicted.
        applied_starts: accounts of chunks at their start (no rows yet).
        applied: accounts of completed chunks: rows as commanded with their stamps.
        driver: states of the driver at about 10 Hz.
        policy: states of the policy at about 10 Hz.
        diagnostics: everything that was said on /diagnostics.
        events: in order of time.
        sim: states of the twin's world; empty on a robot.
    """

    path: Path
    sidecar: Sidecar
    topics: Mapping[str, int]
    joint_states: JointSeries
    joint_commands: JointSeries
    images: Mapping[str, ImageStream] = field(repr=False)
    chunks: tuple[ActionChunk, ...] = field(repr=False)
    applied_starts: tuple[AppliedChunk, ...] = field(repr=False)
    applied: tuple[AppliedChunk, ...] = field(repr=False)
    driver: tuple[DriverState, ...] = field(repr=False)
    policy: tuple[PolicyState, ...] = field(repr=False)
    diagnostics: tuple[Diagnostic, ...] = field(repr=False)
    events: tuple[Event, ...] = field(repr=False)
    sim: tuple[SimState, ...] = field(repr=False)

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last stamp of joints and images; (0, 0) for an empty episode."""
        series = (self.joint_states, self.joint_commands, *self.images.values())
        stamps = [s.stamp_ns[[0, -1]] for s in series if len(s)]
        if not stamps:
            return 0, 0
        return int(min(s[0] for s in stamps)), int(max(s[1] for s in stamps))


class _Collector:
    """Sorts messages into lists by relative topic name, typed."""

    def __init__(self, contract: RobotContract):
        self._known = {topic.name: topic.type for topic in schemas.recorded_topics(contract)}
        self._keys: dict[str, str | None] = {}
        self._readers = {
            schemas.JOINT_STATES: decode.joints,
            schemas.JOINT_COMMANDS: decode.joints,
            schemas.ACTION_CHUNK: decode.chunk,
            schemas.APPLIED: decode.applied,
            schemas.DRIVER_STATUS: decode.driver_state,
            schemas.POLICY_STATUS: decode.policy_state,
            schemas.DIAGNOSTICS: decode.diagnostics,
            schemas.EPISODE_EVENT: decode.json_text,
            schemas.SIM_STATE: decode.json_text,
        }
        self.topics: dict[str, int] = defaultdict(int)
        self.values: dict[str, list] = defaultdict(list)

    def add(self, message: RawMessage) -> None:
        if message.topic not in self._keys:
            self._keys[message.topic] = topic_key(message.topic, tuple(self._known))
        self.topics[message.topic] += 1
        key = self._keys[message.topic]
        if key is None:
            return
        if self._known[key] == schemas.IMAGE_TYPE:
            stamp = decode.header_stamp_ns(message.data)
            value = (stamp, message.log_ns, decode.image_jpeg(message.data))
        else:
            value = self._readers[key](message.data, self._known[key])
            if key in (schemas.JOINT_STATES, schemas.JOINT_COMMANDS):
                value = (value.stamp_ns, message.log_ns, value)
            elif key == schemas.EPISODE_EVENT:
                value = (int(value.get('stamp_ns', message.publish_ns)), value)
            elif key == schemas.SIM_STATE:
                value = SimState(int(value.get('time_ns', message.publish_ns)), value)
        self.values[key].append(value)


def read_episode(path: str | Path, contract: RobotContract | None = None) -> Episode:
    """Read an episode's file and sidecar.

    Args:
        path: an `.mcap`, or an `.mcap.part`, which is read up to its last flushed chunk.
        contract: camera names; default the robot's.

    Raises:
        EpisodeError: not an MCAP file, damaged in the middle, or with undecodable messages.
    """
    path = Path(path)
    contract = contract or RobotContract.load()
    collector = _Collector(contract)
    try:
        for message in messages(path):
            collector.add(message)
    except (OSError, McapDamagedError, decode.MessageError) as error:
        raise EpisodeError(f'{path}: {error}') from error
    values = collector.values
    beside = sidecar_path(path)
    sidecar = load_sidecar(beside) if beside.exists() else Sidecar(beside.stem, beside.stem)
    starts, done = _split(values[schemas.APPLIED])
    return Episode(
        path=path,
        sidecar=sidecar,
        topics=dict(collector.topics),
        joint_states=_series(values[schemas.JOINT_STATES]),
        joint_commands=_series(values[schemas.JOINT_COMMANDS]),
        images={
            camera.key: _images(camera.key, values[schemas.image_topic(camera.topic)])
            for camera in contract.cameras
        },
        chunks=tuple(values[schemas.ACTION_CHUNK]),
        applied_starts=starts,
        applied=done,
        driver=tuple(values[schemas.DRIVER_STATUS]),
        policy=tuple(values[schemas.POLICY_STATUS]),
        diagnostics=tuple(entry for array in values[schemas.DIAGNOSTICS] for entry in array),
        events=_events(values),
        sim=tuple(values[schemas.SIM_STATE]),
    )


def _split(accounts: list[AppliedChunk]) -> tuple[tuple[AppliedChunk, ...], ...]:
    return (
        tuple(account for account in accounts if not account.complete),
        tuple(account for account in accounts if account.complete),
    )


def _series(entries: list[tuple]) -> JointSeries:
    if not entries:
        nothing = np.zeros(0, np.int64)
        return JointSeries(nothing, nothing, (), np.zeros((0, 0)), np.zeros((0, 0)))
    entries = sorted(entries, key=lambda entry: entry[0])
    names = entries[0][2].names
    entries = [entry for entry in entries if entry[2].names == names]
    return JointSeries(
        np.array([stamp for stamp, _, _ in entries], np.int64),
        np.array([arrival for _, arrival, _ in entries], np.int64),
        names,
        np.stack([sample.position for _, _, sample in entries]),
        np.stack([sample.velocity for _, _, sample in entries]),
    )


def _images(camera: str, entries: list[tuple]) -> ImageStream:
    entries = sorted(entries, key=lambda entry: entry[0])
    return ImageStream(
        camera,
        np.array([stamp for stamp, _, _ in entries], np.int64),
        np.array([arrival for _, arrival, _ in entries], np.int64),
        tuple(jpeg for _, _, jpeg in entries),
    )


def _events(values: Mapping[str, list]) -> tuple[Event, ...]:
    events = [
        Event(state.stamp_ns, 'driver', text)
        for state in values[schemas.DRIVER_STATUS]
        for text in state.events
    ]
    events += [
        Event(stamp, value.get('source', 'rollout'), value.get('event', ''))
        for stamp, value in values[schemas.EPISODE_EVENT]
    ]
    return tuple(sorted(events, key=lambda event: event.stamp_ns))
