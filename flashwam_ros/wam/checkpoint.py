# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoint folders: the published layout plus `contract.json` and `flashwam.json`.

    transformer/   config.json, diffusion_pytorch_model.safetensors
    vae/           config.json, diffusion_pytorch_model.safetensors
    text_encoder/  config.json
    tokenizer/     tokenizer_config.json
    contract.json  robot contract with its hash, action normaliser
    flashwam.json  sampler settings, training record, SHA-256 of every other file

Weights are safetensors only; nothing is unpickled. The checkpoint's own hash is that of
`flashwam.json`, which covers all other files.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .codec import NanoCodec, NanoCodecConfig
from .config import MANIFEST, SamplerSettings, TransformerConfig
from .normaliser import QuantileNormaliser
from .text import NanoTextEncoder
from .transformer import WanTransformer3DModel, load_weights

FORMAT = 1
WEIGHTS = 'diffusion_pytorch_model.safetensors'


class CheckpointError(RuntimeError):
    """A checkpoint folder is incomplete, damaged or of another kind; the file is named."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. `contract` is the robot contract's dictionary."""

    transformer: WanTransformer3DModel
    codec: NanoCodec
    text_encoder: NanoTextEncoder
    normaliser: QuantileNormaliser
    contract: dict[str, Any]
    contract_sha256: str
    sampler: SamplerSettings
    training: dict[str, Any]
    path: Path
    sha256: str


def json_sha256(values: Mapping[str, Any]) -> str:
    """SHA-256 of canonical JSON (sorted keys, no spaces), as the robot contract is hashed."""
    text = json.dumps(values, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode('utf-8')).hexdigest()


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _disk_state(module: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights for the disk: matrices and kernels in `dtype`, vectors in fp32."""
    state = {}
    for name, tensor in module.state_dict().items():
        tensor = tensor.detach().cpu().float()
        stored = tensor.to(dtype) if tensor.ndim > 1 else tensor
        if not bool(torch.isfinite(stored).all()):
            raise CheckpointError(f'{name} is not finite in {dtype}; not saved')
        state[name] = stored.contiguous()
    return state


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8')


def save_checkpoint(path: Path | str, *, transformer: WanTransformer3DModel, codec: NanoCodec,
                    text_encoder: NanoTextEncoder, normaliser: QuantileNormaliser,
                    contract: Mapping[str, Any], sampler: SamplerSettings,
                    training: Mapping[str, Any] | None = None,
                    dtype: torch.dtype = torch.float16) -> str:
    """Write a checkpoint folder and return its hash.

    The folder is built beside `path` and renamed into place, so a reader never sees half of one;
    an existing checkpoint is replaced. `contract` is the robot contract's `to_dict()`; `training`
    is free JSON (recipe, data hash, steps). Matrices are stored in `dtype`.
    """
    path = Path(path)
    part = path.parent / f'.{path.name}.part-{os.getpid()}'
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for name, module in (('transformer', transformer), ('vae', codec)):
            (part / name).mkdir()
            _write_json(part / name / 'config.json', module.config.to_dict())
            save_file(_disk_state(module, dtype), part / name / WEIGHTS, {'format': 'pt'})
            # The library makes files for its owner only; everybody in a lab may read a model.
            (part / name / WEIGHTS).chmod(0o644)
        (part / 'text_encoder').mkdir()
        _write_json(part / 'text_encoder' / 'config.json', text_encoder.to_dict())
        (part / 'tokenizer').mkdir()
        _write_json(part / 'tokenizer' / 'tokenizer_config.json',
                    {'tokenizer_class': 'lower-cased words', 'rows': text_encoder.rows})
        _write_json(part / 'contract.json',
                    {'robot': dict(contract), 'sha256': json_sha256(contract),
                     'normaliser': normaliser.to_dict()})
        files = {str(f.relative_to(part)): _file_sha256(f)
                 for f in sorted(part.rglob('*')) if f.is_file()}
        _write_json(part / MANIFEST, {'format': FORMAT, 'sampler': sampler.to_dict(),
                                      'training': dict(training or {}), 'files': files})
        digest = _file_sha256(part / MANIFEST)
        _replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return digest


def _replace(part: Path, path: Path) -> None:
    for file in part.rglob('*'):
        if file.is_file():
            with file.open('rb') as stream:
                os.fsync(stream.fileno())
    old = path.parent / f'.{path.name}.old-{os.getpid()}'
    if path.exists():
        if not (path / MANIFEST).is_file() and any(path.iterdir()):
            raise CheckpointError(f'{path} exists and is not a checkpoint; not replaced')
        path.rename(old)
    part.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise CheckpointError(f'{path} is missing') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read: {error}') from error
    if not isinstance(values, dict):
        raise CheckpointError(f'{path} must hold a JSON object')
    return values


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read all safetensors of a folder (single file or published shards)."""
    shards = sorted(folder.glob('diffusion_pytorch_model*.safetensors'))
    if not shards:
        raise CheckpointError(f'{folder} holds no diffusion_pytorch_model*.safetensors')
    state: dict[str, torch.Tensor] = {}
    for shard in shards:
        try:
            state.update(load_file(shard))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f'{shard} cannot be read: {error}') from error
    return state


def _verify(path: Path, manifest: Mapping[str, Any]) -> None:
    if manifest.get('format') != FORMAT:
        raise CheckpointError(f'{path / MANIFEST}: format {manifest.get("format")}, this build '
                              f'reads {FORMAT}')
    for name, digest in manifest.get('files', {}).items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f'{file} is missing')
        if _file_sha256(file) != digest:
            raise CheckpointError(f'{file} differs from its hash in {MANIFEST}: damaged or edited')


def load_checkpoint(path: Path | str, device: str | torch.device = 'cpu',
                    dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Load a checkpoint folder; modules come in evaluation mode, in `dtype`, on `device`.

    Raises CheckpointError naming the file when anything is missing, damaged or does not fit.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f'{path} is not a folder')
    manifest = _read_json(path / MANIFEST)
    _verify(path, manifest)
    contract = _read_json(path / 'contract.json')
    try:
        transformer = WanTransformer3DModel(
            TransformerConfig.from_dict(_read_json(path / 'transformer' / 'config.json')))
        codec = NanoCodec(NanoCodecConfig.from_dict(_read_json(path / 'vae' / 'config.json')))
        text = NanoTextEncoder.from_dict(_read_json(path / 'text_encoder' / 'config.json'))
        for name, module in (('transformer', transformer), ('vae', codec)):
            load_weights(module, read_weights(path / name), str(path / name))
            module.to(device=device, dtype=dtype).eval().requires_grad_(False)
        normaliser = QuantileNormaliser.from_dict(contract['normaliser'])
        sampler = SamplerSettings.from_dict(manifest['sampler'])
        robot, digest = contract['robot'], contract['sha256']
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: {type(error).__name__}: {error}') from error
    if json_sha256(robot) != digest:
        raise CheckpointError(f'{path / "contract.json"}: robot contract differs from its hash')
    return Checkpoint(transformer, codec, text, normaliser, robot, digest, sampler,
                      manifest.get('training', {}), path, _file_sha256(path / MANIFEST))
