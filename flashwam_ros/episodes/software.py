# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a chunk's last bits depend on besides the recording: software and processor."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

_PACKAGES = ('torch', 'numpy', 'opencv-python')
_CPU = Path('/proc/cpuinfo')


def software() -> dict[str, str]:
    """Versions and processor of this process; what is not installed is left out."""
    found = {'python': platform.python_version(), 'processor': _processor()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def differences(recorded: Mapping[str, str], here: Mapping[str, str]) -> tuple[str, ...]:
    """What was recorded with something else than what is here, in words."""
    return tuple(
        f'{name} {recorded[name]}, here {here.get(name, "none")}'
        for name in sorted(recorded)
        if recorded[name] != here.get(name)
    )


def _processor() -> str:
    try:
        lines = _CPU.read_text(encoding='utf-8').splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return models[0] if models else platform.machine()
