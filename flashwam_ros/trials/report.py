# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a study: gathers what store and journal have, and writes one page over its tasks.

fieldtrial writes its own report of each task beside it; this page adds what that lacks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashwam_ros.trials import charts, journal, pages
from flashwam_ros.trials.compiled import SERVED, CompiledStudy
from flashwam_ros.trials.failures import contact_sheet
from flashwam_ros.trials.fieldtrial_program import fieldtrial
from flashwam_ros.trials.figures import Trial, figures
from flashwam_ros.trials.journal import read_journal
from flashwam_ros.trials.report_text import blocks
from flashwam_ros.trials.study import OPERATOR, StudyError
from flashwam_ros.trials.validity import deployment

FOLDER, PAGE = 'report', 'report.html'
_STOPPED = ('operator_stop', 'safety_stop')
_CHARTS = {'success': charts.success_chart, 'funnel': charts.funnel_chart,
           'time': charts.time_chart}


def write_report(compiled: CompiledStudy, unblind: bool = False) -> Path:
    """Write report/: report.html, report.md, figures.json, charts and contact sheets.

    Args:
        compiled: the study.
        unblind: reveal the arms first; fieldtrial logs that, and its reports say whether trials
            were still to come.

    Returns:
        The HTML page; the Markdown lies beside it.

    Raises:
        StudyError: the study is blinded and stays so, or there is nothing to report.
    """
    folder = compiled.folder / FOLDER
    folder.mkdir(exist_ok=True)
    rows = {task: _export(compiled, task, unblind) for task in compiled.study.tasks}
    entries = read_journal(compiled.folder)
    trials = gather(compiled, rows, entries)
    if not trials:
        raise StudyError(f'{compiled.folder}: no trial has been recorded yet')
    voids = [{'task': task, 'arm': row['arm'], 'reason': row['invalid_reason'] or ''}
             for task, found in rows.items() for row in found if row['status'] == 'invalid']
    values = figures(compiled.study, trials, voids)
    _tell_served(values['arms'], compiled)
    values['facts'] = _facts(compiled, trials, entries)
    pictures = {}
    for name, chart in _CHARTS.items():
        pictures[name] = folder / f'{name}.svg'
        pictures[name].write_text(chart(values), encoding='utf-8')
    sheets = _sheets(compiled, trials, folder)
    reports = {task: f'../tasks/{task}/reports/report.html' for task in compiled.study.tasks}
    page = blocks(values, values['facts'], pictures, sheets, reports)
    _write(folder / 'figures.json', json.dumps(values, indent=1) + '\n')
    _write(folder / 'report.md', pages.markdown(page))
    _write(folder / PAGE, pages.html(page, compiled.study.title))
    return folder / PAGE


def _export(compiled: CompiledStudy, task: str, unblind: bool) -> list[dict[str, Any]]:
    """Trials of one task as the store has them, with fieldtrial's own report written beside."""
    folder = compiled.task_folder(task)
    if unblind:
        fieldtrial('unblind', str(folder), '--yes')
    target = compiled.folder / FOLDER / f'trials_{task}.jsonl'
    fieldtrial('export', str(folder), '--format', 'jsonl', '--out', str(target))
    rows = [json.loads(line) for line in target.read_text(encoding='utf-8').splitlines()]
    known = {arm.id for arm in compiled.study.arms}
    if any(row['arm'] not in known for row in rows):
        target.unlink()
        raise StudyError(f'{task} is blinded; when all trials are done, or to give up being '
                         f'blind: flashwam trials report {compiled.folder} --unblind')
    if any(row['status'] == 'completed' for row in rows):
        fieldtrial('report', str(folder))
    return rows


def gather(compiled: CompiledStudy, rows: Mapping[str, list[dict[str, Any]]],
           entries: list[dict[str, Any]]) -> list[Trial]:
    """Outcomes from the store (an operator may have corrected them), the rest from the journal."""
    finished = {entry['trial']: entry for entry in entries if entry['kind'] == journal.FINISHED}
    trials = []
    for task, found in rows.items():
        for row in found:
            if row['status'] != 'completed':
                continue
            summary = finished.get(row['trial_id'], {}).get('summary', {})
            regular = (compiled.study.score == OPERATOR
                       and row['termination'] not in _STOPPED)
            reasons = deployment(summary, compiled.study.validity, regular) if summary else {
                'fault': 'nothing was measured'}
            # The store's clock also runs while the arms are taken over and given back.
            duration_s = summary.get('elapsed_s', row['duration_s'])
            trials.append(Trial(
                task, row['arm'], int(str(row['condition']).rpartition('=')[2]),
                int(row['stage_index']), bool(row['success']), float(duration_s or 0.0),
                row['termination'], row['notes'] or '', reasons, summary))  # fmt: skip
    return trials


def _tell_served(arms: list[dict[str, Any]], compiled: CompiledStudy) -> None:
    """Fill in what a server decided itself, as it was when the study was compiled."""
    for arm in arms:
        if arm['server']:
            video, action, arm['sampler'] = (compiled.resolved[arm['id']][key] for key in SERVED)
            arm['steps'] = f'{video}v/{action}a' if video or action else ''


def _facts(compiled: CompiledStudy, trials: list[Trial], entries: list[dict]) -> dict[str, Any]:
    times = [entry['time'] for entry in entries if 'trial' in entry]
    checkpoints = {path['checkpoint']: path['sha256'] for path in compiled.resolved.values()
                   if path['checkpoint']}
    facts = {
        'study': f'{compiled.study.name}, SHA-256 {compiled.sha256}',
        'robot contract': compiled.contract_sha256,
        **{f'checkpoint {Path(path).name}': sha256 for path, sha256 in checkpoints.items()},
        'robot': ', '.join(sorted({str(t.summary.get('robot', '')) for t in trials})),
        'first and last trial': ' .. '.join(
            time.strftime('%Y-%m-%d %H:%M', time.localtime(t)) for t in (times[0], times[-1])),
        'time with the arms in motion': f'{sum(t.duration_s for t in trials) / 60:.1f} min',
        'wall time of trials': f'{_wall_s(entries) / 60:.1f} min',
        'machine': _machine(),
    }  # fmt: skip
    facts['rehearsal'] = any(t.summary.get('robot') == 'rehearsal' for t in trials)
    return facts


def _wall_s(entries: list[dict]) -> float:
    """From begun to recorded, over all trials: preflight, reset, film and all."""
    begun = {e['trial']: e['time'] for e in entries if e['kind'] == journal.BEGUN}
    return sum(e['time'] - begun[e['trial']] for e in entries
               if e['kind'] == journal.RECORDED and e['trial'] in begun)


def _machine() -> str:
    import torch

    from flashwam_ros.training.program import machine

    return f'{machine(1, torch.device("cpu"))} (where the report was written)'


def _sheets(compiled: CompiledStudy, trials: list[Trial], folder: Path) -> dict[str, Path]:
    found = {}
    for task in compiled.study.tasks:
        path = folder / f'failures_{task}.jpg'
        mine = [trial for trial in trials if trial.task == task]
        if contact_sheet(path, [arm.id for arm in compiled.study.arms], mine):
            found[task] = path
    return found


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + '.part')
    part.write_text(text, encoding='utf-8')
    part.replace(path)
