# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures on surfaces, made of noise: butcher block, floor, fabric, potato, labels.

Every function returns PNG bytes, is seeded and always returns the same picture.
"""

from __future__ import annotations

import cv2
import numpy as np


def _png(rgb: np.ndarray) -> bytes:
    """PNG bytes of an (h, w, 3) RGB or (h, w, 4) RGBA array of 0..255."""
    pixels = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    swap = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode('.png', cv2.cvtColor(pixels, swap))[1].tobytes()


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int],
           octaves: int = 1) -> np.ndarray:
    """Smooth noise of about unit amplitude that wraps round in both directions."""
    height, width = shape
    total = np.zeros(shape)
    for octave in range(octaves):
        rows, columns = cells[0] * 2 ** octave, cells[1] * 2 ** octave
        coarse = np.pad(rng.uniform(-1.0, 1.0, (rows, columns)), 2, mode='wrap')
        y = (np.arange(height) + 0.5) * rows / height + 1.5
        x = (np.arange(width) + 0.5) * columns / width + 1.5
        map_x, map_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        total += cv2.remap(coarse.astype(np.float32), map_x, map_y, cv2.INTER_CUBIC) / 2 ** octave
    return total


def butcher_block(size: int = 1024, staves: int = 16) -> bytes:
    """Light wooden bench top: glued staves along the picture's vertical axis."""
    rng = np.random.default_rng(11)
    base, dark = np.array([216.0, 187.0, 146.0]), np.array([176.0, 138.0, 96.0])
    shade = np.zeros((size, size))
    seam = np.zeros((size, size))
    edges = np.linspace(0, size, staves + 1).astype(int)
    fine = 0.55 * _noise(rng, (size, size), (6, 190), 2) + 0.45 * _noise(
        rng, (size, size), (3, 48), 2)
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        cuts = np.concatenate([[0], np.sort(rng.integers(60, size - 60, 2)), [size]])
        for top, bottom in zip(cuts[:-1], cuts[1:], strict=True):
            shift = int(rng.integers(0, size))
            shade[top:bottom, left:right] = rng.uniform(-0.16, 0.30) + 0.20 * np.roll(
                fine, shift, (0, 1)[int(rng.integers(2))])[top:bottom, left:right]
            seam[bottom - 2:bottom, left:right] = 0.35
        seam[:, right - 2:right] = 0.45
    mix = np.clip(0.16 + shade + cv2.GaussianBlur(seam, (3, 3), 0), 0.0, 1.0)[..., None]
    return _png(base * (1.0 - mix) + dark * mix)


def floor(size: int = 512) -> bytes:
    """Pale stone tiles, 2 x 2 per picture, thin joints."""
    rng = np.random.default_rng(12)
    value = 198.0 + 5.0 * _noise(rng, (size, size), (4, 4), 5)
    half = size // 2
    for row in range(2):
        for column in range(2):
            tile = np.s_[row * half:(row + 1) * half, column * half:(column + 1) * half]
            value[tile] += rng.uniform(-4.0, 4.0)
    for line in (0, half):
        value[line:line + 3] = 168.0
        value[:, line:line + 3] = 168.0
    return _png(value[..., None] * np.array([0.985, 0.99, 1.0]))


def fabric(size: int = 512) -> bytes:
    """White partition cloth with soft folds along the picture's horizontal axis."""
    rng = np.random.default_rng(13)
    folds = _noise(rng, (size, 1), (14, 1), 2)[:, 0]
    value = 236.0 + 7.0 * folds[:, None] + 2.0 * _noise(rng, (size, size), (128, 128))
    return _png(value[..., None] * np.array([1.0, 0.995, 0.98]))


def potato(size: int = 256) -> bytes:
    """Yellow skin with pale clouds and a few small eyes."""
    rng = np.random.default_rng(14)
    cloud = _noise(rng, (size, size), (4, 6), 4)[..., None]
    rgb = np.array([246.0, 204.0, 62.0]) + cloud * np.array([10.0, 13.0, 16.0])
    for _ in range(16):
        x, y = rng.integers(8, size - 8), rng.integers(60, size - 60)
        axes = (int(rng.integers(3, 6)), int(rng.integers(1, 3)))
        cv2.ellipse(rgb, (int(x), int(y)), axes, 0, 0, 360, (178.0, 132.0, 48.0), -1, cv2.LINE_AA)
    return _png(rgb)


def cork(size: int = 256) -> bytes:
    """Brown cork with dark and light grains."""
    rng = np.random.default_rng(15)
    grain = _noise(rng, (size, size), (48, 48), 2)[..., None]
    patch = _noise(rng, (size, size), (9, 9), 2)[..., None]
    rgb = np.array([168.0, 120.0, 76.0]) + 16.0 * grain + 9.0 * patch
    rgb[grain[..., 0] > 1.0] = (104.0, 68.0, 42.0)
    return _png(rgb)


def label(accent: tuple[int, int, int], size: int = 256) -> bytes:
    """A cream bottle label: coloured emblem, stripe and lines of "text", three times round."""
    height, width = size // 2, size
    rgb = np.full((height, width, 3), (244.0, 238.0, 222.0))
    dark = (52.0, 44.0, 40.0)
    colour = tuple(float(c) for c in accent)
    rgb[:9] = rgb[-9:] = colour
    third = width // 3
    for k in range(3):
        x = k * third
        cv2.circle(rgb, (x + 26, 62), 19, colour, -1, cv2.LINE_AA)
        cv2.circle(rgb, (x + 26, 62), 10, (244.0, 238.0, 222.0), -1, cv2.LINE_AA)
        for line, length in enumerate((26, 20, 28)):
            y = 44 + 17 * line
            cv2.rectangle(rgb, (x + 51, y), (x + 51 + length, y + 6), dark, -1)
    return _png(rgb[::-1])


def soft_blob(size: int = 128) -> bytes:
    """Black with a bell-shaped alpha: the contact shadow. (size, size) RGBA."""
    axis = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    radius = np.minimum(np.hypot(axis[:, None], axis[None, :]), 1.0)
    rgba = np.zeros((size, size, 4))
    rgba[..., 3] = 255.0 * (0.5 + 0.5 * np.cos(np.pi * radius)) ** 1.2
    return _png(rgba)
