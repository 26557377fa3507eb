# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The report's blocks, from its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from flashwam_ros.training.table_text import cell as share_cell
from flashwam_ros.training.table_text import p_value, points
from flashwam_ros.trials.pages import Block, Heading, Paragraph, Picture, Table


def blocks(figures: Mapping, facts: Mapping, pictures: Mapping[str, Path],
           sheets: Mapping[str, Path], task_reports: Mapping[str, str]) -> list[Block]:
    """The whole page.

    Args:
        figures: see `figures.figures`.
        facts: hashes, times and machine of the study.
        pictures: 'success', 'funnel', 'time' -> SVG.
        sheets: task -> contact sheet of failures.
        task_reports: task -> relative path of fieldtrial's own report.
    """
    return [
        Heading(figures['title'], 1), *_head(figures, facts),
        Heading('Success'), *_success(figures), Picture(pictures['success'], _SUCCESS),
        Heading('Student against teacher'), *_inferiority(figures), *_tests(figures),
        Heading('What this number of rollouts could have shown'), *_power(figures),
        Heading('Deployment validity'), *_validity(figures),
        Heading('Latency and slack'), *_timing(figures),
        Heading('Stages'), *_stages(figures), Picture(pictures['funnel'], _FUNNEL),
        Heading('Time to success'), Picture(pictures['time'], _TIME),
        Heading('Failures'), *_failures(figures, sheets),
        Heading('Every task by itself'), *_tasks(task_reports),
    ]  # fmt: skip


_SUCCESS = ('Share of successful rollouts with 95 % Wilson intervals; hollow: deployment-valid '
            'rollouts only.')
_FUNNEL = 'Share of rollouts that reached each stage, first stage on top.'
_TIME = 'Share of all rollouts that had succeeded by a time; colours as above.'


def _ids(figures: Mapping) -> list[str]:
    return [arm['id'] for arm in figures['arms']]


def _head(figures: Mapping, facts: Mapping) -> list[Block]:
    scored = ('the twin\'s own check' if figures['score'] == 'predicate'
              else 'an operator who did not know the arm')
    text = (f'{figures["done"]} of {figures["planned"]} trials, {len(figures["arms"])} arms, '
            f'{len(figures["tasks"])} tasks; scored by {scored}; every arm on the same scenes, in '
            f'randomised blocks, under blind codes. {len(figures["void"])} trials were void and '
            'repeated. ')
    if figures['done'] < figures['planned']:
        text += 'THE STUDY IS NOT COMPLETE: nothing here is final. '
    slowed = [factor for factor in figures['clock_factors'] if factor != 1.0]
    if slowed:
        text += ('THE SIMULATOR RAN IN SLOW MOTION, with everything that acts on it: '
                 f'{" and ".join(map("{:g}".format, slowed))} of real time. All times are by that '
                 'clock, so latency and slack are those of a machine so much faster. ')
    if facts.get('rehearsal'):
        text += ('THIS IS A REHEARSAL on a simulated clock: latency, slack and holds were not '
                 'measured. ')
    rows = [[name, value] for name, value in facts.items() if name != 'rehearsal']
    arms = [[arm['id'] + (' (reference)' if arm['id'] == figures['reference'] else ''),
             arm['checkpoint'] or arm['server'] or arm['policy'], arm['steps'] or '-',
             arm['sampler'] or '-', arm['execution']] for arm in figures['arms']]
    return [Paragraph(text.strip()),
            Table(['arm', 'checkpoint', 'steps', 'sampler', 'execution'], arms),
            Table(['', ''], rows)]


def _success(figures: Mapping) -> list[Block]:
    groups = figures['groups']
    rows = [[arm, *(share_cell(figures['cells'][group][arm]) for group in groups)]
            for arm in _ids(figures)]
    return [Paragraph('k/n with 95 % Wilson intervals, all trials.'),
            Table(['arm', *groups], rows)]


def _inferiority(figures: Mapping) -> list[Block]:
    rows = []
    for test in figures['non_inferiority']:
        which = 'deployment-valid pairs' if test['valid_only'] else 'all pairs'
        if not test['count']:
            rows.append([test['arm'], which, 0, '-', '-', '-', 'no pairs'])
            continue
        rows.append([
            test['arm'], which, test['count'], points(test['difference']), points(test['lower']),
            p_value(test['p_value']), 'shown' if test['shown'] else 'not shown'])  # fmt: skip
    first = figures['non_inferiority'][0]
    return [
        Paragraph(f'Non-inferiority to {first["reference"]} at the margin of '
                  f'{100 * first["margin"]:g} points stated beforehand: one-sided score test on '
                  f'the same scenes (Tango), stratified by task, alpha {first["alpha"]:g}.'),
        Table(['arm', 'on', 'pairs', 'difference, points', 'lower bound', 'p', 'non-inferior'],
              rows)]  # fmt: skip


