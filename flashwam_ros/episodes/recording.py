# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder without ROS: one episode after the other, each with file, sidecar and audit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flashwam_ros.episodes.audit import Auditor, Quality
from flashwam_ros.episodes.mcap_writer import (
    MIN_FREE_BYTES,
    EpisodeWriter,
    RecordingError,
    Written,
    free_bytes,
)
from flashwam_ros.episodes.messages import text_message
from flashwam_ros.episodes.schemas import EPISODE_EVENT, Topic
from flashwam_ros.episodes.sidecar import (
    CLOSED,
    SUFFIX,
    Sidecar,
    SidecarError,
    change_sidecar,
    save_sidecar,
    sidecar_path,
)
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.wam.config import MANIFEST

log = logging.getLogger(__name__)

AUDIT_NS = 2_000_000_000
CLOSING = 'closing'


@dataclass(frozen=True)
class RecorderState:
    """What the recorder is doing, as it is published.

    Attributes:
        state: 'idle', 'recording', 'closing' (the last episode is being put on the disk and
            judged) or 'error' (the last start was refused, or it ended badly).
        reason: why, in words; the end of the last episode while idle or closing.
        episode: path of the current episode, else of the last one.
        session: its session.
        kind: 'rollout' or 'manual'.
        seconds: recorded so far.
        messages: written so far.
        size: bytes written so far.
        dropped: lost messages by topic.
        free: bytes free on the disk.
        score: of the audit so far, None before the first one.
        level: 'green', 'amber', 'red' or ''.
        findings: named reasons in words.
    """

    state: str
    reason: str = ''
    episode: str = ''
    session: str = ''
    kind: str = ''
    seconds: float = 0.0
    messages: int = 0
    size: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    free: int = 0
    score: int | None = None
    level: str = ''
    findings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))


class _Current:
    """One episode while it is recorded."""

    def __init__(self, sidecar: Sidecar, auditor: Auditor):
        self.sidecar = sidecar
        self.auditor = auditor
        self.quality: Quality | None = None
        self.writer: EpisodeWriter | None = None
        self._audited_ns = sidecar.began_ns

    def look(self, topic: str, publish_ns: int, log_ns: int, data: bytes) -> None:
        """In the writer's thread: what is written is audited."""
        self.auditor.add(topic, log_ns, data)
        if log_ns - self._audited_ns > AUDIT_NS:
            self._audited_ns = log_ns
            self.quality = self.auditor.quality(self.writer.dropped if self.writer else {})


