# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam episodes list|show|check|label|recover|prune`."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from flashwam_ros.episodes.audit import RED, check_episode
from flashwam_ros.episodes.contact_sheet import contact_sheet
from flashwam_ros.episodes.library import (
    CUT_OFF,
    Entry,
    find_episodes,
    list_episodes,
    prunable,
    prune,
    with_quality,
)
from flashwam_ros.episodes.mcap_scan import McapDamagedError
from flashwam_ros.episodes.reader import EpisodeError, read_episode
from flashwam_ros.episodes.recovery import recover
from flashwam_ros.episodes.sidecar import (
    DISCARD,
    LABELS,
    RECORDING,
    UNDO,
    SidecarError,
    change_sidecar,
    sidecar_path,
)
from flashwam_ros.imaging import encode_png

DEFAULT_FOLDER = 'episodes'


def _say(text: str) -> None:
    sys.stdout.write(f'{text}\n')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='flashwam episodes', description=__doc__)
    parser.add_argument('--folder', type=Path, default=Path(DEFAULT_FOLDER),
                        help='where episodes lie (default: %(default)s)')  # fmt: skip
    verbs = parser.add_subparsers(dest='verb', required=True)

    def verb(name, text, episodes='+', what='file, folder, or part of a name'):
        sub = verbs.add_parser(name, help=text, description=text)
        if episodes:
            sub.add_argument('episodes', nargs=episodes, help=what)
        return sub

    verb('list', 'a table of the episodes', '*', 'default: all of the folder')
    show = verb('show', 'what an episode is, and a contact sheet')
    show.add_argument('--out', type=Path, help='folder of the contact sheets (default: beside)')
    check = verb('check', 'audit again and store the verdict; fails when one is red', '*',
                 'default: all of the folder')  # fmt: skip
    check.add_argument('--json', action='store_true', help='print findings as JSON lines')
    check.add_argument('--dry-run', action='store_true', help='store nothing')
    label = verb('label', 'keep, discard, success, failure, or undo the last one')
    label.add_argument('label', choices=(*LABELS, UNDO))
    label.add_argument('--by', default=getpass.getuser(), help='who says so')
    verb('recover', 'make episodes out of what killed recorders left', '*',
         'default: all that were cut off')  # fmt: skip
    gone = verb('prune', 'delete discarded episodes', None)
    gone.add_argument('--dry-run', action='store_true', help='only say what would be deleted')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; 1 when something is red or cannot be done, 2 for wrong arguments."""
    options = _parser().parse_args(argv)
    verbs = {'list': _list, 'show': _show, 'check': _check, 'label': _label,
             'recover': _recover, 'prune': _prune}  # fmt: skip
    try:
        return verbs[options.verb](options)
    except (OSError, SidecarError, EpisodeError, McapDamagedError) as error:
        sys.stderr.write(f'flashwam episodes {options.verb}: {error}\n')
        return 1


def _entries(options: argparse.Namespace) -> tuple[Entry, ...]:
    if options.episodes:
        return find_episodes(options.episodes, options.folder)
    return list_episodes(options.folder)


def _list(options: argparse.Namespace) -> int:
    entries = _entries(options)
    width = max((len(entry.name) for entry in entries), default=8)
    _say(f'{"episode":<{width}}  {"task":<12} {"seconds":>7} {"MB":>7} {"quality":<11} '
         f'{"outcome":<8} {"label":<8} state')  # fmt: skip
    for entry in entries:
        sidecar = entry.sidecar
        quality = sidecar.quality or {}
        score = f'{quality["score"]:>3} {quality["level"]}' if quality else '-'
        _say(f'{entry.name:<{width}}  {sidecar.task:<12} {sidecar.duration_s:>7.1f} '
             f'{entry.path.stat().st_size / 1e6:>7.1f} {score:<11} {sidecar.outcome:<8} '
             f'{sidecar.disposition:<8} {entry.state}')  # fmt: skip
    discarded = sum(entry.sidecar.disposition == DISCARD for entry in entries)
    cut_off = sum(entry.state == CUT_OFF for entry in entries)
    _say(f'{len(entries)} episodes'
         + (f', {discarded} discarded (flashwam episodes prune)' if discarded else '')
         + (f', {cut_off} cut off (flashwam episodes recover)' if cut_off else ''))
    return 0


def _show(options: argparse.Namespace) -> int:
    for entry in _entries(options):
        episode = read_episode(entry.path)
        sidecar = entry.sidecar.to_dict()
        quality = sidecar.pop('quality') or {'findings': ()}
        _say(f'{entry.path} ({entry.state})')
        for name, value in sidecar.items():
            if value not in ('', None, {}, [], 0):
                _say(f'  {name}: {value if isinstance(value, str) else json.dumps(value)}')
        for name, count in sorted(episode.topics.items()):
            _say(f'  {count:>7}  {name}')
        for finding in quality['findings']:
            _say(f'  {finding["severity"]}: {finding["name"]} ({finding["stream"]}): '
                 f'{finding["text"]}')  # fmt: skip
        folder = options.out or entry.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        sheet = folder / f'{entry.name}.png'
        sheet.write_bytes(encode_png(contact_sheet(episode)))
        _say(f'  contact sheet: {sheet}')
    return 0


def _check(options: argparse.Namespace) -> int:
    red = 0
    for entry in _entries(options):
        if entry.state in (RECORDING, CUT_OFF):
            _say(f'{entry.name}: {entry.state}, left out')
            continue
        quality = check_episode(entry.path, dropped=entry.sidecar.dropped)
        red += quality.level == RED
        verdict = quality.to_dict()
        if sidecar_path(entry.path).exists() and not options.dry_run:
            change_sidecar(
                sidecar_path(entry.path), lambda sidecar, v=verdict: with_quality(sidecar, v)
            )
        if options.json:
            _say(json.dumps({'episode': entry.name, **verdict}))
            continue
        _say(f'{entry.name}: {quality.score} {quality.level}')
        for finding in quality.findings:
            _say(f'  {finding.severity:<7} {finding.name} ({finding.stream}): {finding.text}')
    return 1 if red else 0


def _label(options: argparse.Namespace) -> int:
    for entry in _entries(options):
        sidecar = change_sidecar(
            sidecar_path(entry.path), lambda old: old.labelled(options.label, options.by)
        )
        _say(f'{entry.name}: {sidecar.disposition or "-"}, {sidecar.outcome or "-"}')
    return 0


def _recover(options: argparse.Namespace) -> int:
    failed = 0
    for entry in _entries(options):
        if entry.state != CUT_OFF:
            if options.episodes:
                _say(f'{entry.name}: {entry.state or "whole"}, nothing to recover')
            continue
        try:
            found = recover(entry.path)
        except (OSError, McapDamagedError) as error:
            failed += 1
            _say(f'{entry.name}: {error}')
            continue
        seconds = (found.last_ns - found.first_ns) * 1e-9
        _say(f'{found.path}: {sum(found.messages.values())} messages, {seconds:.1f} s; '
             f'{found.cut_bytes} bytes behind the last whole chunk were cut off')  # fmt: skip
    return 1 if failed else 0


def _prune(options: argparse.Namespace) -> int:
    discarded = [e for e in list_episodes(options.folder) if e.sidecar.disposition == DISCARD]
    entries = prunable(discarded)
    size = sum(entry.path.stat().st_size for entry in entries)
    if not options.dry_run:
        prune(entries)
    for entry in entries:
        _say(entry.name)
    left = len(discarded) - len(entries)
    _say(f'{len(entries)} discarded episodes, {size / 1e6:.1f} MB'
         + (' (nothing deleted)' if options.dry_run else ' deleted')
         + (f'; {left} more still being recorded' if left else ''))
    return 0


if __name__ == '__main__':
    sys.exit(main())
