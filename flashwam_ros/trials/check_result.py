# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The outcome of one check, and of all of them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

GREEN, AMBER, RED = 'green', 'amber', 'red'
_COLORS = {GREEN: '\x1b[32m', AMBER: '\x1b[33m', RED: '\x1b[31m'}
_PLAIN = '\x1b[0m'


@dataclass(frozen=True)
class CheckResult:
    """One check.

    Attributes:
        name: `check` or `check: which one`.
        ok: in order.
        measured: number or words; None: nothing was seen.
        threshold: what it was held against, in words with its direction.
        unit: of `measured`, '' for words.
        remedy: what to do when it is not in order.
        warning: not being in order does not forbid a motion.
    """

    name: str
    ok: bool
    measured: float | str | None
    threshold: str
    unit: str = ''
    remedy: str = ''
    warning: bool = False

    def __post_init__(self) -> None:
        """Plain types: numpy's cannot be written as JSON."""
        object.__setattr__(self, 'ok', bool(self.ok))
        if self.measured is not None and not isinstance(self.measured, str):
            object.__setattr__(self, 'measured', float(self.measured))

    @property
    def level(self) -> str:
        """'green', 'amber' or 'red'."""
        if self.ok:
            return GREEN
        return AMBER if self.warning else RED

    @property
    def value(self) -> str:
        """`measured` with its unit."""
        if self.measured is None:
            return 'nothing seen'
        if isinstance(self.measured, str):
            return self.measured or '-'
        return f'{self.measured:.4g} {self.unit}'.rstrip()


@dataclass(frozen=True)
class Report:
    """All checks of one preflight."""

    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether a motion may begin."""
        return not self.of_level(RED)

    def of_level(self, level: str) -> tuple[CheckResult, ...]:
        """The results of a colour."""
        return tuple(result for result in self.results if result.level == level)

    @property
    def reason(self) -> str:
        """Why no motion may begin, in one line; '' if one may."""
        return '; '.join(
            f'{r.name}: {r.value}, must be {r.threshold}' for r in self.of_level(RED)
        )

    def to_dict(self) -> dict:
        """Plain JSON types; :meth:`from_dict` is the inverse."""
        checks = [
            {**dataclasses.asdict(result), 'level': result.level} for result in self.results
        ]
        return {'ok': self.ok, 'reason': self.reason, 'checks': checks}

    @classmethod
    def from_dict(cls, data: dict) -> Report:
        """Read what `to_dict` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            fields = [{k: v for k, v in check.items() if k != 'level'} for check in data['checks']]
            return cls(tuple(CheckResult(**entry) for entry in fields))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'not a preflight report: {error}') from error

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1)

    def table(self, color: bool = False) -> str:
        """A table for people; remedies only where something is not in order."""
        width = max((len(result.name) for result in self.results), default=0)
        lines = []
        for result in self.results:
            mark = f'{result.level:<5}'
            mark = f'{_COLORS[result.level]}{mark}{_PLAIN}' if color else mark
            lines.append(f'{mark}  {result.name:<{width}}  {result.value}  ({result.threshold})')
            if not result.ok:
                lines.append(f'{"":7}{"":<{width}}  -> {result.remedy}')
        counts = ', '.join(f'{len(self.of_level(c))} {c}' for c in (GREEN, AMBER, RED))
        verdict = 'may move' if self.ok else 'MUST NOT MOVE'
        return '\n'.join([*lines, f'{verdict}: {counts}'])
