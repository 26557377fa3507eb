# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DDS types of the wire: names and structure of the vendor's SDK, content as raw bytes.

DDS matches types by name and structure (a `temperature` declared int8 instead of uint8 receives
nothing, silently), so every nested type is declared here as in the SDK. The four top-level types
override the generic codec and carry `raw`, the CDR bytes that `flashwam_ros.wire.cdr` views.
"""

from cyclonedds.idl import IdlStruct, types
from cyclonedds.idl import annotations as annotate

_u8, _u32, _i16, _f32, _array = (
    types.uint8, types.uint32, types.int16, types.float32, types.array,
)  # fmt: skip


def _raw(cls: type) -> type:
    """Carry CDR bytes with header past the generic codec of an IDL class.

    A decorator, not a base class: a base would become part of the DDS type.
    """

    def __init__(self: object, raw: bytes) -> None:
        self.raw = raw

    def serialize(self: object, *_args: object, **_kwargs: object) -> bytes:
        return self.raw

    def deserialize(cls: type, data: bytes, *_args: object, **_kwargs: object) -> object:
        return cls(data)

    def deserialize_key(cls: type, *_args: object, **_kwargs: object) -> object:
        # A sample without data says that a writer left; these types have no key.
        return cls(b'')

    cls.__init__ = __init__
    cls.serialize = serialize
    cls.deserialize = classmethod(deserialize)
    cls.deserialize_key = classmethod(deserialize_key)
    return cls


@annotate.final
@annotate.autoid('sequential')
class HgMotorCmd(IdlStruct, typename='unitree_hg.msg.dds_.MotorCmd_'):
    """One motor's command."""

    mode: _u8
    q: _f32
    dq: _f32
    tau: _f32
    kp: _f32
    kd: _f32
    reserve: _u32


@annotate.final
@annotate.autoid('sequential')
class HgMotorState(IdlStruct, typename='unitree_hg.msg.dds_.MotorState_'):
    """One motor's state."""

    mode: _u8
    q: _f32
    dq: _f32
    ddq: _f32
    tau_est: _f32
    temperature: _array[_i16, 2]
    vol: _f32
    sensor: _array[_u32, 2]
    motorstate: _u32
    reserve: _array[_u32, 4]


@annotate.final
@annotate.autoid('sequential')
class HgImuState(IdlStruct, typename='unitree_hg.msg.dds_.IMUState_'):
    """The pelvis IMU."""

    quaternion: _array[_f32, 4]
    gyroscope: _array[_f32, 3]
    accelerometer: _array[_f32, 3]
    rpy: _array[_f32, 3]
    temperature: _i16


@_raw
@annotate.final
@annotate.autoid('sequential')
class LowCmdType(IdlStruct, typename='unitree_hg.msg.dds_.LowCmd_'):
    """rt/arm_sdk and rt/lowcmd; view with `cdr.LowCmd`."""

    mode_pr: _u8
    mode_machine: _u8
    motor_cmd: _array[HgMotorCmd, 35]
    reserve: _array[_u32, 4]
    crc: _u32


@_raw
@annotate.final
@annotate.autoid('sequential')
class LowStateType(IdlStruct, typename='unitree_hg.msg.dds_.LowState_'):
    """rt/lowstate; view with `cdr.LowState`."""

    version: _array[_u32, 2]
    mode_pr: _u8
    mode_machine: _u8
    tick: _u32
    imu_state: HgImuState
    motor_state: _array[HgMotorState, 35]
    wireless_remote: _array[_u8, 40]
    reserve: _array[_u32, 4]
    crc: _u32


@annotate.final
@annotate.autoid('sequential')
class GoMotorCmd(IdlStruct, typename='unitree_go.msg.dds_.MotorCmd_'):
    """One gripper motor's command."""

    mode: _u8
    q: _f32
    dq: _f32
    tau: _f32
    kp: _f32
    kd: _f32
    reserve: _array[_u32, 3]


@annotate.final
@annotate.autoid('sequential')
class GoMotorState(IdlStruct, typename='unitree_go.msg.dds_.MotorState_'):
    """One gripper motor's state."""

    mode: _u8
    q: _f32
    dq: _f32
    ddq: _f32
    tau_est: _f32
    q_raw: _f32
    dq_raw: _f32
    ddq_raw: _f32
    temperature: _u8
    lost: _u32
    reserve: _array[_u32, 2]


@_raw
@annotate.final
@annotate.autoid('sequential')
class GripperCmdType(IdlStruct, typename='unitree_go.msg.dds_.MotorCmds_'):
    """rt/dex1/*/cmd; view with `cdr.GripperCmd`."""

    cmds: types.sequence[GoMotorCmd]


@_raw
@annotate.final
@annotate.autoid('sequential')
class GripperStateType(IdlStruct, typename='unitree_go.msg.dds_.MotorStates_'):
    """rt/dex1/*/state; view with `cdr.GripperState`."""

    states: types.sequence[GoMotorState]


@annotate.final
@annotate.autoid('sequential')
class TextType(IdlStruct, typename='std_msgs.msg.dds_.String_'):
    """Text topics of the simulator (rt/sim_state, rt/sim_state_cmd, rt/reset_pose/cmd)."""

    data: str

    def __init__(self, data: str) -> None:
        self.data = data
