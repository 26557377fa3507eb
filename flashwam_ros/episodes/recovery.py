# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Brings back an episode whose recorder was killed: cut after the last whole chunk, then indexed.

In place, so that it needs no room on a full disk; killed itself, it can be run again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from mcap.writer import MCAP0_MAGIC

from flashwam_ros.episodes.mcap_scan import (
    METADATA,
    McapDamagedError,
    Record,
    chunk_compression,
    chunk_content,
    map_file,
    messages,
    records,
    split_message,
    stream,
)
from flashwam_ros.episodes.messages import MessageError, json_text
from flashwam_ros.episodes.schemas import EPISODE_EVENT, STRING_TYPE, topic_key
from flashwam_ros.episodes.sidecar import (
    PART_SUFFIX,
    RECORDING,
    RECOVERED,
    SUFFIX,
    Sidecar,
    SidecarError,
    load_sidecar,
    save_sidecar,
    sidecar_path,
    sync_folder,
)

COMPLETING_S = 10.0
"""Within this time, a recorder that is alive completes the sidecar of a file that it renamed."""
_FOOTER_START = struct.Struct('<BQQQ')


@dataclass
class _Index:
    """What the end of an MCAP file says about the rest of it."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkIndex] = field(default_factory=list)
    metadata: list[tuple[MetadataIndex, Metadata]] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    first_ns: int = 0
    last_ns: int = 0


@dataclass(frozen=True)
class Recovered:
    """What came back: the file, messages by topic, stamps of first and last, bytes cut off."""

    path: Path
    messages: Mapping[str, int]
    first_ns: int
    last_ns: int
    cut_bytes: int
    metadata: Mapping[str, Mapping[str, str]]


def recover(file: Path) -> Recovered:
    """Make a whole episode out of what a killed recorder left: file, sidecar and name.

    Args:
        file: a `.part`, or an `.mcap` whose sidecar was never completed.

    Raises:
        McapDamagedError: neither of these, of our recorder, or one is still writing it.
        OSError: the file cannot be written.
    """
    path = file
    if file.name.endswith(PART_SUFFIX):
        path = file.with_name(file.name.removesuffix(PART_SUFFIX) + SUFFIX)
        if in_use(file):
            raise McapDamagedError(f'{file} is still being written')
        if path.exists():
            raise McapDamagedError(f'{path} exists already; move one of the two away')
    else:
        _require_left_behind(file)
    found = complete_file(file)
    # The sidecar first: killed between the two, this still is a `.part` that can be recovered.
    save_sidecar(sidecar_path(path), _sidecar(file, found))
    if path != file:
        os.rename(file, path)
        sync_folder(path.parent)
    return dataclasses.replace(found, path=path)


def _require_left_behind(path: Path) -> None:
    try:
        state = load_sidecar(sidecar_path(path)).state if path.suffix == SUFFIX else ''
    except SidecarError:
        state = ''
    if state != RECORDING:
        raise McapDamagedError(f'{path} is neither the {PART_SUFFIX} file of a killed recorder '
                               f'nor an {SUFFIX} file whose sidecar says {RECORDING!r}')
    if time.time() - path.stat().st_mtime < COMPLETING_S:
        raise McapDamagedError(f'{path} was written less than {COMPLETING_S:.0f} s ago: its '
                               'recorder may be completing it; try again later')


def in_use(part: Path) -> bool:
    """Whether a recorder is writing this file now.

    Raises:
        FileNotFoundError: the recorder has completed it meanwhile, which renames it.
    """
    with open(part, 'rb') as file:
        try:
            # Shared: two that ask at the same time must not take each other for a recorder.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def complete_file(part: Path) -> Recovered:
    """Cut a file after its last whole chunk and give it an index, in place.

    Raises:
        McapDamagedError: not an MCAP file of our recorder.
        OSError: the file cannot be written.
    """
    size = part.stat().st_size
    index, end, tail = _scan(map_file(part))
    with open(part, 'r+b') as file:
        file.truncate(end)
        file.seek(end)
        file.write(tail)
        file.write(_ending(index, end + len(tail)))
        file.flush()
        os.fsync(file.fileno())
    counts = {index.channels[ident].topic: n for ident, n in sorted(index.counts.items())}
    texts = {entry.name: dict(entry.metadata) for _, entry in index.metadata}
    return Recovered(part, counts, index.first_ns, index.last_ns, size - end, texts)


def _sidecar(file: Path, found: Recovered) -> Sidecar:
    """The sidecar that the recorder wrote at the start, else its copy inside the file."""
    beside = sidecar_path(file)
    try:
        sidecar = load_sidecar(beside)
    except SidecarError:
        text = found.metadata.get(METADATA, {}).get('sidecar', '')
        try:
            sidecar = Sidecar.from_dict(json.loads(text))
        except ValueError:
            sidecar = Sidecar(beside.stem, beside.stem, began_ns=found.first_ns)
    return dataclasses.replace(
        sidecar, state=RECOVERED, end_reason='killed', ended_ns=found.last_ns,
        messages=dict(found.messages),
        verdict=_verdict(file, sidecar.session) or sidecar.verdict,
    )  # fmt: skip


def _verdict(file: Path, session: str) -> dict | None:
    """What the end of the rollout said, if it came before the recorder was killed."""
    verdict = None
    for message in messages(file):
        if topic_key(message.topic, (EPISODE_EVENT,)):
            try:
                event = json_text(message.data, STRING_TYPE)
            except MessageError:
                continue  # the audit's business; the episode comes back all the same
            if event.get('event') == 'end' and event.get('session') == session:
                verdict = event.get('verdict') or verdict
    return verdict


# -- what is there --------------------------------------------------------------------------------


def _scan(data: memoryview) -> tuple[_Index, int, bytes]:
    """Index of the whole records, where to cut, and message indexes to put after the last chunk.

    A chunk is followed by one message index per channel; those of the last chunk may be missing,
    so they are always made anew.
    """
    index, end, tail = _Index(), len(MCAP0_MAGIC), b''
    for record in records(data):
        if record.opcode in (Opcode.DATA_END, Opcode.FOOTER):
            break
        if record.opcode == Opcode.MESSAGE_INDEX:
            continue
        if record.opcode == Opcode.CHUNK:
            try:
                tail = _add_chunk(index, record)
            except McapDamagedError:
                if index.chunks:
                    break
                raise
        elif record.opcode == Opcode.METADATA:
            entry = Metadata.read(stream(record.content))
            place = MetadataIndex(
                offset=record.offset, length=record.end - record.offset, name=entry.name
            )
            index.metadata.append((place, entry))
        end = record.end
    return index, end, tail


def _add_chunk(index: _Index, record: Record) -> bytes:
    if chunk_compression(record.content):
        raise McapDamagedError('compressed chunks are not of our recorder: use `mcap recover`')
    inside = chunk_content(record.content)
    places: dict[int, MessageIndex] = {}
    stamps = []
    for item in records(inside, 0):
        if item.opcode == Opcode.SCHEMA:
            schema = Schema.read(stream(item.content))
            index.schemas[schema.id] = schema
        elif item.opcode == Opcode.CHANNEL:
            channel = Channel.read(stream(item.content))
            index.channels[channel.id] = channel
        elif item.opcode == Opcode.MESSAGE:
            ident, log_ns, _, _ = split_message(item.content)
            place = places.setdefault(ident, MessageIndex(ident, []))
            place.records.append((log_ns, item.offset))
            index.counts[ident] += 1
            stamps.append(log_ns)
    first, last = min(stamps, default=0), max(stamps, default=0)
    index.first_ns = min(index.first_ns or first, first)
    index.last_ns = max(index.last_ns, last)
    builder, offsets = RecordBuilder(), {}
    for ident, place in places.items():
        offsets[ident] = record.end + builder.count
        place.write(builder)
    tail = builder.end()
    index.chunks.append(
        ChunkIndex(
            chunk_start_offset=record.offset, chunk_length=record.end - record.offset,
            message_start_time=first, message_end_time=last,
            message_index_offsets=offsets, message_index_length=len(tail),
            compression='', compressed_size=len(inside), uncompressed_size=len(inside),
        )
    )  # fmt: skip
    return tail


# -- what is added --------------------------------------------------------------------------------


def _ending(index: _Index, start: int) -> bytes:
    """Everything after the data: its end, the summary, the footer."""
    end = RecordBuilder()
    DataEnd(0).write(end)
    data_end = end.end()
    summary_start = start + len(data_end)
    groups = (
        (Opcode.SCHEMA, list(index.schemas.values())),
        (Opcode.CHANNEL, list(index.channels.values())),
        (Opcode.STATISTICS, [_statistics(index)]),
        (Opcode.CHUNK_INDEX, index.chunks),
        (Opcode.METADATA_INDEX, [place for place, _ in index.metadata]),
    )
    builder, offsets = RecordBuilder(), []
    for opcode, entries in groups:
        group_start = builder.count
        for entry in entries:
            entry.write(builder)
        offsets.append(
            SummaryOffset(
                group_opcode=opcode, group_start=summary_start + group_start,
                group_length=builder.count - group_start,
            )
        )  # fmt: skip
    offset_start = summary_start + builder.count
    for offset in offsets:
        offset.write(builder)
    summary = builder.end()
    footer = _FOOTER_START.pack(Opcode.FOOTER, 8 + 8 + 4, summary_start, offset_start)
    Footer(
        summary_start=summary_start, summary_offset_start=offset_start,
        summary_crc=zlib.crc32(footer, zlib.crc32(summary)),
    ).write(builder)  # fmt: skip
    return data_end + summary + builder.end() + MCAP0_MAGIC


def _statistics(index: _Index) -> Statistics:
    return Statistics(
        attachment_count=0, channel_count=len(index.channels),
        channel_message_counts=dict(index.counts), chunk_count=len(index.chunks),
        message_count=sum(index.counts.values()), message_start_time=index.first_ns,
        message_end_time=index.last_ns, metadata_count=len(index.metadata),
        schema_count=len(index.schemas),
    )  # fmt: skip
