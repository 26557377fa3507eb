# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Episode seeds: three ranges that never meet, with an offset per task inside each.

============  =================  ==============================================
split         first seed         used for
============  =================  ==============================================
test          10000 + 10000·i    reported results only, never for any choice
selection     50000 + 10000·i    looking at a checkpoint while it trains
training      100000 + 100000·i  demonstrations
============  =================  ==============================================

``i`` is the task's place in ``TASKS``.  A range holds 10000 seeds (training 100000).  Other seeds
belong to no split.
"""

TASKS = ('red_bottle', 'pink_object', 'pot_potato')
HELD_OUT = ('test', 'selection')
"""Splits whose scenes no model may be trained on."""
_FIRST = {'test': 10_000, 'selection': 50_000, 'training': 100_000}
_SIZE = {'test': 10_000, 'selection': 10_000, 'training': 100_000}


def seed_range(split: str, task: str) -> range:
    """All seeds of a split for a task; raises ValueError for unknown names."""
    if split not in _FIRST:
        raise ValueError(f'unknown seed split {split!r}: one of {sorted(_FIRST)}')
    if task not in TASKS:
        raise ValueError(f'unknown task {task!r}: one of {list(TASKS)}')
    first = _FIRST[split] + TASKS.index(task) * _SIZE[split]
    return range(first, first + _SIZE[split])


def seeds(split: str, task: str, count: int, start: int = 0) -> list[int]:
    """``count`` seeds of a split from its ``start``-th on; ValueError beyond its end."""
    allowed = seed_range(split, task)
    if count < 0 or start < 0 or start + count > len(allowed):
        raise ValueError(f'{split} seeds {start}..{start + count} of {task}: only {len(allowed)}')
    return list(allowed[start:start + count])


def split_of(seed: int | None, task: str) -> str | None:
    """The split that a task's seed belongs to; None for no split, no seed or an unknown task."""
    if task not in TASKS:
        return None
    return next((split for split in _FIRST if seed in seed_range(split, task)), None)


def require_split(seed: int, split: str, task: str) -> int:
    """Return the seed, or raise ValueError when it does not belong to that split and task."""
    if seed not in seed_range(split, task):
        raise ValueError(f'seed {seed} is not a {split} seed of {task} '
                         f'({seed_range(split, task)}): a result from it would not count')
    return seed
