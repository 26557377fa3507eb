# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes one episode as an MCAP file from a thread of its own; the caller never waits.

Chunks are not compressed: JPEGs do not shrink, the rest is small, and a reader may map the file.
A file is `NAME.mcap.part` until it is complete, on the disk and renamed. What was given more than
`FLUSH_S` ago has left this process, so that a kill costs less than a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcap.well_known import MessageEncoding, Profile, SchemaEncoding
from mcap.writer import CompressionType, Writer

from flashwam_ros.episodes.mcap_scan import METADATA, McapDamagedError
from flashwam_ros.episodes.recovery import complete_file
from flashwam_ros.episodes.schemas import Topic, schema_text
from flashwam_ros.episodes.sidecar import SUFFIX, sync_folder

log = logging.getLogger(__name__)

FLUSH_S = 0.25
SYNC_S = 0.5
CHUNK_BYTES = 1 << 20
QUEUE_BYTES = 64 << 20
"""About ten seconds of three 640x480 cameras at 30 Hz."""
MIN_FREE_BYTES = 1 << 30
_LAST_NS = (1 << 64) - 1
_TORN = ('disk_error', 'writer_error')
"""Ends after which the last chunk may have been written, or made, by half."""

Observer = Callable[[str, int, int, bytes], None]
"""Sees (topic, publish_ns, log_ns, data) of each written message, in the writer's thread."""


class RecordingError(RuntimeError):
    """An episode cannot be written; the message says why and what to do."""


@dataclass(frozen=True)
class Written:
    """What came of a file: final path, why it ended, numbers of messages by topic, bytes."""

    path: Path
    reason: str
    messages: Mapping[str, int]
    dropped: Mapping[str, int]
    size: int


def free_bytes(folder: Path) -> int:
    """Free space on the disk that holds a folder."""
    return shutil.disk_usage(folder).free


