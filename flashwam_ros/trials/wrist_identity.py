# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the two wrist cameras are the right way round, and whether red is red.

Both criteria look at *warmth*, red minus blue: a wooden table is warm, the wall behind it is not.
Where the table ends is seen by the two wrist cameras as edges that fall to opposite sides. The
upper half of each picture is compared with a reference pair, taken at the start pose; the score
says by how much each picture fits its own reference better than the other's. Pictures with red and
blue exchanged have negative warmth.

`python -m flashwam_ros.trials.wrist_identity DEMONSTRATIONS` makes the reference from the first
pictures of demonstrations. A robot needs one of its own: another table, other camera mounts.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path

import cv2
import numpy as np

from flashwam_ros.resources import share_path

WRISTS = ('left_wrist', 'right_wrist')
_SIDE = 16
_MOST = 300


def warmth(rgb: np.ndarray) -> float:
    """Mean of red minus blue, grey levels."""
    mean = np.asarray(rgb, np.float64).mean((0, 1))
    return float(mean[0] - mean[2])


def features(rgb: np.ndarray) -> np.ndarray:
    """(16, 16) warmth of the upper half, mean 0 and norm 1; zeros for a picture without any."""
    upper = cv2.resize(rgb[: rgb.shape[0] // 2], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return _normal(upper[..., 0].astype(np.float64) - upper[..., 2])


def identity_score(left: np.ndarray, right: np.ndarray, reference: np.ndarray) -> float:
    """Mean over both pictures of (likeness to own reference - likeness to the other's), -2..2.

    Args:
        left: picture of what is said to be the left wrist camera, uint8 RGB of any size.
        right: of the right one.
        reference: (2, 16, 16), left and right.
    """
    seen = np.stack([features(left), features(right)])
    likeness = np.einsum('ihw,jhw->ij', seen, reference)
    return float(np.trace(likeness) - likeness[0, 1] - likeness[1, 0]) / 2.0


@functools.cache
def load_reference(path: str | None = None) -> np.ndarray:
    """(2, 16, 16) reference pair, left and right (default `config/robot/wrist_reference.json`).

    Raises:
        OSError: no such file. ValueError: it holds something else.
    """
    file = share_path('config', 'robot', 'wrist_reference.json') if path is None else Path(path)
    data = json.loads(file.read_text(encoding='utf-8'))
    pair = np.array([data[key] for key in WRISTS], np.float64)
    if pair.shape != (2, _SIDE, _SIDE):
        raise ValueError(f'{file}: need two tables of {_SIDE} x {_SIDE}, got shape {pair.shape}')
    return np.stack([_normal(table) for table in pair])


def make_reference(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """Content of the reference file from (left, right) pictures at the start pose."""
    tables = [np.mean([features(pair[side]) for pair in pairs], axis=0) for side in (0, 1)]
    return {
        'what': 'warmth of the upper half of the wrist pictures at the start pose',
        'pictures': len(pairs),
        **{
            key: np.round(_normal(table), 4).tolist()
            for key, table in zip(WRISTS, tables, strict=True)
        },
    }


def _normal(table: np.ndarray) -> np.ndarray:
    table = table - table.mean()
    norm = float(np.linalg.norm(table))
    return table / norm if norm > 1e-9 else np.zeros_like(table)


def main(argv: list[str] | None = None) -> int:
    """Write the reference of demonstrations to standard output."""
    from flashwam_ros.training.episode_file import read_episode

    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('demonstrations', type=Path, help='folder with episode_*.npz, searched')
    files = sorted(parser.parse_args(argv).demonstrations.rglob('episode_*.npz'))
    if not files:
        sys.stderr.write('no episode_*.npz there: give the folder that `flashwam demos` wrote\n')
        return 1
    chosen = files[:: max(1, len(files) // _MOST)]
    images = [read_episode(file).images for file in chosen]
    pairs = [(image[WRISTS[0]][0], image[WRISTS[1]][0]) for image in images]
    sys.stdout.write(json.dumps(make_reference(pairs)) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
