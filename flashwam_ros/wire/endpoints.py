# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Topic names, types and quality of service of the robot's wire."""

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from flashwam_ros.wire import idl

SIDES = ('left', 'right')
LOWSTATE = 'rt/lowstate'
ARM_SDK = 'rt/arm_sdk'
SIM_STATE = 'rt/sim_state'
SIM_STATE_CMD = 'rt/sim_state_cmd'
RESET_POSE = 'rt/reset_pose/cmd'
GRIPPER_CMD = {side: f'rt/dex1/{side}/cmd' for side in SIDES}
GRIPPER_STATE = {side: f'rt/dex1/{side}/state' for side in SIDES}
COMMAND_TOPICS = (ARM_SDK, *GRIPPER_CMD.values())
STATE_TOPICS = (LOWSTATE, *GRIPPER_STATE.values())

_TYPES = {
    LOWSTATE: idl.LowStateType,
    ARM_SDK: idl.LowCmdType,
    SIM_STATE: idl.TextType,
    SIM_STATE_CMD: idl.TextType,
    RESET_POSE: idl.TextType,
    **{name: idl.GripperCmdType for name in GRIPPER_CMD.values()},
    **{name: idl.GripperStateType for name in GRIPPER_STATE.values()},
}
_TEXT_DEPTH = 32
# Reliable, so that a reader of either kind matches; a control tick must not wait for a slow one.
_WRITER = Qos(
    Policy.Reliability.Reliable(max_blocking_time=duration(milliseconds=1)),
    Policy.Durability.Volatile,
    Policy.History.KeepLast(1),
)
_READER = Qos(
    Policy.Reliability.BestEffort, Policy.Durability.Volatile, Policy.History.KeepLast(1)
)
# Requests to the simulator are events: none may be lost or overtaken.
_TEXT = Qos(
    Policy.Reliability.Reliable(max_blocking_time=duration(milliseconds=100)),
    Policy.Durability.Volatile,
    Policy.History.KeepLast(_TEXT_DEPTH),
)


def type_name(name: str) -> str:
    """DDS type of a topic as discovery shows it, like `unitree_hg::msg::dds_::LowState_`."""
    return _TYPES[name].__idl_typename__.replace('.', '::')


def writer(participant: DomainParticipant, name: str) -> DataWriter:
    """A writer on a topic of the wire."""
    topic = Topic(participant, name, _TYPES[name])
    return DataWriter(participant, topic, _TEXT if _is_text(name) else _WRITER)


def reader(participant: DomainParticipant, name: str) -> DataReader:
    """A reader on a topic of the wire; everything but text keeps the newest sample only."""
    topic = Topic(participant, name, _TYPES[name])
    return DataReader(participant, topic, _request_qos(name) if _is_text(name) else _READER)


def take_raw(source: DataReader) -> bytes | None:
    """The newest unread sample's CDR bytes, None when there is none (or its writer left)."""
    for sample in source.take(1):
        raw = getattr(sample, 'raw', None)
        if raw:
            return raw
    return None


def take_texts(source: DataReader) -> list[str]:
    """All unread texts, oldest first."""
    samples = source.take(_TEXT_DEPTH)
    return [sample.data for sample in samples if isinstance(sample, idl.TextType)]


def _is_text(name: str) -> bool:
    return _TYPES[name] is idl.TextType


def _request_qos(name: str) -> Qos:
    return _READER if name == SIM_STATE else _TEXT
