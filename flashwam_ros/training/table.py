# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The table of results: every row of a plan, with intervals, paired tests and non-inferiority.

Written as Markdown, JSON and pictures.  ``--run`` first runs what the plan lacks, on all cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flashwam_ros.training import table_text
from flashwam_ros.training.command import cache_folder, reporter
from flashwam_ros.training.episode_pool import Row, run_rows
from flashwam_ros.training.evaluate import checkpoint_setting, cores
from flashwam_ros.training.results import (
    Job,
    Results,
    Setting,
    chosen,
    keep,
    kept_folder,
    machines,
    make_jobs,
    of_task,
    parse_steps,
    read_tree,
    results_folder,
    successes,
    tasks_of,
)
from flashwam_ros.training.statistics import Pairs, holm, mcnemar, non_inferiority, wilson
from flashwam_ros.training.table_plan import Plan, RowPlan, SectionPlan, find_checkpoint, read_plan

Everything = Mapping[Setting, Results]


@dataclass(frozen=True)
class Found:
    """A row of the plan and what there is of it.

    Attributes:
        plan: the row.
        setting: None where nothing is known of the checkpoint, or where it cannot run so.
        folder: of the checkpoint; None where only its episodes are kept.
        problem: why there is no setting.
    """

    plan: RowPlan
    setting: Setting | None
    folder: Path | None
    problem: str = ''


def find_row(row: RowPlan, plan: Plan, everything: Everything) -> Found:
    """The setting that a row stands for, if its checkpoint exists or its episodes are kept."""
    folder = find_checkpoint(row.checkpoint)
    if folder is None:
        return _find_kept(row, plan, everything)
    try:
        setting = checkpoint_setting(folder, row.steps, row.sampler, plan.execution,
                                     plan.latency_s)
    except ValueError as error:
        return Found(row, None, folder, str(error))
    return Found(row, setting, folder)


def _find_kept(row: RowPlan, plan: Plan, everything: Everything) -> Found:
    """A checkpoint that is gone is known by the name under which it was evaluated."""
    known = {setting.sha256: setting for setting in everything
             if setting.checkpoint == row.checkpoint}
    if len(known) != 1:
        problem = 'several checkpoints of this name were evaluated' if known else \
            'no such checkpoint'
        return Found(row, None, None, problem)
    video_steps, action_steps = parse_steps(row.steps)
    setting = Setting(row.checkpoint, *known, plan.execution, video_steps, action_steps,
                      plan.latency_s, row.sampler)
    if setting not in everything:
        return Found(row, None, None, 'no such checkpoint')
    return Found(row, setting, None)


def wanted_rows(plan: Plan, sections: Sequence[SectionPlan], everything: Everything,
                root: Path) -> list[Row]:
    """What is still to be run, without episodes that are done under any name.

    Rows are ordered so that those of one checkpoint follow each other within a section.
    """
    rows: dict[Setting, Row] = {}
    for section in sections:
        jobs = make_jobs(section.seeds, plan.split)
        for found in (find_row(row, plan, everything) for row in section.rows):
            if found.folder is None or found.setting is None:
                continue
            done = everything.get(found.setting, {})
            todo = [job for job in jobs if job not in done]
            before = rows[found.setting].jobs if found.setting in rows else ()
            todo = [*before, *(job for job in todo if job not in before)]
            if todo:
                rows[found.setting] = Row(found.setting, found.folder, tuple(todo),
                                          results_folder(found.setting.checkpoint, root))
    return list(rows.values())


# -- figures --------------------------------------------------------------------------------------


def pairs_of(first: Results, second: Results) -> Pairs:
    """Outcomes on the episodes that both have."""
    return Pairs.of((first[job]['success'], second[job]['success'])
                    for job in first if job in second)


def strata(first: Results, second: Results) -> list[Pairs]:
    """`pairs_of` task by task."""
    shared = [job for job in first if job in second]
    return [pairs_of(of_task(first, task), of_task(second, task)) for task in tasks_of(shared)]


def _cell(results: Results) -> dict:
    success, count = successes(results)
    return {'success': success, 'n': count, 'interval': wilson(success, count)}


def _median(results: Results, key: str) -> float | None:
    values = [result[key] for result in results.values() if result.get(key)]
    return float(np.median(values)) if values else None


def _row_figures(found: Found, jobs: Sequence[Job], everything: Everything, plan: Plan,
                 reference: Results) -> dict:
    results = chosen(everything.get(found.setting, {}), jobs) if found.setting else {}
    figures = {
        'id': found.plan.id, **asdict(found.plan), 'problem': found.problem,
        'sha256': found.setting.sha256 if found.setting else '', 'wanted': len(jobs),
        'all': _cell(results),
        'tasks': {task: _cell(of_task(results, task)) for task in tasks_of(jobs)},
        'chunk_cpu_ms': _median(results, 'chunk_cpu_ms'),
        'predict_ms': _median(results, 'predict_ms'),
        'machines': sorted({result['machine'] for result in results.values()} - {''}),
        'other_machine': bool(reference) and machines(results) != machines(reference),
        'non_inferiority': None,
    }
    margin = plan.margins.get(found.plan.steps)
    # An unfinished row may have more of one task than of another, and each looks like a result.
    if margin is not None and len(results) == len(reference) == len(jobs):
        figures['non_inferiority'] = asdict(
            non_inferiority(strata(results, reference), margin, plan.alpha))
    return figures


