# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One demonstration per file: what the trainer needs of an episode, and nothing to unpickle.

Row ``i`` of ``applied`` is what was commanded ``row_duration`` after row ``i - 1`` (design: time
of a row).  Key frame 0 is the initial frame; key frame ``j >= 1`` belongs to the end of row ``2 j
- 1``. Latent frame 0 is the initial frame, latent frame ``f >= 1`` is made of key frames ``4 f -
3 .. 4 f`` and of rows ``8 (f - 1) .. 8 f - 1``.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMAT = 1
_IMAGE = 'image.'
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError)
"""What NumPy raises, besides ValueError, for an npz file that is cut short or torn."""


@dataclass(frozen=True)
class EpisodeData:
    """A demonstration.

    Attributes:
        task: task name.
        prompt: instruction.
        seed: episode seed.
        contract_hash: SHA-256 of the robot contract.
        recovery: the expert was disturbed on purpose and recovered.
        images: camera key -> (T, h, w, 3) uint8 RGB at policy size, T = 1 + 4·(F - 1).
        stamps_ns: (T,) capture stamps, ns.
        due_ns: (T,) due times, ns.
        applied: (8·(F - 1), C) float64 rows really commanded, rad.
        requested: like applied, before the limits.
        perturbed: (8·(F - 1),) bool rows that push the arm away on purpose: not to imitate.
        object_names: names of the objects in ``objects``.
        objects: (T, N, 3) float32 positions at each key frame, m, robot frame.
        tcp: (T, 2, 3) float32 left and right tool centre points, m, robot frame.
    """

    task: str
    prompt: str
    seed: int
    contract_hash: str
    recovery: bool
    images: dict[str, np.ndarray]
    stamps_ns: np.ndarray
    due_ns: np.ndarray
    applied: np.ndarray
    requested: np.ndarray
    perturbed: np.ndarray
    object_names: tuple[str, ...]
    objects: np.ndarray
    tcp: np.ndarray

    @property
    def latent_frames(self) -> int:
        """Latent frames F, the initial one included."""
        return 1 + (len(self.stamps_ns) - 1) // 4

    def check(self) -> None:
        """Raise ValueError when frames and rows do not belong together."""
        frames, rows = len(self.stamps_ns), len(self.applied)
        if frames < 5 or (frames - 1) % 4:
            raise ValueError(f'{self.task} seed {self.seed}: {frames} key frames are not 1 + 4·n')
        if rows * 4 != (frames - 1) * 8:
            raise ValueError(f'{self.task} seed {self.seed}: {rows} rows for {frames} key frames')
        if self.requested.shape != self.applied.shape:
            raise ValueError(f'{self.task} seed {self.seed}: requested and applied rows differ')
        if self.perturbed.shape != (rows,):
            raise ValueError(f'{self.task} seed {self.seed}: perturbed rows do not fit')
        if any(len(images) != frames for images in self.images.values()):
            raise ValueError(f'{self.task} seed {self.seed}: a camera lacks key frames')
        if not np.isfinite(self.applied).all():
            raise ValueError(f'{self.task} seed {self.seed}: rows that are not finite')


def write_episode(path: Path, episode: EpisodeData) -> None:
    """Write atomically: a reader sees the whole episode or none."""
    episode.check()
    about = {'format': FORMAT, 'task': episode.task, 'prompt': episode.prompt,
             'seed': episode.seed, 'contract_hash': episode.contract_hash,
             'recovery': episode.recovery, 'object_names': list(episode.object_names)}
    arrays = {f'{_IMAGE}{key}': value for key, value in episode.images.items()}
    part = path.with_name(path.name + f'.{os.getpid()}.part')
    with open(part, 'wb') as file:
        np.savez(file, about=np.array(json.dumps(about)), stamps_ns=episode.stamps_ns,
                 due_ns=episode.due_ns, applied=episode.applied, requested=episode.requested,
                 perturbed=episode.perturbed,
                 objects=episode.objects.astype(np.float32),
                 tcp=episode.tcp.astype(np.float32), **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_arrays(path: Path, images: bool = True) -> tuple[dict, dict[str, np.ndarray]]:
    """What an npz file says of itself (``about``), and its arrays by name.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = [name for name in file.files if images or not name.startswith(_IMAGE)]
            return json.loads(str(file['about'])), {name: file[name] for name in wanted}
    except (ValueError, *_DAMAGED) as error:
        raise ValueError(f'{path}: damaged ({error}): remove it, then make, import or '
                         'encode it again') from error


def read_episode(path: Path, images: bool = True) -> EpisodeData:
    """Read an episode; ``images=False`` leaves the pictures on disk.

    Raises:
        ValueError: the file is damaged, of another format, or its parts do not belong together.
    """
    about, arrays = read_arrays(path, images)
    if about.get('format') != FORMAT:
        raise ValueError(f'{path}: episode format {about.get("format")}, expected {FORMAT}: '
                         'generate the demonstrations again')
    episode = EpisodeData(
        task=about['task'], prompt=about['prompt'], seed=about['seed'],
        contract_hash=about['contract_hash'], recovery=about['recovery'],
        images={name[len(_IMAGE):]: value for name, value in arrays.items()
                if name.startswith(_IMAGE)},
        stamps_ns=arrays['stamps_ns'], due_ns=arrays['due_ns'], applied=arrays['applied'],
        requested=arrays['requested'], perturbed=arrays['perturbed'],
        object_names=tuple(about['object_names']), objects=arrays['objects'], tcp=arrays['tcp'])
    episode.check()
    return episode
