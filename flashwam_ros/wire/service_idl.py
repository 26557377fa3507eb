# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DDS types of the robot's services and of its battery, as in the vendor's SDK."""

from dataclasses import dataclass, field

from cyclonedds.idl import IdlStruct, types
from cyclonedds.idl import annotations as annotate

_u8, _u16, _u32, _i16, _i32, _i64, _array = (
    types.uint8, types.uint16, types.uint32, types.int16, types.int32, types.int64,
    types.array,
)  # fmt: skip


@dataclass
@annotate.final
@annotate.autoid('sequential')
class Identity(IdlStruct, typename='unitree_api.msg.dds_.RequestIdentity_'):
    """Which call."""

    id: _i64 = 0
    api_id: _i64 = 0


@dataclass
@annotate.final
@annotate.autoid('sequential')
class Lease(IdlStruct, typename='unitree_api.msg.dds_.RequestLease_'):
    """Unused here."""

    id: _i64 = 0


@dataclass
@annotate.final
@annotate.autoid('sequential')
class CallPolicy(IdlStruct, typename='unitree_api.msg.dds_.RequestPolicy_'):
    """Unused here."""

    priority: _i32 = 0
    noreply: bool = False


@dataclass
@annotate.final
@annotate.autoid('sequential')
class RequestHeader(IdlStruct, typename='unitree_api.msg.dds_.RequestHeader_'):
    """Head of a request."""

    identity: Identity = field(default_factory=Identity)
    lease: Lease = field(default_factory=Lease)
    policy: CallPolicy = field(default_factory=CallPolicy)


@dataclass
@annotate.final
@annotate.autoid('sequential')
class Request(IdlStruct, typename='unitree_api.msg.dds_.Request_'):
    """rt/api/SERVICE/request; the parameter is JSON."""

    header: RequestHeader = field(default_factory=RequestHeader)
    parameter: str = ''
    binary: types.sequence[_u8] = field(default_factory=list)


@dataclass
@annotate.final
@annotate.autoid('sequential')
class Status(IdlStruct, typename='unitree_api.msg.dds_.ResponseStatus_'):
    """0 or an error code."""

    code: _i32 = 0


@dataclass
@annotate.final
@annotate.autoid('sequential')
class ResponseHeader(IdlStruct, typename='unitree_api.msg.dds_.ResponseHeader_'):
    """Head of a response."""

    identity: Identity = field(default_factory=Identity)
    status: Status = field(default_factory=Status)


@dataclass
@annotate.final
@annotate.autoid('sequential')
class Response(IdlStruct, typename='unitree_api.msg.dds_.Response_'):
    """rt/api/SERVICE/response; the data are JSON."""

    header: ResponseHeader = field(default_factory=ResponseHeader)
    data: str = ''
    binary: types.sequence[_u8] = field(default_factory=list)


@dataclass
@annotate.final
@annotate.autoid('sequential')
class BatteryState(IdlStruct, typename='unitree_hg.msg.dds_.BmsState_'):
    """rt/lf/bmsstate; `soc` is the charge in percent."""

    version_high: _u8 = 0
    version_low: _u8 = 0
    fn: _u8 = 0
    cell_vol: _array[_u16, 40] = field(default_factory=lambda: [0] * 40)
    bmsvoltage: _array[_u32, 3] = field(default_factory=lambda: [0] * 3)
    current: _i32 = 0
    soc: _u8 = 0
    soh: _u8 = 0
    temperature: _array[_i16, 12] = field(default_factory=lambda: [0] * 12)
    cycle: _u16 = 0
    manufacturer_date: _u16 = 0
    bmsstate: _array[_u32, 5] = field(default_factory=lambda: [0] * 5)
    reserve: _array[_u32, 3] = field(default_factory=lambda: [0] * 3)