def section_figures(plan: Plan, section: SectionPlan, everything: Everything) -> dict:
    """All figures of a section as plain data."""
    jobs = make_jobs(section.seeds, plan.split)
    at = find_row(plan.reference, plan, everything)
    reference = chosen(everything.get(at.setting, {}), jobs) if at.setting else {}
    found = [find_row(row, plan, everything) for row in section.rows]
    rows = [_row_figures(one, jobs, everything, plan, reference) for one in found]
    by_id = {one.plan.id: chosen(everything.get(one.setting, {}), jobs) if one.setting else {}
             for one in found}
    tests = []
    for first, second in section.compare:
        pairs = pairs_of(by_id[first], by_id[second])
        if pairs.count:
            tests.append({'first': first, 'second': second, 'n': pairs.count,
                          'both': pairs.both, 'first_only': pairs.first,
                          'second_only': pairs.second, 'neither': pairs.neither,
                          'p': mcnemar(pairs)})
    # The family is what the plan says, with or without data: what is missing counts as p = 1.
    missing = [1.0] * (len(section.compare) - len(tests))
    for test, p in zip(tests, holm([test['p'] for test in tests] + missing), strict=False):
        test['p_holm'] = p
    return {'name': section.name, 'seeds': dict(section.seeds), 'split': plan.split,
            'first_seeds': {task: min(job.seed for job in jobs if job.task == task)
                            for task in tasks_of(jobs)},
            'rows': rows, 'tests': tests}


def table_figures(plan: Plan, sections: Sequence[SectionPlan], everything: Everything) -> dict:
    """The whole table as plain data, what `table.json` holds."""
    return {
        'plan_sha256': plan.sha256, 'execution': plan.execution, 'latency_s': plan.latency_s,
        'alpha': plan.alpha, 'margins': dict(plan.margins), 'reference': plan.reference.id,
        'published': dict(plan.published),
        'sections': [section_figures(plan, section, everything) for section in sections],
    }


def of_plan(plan: Plan, sections: Sequence[SectionPlan], everything: Everything) -> Everything:
    """The episodes that a table is made of, the reference's among them."""
    kept: dict[Setting, dict[Job, Mapping]] = {}
    for section in sections:
        jobs = make_jobs(section.seeds, plan.split)
        for row in (plan.reference, *section.rows):
            found = find_row(row, plan, everything)
            results = chosen(everything.get(found.setting, {}), jobs)
            if results:
                kept.setdefault(found.setting, {}).update(results)
    return kept


# -- the command ----------------------------------------------------------------------------------


def _sections(plan: Plan, names: str) -> list[SectionPlan]:
    if names == 'all':
        return list(plan.sections)
    known = {section.name: section for section in plan.sections}
    missing = [name for name in names.split(',') if name not in known]
    if missing:
        raise ValueError(f'no section {missing} in the plan, only {list(known)}')
    return [known[name] for name in names.split(',')]


def _pictures(options: argparse.Namespace, plan: Plan, sections: Sequence[SectionPlan],
              figures: dict) -> None:
    """Success and latency always; with ``--models`` also what the models themselves predict."""
    from flashwam_ros.training import results_plots
    for section in figures['sections']:
        results_plots.success(section, options.out / f'success_{section["name"]}.png')
        results_plots.latency(section, options.out / f'latency_{section["name"]}.png')
    if not options.models:
        return
    from flashwam_ros.training import loss_profile, strips
    report = reporter('table')
    rows = {row.checkpoint: row for section in sections for row in section.rows}
    shared = Counter(row.name for row in rows.values())
    found = {row.name if shared[row.name] == 1 else row.checkpoint:
             find_checkpoint(row.checkpoint) for row in rows.values()}
    folders = {name: folder for name, folder in found.items() if folder is not None}
    figures['loss_profile'] = loss_profile.profiles(folders, options.demos, options.out, report)
    results_plots.loss(figures['loss_profile'], options.out / 'loss_profile.png')
    figures['strips'] = strips.draw_all(folders, options.demos, options.out, report)


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam table``."""
    parser = argparse.ArgumentParser(prog='flashwam table', description=__doc__)
    parser.add_argument('--config', type=Path, default=None,
                        help='plan (default: the installed config/evaluation/table.yaml)')
    parser.add_argument('--sections', default='all', help='all, or names with commas')
    parser.add_argument('--run', action='store_true', help='first run what is missing')
    parser.add_argument('--models', action='store_true',
                        help='also loss over noise level and predicted video, from --demos')
    parser.add_argument('--demos', type=Path, default=cache_folder('demos'),
                        help='demonstrations; only held-out ones are looked at')
    parser.add_argument('--workers', type=int, default=cores(), help='processes of --run')
    parser.add_argument('--results', type=Path, default=cache_folder('evaluations'),
                        help='where evaluations lie, a folder per checkpoint')
    parser.add_argument('--keep', type=Path, default=None, metavar='FOLDER',
                        help='also add the episodes of the table to these packed files '
                             '(config/evaluation/episodes of a checkout: published)')
    parser.add_argument('--out', type=Path, default=cache_folder('table'), help='folder')
    options = parser.parse_args(argv)
    try:
        plan = read_plan(options.config)
        sections = _sections(plan, options.sections)
        if options.run:
            everything = read_tree(options.results, kept_folder())
            run_rows(wanted_rows(plan, sections, everything, options.results),
                     options.workers, reporter('table'))
        everything = read_tree(options.results, kept_folder())
        figures = table_figures(plan, sections, everything)
        if options.keep:
            keep(options.keep, of_plan(plan, sections, everything))
        options.out.mkdir(parents=True, exist_ok=True)
        _pictures(options, plan, sections, figures)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        sys.stderr.write(f'flashwam table: {error}\n')
        return 1
    except KeyboardInterrupt:
        sys.stderr.write('flashwam table: stopped; run again to continue\n')
        return 130
    text = table_text.markdown(figures)
    (options.out / 'table.json').write_text(json.dumps(figures, indent=1), encoding='utf-8')
    (options.out / 'table.md').write_text(text, encoding='utf-8')
    sys.stdout.write(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
