# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video codecs: images to latent frames, one image first and groups of four afterwards."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

IMAGES_PER_FRAME = 4
CANVAS_HEIGHT, CANVAS_WIDTH = 192, 128
HEAD_SIZE, WRIST_SIZE = 128, 64


class CodecStream(Protocol):
    """The encoder's state within one episode."""

    def push(self, images: torch.Tensor) -> torch.Tensor:
        """Encode the next images (B, T, 3, H, W) in [-1, 1] to latents (B, z, F, h, w).

        The first call takes exactly 1 image, later ones a multiple of 4; else ValueError.
        """
        ...


class VideoCodec(Protocol):
    """What the policy, the trainer and the viewer need of a video autoencoder."""

    latent_channels: int
    latent_size: tuple[int, int]

    def stream(self) -> CodecStream:
        """Start an episode."""
        ...

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Encode a whole episode (B, 1 + 4m, 3, H, W) to (B, z, 1 + m, h, w), normalised."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode (B, z, F, h, w) to images (B, 1 + 4 (F-1), 3, H, W) in [-1, 1]."""
        ...


def assemble_canvas(images: Mapping[str, np.ndarray]) -> np.ndarray:
    """Lay three views out on one canvas: (192, 128, 3) uint8.

    images: 'left_wrist' and 'right_wrist' (64, 64, 3) side by side on top of 'head' (128, 128, 3),
    uint8 RGB. Raises ValueError naming a missing camera or a wrong shape or type.
    """
    canvas = np.empty((CANVAS_HEIGHT, CANVAS_WIDTH, 3), np.uint8)
    places = {'left_wrist': (0, 0, WRIST_SIZE), 'right_wrist': (0, WRIST_SIZE, WRIST_SIZE),
              'head': (WRIST_SIZE, 0, HEAD_SIZE)}
    for key, (top, left, size) in places.items():
        if key not in images:
            raise ValueError(f'camera {key!r} is missing; got {sorted(images)}')
        image = np.asarray(images[key])
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise ValueError(f'camera {key!r}: expected uint8 ({size}, {size}, 3), got '
                             f'{image.dtype} {image.shape}')
        canvas[top:top + size, left:left + size] = image
    return canvas


