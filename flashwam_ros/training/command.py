# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the training commands share: where state lies and how progress is told."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flashwam_ros.resources import share_path


def cache_folder(*parts: str) -> Path:
    """``$XDG_CACHE_HOME/flashwam/...`` (default ``~/.cache``)."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base).joinpath('flashwam', *parts)


def reporter(name: str) -> Callable[[str], None]:
    """A function that writes progress lines with the time of day to standard error."""

    def report(line: str) -> None:
        sys.stderr.write(f'{time.strftime("%H:%M:%S")} {name}: {line}\n')
        sys.stderr.flush()

    return report


def load_recipe(name: str, path: Path | None = None) -> dict:
    """A YAML recipe as plain data: ``path``, or the installed ``config/training/<name>``."""
    import yaml

    with open(path or share_path('config', 'training', name), encoding='utf-8') as file:
        return yaml.safe_load(file) or {}


def load_paraphrases(use: str) -> dict[str, list[str]]:
    """Prompt -> other ways to say it, of ``config/training/paraphrases.yaml``.

    Args:
        use: 'training', or 'held_out' for those that nothing is trained on.
    """
    return {prompt: said[use] for prompt, said in load_recipe('paraphrases.yaml').items()}
