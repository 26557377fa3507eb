# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The table of results in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def _line(cells: Sequence[object]) -> str:
    return '| ' + ' | '.join(str(cell) for cell in cells) + ' |'


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [_line(columns), '|' + '---|' * len(columns), *map(_line, rows)]


def points(share: float) -> str:
    """A share as signed percentage points."""
    return f'{100 * share:+.1f}'


def cell(figures: Mapping) -> str:
    """'46/67 (56..79 %)', or a dash for nothing."""
    if not figures['n']:
        return '-'
    low, high = figures['interval']
    return f'{figures["success"]}/{figures["n"]} ({100 * low:.0f}..{100 * high:.0f} %)'


def verdict(row: Mapping) -> str:
    """The non-inferiority cell of a row, starred where the reference ran on another machine."""
    figures = row['non_inferiority']
    if figures is None:
        return '-'
    word = 'shown' if figures['shown'] else 'not shown'
    return (f'{points(figures["difference"])} (> {points(figures["lower"])}) v '
            f'-{100 * figures["margin"]:.0f}: {word}{" *" if row["other_machine"] else ""}')


def p_value(p: float) -> str:
    """A p-value with as many digits as make sense."""
    return '<0.0001' if p < 1e-4 else f'{p:.4f}' if p < 0.01 else f'{p:.3f}'


def _ms(value: float | None) -> str:
    return '-' if value is None else f'{value:.0f}'


def _section(section: Mapping, reference: str) -> list[str]:
    tasks = list(section['seeds'])
    seeds = ', '.join(f'{task} {first}..{first + section["seeds"][task] - 1}'
                      for task, first in section['first_seeds'].items())
    lines = [f'### {section["name"].capitalize()}', '',
             f'{section["split"].capitalize()} seeds, the same for every row: {seeds}.', '']
    rows, missing = [], {}
    for row in section['rows']:
        if not row['all']['n']:
            why = row['problem'] or 'not run'
            euler = ' Euler' if row['sampler'] == 'euler' else ''
            missing.setdefault((row['checkpoint'], why), []).append(row['steps'] + euler)
            continue
        short = '' if row['all']['n'] == row['wanted'] else f' (of {row["wanted"]})'
        rows.append([row['name'], f'`{row["checkpoint"]}`', row['steps'], row['sampler'],
                     *(cell(row['tasks'][task]) for task in tasks), cell(row['all']) + short,
                     f'{_ms(row["chunk_cpu_ms"])} / {_ms(row["predict_ms"])}',
                     verdict(row)])
    lines += _table(['row', 'checkpoint', 'steps', 'sampler', *tasks, 'all tasks',
                     'ms per chunk: CPU, all / wall, predict',
                     f'less `{reference}`, points'], rows)
    if any(row['other_machine'] and row['non_inferiority'] for row in section['rows']):
        lines += ['', '\\* run on another machine than the reference: the same scenes, but '
                  'pictures and sums may differ in their last digits.']
    if missing:
        lines += ['', 'Not in the table:', '']
        lines += [f'- `{checkpoint}` {", ".join(steps)}: {why}'
                  for (checkpoint, why), steps in missing.items()]
    if section['tests']:
        lines += ['', "Paired on the same seeds (McNemar's exact test, two-sided; adjusted with "
                  "Holm's method over this list):", '']
        lines += _table(
            ['A', 'B', 'pairs', 'both', 'only A', 'only B', 'neither', 'p', 'p adjusted'],
            [[test['first'], test['second'], test['n'], test['both'], test['first_only'],
              test['second_only'], test['neither'], p_value(test['p']),
              p_value(test['p_holm'])] for test in section['tests']])
    return [*lines, '']


def _published(published: Mapping) -> list[str]:
    if not published:
        return []
    rows = [[name, steps, *(f'{value} %' for value in values), f'{sum(values) / 3:.1f} %']
            for name, steps, *values in published['rows']]
    return ['### Published, not measured here', '', f'{published["source"]}.', '',
            *_table(['method', 'steps', 'T1 lid and potato', 'T2 red bottle', 'T3 pink object',
                     'mean'], rows), '']


def markdown(figures: Mapping) -> str:
    """The whole table; ``figures`` as in table.json."""
    lines = [
        f'Success in the simulator, in process, {figures["execution"]}, emulated latency '
        f'{figures["latency_s"]} s; k/n with 95 % Wilson intervals. Last column: difference to '
        'the reference on the same seeds, its lower bound (one-sided '
        f'{100 * (1 - figures["alpha"]):.0f} %, stratified by task) and the margin stated '
        f'beforehand. Plan {figures["plan_sha256"][:12]}.', '']
    for section in figures['sections']:
        lines += _section(section, figures['reference'])
    lines += _published(figures['published'])
    machines = sorted({machine for section in figures['sections'] for row in section['rows']
                       for machine in row['machines']})
    if machines:
        lines.append(f'Machines: {"; ".join(machines)}.')
    return '\n'.join(lines).rstrip() + '\n'
