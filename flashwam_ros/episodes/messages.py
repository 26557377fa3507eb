# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded bytes as typed values, without ROS. All stamps are ROS time in ns."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mcap.records import Schema
from mcap.well_known import MessageEncoding, SchemaEncoding
from mcap_ros2.decoder import DecoderFactory

from flashwam_ros.episodes.schemas import schema_text
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.chunk_messages import (
    SECOND_NS,
    applied_from_msg,
    chunk_from_msg,
    time_ns,
)

_STAMP = struct.Struct('<iI')
_ENCAPSULATION = 4
_LENGTH = struct.Struct('<I')


class MessageError(ValueError):
    """Bytes that are not the message that their topic promises."""


@dataclass(frozen=True)
class JointSample:
    """Joints at one instant: stamp (ns), names, position (rad), velocity (rad/s; may be empty)."""

    stamp_ns: int
    names: tuple[str, ...]
    position: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True)
class DriverState:
    """One `driver_status`: see msg/DriverStatus.msg; `stamp_ns` in ns, times in s."""

    stamp_ns: int
    mode: str
    reason: str
    weight: float
    session: str
    chunk_index: int
    tick_lateness_s: tuple[float, float, float]
    limited_ticks: int
    tracking_error_rad: float
    events: tuple[str, ...]


@dataclass(frozen=True)
class PolicyState:
    """One `policy_status`: see msg/PolicyStatus.msg."""

    stamp_ns: int
    state: str
    reason: str
    session: str
    predicted: int
    grounded: int
    chunk_latency_s: float
    slack_s: float


@dataclass(frozen=True)
class Diagnostic:
    """One entry of a diagnostics message: level 0 fine, 1 warning, 2 error, 3 stale."""

    stamp_ns: int
    level: int
    name: str
    message: str
    values: dict[str, str]


@functools.cache
def decoder(kind: str) -> Callable[[bytes | memoryview], Any]:
    """CDR bytes of a type -> object with the message's fields as attributes."""
    schema = Schema(1, schema_text(kind).encode(), SchemaEncoding.ROS2, kind)
    decode = DecoderFactory().decoder_for(MessageEncoding.CDR, schema)
    return lambda data: decode(bytes(data))


def header_stamp_ns(data: bytes | memoryview) -> int:
    """Stamp of a message that begins with a header, without decoding the rest.

    Raises:
        MessageError: too short, or not little-endian.
    """
    if len(data) < _ENCAPSULATION + _STAMP.size or data[1] != 1:
        raise MessageError(f'{len(data)} bytes are not a little-endian message with a header')
    seconds, nanoseconds = _STAMP.unpack_from(data, _ENCAPSULATION)
    return seconds * SECOND_NS + nanoseconds


def image_jpeg(data: memoryview) -> memoryview:
    """The JPEG inside a `CompressedImage`, as a view.

    Raises:
        MessageError: the lengths inside do not fit.
    """
    try:
        at = _ENCAPSULATION + _STAMP.size
        for _ in ('frame_id', 'format'):
            at += -(at - _ENCAPSULATION) % 4
            at += _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        at += -(at - _ENCAPSULATION) % 4
        size = _LENGTH.unpack_from(data, at)[0]
    except struct.error as error:
        raise MessageError(f'not a CompressedImage: {error}') from error
    jpeg = memoryview(data)[at + _LENGTH.size : at + _LENGTH.size + size]
    if len(jpeg) != size:
        raise MessageError(f'a CompressedImage has {len(jpeg)} of {size} bytes')
    return jpeg


def joints(data: memoryview, kind: str) -> JointSample:
    """A `JointState`."""
    msg = decoder(kind)(data)
    position, velocity = np.array(msg.position, float), np.array(msg.velocity, float)
    return JointSample(stamp_ns(msg), tuple(msg.name), position, velocity)


def driver_state(data: memoryview, kind: str) -> DriverState:
    """A `DriverStatus`."""
    msg = decoder(kind)(data)
    return DriverState(
        stamp_ns(msg), msg.mode, msg.reason, msg.weight, msg.session, msg.chunk_index,
        (msg.tick_lateness_p50, msg.tick_lateness_p99, msg.tick_lateness_max),
        msg.limited_ticks, msg.tracking_error, tuple(msg.events),
    )  # fmt: skip


def policy_state(data: memoryview, kind: str) -> PolicyState:
    """A `PolicyStatus`."""
    msg = decoder(kind)(data)
    return PolicyState(
        stamp_ns(msg), msg.state, msg.reason, msg.session, msg.predicted, msg.grounded,
        msg.chunk_latency, msg.slack,
    )  # fmt: skip


def diagnostics(data: memoryview, kind: str) -> tuple[Diagnostic, ...]:
    """The entries of a `DiagnosticArray`."""
    msg = decoder(kind)(data)
    return tuple(
        Diagnostic(
            stamp_ns(msg), status.level, status.name, status.message,
            {value.key: value.value for value in status.values},
        )
        for status in msg.status
    )  # fmt: skip


def chunk(data: memoryview, kind: str) -> ActionChunk:
    """An `ActionChunk`, not validated against a contract."""
    return chunk_from_msg(decoder(kind)(data))


def applied(data: memoryview, kind: str) -> AppliedChunk:
    """An `AppliedActions`."""
    return applied_from_msg(decoder(kind)(data))


def json_text(data: memoryview, kind: str) -> dict:
    """The JSON object in a `String`.

    Raises:
        MessageError: no JSON object.
    """
    text = decoder(kind)(data).data
    try:
        value = json.loads(text)
    except ValueError as error:
        raise MessageError(f'not JSON: {text[:80]!r}') from error
    if not isinstance(value, dict):
        raise MessageError(f'not a JSON object: {text[:80]!r}')
    return value


def text_message(values: Mapping[str, Any]) -> bytes:
    """CDR bytes of a `String` that holds a JSON object."""
    text = json.dumps(values).encode() + b'\0'
    return b'\x00\x01\x00\x00' + _LENGTH.pack(len(text)) + text


# -- messages of any origin (decoded here, or received through ROS) ------------------------------


def stamp_ns(msg: Any) -> int:
    """The header's stamp in ns."""
    return time_ns(msg.header.stamp)
