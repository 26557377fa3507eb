# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Walks an MCAP file record by record, and stops where it was cut off.

The file is mapped, not read: of an uncompressed chunk, as our recorder writes them, every message
is a view into the file, so that the pictures of a long episode cost memory only when looked at.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Schema
from mcap.stream_reader import get_chunk_data_stream
from mcap.writer import MCAP0_MAGIC

METADATA = 'flashwam'
"""Name of the metadata record that holds a copy of the sidecar as it was at the start."""
_PREFIX = struct.Struct('<BQ')
_MESSAGE = struct.Struct('<HIQQ')
_CHUNK_START = struct.Struct('<QQQII')


class McapDamagedError(ValueError):
    """The file is not an MCAP file, or a part that must be whole is not."""


@dataclass(frozen=True)
class Record:
    """One record: where it begins in the file or chunk, its opcode, a view of its content."""

    offset: int
    opcode: int
    content: memoryview

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + _PREFIX.size + len(self.content)


@dataclass(frozen=True)
class RawMessage:
    """One message: topic and type, when it was written down and published (ns), CDR bytes."""

    topic: str
    type: str
    log_ns: int
    publish_ns: int
    data: memoryview


def map_file(path: Path) -> memoryview:
    """The bytes of a file, loaded when touched.

    Raises:
        McapDamagedError: empty, or does not begin as an MCAP file does.
    """
    with open(path, 'rb') as file:
        head = file.read(len(MCAP0_MAGIC))
        if head != MCAP0_MAGIC:
            raise McapDamagedError(f'{path} is not an MCAP file: it begins with {head!r}')
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def records(data: memoryview, start: int = len(MCAP0_MAGIC)) -> Iterator[Record]:
    """Whole records from `start` on; ends at the footer, or where the bytes end too early."""
    at = start
    while at + _PREFIX.size <= len(data):
        opcode, length = _PREFIX.unpack_from(data, at)
        end = at + _PREFIX.size + length
        if opcode == 0 or end > len(data):
            return
        yield Record(at, opcode, data[at + _PREFIX.size : end])
        if opcode == Opcode.FOOTER:
            return
        at = end


def stream(content: memoryview) -> ReadDataStream:
    """A record's content as the `mcap` package reads it."""
    return ReadDataStream(BytesIO(content))


def chunk_compression(content: memoryview) -> str:
    """Name of a chunk's compression, '' for none."""
    length = _CHUNK_START.unpack_from(content)[-1]
    return str(content[_CHUNK_START.size : _CHUNK_START.size + length], 'utf-8')


def chunk_content(content: memoryview) -> memoryview:
    """The records inside a chunk, as bytes.

    Raises:
        McapDamagedError: the checksum does not fit.
    """
    _, _, size, crc, _ = _CHUNK_START.unpack_from(content)
    inside = memoryview(b'')
    if chunk_compression(content):
        chunk = Chunk.read(stream(content))
        inside = memoryview(get_chunk_data_stream(chunk)[0].read(size))
    elif len(content) >= _CHUNK_START.size + 8 + size:
        inside = content[_CHUNK_START.size + 8 : _CHUNK_START.size + 8 + size]
    if len(inside) != size or (crc and zlib.crc32(inside) != crc):
        raise McapDamagedError('a chunk does not fit its checksum')
    return inside


def split_message(content: memoryview) -> tuple[int, int, int, memoryview]:
    """Channel id, log time, publish time (ns) and data of a message record."""
    channel, _, log_ns, publish_ns = _MESSAGE.unpack_from(content)
    return channel, log_ns, publish_ns, content[_MESSAGE.size :]


def messages(path: Path) -> Iterator[RawMessage]:
    """All messages of a file in the order in which they were written.

    A file that was cut off, a `.part`, is read up to its last whole chunk.

    Raises:
        McapDamagedError: not an MCAP file, or a damaged chunk.
    """
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    for record in records(map_file(path)):
        if record.opcode == Opcode.DATA_END:
            return
        if record.opcode == Opcode.CHUNK:
            inside = records(chunk_content(record.content), 0)
        else:
            inside = iter((record,))
        for item in inside:
            if item.opcode == Opcode.SCHEMA:
                schema = Schema.read(stream(item.content))
                schemas[schema.id] = schema
            elif item.opcode == Opcode.CHANNEL:
                channel = Channel.read(stream(item.content))
                channels[channel.id] = channel
            elif item.opcode == Opcode.MESSAGE:
                ident, log_ns, publish_ns, data = split_message(item.content)
                channel = channels[ident]
                schema = schemas.get(channel.schema_id)
                yield RawMessage(
                    channel.topic, schema.name if schema else '', log_ns, publish_ns, data
                )
