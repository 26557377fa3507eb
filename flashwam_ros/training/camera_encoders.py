# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's codec and text encoder, seen as what makes latents camera by camera.

The nano codec encodes one canvas of all cameras, the Wan2.2 autoencoder each camera by itself. The
first is cut along the canvas's borders, so that both end up in the same files and assembling gives
the canvas back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from flashwam_ros.training.codec_trainer import codec_hash
from flashwam_ros.wam.checkpoint import CheckpointError, load_checkpoint
from flashwam_ros.wam.codec import (
    HEAD_SIZE,
    IMAGES_PER_FRAME,
    WRIST_SIZE,
    NanoCodec,
    assemble_canvas,
    canvas_to_tensor,
)
from flashwam_ros.wam.text import TextEncoder

_GROUP = 8 * IMAGES_PER_FRAME
_TEXT_ROWS = 512


class CameraEncoder(Protocol):
    """Makes latents of one segment.

    Attributes:
        mark: hash of the weights.
    """

    mark: str

    def encode(self, images: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Camera key -> (T, h, w, 3) uint8 RGB, T = 4 m + 1; gives camera key -> (F, h, w, z)."""
        ...


def load_encoders(checkpoint: Path) -> tuple[CameraEncoder, TextEncoder, str]:
    """Codec, text encoder and the latter's mark of a checkpoint folder.

    Raises:
        CheckpointError: the folder is damaged, or needs a library that is not installed.
    """
    path = checkpoint / 'vae' / 'config.json'
    try:
        kind = json.loads(path.read_text(encoding='utf-8')).get('_class_name')
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path}: cannot be read: {error}') from error
    if kind == 'AutoencoderKLWan':
        text = UMT5Text(checkpoint)
        return WanCameras(checkpoint), text, text.mark
    loaded = load_checkpoint(checkpoint)
    return NanoCameras(loaded.codec), loaded.text_encoder, json.dumps(
        loaded.text_encoder.to_dict(), sort_keys=True)


class NanoCameras:
    """The nano codec; its canvas is cut into the cameras' cells."""

    def __init__(self, codec: NanoCodec):
        self._codec = codec
        self.mark = codec_hash(codec)

    def encode(self, images: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """See CameraEncoder; float16."""
        count = len(next(iter(images.values())))
        stream, parts = self._codec.stream(), []
        for start, end in [(0, 1), *((i, i + _GROUP) for i in range(1, count, _GROUP))]:
            canvases = np.stack([assemble_canvas({key: views[i] for key, views in images.items()})
                                 for i in range(start, min(end, count))])
            with torch.no_grad():
                parts.append(stream.push(canvas_to_tensor(canvases)[None]))
        latents = torch.cat(parts, dim=2)[0].permute(1, 2, 3, 0).to(torch.float16)
        wrist = WRIST_SIZE * latents.shape[1] // (WRIST_SIZE + HEAD_SIZE)
        return {'head': latents[:, wrist:], 'left_wrist': latents[:, :wrist, :wrist],
                'right_wrist': latents[:, :wrist, wrist:]}


class WanCameras:
    """The Wan2.2 autoencoder of `diffusers`: mean of the posterior, normalised per channel."""

    def __init__(self, checkpoint: Path):
        try:
            from diffusers import AutoencoderKLWan
        except ImportError as error:
            raise CheckpointError(f'{checkpoint / "vae"} holds a Wan autoencoder: pip install '
                                  'diffusers transformers') from error
        self.mark = _folder_hash(checkpoint / 'vae')
        self._device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self._dtype = torch.bfloat16 if self._device.type == 'cuda' else torch.float32
        self._vae = AutoencoderKLWan.from_pretrained(
            checkpoint / 'vae', torch_dtype=self._dtype).to(self._device).eval()
        config = self._vae.config
        self._mean = torch.tensor(config.latents_mean).view(1, -1, 1, 1, 1)
        self._std = torch.tensor(config.latents_std).view(1, -1, 1, 1, 1)

    def encode(self, images: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """See CameraEncoder; bfloat16."""
        out = {}
        for key, views in images.items():
            # 0..255 -> -1..1, (T, h, w, 3) -> (1, 3, T, h, w)
            video = torch.from_numpy(views).float().div(127.5).sub(1).permute(3, 0, 1, 2)[None]
            with torch.no_grad():
                mean = self._vae.encode(video.to(self._device, self._dtype)).latent_dist.mode()
            latent = (mean.float().cpu() - self._mean) / self._std
            out[key] = latent[0].permute(1, 2, 3, 0).to(torch.bfloat16)
        return out


class UMT5Text:
    """The UMT5 encoder of `transformers`: 512 rows, zeros behind the prompt's end."""

    rows = _TEXT_ROWS

    def __init__(self, checkpoint: Path):
        try:
            from transformers import AutoTokenizer, UMT5EncoderModel
        except ImportError as error:
            raise CheckpointError(f'{checkpoint / "text_encoder"} holds a UMT5 encoder: pip '
                                  'install diffusers transformers') from error
        self.mark = _folder_hash(checkpoint / 'text_encoder')
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint / 'tokenizer')
        self._model = UMT5EncoderModel.from_pretrained(
            checkpoint / 'text_encoder', torch_dtype=torch.bfloat16).eval()
        self.text_dim = int(self._model.config.d_model)

    def encode(self, prompt: str) -> torch.Tensor:
        """See `wam.text.TextEncoder`; bfloat16."""
        tokens = self._tokenizer([prompt], padding='max_length', max_length=self.rows,
                                 truncation=True, return_tensors='pt')
        with torch.no_grad():
            rows = self._model(tokens.input_ids, tokens.attention_mask).last_hidden_state[0]
        return rows * tokens.attention_mask[0, :, None].to(rows.dtype)


def _folder_hash(folder: Path) -> str:
    """Hash of a folder's file names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode())
        with open(path, 'rb') as file:
            for block in iter(lambda: file.read(1 << 20), b''):
                digest.update(block)
    return digest.hexdigest()
