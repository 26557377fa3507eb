# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is recorded: topics with their types, and the types' definitions in `ros2msg` text.

An episode carries the definitions of all its messages, so that any MCAP tool opens it without
this package.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from flashwam_ros.resources import share_path
from flashwam_ros.robot.contract import RobotContract

JOINT_STATES = 'joint_states'
JOINT_COMMANDS = 'joint_commands'
ACTION_CHUNK = 'action_chunk'
APPLIED = 'applied_actions'
DRIVER_STATUS = 'driver_status'
POLICY_STATUS = 'policy_status'
DIAGNOSTICS = '/diagnostics'
EPISODE_EVENT = 'episode_event'
SIM_STATE = 'sim_state'
COMPRESSED = '/image_raw/compressed'

JOINT_STATE_TYPE = 'sensor_msgs/msg/JointState'
IMAGE_TYPE = 'sensor_msgs/msg/CompressedImage'
STRING_TYPE = 'std_msgs/msg/String'

#: Definitions of the foreign types, comments left out, as in every ROS 2 release since Humble.
_FOREIGN = {
    'builtin_interfaces/msg/Time': 'int32 sec\nuint32 nanosec\n',
    'std_msgs/msg/Header': 'builtin_interfaces/Time stamp\nstring frame_id\n',
    STRING_TYPE: 'string data\n',
    JOINT_STATE_TYPE: (
        'std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\n'
        'float64[] effort\n'
    ),
    IMAGE_TYPE: 'std_msgs/Header header\nstring format\nuint8[] data\n',
    'diagnostic_msgs/msg/DiagnosticArray': 'std_msgs/Header header\nDiagnosticStatus[] status\n',
    'diagnostic_msgs/msg/DiagnosticStatus': (
        'byte OK=0\nbyte WARN=1\nbyte ERROR=2\nbyte STALE=3\nbyte level\nstring name\n'
        'string message\nstring hardware_id\nKeyValue[] values\n'
    ),
    'diagnostic_msgs/msg/KeyValue': 'string key\nstring value\n',
}
_NESTED = re.compile(r'^\s*((?:\w+/)?[A-Z]\w*)(?:\[[^\]]*\])?\s+\w+\s*(?:#.*)?$', re.MULTILINE)


@dataclass(frozen=True)
class Topic:
    """A recorded topic: name (relative to the namespace) and message type."""

    name: str
    type: str


def image_topic(camera_topic: str) -> str:
    """Topic of a camera's JPEG frames as they came off the wire."""
    return f'{camera_topic}{COMPRESSED}'


def recorded_topics(contract: RobotContract) -> tuple[Topic, ...]:
    """Everything that an episode of this robot holds."""
    return (
        *(Topic(image_topic(camera.topic), IMAGE_TYPE) for camera in contract.cameras),
        Topic(JOINT_STATES, JOINT_STATE_TYPE),
        Topic(JOINT_COMMANDS, JOINT_STATE_TYPE),
        Topic(ACTION_CHUNK, 'flashwam_ros/msg/ActionChunk'),
        Topic(APPLIED, 'flashwam_ros/msg/AppliedActions'),
        Topic(DRIVER_STATUS, 'flashwam_ros/msg/DriverStatus'),
        Topic(POLICY_STATUS, 'flashwam_ros/msg/PolicyStatus'),
        Topic(DIAGNOSTICS, 'diagnostic_msgs/msg/DiagnosticArray'),
        Topic(EPISODE_EVENT, STRING_TYPE),
        Topic(SIM_STATE, STRING_TYPE),
    )


def topic_key(topic: str, known: Sequence[str]) -> str | None:
    """The relative name of a recorded topic, whatever its namespace; None for a foreign one."""
    for name in sorted(known, key=len, reverse=True):
        if topic.strip('/') == name.strip('/') or topic.endswith('/' + name.strip('/')):
            return name
    return None


@functools.cache
def schema_text(kind: str) -> str:
    """The definition of a type followed by those of all types inside it.

    Args:
        kind: for example `sensor_msgs/msg/JointState`.

    Raises:
        KeyError: a type that is neither ours nor known here.
    """
    text = _definition(kind)
    seen, wanted = {kind}, _nested(kind)
    while wanted:
        inner = wanted.pop(0)
        if inner in seen:
            continue
        seen.add(inner)
        package, _, name = inner.split('/')
        text += f'{"=" * 80}\nMSG: {package}/{name}\n{_definition(inner)}'
        wanted += _nested(inner)
    return text


@functools.cache
def _definition(kind: str) -> str:
    package, _, name = kind.split('/')
    if package != 'flashwam_ros':
        return _FOREIGN[kind]
    return share_path('msg', f'{name}.msg').read_text(encoding='utf-8')


def _nested(kind: str) -> list[str]:
    package = kind.split('/')[0]
    names = _NESTED.findall(_definition(kind))
    return [
        '{}/msg/{}'.format(*(name.split('/') if '/' in name else (package, name)))
        for name in names
    ]
