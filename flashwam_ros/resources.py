# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the package's data files lie: source checkout, ROS install space or pip prefix."""

import contextlib
import sys
from pathlib import Path

_PACKAGE = 'flashwam_ros'


def _candidate_roots() -> list[Path]:
    """Folders that may hold `config/`, `urdf/` and `models/`, nearest first."""
    # resolve() follows the links of a --symlink-install back into the checkout.
    roots = [Path(__file__).resolve().parent.parent]
    try:
        from ament_index_python.packages import (
            PackageNotFoundError,
            get_package_share_directory,
        )
    except ImportError:
        pass
    else:
        with contextlib.suppress(PackageNotFoundError, LookupError, OSError):
            roots.append(Path(get_package_share_directory(_PACKAGE)))
    roots.append(Path(sys.prefix) / 'share' / _PACKAGE)
    return roots


def share_path(*parts: str) -> Path:
    """Finds a data file or folder of the package.

    Args:
        parts: path below the share folder, for example `'config', 'robot', 'g1_dex1.yaml'`.

    Returns:
        The existing path, from the first place that has it: the source checkout, the share
        folder that the ament index names, `sys.prefix/share/flashwam_ros`.

    Raises:
        FileNotFoundError: no place has it; the message names all of them.
    """
    tried = [root.joinpath(*parts) for root in _candidate_roots()]
    for path in tried:
        if path.exists():
            return path
    raise FileNotFoundError(
        f'{"/".join(parts)} of {_PACKAGE} not found; tried '
        + ', '.join(str(path) for path in tried)
        + '. Install the package again, or run from a complete checkout.'
    )
