# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding over (frame, row, column), LingBot-VA grid and rounding.

Frequencies are float64 numpy constants, so no module-wide cast can touch them. Angles are formed
in float64 and rounded to float32 once; the rotation itself runs in float64 for reduced-precision
parameters (as the released code does) and in the parameters' own precision otherwise.
"""

import functools

import numpy as np
import torch

ACTION_ROW = -1.0


def axis_split(head_dim: int) -> tuple[int, int, int]:
    """Channels of one head given to (frame, row, column); 128 -> (44, 42, 42)."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


@functools.lru_cache(maxsize=8)
def _frequencies(head_dim: int, theta: float) -> tuple[np.ndarray, ...]:
    return tuple(theta ** (-np.arange(0, n, 2, dtype=np.float64) / n)
                 for n in axis_split(head_dim))


def video_positions(frames: int, rows: int, columns: int, offset: int = 0) -> np.ndarray:
    """Grid ids of video tokens, frame-major then row then column: (frames*rows*columns, 3)."""
    grid = np.meshgrid(np.arange(frames) + float(offset), np.arange(rows), np.arange(columns),
                       indexing='ij')
    return np.stack([g.reshape(-1) for g in grid], axis=1).astype(np.float64)


def action_positions(frames: int, actions_per_frame: int, offset: int = 0) -> np.ndarray:
    """Grid ids of action tokens: f = frame + j/(n+1) for j = 1..n, row = column = -1."""
    n = actions_per_frame
    frame = (np.arange(frames)[:, None] + float(offset) + np.arange(1, n + 1)[None] / (n + 1))
    out = np.full((frames * n, 3), ACTION_ROW)
    out[:, 0] = frame.reshape(-1)
    return out


def rope_table(positions: np.ndarray, head_dim: int, theta: float,
               device: torch.device | str = 'cpu') -> torch.Tensor:
    """Return cos and sin of the angles: float32 (2, S, head_dim/2) for positions (S, 3)."""
    angles = [positions[:, axis:axis + 1] * f
              for axis, f in enumerate(_frequencies(head_dim, float(theta)))]
    angle = torch.from_numpy(np.concatenate(angles, axis=1)).to(torch.float32).to(device)
    return torch.stack([angle.cos(), angle.sin()])


def rotation_dtype(parameter_dtype: torch.dtype) -> torch.dtype:
    """Precision of the rotation: float64 for 16-bit parameters, else the parameters' own."""
    return torch.float64 if parameter_dtype in (torch.bfloat16, torch.float16) else parameter_dtype


def apply_rope(x: torch.Tensor, table: torch.Tensor, compute: torch.dtype) -> torch.Tensor:
    """Rotate interleaved pairs (2i, 2i+1) of x (B, S, H, head_dim) by table (2, S, head_dim/2)."""
    cos, sin = table[:, :, None, :].to(compute)
    even, odd = x.to(compute).unflatten(-1, (-1, 2)).unbind(-1)
    out = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return out.flatten(-2).to(x.dtype)
