# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Text encoders: a prompt becomes a fixed number of rows, zero padded."""

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch


class TextEncoder(Protocol):
    """What the engine and the trainer need of a text encoder."""

    text_dim: int
    rows: int

    def encode(self, prompt: str) -> torch.Tensor:
        """Return float32 (rows, text_dim); unused rows are zero; '' is the negative prompt."""
        ...


@functools.lru_cache(maxsize=4096)
def _word_vector(word: str, text_dim: int) -> np.ndarray:
    """Seeded standard normal vector of a word (numpy's frozen legacy generator)."""
    seed = int.from_bytes(hashlib.sha256(word.encode('utf-8')).digest()[:4], 'little')
    return np.random.RandomState(seed).standard_normal(text_dim).astype(np.float32)


class NanoTextEncoder:
    """Untrained: one fixed random vector per lower-cased word, then an end row, then zero rows.

    Words are runs of letters and digits. Without position rows the network sees a bag of words,
    enough to tell task prompts apart. The empty prompt is the end row alone.
    """

    END = '</s>'

    def __init__(self, rows: int = 16, text_dim: int = 64):
        self.rows = int(rows)
        self.text_dim = int(text_dim)

    def encode(self, prompt: str) -> torch.Tensor:
        """See TextEncoder. Raises ValueError when the prompt has more than rows-1 words."""
        words = re.findall(r'[^\W_]+', prompt.lower())
        if len(words) >= self.rows:
            raise ValueError(f'prompt has {len(words)} words, at most {self.rows - 1} fit: '
                             f'{prompt!r}')
        out = np.zeros((self.rows, self.text_dim), np.float32)
        for i, word in enumerate([*words, self.END]):
            out[i] = _word_vector(word, self.text_dim)
        return torch.from_numpy(out)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `text_encoder/config.json`."""
        return {'_class_name': 'NanoTextEncoder', 'rows': self.rows, 'text_dim': self.text_dim}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'NanoTextEncoder':
        """Read plain data; ValueError for another class."""
        if values.get('_class_name') != 'NanoTextEncoder':
            raise ValueError(f'text_encoder/config.json describes a {values.get("_class_name")}, '
                             'this build reads NanoTextEncoder')
        return cls(values['rows'], values['text_dim'])
