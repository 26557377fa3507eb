# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The JSON file beside an episode: what it is, how it ended, how good it is, what people say.

Written whole or not at all. Labels are a history that only grows: an undo is an entry of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

FORMAT = 1
SUFFIX = '.mcap'
PART_SUFFIX = '.mcap.part'

KEEP, DISCARD, SUCCESS, FAILURE, UNDO = 'keep', 'discard', 'success', 'failure', 'undo'
DISPOSITIONS = (KEEP, DISCARD)
OUTCOMES = (SUCCESS, FAILURE)
LABELS = (*DISPOSITIONS, *OUTCOMES)

RECORDING, CLOSED, RECOVERED = 'recording', 'closed', 'recovered'


class SidecarError(ValueError):
    """A sidecar that cannot be read or changed as asked; the message says why."""


@dataclass(frozen=True)
class Label:
    """One entry of the history: one of `LABELS` or 'undo', when (ISO 8601) and by whom."""

    label: str
    time: str
    by: str = ''


@dataclass(frozen=True)
class Sidecar:
    """Everything known about an episode besides its messages.

    Attributes:
        episode: name, the files' common stem.
        session: name of the run inside all its messages.
        kind: 'rollout' or 'manual' (teleoperation).
        task: name of the task.
        prompt: instruction in words.
        seed: of scene and policy, None without one.
        robot: 'twin' or 'real'.
        policy: backend, or device for teleoperation.
        execution: 'sync', 'async', or '' without a policy.
        contract_sha256: robot contract.
        checkpoint: folder of the model, '' without one.
        checkpoint_sha256: its hash, '' without one.
        namespace: of the recorded topics.
        began_ns: ROS time of the start.
        ended_ns: ROS time of the end, 0 while recording.
        state: 'recording', 'closed', or 'recovered' after a kill.
        end_reason: why recording stopped.
        messages: number of messages by topic.
        dropped: messages lost by the recorder, by topic; only topics that lost some.
        verdict: of the rollout: verdict, reason, stages, elapsed_s; None without one.
        quality: score, level and findings (see `audit.Quality`); None before the first audit.
        labels: history, oldest first.
        extra: whatever the starter of the episode added.
    """

    episode: str
    session: str
    kind: str = 'manual'
    task: str = ''
    prompt: str = ''
    seed: int | None = None
    robot: str = ''
    policy: str = ''
    execution: str = ''
    contract_sha256: str = ''
    checkpoint: str = ''
    checkpoint_sha256: str = ''
    namespace: str = ''
    began_ns: int = 0
    ended_ns: int = 0
    state: str = RECORDING
    end_reason: str = ''
    messages: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] | None = None
    labels: tuple[Label, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Recorded time (s), 0 while recording."""
        return max(0.0, (self.ended_ns - self.began_ns) * 1e-9) if self.ended_ns else 0.0

    @property
    def disposition(self) -> str:
        """'keep' or 'discard'; '' when nobody has said."""
        return _standing(self.labels, DISPOSITIONS)

    @property
    def outcome(self) -> str:
        """'success' or 'failure' as the operator says, else as the rollout's verdict says."""
        said = _standing(self.labels, OUTCOMES)
        verdict = (self.verdict or {}).get('verdict', '')
        return said or (verdict if verdict in OUTCOMES else '')

    @property
    def score(self) -> float | None:
        """Quality, 0..100; None before the first audit."""
        return None if self.quality is None else self.quality['score']

    def labelled(self, label: str, by: str = '', now: datetime | None = None) -> Sidecar:
        """With one more entry in the history.

        Raises:
            SidecarError: unknown label, or nothing to undo.
        """
        if label not in (*LABELS, UNDO):
            raise SidecarError(f'label {label!r} is not one of {", ".join((*LABELS, UNDO))}')
        if label == UNDO and not _standing_labels(self.labels):
            raise SidecarError(f'{self.episode} has no label to undo')
        stamp = (now or datetime.now()).astimezone().isoformat(timespec='seconds')
        return dataclasses.replace(self, labels=(*self.labels, Label(label, stamp, by)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {'format': FORMAT, **dataclasses.asdict(self), 'labels': [
            dataclasses.asdict(label) for label in self.labels]}  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sidecar:
        """Rebuild from `to_dict`'s output; unknown entries are kept in `extra`.

        Raises:
            SidecarError: a newer format, or entries missing.
        """
        values = dict(values)
        if values.pop('format', None) != FORMAT:
            raise SidecarError(f'not a sidecar of format {FORMAT}')
        known = {entry.name for entry in dataclasses.fields(cls)}
        extra = {name: values.pop(name) for name in set(values) - known}
        try:
            values['labels'] = tuple(Label(**label) for label in values.get('labels', ()))
            values['extra'] = {**values.get('extra', {}), **extra}
            return cls(**values)
        except TypeError as error:
            raise SidecarError(f'not a sidecar: {error}') from error


def _standing_labels(history: tuple[Label, ...]) -> list[str]:
    standing: list[str] = []
    for entry in history:
        if entry.label != UNDO:
            standing.append(entry.label)
        elif standing:
            standing.pop()
    return standing


def _standing(history: tuple[Label, ...], choices: tuple[str, ...]) -> str:
    said = [label for label in _standing_labels(history) if label in choices]
    return said[-1] if said else ''


# -- files ----------------------------------------------------------------------------------------


def sidecar_path(episode: Path) -> Path:
    """The sidecar of an episode's `.mcap` or `.mcap.part` file."""
    name = episode.name.removesuffix('.part').removesuffix(SUFFIX)
    return episode.with_name(f'{name}.json')


def write_atomically(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk when this returns."""
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    with open(part, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make new and renamed files of a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Write a sidecar's file atomically."""
    text = json.dumps(sidecar.to_dict(), indent=1, allow_nan=False)
    write_atomically(path, text.encode() + b'\n')


def load_sidecar(path: Path) -> Sidecar:
    """Read a sidecar's file.

    Raises:
        SidecarError: missing, no JSON, or not a sidecar; the message names the file.
    """
    try:
        return Sidecar.from_dict(json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError) as error:
        raise SidecarError(f'{path}: {error}') from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def change_sidecar(path: Path, change: Callable[[Sidecar], Sidecar]) -> Sidecar:
    """Read, change and write under a lock on the folder, so that no two changes are mixed up.

    Raises:
        SidecarError: missing or damaged, or what `change` raises.
    """
    with _locked(path.parent):
        sidecar = change(load_sidecar(path))
        save_sidecar(path, sidecar)
    return sidecar
