# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Made-up episodes, as a recorder writes them, without ROS."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mcap_ros2._dynamic import serialize_dynamic

from flashwam_ros.episodes import schemas
from flashwam_ros.episodes.mcap_writer import EpisodeWriter
from flashwam_ros.episodes.sidecar import CLOSED, Sidecar, save_sidecar, sidecar_path
from flashwam_ros.imaging import encode_jpeg
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.wire.teleimager import encode_stamp

CONTRACT = RobotContract.load()
START_NS = 1_800_000_000_000_000_000
MS = 1_000_000


@functools.cache
def encoder(kind):
    return serialize_dynamic(kind, schemas.schema_text(kind))[kind]


def stamp(ns):
    return {'sec': ns // 10**9, 'nanosec': ns % 10**9}


def header(ns):
    return {'stamp': stamp(ns), 'frame_id': ''}


def joint_state(ns, names, position, velocity=()):
    return _joint_state(ns, tuple(names), tuple(position), tuple(velocity))


@functools.lru_cache(maxsize=2000)
def _joint_state(ns, names, position, velocity):
    return encoder(schemas.JOINT_STATE_TYPE)({
        'header': header(ns), 'name': list(names), 'position': list(map(float, position)),
        'velocity': list(map(float, velocity)), 'effort': [],
    })  # fmt: skip


@functools.lru_cache(maxsize=1000)
def compressed(ns, jpeg):
    message = {'header': header(ns), 'format': 'jpeg', 'data': jpeg}
    return encoder(schemas.IMAGE_TYPE)(message)


def text(values):
    return encoder(schemas.STRING_TYPE)({'data': json.dumps(values)})


def driver_status(ns, **values):
    message = {
        'header': header(ns), 'mode': 'EXECUTE', 'reason': '', 'weight': 1.0, 'session': 's',
        'chunk_index': 0, 'tick_lateness_p50': 1e-4, 'tick_lateness_p99': 1e-3,
        'tick_lateness_max': 2e-3, 'limited_ticks': 0, 'tracking_error': 0.01, 'events': [],
    }  # fmt: skip
    return encoder('flashwam_ros/msg/DriverStatus')({**message, **values})


def applied_actions(ns, index, start_ns, positions, complete=True):
    rows = np.asarray(positions, float)
    step = round(CONTRACT.row_duration_s * 1e9)
    return encoder('flashwam_ros/msg/AppliedActions')({
        'header': header(ns), 'session': 's', 'index': index, 'complete': complete,
        'first_row': 0, 'start': stamp(start_ns), 'row_duration': CONTRACT.row_duration_s,
        'rows': len(rows) if complete else 0, 'channels': rows.shape[1],
        'channel_names': list(CONTRACT.channel_names),
        'positions': rows.ravel().tolist() if complete else [],
        'row_stamps': [stamp(start_ns + (i + 1) * step) for i in range(len(rows))],
        'key_frame_due': [], 'slack': 0.5, 'boundary_jump': 0.01, 'limited_ticks': 0,
        'arm_limited_ticks': 0,
    })  # fmt: skip


def arm_path(seconds, amplitude=0.3):
    """Channels (C,) rad at a time: the left arm moves first, then the right one."""
    pose = load_settings().home
    left, right = CONTRACT.group('left_arm'), CONTRACT.group('right_arm')
    swing = amplitude * (1.0 - np.cos(np.pi * seconds)) / 2
    pose[left if seconds % 4 < 2 else right] += swing
    return pose


def picture(camera, seconds, size=(96, 72), base=(150, 115, 80)):
    """A wooden table with a spot that moves with the camera's arm (the head sees both)."""
    width, height = size
    image = np.full((height, width, 3), base, np.uint8)
    image[::8] = np.array(base, np.uint8) - 20
    pose = arm_path(seconds)
    for side in ('left', 'right'):
        if camera in ('head', f'{side}_wrist'):
            angle = pose[CONTRACT.group(f'{side}_arm')[0]]
            x = int(np.clip(width * (0.3 if side == 'left' else 0.7) + 40 * angle, 0, width - 12))
            image[20:44, x : x + 12] = (40, 40, 45)
    return image


@functools.lru_cache(maxsize=1000)
def frame(camera, index):
    ns = START_NS + index * 50 * MS
    return encode_stamp(encode_jpeg(picture(camera, index * 0.05)), index, ns)


class Maker:
    """Writes an episode file; every part of it can be spoilt by a test.

    Args:
        path: `.mcap` to write.
        seconds: length.
        sidecar: entries of the sidecar.
    """

    def __init__(self, path, seconds=4.0, **sidecar):
        self.path, self.seconds = Path(path), seconds
        self.sidecar = Sidecar(
            episode=self.path.stem, session='s', task='red_bottle', prompt='pick', seed=7,
            robot='twin', contract_sha256=CONTRACT.sha256, began_ns=START_NS,
            ended_ns=START_NS + round(seconds * 1e9), state=CLOSED, **sidecar,
        )  # fmt: skip

    def frames(self, camera):
        """(stamp, arrival, JPEG) of a camera at 20 Hz."""
        for i in range(round(self.seconds * 20)):
            ns = START_NS + i * 50 * MS
            yield ns, ns + 20 * MS, frame(camera, i)

    def measured(self):
        """(stamp, arrival, position) at 50 Hz."""
        for i in range(round(self.seconds * 50)):
            ns = START_NS + i * 20 * MS
            yield ns, ns + MS, arm_path(i * 0.02)

    def commanded(self):
        """(stamp, arrival, position) at 50 Hz."""
        yield from Maker.measured(self)

    def messages(self):
        """(topic, stamp, arrival, data) in order of arrival."""
        names = CONTRACT.channel_names
        out = []
        for camera in CONTRACT.cameras:
            topic = '/' + schemas.image_topic(camera.topic)
            out += [(topic, ns, arrival, compressed(ns, jpeg))
                    for ns, arrival, jpeg in self.frames(camera.key)]  # fmt: skip
        for ns, arrival, position in self.measured():
            data = joint_state(ns, names, position, np.zeros(len(names)))
            out.append(('/joint_states', ns, arrival, data))
        for ns, arrival, position in self.commanded():
            data = joint_state(ns, (*names, 'arm_sdk_weight'), (*position, 1.0))
            out.append(('/joint_commands', ns, arrival, data))
        for i in range(round(self.seconds * 10)):
            ns = START_NS + i * 100 * MS
            out.append(('/driver_status', ns, ns, driver_status(ns)))
            out.append(('/sim_state', ns, ns, text({'time_ns': ns, 'seed': 7})))
        chunk_ns = round(CONTRACT.chunk_duration_s * 1e9)
        for index in range(int(self.seconds * 1e9 // chunk_ns)):
            begin = START_NS + index * chunk_ns
            times = (np.arange(CONTRACT.rows_per_chunk) + 1) * CONTRACT.row_duration_s
            rows = [arm_path((begin - START_NS) * 1e-9 + t) for t in times]
            for complete, ns in ((False, begin), (True, begin + chunk_ns)):
                data = applied_actions(ns, index, begin, rows, complete)
                out.append(('/applied_actions', ns, ns, data))
        event = {'stamp_ns': START_NS, 'source': 'rollout', 'event': 'begin'}
        out.append(('/episode_event', START_NS, START_NS, text(event)))
        return sorted(out, key=lambda entry: entry[2])

    def write(self):
        """Write file and sidecar; the path."""
        topics = [schemas.Topic('/' + topic.name.strip('/'), topic.type)
                  for topic in schemas.recorded_topics(CONTRACT)]  # fmt: skip
        metadata = {'sidecar': json.dumps(self.sidecar.to_dict())}
        writer = EpisodeWriter(self.path, topics, metadata, min_free=0)
        for topic, ns, arrival, data in self.messages():
            writer.put(topic, ns, arrival, data)
        writer.close()
        save_sidecar(sidecar_path(self.path), self.sidecar)
        return self.path


@pytest.fixture
def episode_kit():
    """The functions and the maker of this module."""
    return SimpleNamespace(**{name: value for name, value in globals().items()
                              if not name.startswith('_')})  # fmt: skip


@pytest.fixture
def make_episode(tmp_path):
    """Write an episode of some seconds; its path."""

    def make(name='20260101-120000_s', seconds=4.0, folder=tmp_path, **sidecar):
        return Maker(folder / f'{name}.mcap', seconds, **sidecar).write()

    return make
