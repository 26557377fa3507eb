# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The episodes in a folder: listed, chosen, and, once discarded, deleted."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flashwam_ros.episodes.recovery import in_use
from flashwam_ros.episodes.sidecar import (
    DISCARD,
    PART_SUFFIX,
    RECORDING,
    SUFFIX,
    Sidecar,
    SidecarError,
    load_sidecar,
    sidecar_path,
)

CUT_OFF, DAMAGED = 'cut off', 'damaged'


@dataclass(frozen=True)
class Entry:
    """One episode on the disk: its file, its sidecar, and its state.

    Attributes:
        path: `.mcap`, or `.mcap.part` of one that is being recorded or was cut off.
        sidecar: a bare one when the file is missing or damaged.
        state: of the sidecar, or 'cut off' (to be recovered), or 'damaged' (bad sidecar); a whole
            file whose sidecar says 'recording' was cut off, too: nobody completed it.
    """

    path: Path
    sidecar: Sidecar
    state: str

    @property
    def name(self) -> str:
        """Stem of its files."""
        return sidecar_path(self.path).stem


def list_episodes(folder: Path) -> tuple[Entry, ...]:
    """All episodes below a folder, oldest first, also while a recorder completes one of them."""
    # Parts first: one that is completed in between is then found under both names, not under none.
    parts = [*folder.rglob(f'*{PART_SUFFIX}')]
    entries = {}
    for path in (*parts, *folder.rglob(f'*{SUFFIX}')):
        with contextlib.suppress(FileNotFoundError):
            entry = _entry(path)
            entries[entry.path] = entry
    return tuple(sorted(entries.values(), key=lambda entry: entry.name))


def _entry(path: Path) -> Entry:
    """What there is of an episode; of a `.part` that was completed meanwhile, the whole file.

    Raises:
        FileNotFoundError: neither is there.
    """
    part = path.name.endswith(PART_SUFFIX)
    try:
        written = part and in_use(path)
    except FileNotFoundError:
        path, part, written = path.with_name(path.name.removesuffix('.part')), False, False
    if not path.exists():
        raise FileNotFoundError(path)
    beside = sidecar_path(path)
    try:
        sidecar = load_sidecar(beside)
        state = sidecar.state
    except SidecarError:
        sidecar = Sidecar(beside.stem, beside.stem)
        state = DAMAGED if beside.exists() else ''
    if part:
        state = RECORDING if written else CUT_OFF
    elif state == RECORDING:
        state = CUT_OFF
    return Entry(path, sidecar, state)


def find_episodes(names: Iterable[str], folder: Path) -> tuple[Entry, ...]:
    """Episodes by file, by folder or by (the beginning of) their name below `folder`.

    Raises:
        FileNotFoundError: nothing fits a name.
    """
    found: list[Entry] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found += list_episodes(path)
        elif path.is_file():
            found.append(_entry(path))
        else:
            fitting = [entry for entry in list_episodes(folder) if name in entry.name]
            if not fitting:
                raise FileNotFoundError(f'no episode {name!r}, neither a file nor in {folder}')
            found += fitting
    return tuple(found)


def select(
    entries: Sequence[Entry], *, tasks: Sequence[str] = (), outcomes: Sequence[str] = (),
    min_score: float = 0.0, discarded: bool = False,
) -> tuple[Entry, ...]:  # fmt: skip
    """Whole episodes that fit.

    Args:
        entries: to choose from.
        tasks: names of tasks, empty for all.
        outcomes: 'success', 'failure'; empty for all, also unlabelled ones.
        min_score: lowest quality; one that was never audited counts as 0.
        discarded: take discarded ones, too.
    """
    return tuple(
        entry
        for entry in entries
        if not entry.path.name.endswith(PART_SUFFIX)
        and (not tasks or entry.sidecar.task in tasks)
        and (not outcomes or entry.sidecar.outcome in outcomes)
        and (entry.sidecar.score or 0.0) >= min_score
        and (discarded or entry.sidecar.disposition != DISCARD)
    )


def prunable(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Discarded episodes that nobody is writing."""
    return tuple(entry for entry in entries
                 if entry.sidecar.disposition == DISCARD and entry.state != RECORDING)


def prune(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Delete the files of `prunable` episodes; those that were deleted."""
    gone = prunable(entries)
    for entry in gone:
        # The sidecar last: without it the episode would no longer be a discarded one.
        for path in (entry.path, sidecar_path(entry.path)):
            path.unlink(missing_ok=True)
    return gone


def with_quality(sidecar: Sidecar, quality: dict) -> Sidecar:
    """With the verdict of a new audit."""
    return dataclasses.replace(sidecar, quality=quality)
