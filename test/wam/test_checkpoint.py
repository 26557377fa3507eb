# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from flashwam_ros.wam.checkpoint import (
    WEIGHTS,
    CheckpointError,
    json_sha256,
    load_checkpoint,
    save_checkpoint,
)
from flashwam_ros.wam.codec import NanoCodec
from flashwam_ros.wam.config import ModalitySampler, SamplerSettings, TransformerConfig
from flashwam_ros.wam.normaliser import QuantileNormaliser
from flashwam_ros.wam.text import NanoTextEncoder
from flashwam_ros.wam.transformer import WanTransformer3DModel

CONTRACT = {'name': 'g1', 'channels': [{'name': 'left_elbow_joint', 'lower': -1.0}]}
SAMPLER = SamplerSettings(window=10, video=ModalitySampler(3, 5.0),
                          action=ModalitySampler(10, 1.0, 'euler', 'linear'))


def _save(path, transformer, **changes):
    parts = {'transformer': transformer, 'codec': NanoCodec(),
             'text_encoder': NanoTextEncoder(5, 8),
             'normaliser': QuantileNormaliser((0.0,) * 30, (1.0,) * 30), 'contract': CONTRACT,
             'sampler': SAMPLER, 'training': {'steps': 7}}
    return save_checkpoint(path, **{**parts, **changes}), parts


def test_round_trip(tmp_path, tiny):
    digest, parts = _save(tmp_path / 'm', tiny, dtype=torch.float32)
    loaded = load_checkpoint(tmp_path / 'm')
    assert loaded.sha256 == digest and loaded.training == {'steps': 7}
    assert loaded.sampler == SAMPLER and loaded.normaliser == parts['normaliser']
    assert loaded.contract == CONTRACT and loaded.contract_sha256 == json_sha256(CONTRACT)
    assert loaded.transformer.config == tiny.config and not loaded.transformer.training
    for module, source in ((loaded.transformer, tiny), (loaded.codec, parts['codec'])):
        for name, value in source.state_dict().items():
            assert torch.equal(module.state_dict()[name], value), name
    assert torch.equal(loaded.text_encoder.encode('pot'), parts['text_encoder'].encode('pot'))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['m']


def test_half_precision_on_disk_fp32_in_memory(tmp_path, tiny):
    digest, _ = _save(tmp_path / 'm', tiny)
    assert _save(tmp_path / 'm', tiny)[0] != digest  # another random codec, replaced in place
    file = load_file(tmp_path / 'm' / 'transformer' / WEIGHTS)
    assert file['proj_out.weight'].dtype == torch.float16
    assert file['proj_out.bias'].dtype == torch.float32
    loaded = load_checkpoint(tmp_path / 'm').transformer
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    torch.testing.assert_close(loaded.proj_out.weight, tiny.proj_out.weight, atol=1e-3, rtol=1e-3)


def test_everybody_may_read_the_weights(tmp_path, tiny):
    _save(tmp_path / 'c', tiny)
    for path in (tmp_path / 'c').rglob('*.safetensors'):
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_nano_checkpoint_fits_its_budget(tmp_path):
    _save(tmp_path / 'm', WanTransformer3DModel(TransformerConfig.nano()))
    size = sum(f.stat().st_size for f in (tmp_path / 'm').rglob('*') if f.is_file())
    assert size < 12e6


def test_damage_is_named(tmp_path, tiny):
    path = tmp_path / 'm'
    with pytest.raises(CheckpointError, match='not a folder'):
        load_checkpoint(path)
    _save(path, tiny)
    weights = path / 'transformer' / WEIGHTS
    content = weights.read_bytes()
    weights.write_bytes(content[:-9])
    with pytest.raises(CheckpointError, match='transformer.*damaged'):
        load_checkpoint(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match='transformer.*missing'):
        load_checkpoint(path)
    (path / 'flashwam.json').write_text('{"format": 9}')
    with pytest.raises(CheckpointError, match='format 9'):
        load_checkpoint(path)
    (path / 'flashwam.json').write_text('{')
    with pytest.raises(CheckpointError, match='flashwam.json cannot be read'):
        load_checkpoint(path)
    (path / 'flashwam.json').unlink()
    with pytest.raises(CheckpointError, match='flashwam.json is missing'):
        load_checkpoint(path)


def test_missing_tensor_is_named(tmp_path, tiny):
    path = tmp_path / 'm'
    _save(path, tiny)
    weights = path / 'transformer' / WEIGHTS
    state = load_file(weights)
    del state['proj_out.bias']
    save_file(state, weights)
    manifest = json.loads((path / 'flashwam.json').read_text())
    del manifest['files']['transformer/' + WEIGHTS]
    (path / 'flashwam.json').write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match='missing.*proj_out.bias'):
        load_checkpoint(path)


def test_save_refuses_what_it_must_not_write(tmp_path, tiny):
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'notes.txt').write_text('mine')
    with pytest.raises(CheckpointError, match='not a checkpoint'):
        _save(tmp_path / 'other', tiny)
    codec = NanoCodec()
    with torch.no_grad():
        codec.encoder[0].weight.fill_(1e6)
    with pytest.raises(CheckpointError, match='not finite'):
        _save(tmp_path / 'm', tiny, codec=codec)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['other']