class EpisodeWriter:
    """One file, from start to the atomic rename.

    Args:
        path: final path, ending in `.mcap`; must not exist.
        topics: everything that may be put.
        metadata: texts stored at the beginning of the file.
        observer: sees every written message; None for nobody. Its errors are logged, not raised.
        queue_bytes: messages are dropped, and counted, beyond so much waiting.
        min_free: free disk space to leave; below it the episode ends by itself.
        free: tells the free space of a folder.

    Raises:
        RecordingError: too little free space, or the file cannot be made.
    """

    def __init__(
        self, path: Path, topics: Sequence[Topic], metadata: Mapping[str, str],
        observer: Observer | None = None, *, queue_bytes: int = QUEUE_BYTES,
        min_free: int = MIN_FREE_BYTES, free: Callable[[Path], int] = free_bytes,
    ):  # fmt: skip
        if path.suffix != SUFFIX:
            raise ValueError(f'{path} does not end in {SUFFIX}')
        self.path = path
        self.part = path.with_name(path.name + '.part')
        self._observer, self._queue_bytes = observer, queue_bytes
        self._min_free, self._free = min_free, free
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        # Given and taken are each counted by one side only: no lock is shared with the disk.
        self._give = threading.Lock()
        self._given = self._taken = 0
        self._reason = ''
        self._closing = threading.Event()
        self.written: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._open(topics, metadata)
        self._threads = [
            threading.Thread(target=self._run, name='episode-writer', daemon=True),
            threading.Thread(target=self._sync, name='episode-sync', daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def size(self) -> int:
        """Bytes of messages written so far."""
        return self._taken

    @property
    def ended(self) -> str:
        """Why writing has ended by itself, '' while it goes on."""
        return self._reason

    def put(self, topic: str, publish_ns: int, log_ns: int, data: bytes) -> bool:
        """Hand over one message; never waits for the disk.

        Args:
            topic: one of the topics.
            publish_ns: the message's own stamp, ROS time; kept within 0..2**64-1.
            log_ns: when it was received, ROS time; the same.
            data: CDR bytes.

        Returns:
            False when it was dropped: the queue is full, or writing has ended.

        Raises:
            KeyError: not one of the topics.
        """
        if topic not in self._channels:
            raise KeyError(f'{topic} is not one of the recorded topics {list(self._channels)}')
        with self._give:
            if self._closing.is_set() or self._reason:
                return False
            if self._given - self._taken + len(data) > self._queue_bytes:
                self.dropped[topic] += 1
                return False
            self._given += len(data)
            # The format has no room for other stamps: one wrong stamp would end the episode.
            publish_ns, log_ns = (min(max(ns, 0), _LAST_NS) for ns in (publish_ns, log_ns))
            self._queue.put((topic, publish_ns, log_ns, data))
        return True

    def close(self, reason: str = 'stopped') -> Written:
        """Write what waits, complete the file, put it on the disk and give it its name.

        Raises:
            RecordingError: that failed; the `.part` stays and can be recovered.
        """
        with self._give:
            self._closing.set()
        self._queue.put(None)
        for thread in self._threads:
            thread.join()
        try:
            self._finish()
        except (OSError, McapDamagedError) as error:
            raise RecordingError(
                f'{self.part} could not be completed ({error}): free some space, then '
                f'`flashwam episodes recover {self.part}`'
            ) from error
        return Written(
            self.path, self._reason or reason, dict(self.written), dict(self.dropped),
            self.path.stat().st_size,
        )  # fmt: skip

    def _finish(self) -> None:
        self._drop_queue()
        whole = not self._reason.startswith(_TORN)
        if whole:
            try:
                self._writer.finish()
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                self._end(f'disk_error: {error}')
                whole = False
        # Without room this fails, too: what it still holds lies behind the last whole chunk.
        with contextlib.suppress(OSError):
            self._file.close()
        if not whole:
            # The last chunk may be torn, and what comes behind it is never read: cutting it off
            # makes room for the index.
            found = Counter(complete_file(self.part).messages)
            self.dropped += self.written - found
            self.written = found
        os.rename(self.part, self.path)
        sync_folder(self.path.parent)

    def _drop_queue(self) -> None:
        """Count what was accepted but never written, because writing had ended."""
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if item is not None:
                    self.dropped[item[0]] += 1

    # -- the writer's thread ----------------------------------------------------------------------

    def _open(self, topics: Sequence[Topic], metadata: Mapping[str, str]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            free = self._free(self.path.parent)
            if free < self._min_free:
                raise RecordingError(
                    f'disk_full: {free / 1e9:.2f} GB free in {self.path.parent}, '
                    f'{self._min_free / 1e9:.2f} GB are needed: `flashwam episodes prune`, or '
                    'another folder'
                )
            if self.path.exists():
                raise RecordingError(f'{self.path} exists already')
            self._file = open(self.part, 'xb')  # noqa: SIM115 (closed by `close`)
            # Tells `recover` that somebody is still writing; a kill takes it away. The file is
            # new: only somebody who asks `in_use` can hold it, and not for long.
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            raise RecordingError(f'cannot write {self.part}: {error}') from error
        self._writer = Writer(
            self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.NONE
        )
        self._writer.start(Profile.ROS2, 'flashwam_ros')
        self._writer.add_metadata(METADATA, dict(metadata))
        schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        for topic in topics:
            if topic.type not in schemas:
                schemas[topic.type] = self._writer.register_schema(
                    topic.type, SchemaEncoding.ROS2, schema_text(topic.type).encode()
                )
            self._channels[topic.name] = self._writer.register_channel(
                topic.name, MessageEncoding.CDR, schemas[topic.type],
                {'offered_qos_profiles': ''},
            )  # fmt: skip
        self._file.flush()
        sync_folder(self.path.parent)

    def _run(self) -> None:
        flush_at = time.monotonic() + FLUSH_S
        try:
            while not self._reason:
                try:
                    item = self._queue.get(timeout=max(0.0, flush_at - time.monotonic()))
                except queue.Empty:
                    item = ()
                if item is None:
                    return
                if item:
                    self._write(*item)
                if time.monotonic() >= flush_at:
                    self._flush()
                    flush_at = time.monotonic() + FLUSH_S
        except OSError as error:
            self._end(f'disk_error: {error}')
        except Exception as error:
            log.exception('%s: the writer failed', self.path.name)
            self._end(f'writer_error: {type(error).__name__}: {error}')

    def _write(self, topic: str, publish_ns: int, log_ns: int, data: bytes) -> None:
        self._taken += len(data)
        sequence = self.written[topic]
        self.written[topic] += 1  # first: of one that fails, the end finds that it is lost
        self._writer.add_message(self._channels[topic], log_ns, data, publish_ns, sequence)
        if self._observer is not None:
            try:
                self._observer(topic, publish_ns, log_ns, data)
            except Exception:
                log.exception('a recorded message of %s could not be looked at', topic)

    def _sync(self) -> None:
        # Apart from the writing: a slow disk may take longer for this than a kill may cost.
        while not self._closing.wait(SYNC_S):
            try:
                os.fdatasync(self._file.fileno())
            except OSError as error:
                self._end(f'disk_error: {error}')
                return

    def _flush(self) -> None:
        self._writer.flush()
        free = self._free(self.path.parent)
        if free < self._min_free / 2:
            self._end(f'disk_full: {free / 1e6:.0f} MB free in {self.path.parent}')

    def _end(self, reason: str) -> None:
        if not self._reason:
            self._reason = reason
            log.error('recording of %s ends: %s', self.path.name, reason)