def _tests(figures: Mapping) -> list[Block]:
    rows = [[t['arm'], t['n'], t['both'], t['first'], t['second'], t['neither'],
             p_value(t['p']), p_value(t['p_holm'])] for t in figures['tests']]
    return [Paragraph(f'Every arm against {figures["reference"]} on the same scenes: McNemar\'s '
                      'exact test, two-sided; adjusted by Holm\'s method over this table.'),
            Table(['arm', 'pairs', 'both', 'only the arm', 'only the reference', 'neither', 'p',
                   'p adjusted'], rows)]


def _power(figures: Mapping) -> list[Block]:
    power = figures['power']
    rows = [[
        row['arm'], f'{100 * row["discordant"]:.0f} %', f'{100 * row["shown_if_equal"]:.0f} %',
        _points(row['smallest_margin']), _points(row['smallest_difference']),
        _points(row['smallest_difference_per_task']),
    ] for row in power['rows']]  # fmt: skip
    return [
        Paragraph(
            f'With {power["n"]} scenes per arm ({power["per_task"]} per task), from exact sums '
            'over all outcomes, for as many scenes in which only one of the two succeeds as were '
            f'seen. Fewer than {power["fewest_discordant"]} such scenes, all for the same arm, '
            'never give p <= 0.05, and no interval of one arm on one task is narrow.'),
        Table(['arm v reference', 'scenes that differ', 'chance to show non-inferiority, if equal',
               'smallest margin with 80 % chance', 'smallest difference with 80 % chance',
               'on one task'], rows)]  # fmt: skip


def _points(value: float | None) -> str:
    return 'none' if value is None else f'{100 * value:.1f} points'


def _validity(figures: Mapping) -> list[Block]:
    group = figures['groups'][-1]
    rows = []
    for arm in _ids(figures):
        cell = figures['cells'][group][arm]
        reasons = ', '.join(f'{name} {count}' for name, count in cell['reasons'].items())
        rows.append([arm, f'{cell["valid"]["n"]}/{cell["n"]}', share_cell(cell['valid']),
                     share_cell(cell), reasons or '-',
                     _percent(cell['arm_limited_share']), _percent(cell['limited_share'])])
    limits = ', '.join(f'{name} {value:g}' for name, value in figures['validity_limits'].items())
    voids = Counter((void['task'], void['arm'], _short(void['reason']))
                    for void in figures['void'])
    blocks: list[Block] = [
        Paragraph('A rollout is deployment-valid when it was run as a deployment would be, by '
                  f'measurement; limits stated beforehand: {limits}. A rollout may have several '
                  'reasons not to be. The limiter\'s share is that of all control ticks; that on '
                  'grippers is not judged.'),
        Table(['arm', 'deployment-valid', 'success of those', 'success of all',
               'reasons (rollouts)', 'limiter at work on arms', 'on arms or grippers'],
              rows)]  # fmt: skip
    if voids:
        blocks.append(Table(['void trials: task', 'arm', 'reason', 'trials'], [
            [*which, count] for which, count in voids.most_common()]))
    return blocks


def _short(reason: str) -> str:
    """Without what was measured: `nothing moved: preflight: battery 12 %` and its like are one."""
    return ': '.join(reason.split(': ')[:2])


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{100 * share:.1f} %'


def _ms(value: float | None) -> str:
    return '-' if value is None else f'{1e3 * value:.0f}'


def _timing(figures: Mapping) -> list[Block]:
    rows = []
    for arm in _ids(figures):
        cell = figures['cells'][figures['groups'][-1]][arm]
        latency, slack = cell['latency_s'], cell['slack_s']
        late = f'{cell["late_chunks"]}/{cell["chunks"]}'
        rows.append([arm, _ms(latency['p50']), _ms(latency['p95']), _ms(latency['max']),
                     _ms(slack['p50']), _ms(slack['min']), late, f'{cell["hold_s"]:.2f}',
                     _ms(cell['first_action_s'])])  # fmt: skip
    return [Paragraph('ms; median over rollouts of their median (p50) and 95th percentile (p95), '
                      'and the worst of all. Slack: end of a chunk less the arrival of the next.'),
            Table(['arm', 'latency p50', 'p95', 'max', 'slack p50', 'min', 'late chunks',
                   'held, s in all', 'first action'], rows)]


def _stages(figures: Mapping) -> list[Block]:
    found: list[Block] = []
    for task, stages in figures['tasks'].items():
        cells = figures['cells'][task]
        rows = [[arm, cells[arm]['n'], *(cells[arm]['stages'].get(name, 0) for name in stages)]
                for arm in _ids(figures)]
        found.append(Table([task, 'n', *stages], rows))
    return found


def _failures(figures: Mapping, sheets: Mapping[str, Path]) -> list[Block]:
    if not sheets:
        return [Paragraph('None, or no pictures of them.')]
    return [Picture(path, f'{task}: the last picture of failed rollouts.')
            for task, path in sheets.items()]


def _tasks(reports: Mapping[str, str]) -> list[Block]:
    return [Paragraph('fieldtrial\'s own report of each task, with the pre-registered analysis, '
                      'sessions, edits and deviations:'),
            Table(['task', 'report'], list(reports.items()))]