def canvas_to_tensor(canvases: np.ndarray) -> torch.Tensor:
    """Uint8 canvases (..., 192, 128, 3) -> float32 (..., 3, 192, 128) in [-1, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(canvases))
    return x.movedim(-1, -3).float().div(127.5).sub(1.0)


def tensor_to_canvas(images: torch.Tensor) -> np.ndarray:
    """Inverse of `canvas_to_tensor`, clipped."""
    x = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return x.to(torch.uint8).movedim(-3, -1).cpu().numpy()


@dataclasses.dataclass(frozen=True)
class NanoCodecConfig:
    """Widths of NanoCodec at 1/4, 1/8 and 1/16 resolution; keys of `vae/config.json`."""

    latent_channels: int = 16
    encoder_widths: tuple[int, int, int] = (48, 64, 96)
    decoder_widths: tuple[int, int, int] = (32, 64, 64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {'_class_name': 'NanoCodec', **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'NanoCodecConfig':
        """Read plain data; ValueError for another class."""
        if values.get('_class_name', 'NanoCodec') != 'NanoCodec':
            raise ValueError(f'vae/config.json describes a {values["_class_name"]}, this build '
                             'reads NanoCodec')
        return cls(int(values['latent_channels']), tuple(values['encoder_widths']),
                   tuple(values['decoder_widths']))


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class NanoCodec(nn.Module):
    """Small convolutional autoencoder of the 192x128 canvas: 16x in space, 4x in time, z = 16.

    The four images of a latent frame are stacked as channels (the first frame is one image
    repeated); each group is encoded by itself, so streaming equals one-shot encoding exactly.
    Latents leave normalised by per-channel mean and std (`set_latent_statistics`).
    """

    def __init__(self, config: NanoCodecConfig | None = None):
        super().__init__()
        self.config = config or NanoCodecConfig()
        z = self.config.latent_channels
        fine, middle, coarse = self.config.encoder_widths
        stacked = 3 * IMAGES_PER_FRAME
        self.encoder = nn.Sequential(
            nn.Conv2d(stacked, fine, 4, stride=4), nn.SiLU(),
            nn.Conv2d(fine, middle, 3, stride=2, padding=1), _Residual(middle),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1), _Residual(coarse),
            nn.GroupNorm(8, coarse), nn.SiLU(), nn.Conv2d(coarse, z, 3, padding=1))
        fine, middle, coarse = self.config.decoder_widths
        self.decoder = nn.Sequential(
            nn.Conv2d(z, coarse, 3, padding=1), _Residual(coarse),
            nn.Upsample(scale_factor=2), nn.Conv2d(coarse, middle, 3, padding=1),
            _Residual(middle),
            nn.Upsample(scale_factor=2), nn.Conv2d(middle, fine, 3, padding=1), nn.SiLU(),
            nn.Conv2d(fine, 16 * stacked, 3, padding=1), nn.PixelShuffle(4))
        self.register_buffer('latents_mean', torch.zeros(z))
        self.register_buffer('latents_std', torch.ones(z))

    @property
    def latent_channels(self) -> int:
        """Channels z of a latent frame."""
        return self.config.latent_channels

    @property
    def latent_size(self) -> tuple[int, int]:
        """(h, w) of a latent frame."""
        return CANVAS_HEIGHT // 16, CANVAS_WIDTH // 16

    def set_latent_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Set the per-channel (z,) mean and standard deviation of `encode_raw`'s output."""
        if not bool((std > 0).all()):
            raise ValueError('latent standard deviations must be positive')
        self.latents_mean.copy_(mean)
        self.latents_std.copy_(std)

    def encode_raw(self, images: torch.Tensor) -> torch.Tensor:
        """One group, un-normalised: (B, 1 or 4, 3, 192, 128) -> (B, z, 12, 8)."""
        if images.ndim != 5 or images.shape[1] not in (1, IMAGES_PER_FRAME) \
                or images.shape[2:] != (3, CANVAS_HEIGHT, CANVAS_WIDTH):
            raise ValueError(f'a group is (B, 1 or {IMAGES_PER_FRAME}, 3, {CANVAS_HEIGHT}, '
                             f'{CANVAS_WIDTH}), got {tuple(images.shape)}')
        if images.shape[1] == 1:
            images = images.expand(-1, IMAGES_PER_FRAME, -1, -1, -1)
        return self.encoder(images.flatten(1, 2))

    def encode_group(self, images: torch.Tensor) -> torch.Tensor:
        """One latent frame: (B, 1 or 4, 3, 192, 128) in [-1, 1] -> normalised (B, z, 12, 8)."""
        return self.normalise(self.encode_raw(images))

    def normalise(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw (B, z, h, w) -> zero mean, unit variance per channel."""
        return (raw - self.latents_mean[:, None, None]) / self.latents_std[:, None, None]

    def decode_raw(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw (B, z, 12, 8) -> unclipped images of the group (B, 4, 3, 192, 128)."""
        return self.decoder(raw).unflatten(1, (IMAGES_PER_FRAME, 3))

    def decode_group(self, latent: torch.Tensor) -> torch.Tensor:
        """Normalised (B, z, 12, 8) -> (B, 4, 3, 192, 128) in [-1, 1]."""
        raw = latent * self.latents_std[:, None, None] + self.latents_mean[:, None, None]
        return self.decode_raw(raw).clamp(-1, 1)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See VideoCodec."""
        stream = self.stream()
        first = stream.push(images[:, :1])
        if images.shape[1] == 1:
            return first
        return torch.cat([first, stream.push(images[:, 1:])], dim=2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See VideoCodec; the first latent frame gives one image."""
        batch, _, frames = latents.shape[:3]
        images = self.decode_group(latents.transpose(1, 2).flatten(0, 1))
        images = images.unflatten(0, (batch, frames))
        return torch.cat([images[:, 0, -1:], images[:, 1:].flatten(1, 2)], dim=1)

    def stream(self) -> '_NanoStream':
        """See VideoCodec."""
        return _NanoStream(self)


class _NanoStream:
    """Counts images; the nano codec needs no other state."""

    def __init__(self, codec: NanoCodec):
        self._codec = codec
        self._started = False

    def push(self, images: torch.Tensor) -> torch.Tensor:
        batch, count = images.shape[:2]
        if not self._started:
            if count != 1:
                raise ValueError(f'the first push of an episode takes 1 image, got {count}')
            self._started = True
            return self._codec.encode_group(images).unsqueeze(2)
        if count == 0 or count % IMAGES_PER_FRAME:
            raise ValueError(f'push takes a multiple of {IMAGES_PER_FRAME} images, got {count}')
        groups = images.unflatten(1, (-1, IMAGES_PER_FRAME)).flatten(0, 1)
        return self._codec.encode_group(groups).unflatten(0, (batch, -1)).transpose(1, 2)


class PositionProbe(nn.Module):
    """Auxiliary head of codec training: regress positions from a latent frame.

    It makes the codec keep where things are (small objects hardly count in a pixel loss). Targets
    are (B, outputs), e.g. K normalised 2-D or 3-D positions. Never stored in a checkpoint.
    """

    def __init__(self, outputs: int, latent_channels: int = 16,
                 latent_size: tuple[int, int] = (CANVAS_HEIGHT // 16, CANVAS_WIDTH // 16),
                 width: int = 256):
        super().__init__()
        cells = latent_size[0] * latent_size[1]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(latent_channels * cells, width),
                                    nn.SiLU(), nn.Linear(width, outputs))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """(B, z, h, w) -> (B, outputs)."""
        return self.layers(latent)