class EpisodeRecorder:
    """Starts, feeds and ends episodes. `put` may be called at any time and never waits.

    Args:
        folder: receives the episodes.
        contract: of the robot.
        topics: everything that is recorded, with full names.
        common: entries of every sidecar (robot, checkpoint, namespace ...).
        clock_ns: ROS time.
        min_free: free disk space (bytes) below which nothing is started.
        free: tells the free space of a folder.
    """

    def __init__(
        self, folder: Path, contract: RobotContract, topics: Sequence[Topic],
        common: Mapping[str, Any], clock_ns: Callable[[], int],
        min_free: int = MIN_FREE_BYTES, free: Callable[[Path], int] = free_bytes,
    ):  # fmt: skip
        self.folder = folder
        self._contract, self._topics, self._common = contract, tuple(topics), dict(common)
        self._event_topic = next(t.name for t in topics if t.name.endswith(EPISODE_EVENT))
        self._clock_ns, self._min_free, self._free = clock_ns, min_free, free
        self._lock = threading.Condition()
        self._ending = 0
        self._current: _Current | None = None
        self._ended = RecorderState('idle')

    @property
    def session(self) -> str:
        """Session being recorded, '' for none."""
        current = self._current
        return current.sidecar.session if current else ''

    @property
    def kind(self) -> str:
        """'rollout' or 'manual' while recording, else ''."""
        current = self._current
        return current.sidecar.kind if current else ''

    def start(self, kind: str, task: str, session: str = '', **about: Any) -> Path:
        """Begin an episode; one that is still running is ended first.

        Args:
            kind: 'rollout' or 'manual'.
            task: name of the task.
            session: name inside the messages; made up if empty.
            about: more entries of the sidecar.

        Returns:
            The path that the file will have.

        Raises:
            RecordingError: too little disk space, or the file cannot be made.
        """
        self.stop('another episode began')
        now_ns = self._clock_ns()
        session = session or f'{task or "episode"}-{kind}-{uuid.uuid4().hex[:8]}'
        stamp = datetime.fromtimestamp(now_ns * 1e-9).strftime('%Y%m%d-%H%M%S')
        name = f'{stamp}_{re.sub(r"[^A-Za-z0-9._-]+", "-", session)}'
        path = self.folder / f'{name}{SUFFIX}'
        sidecar = Sidecar(**{
            **self._common, **about, 'episode': name, 'session': session, 'kind': kind,
            'task': task, 'contract_sha256': self._contract.sha256, 'began_ns': now_ns,
        })  # fmt: skip
        current = _Current(sidecar, Auditor(self._contract))
        try:
            current.writer = EpisodeWriter(
                path, self._topics, {'sidecar': json.dumps(sidecar.to_dict())}, current.look,
                min_free=self._min_free, free=self._free,
            )  # fmt: skip
            save_sidecar(sidecar_path(path), sidecar)
        except (RecordingError, OSError) as error:
            # First: a file that cannot be closed either must not leave the episode before as last.
            self._ended = RecorderState('error', str(error), str(path), session, kind)
            if current.writer is not None:
                current.writer.close()
            raise RecordingError(str(error)) from error
        with self._lock:
            self._current = current
        log.info('recording %s', path)
        return path

    def put(self, topic: str, publish_ns: int, log_ns: int, data: bytes) -> None:
        """One message, if an episode is being recorded."""
        current = self._current
        if current is not None:
            current.writer.put(topic, publish_ns, log_ns, data)

    def event(self, name: str, **values: Any) -> None:
        """Put an event of the recorder's own into the episode."""
        now_ns = self._clock_ns()
        message = {'stamp_ns': now_ns, 'source': 'recorder', 'event': name, **values}
        self.put(self._event_topic, now_ns, now_ns, text_message(message))

    def stop(
        self, reason: str, verdict: Mapping[str, Any] | None = None, session: str = ''
    ) -> Sidecar | None:
        """End the episode: whole file, audit and sidecar on the disk.

        Args:
            reason: why, in words.
            verdict: of a rollout.
            session: end only this one, '' for whichever is being recorded.

        Returns:
            Its sidecar; None if there was none, or if that failed: then `state` is 'error' and
            says why.
        """
        with self._lock:
            current = self._current
            if current is None or session not in ('', current.sidecar.session):
                return None
            closing = self._describe(current, CLOSING, current.quality)
            closing = dataclasses.replace(closing, reason=reason)
            # From now on this is the last episode, long before it is whole: whoever labels the
            # last one means it.
            self._current, self._ended = None, closing
            self._ending += 1
        sidecar = None
        ended = dataclasses.replace(closing, state='error', reason=f'{reason}; not completed')
        try:
            sidecar, ended = self._end(current, closing, verdict)
        finally:
            with self._lock:
                # Not if another one began and ended meanwhile: then that one is the last.
                if self._ended is closing:
                    self._ended = ended
                self._ending -= 1
                self._lock.notify_all()
        return sidecar

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until no episode is being ended (by another thread); False: still after `timeout_s`."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._ending, timeout_s)

    def _end(
        self, current: _Current, closing: RecorderState, verdict: Mapping[str, Any] | None
    ) -> tuple[Sidecar | None, RecorderState]:
        """Sidecar, None if that failed, and what `state` says from then on."""
        try:
            written = current.writer.close(closing.reason)
        except RecordingError as error:
            log.error('%s', error)
            return None, dataclasses.replace(
                self._describe(current, 'error', current.quality), reason=str(error),
                seconds=closing.seconds, episode=str(current.writer.part),
            )  # fmt: skip
        quality = current.auditor.quality(written.dropped)
        ended = dataclasses.replace(
            self._describe(current, 'idle', quality), seconds=closing.seconds)
        try:
            sidecar = self._complete(written, verdict, quality)
        except (OSError, SidecarError) as error:
            reason = _not_completed(written.path, error)
            log.error('%s', reason)
            return None, dataclasses.replace(ended, state='error', reason=reason)
        log.info('%s: %s, %.1f s, quality %s', written.path, written.reason,
                 sidecar.duration_s, sidecar.score)  # fmt: skip
        return sidecar, dataclasses.replace(
            ended, state='idle' if written.reason == closing.reason else 'error',
            reason=written.reason, seconds=round(sidecar.duration_s, 2),
        )  # fmt: skip

    def _complete(
        self, written: Written, verdict: Mapping[str, Any] | None, quality: Quality
    ) -> Sidecar:
        return change_sidecar(
            sidecar_path(written.path),
            lambda sidecar: dataclasses.replace(
                sidecar, state=CLOSED, ended_ns=self._clock_ns(), end_reason=written.reason,
                messages=dict(written.messages), dropped=dict(written.dropped),
                verdict=dict(verdict) if verdict else None, quality=quality.to_dict(),
            ),
        )  # fmt: skip

    def poll(self) -> None:
        """To be called about once a second: ends an episode whose writer has ended by itself."""
        current = self._current
        if current is not None and current.writer.ended:
            self.stop('stopped', session=current.sidecar.session)

    def state(self) -> RecorderState:
        """What is going on."""
        with self._lock:
            current, state = self._current, self._ended
        if current is not None:
            state = self._describe(current, 'recording', current.quality)
        return dataclasses.replace(state, free=self._free_now())

    def _describe(self, current: _Current, state: str, quality: Quality | None) -> RecorderState:
        writer, sidecar = current.writer, current.sidecar
        return RecorderState(
            state=state, episode=str(writer.path), session=sidecar.session, kind=sidecar.kind,
            seconds=round((self._clock_ns() - sidecar.began_ns) * 1e-9, 2),
            messages=sum(writer.written.values()), size=writer.size,
            dropped=dict(writer.dropped),
            score=quality.score if quality else None, level=quality.level if quality else '',
            findings=tuple(f'{f.name} ({f.stream}): {f.text}' for f in quality.findings)
            if quality else (),
        )  # fmt: skip

    def _free_now(self) -> int:
        folder = self.folder
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return self._free(folder)


def _not_completed(path: Path, error: Exception) -> str:
    part = path.with_name(f'{path.name}.part')
    return (f'{path} is whole, but its sidecar could not be completed ({error}): free some space, '
            f'then `mv {path} {part}` and `flashwam episodes recover {part}`')


def checkpoint_hash(folder: str) -> str:
    """Hash of a checkpoint folder, that of its manifest; '' without one."""
    path = Path(folder) / MANIFEST
    return hashlib.sha256(path.read_bytes()).hexdigest() if folder and path.exists() else ''
