# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the console needs of the running graph; `nodes.console` is the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

#: What a page may ask for, with the names of the values that belong to it and their types.
ACTIONS: Mapping[str, Mapping[str, type]] = {
    'stop': {},
    'engage': {},
    'release': {},
    'reset': {'seed': int},
    'ready': {},
    'record': {'prompt': str, 'operator': str},
    'end': {},
    'keep': {'operator': str},
    'discard': {'operator': str},
}


@dataclass(frozen=True)
class Answer:
    """Whether it was done, and what the answering side said."""

    ok: bool
    message: str = ''


class Backend(Protocol):
    """The running graph."""

    def teleop(self, text: str) -> None:
        """Pass a command on; never waits."""

    def act(self, action: str, values: Mapping[str, Any]) -> Answer:
        """Carry out one of `ACTIONS`; blocks until there is an answer."""
