# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a checkpoint folder carries a mark of `flashwam promote` that fits it."""

import hashlib
import json
from pathlib import Path

from .config import MANIFEST

PROMOTION = 'promotion.json'
HASH_KEY = 'flashwam_sha256'


def promotion_problem(path: Path | str) -> str | None:
    """Why a checkpoint folder is not promoted, in words; None if it is.

    The mark lies beside the manifest, which covers every other file by hash, and names the
    manifest's own SHA-256 as `flashwam_sha256`: it does not fit another checkpoint.
    """
    path = Path(path)
    try:
        manifest = (path / MANIFEST).read_bytes()
    except OSError:
        return f'{path} holds no {MANIFEST}'
    try:
        mark = json.loads((path / PROMOTION).read_text(encoding='utf-8'))
    except FileNotFoundError:
        return f'{path.name} has not passed `flashwam promote`: it holds no {PROMOTION}'
    except (OSError, ValueError) as error:
        return f'{path / PROMOTION} cannot be read: {error}'
    found = mark.get(HASH_KEY) if isinstance(mark, dict) else None
    if found != hashlib.sha256(manifest).hexdigest():
        return (f'{path / PROMOTION} is of another checkpoint: it names {str(found)[:12]}, run '
                '`flashwam promote` again')
    return None
