# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the streaming engine remembers: keys and values of clean tokens, one buffer per layer.

Groups lie in the order V0 A0 V1 A1 ... (ids 0, 1, 2, ...: video of chunk c is 2c, its actions
2c+1). A pass writes its keys behind the history, and each of its parts attends to one contiguous
range: from the start of its window to its own end. Tokens that shall stay are kept by moving the
end of the history; a pass over noisy tokens does not, so the next pass overwrites them.
"""

import dataclasses
from collections.abc import Sequence

import torch

from .attention import attention
from .config import TransformerConfig

_SPARE_CHUNKS = 8


class EngineStateError(RuntimeError):
    """A call came out of order; the message says which call has to come first."""


@dataclasses.dataclass(frozen=True)
class Span:
    """A part of a pass: its keys go to tokens [start, stop), its queries see [low, stop)."""

    low: int
    start: int
    stop: int


class History:
    """The contiguous key/value buffer: (layers, 2, rows, heads, tokens, head_dim).

    window counts ids: a part with id g sees clean tokens of ids >= g - window. `cached` is the
    number of groups since the beginning of the episode that are written (the next one's id).
    """

    def __init__(self, config: TransformerConfig, rows: int, video_tokens: int,
                 action_tokens: int, window: int, like: torch.Tensor):
        self._video_tokens = video_tokens
        self._chunk_tokens = video_tokens + action_tokens
        self._window = window
        self._capacity = window // 2 + 1 + _SPARE_CHUNKS
        self._first_chunk = 0
        self.cached = 0
        self.rows = rows
        self._buffer = torch.empty(
            config.num_layers, 2, rows, config.num_attention_heads,
            self._capacity * self._chunk_tokens, config.attention_head_dim,
            dtype=like.dtype, device=like.device)
        self._layers = [tuple(layer) for layer in self._buffer]

    def _offset(self, group: int) -> int:
        chunk = group // 2 - self._first_chunk
        return chunk * self._chunk_tokens + (group % 2) * self._video_tokens

    def truncate(self, group: int) -> None:
        """Forget groups from `group` on."""
        if group < 2 * self._first_chunk:
            raise EngineStateError(f'chunk {group // 2} has left the history')
        self.cached = min(self.cached, group)

    def make_room(self, chunk: int, oldest_open: int) -> None:
        """Ensure that `chunk` fits; drop what no pass from `oldest_open` on can see.

        A pass that is still to come for a chunk before `chunk` needs its own window, too:
        `oldest_open` must not be later than the first chunk that is not written for good.
        """
        if chunk - self._first_chunk < self._capacity:
            return
        first = max(self._first_chunk, (2 * oldest_open - self._window) // 2)
        if chunk - first >= self._capacity:
            raise EngineStateError(f'{chunk - oldest_open} chunks are not grounded; ground some')
        start, end = self._offset(2 * first), self._offset(self.cached)
        self._buffer[..., :end - start, :] = self._buffer[..., start:end, :].clone()
        self._first_chunk = first

    def place(self, parts: Sequence[tuple[int, int]], skip: int = 0) -> list[Span]:
        """Lay out a pass behind the history: (id, tokens) of each part -> its span.

        `skip` leaves that many tokens of an earlier pass between the history and this one.
        """
        start, spans = self._offset(self.cached) + skip, []
        for group, tokens in parts:
            low = self._offset(max(group - self._window, 2 * self._first_chunk))
            spans.append(Span(low, start, start + tokens))
            start += tokens
        return spans

    def attend(self, spans: Sequence[Span], rows: int):
        """Return the self-attention of a pass laid out by `place`, for the first `rows` rows.

        It takes q, k, v (B, H, S, d); q may hold only the last parts, or be None (none of them).
        """
        begin, end = spans[0].start, spans[-1].stop

        def run(layer: int, q: torch.Tensor | None, k: torch.Tensor,
                v: torch.Tensor) -> torch.Tensor | None:
            keys, values = self._layers[layer]
            if rows < self.rows:
                keys, values = keys[:rows], values[:rows]
            keys[:, :, begin:end] = k
            values[:, :, begin:end] = v
            if q is None:
                return None
            first = end - q.shape[2]
            tiles = [attention(q[:, :, s.start - first:s.stop - first],
                               keys[:, :, s.low:s.stop], values[:, :, s.low:s.stop])
                     for s in spans if s.start >= first]
            if len(tiles) == 1:
                return tiles[0]
            return torch.cat([t.transpose(1, 2) for t in tiles], dim=1).transpose(1, 2)

        return run
