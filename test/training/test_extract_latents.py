# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a LeRobot dataset to latents: equal to encoding by hand, resumable, refused when wrong."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from lerobot_support import CAMERAS, CONTRACT, VENDOR_NAMES, synthetic, write_v21, write_v30

from flashwam_ros.imaging import to_policy_size
from flashwam_ros.training import extract_latents, latent_files
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.camera_encoders import load_encoders
from flashwam_ros.training.lerobot_meta import Segment, open_set
from flashwam_ros.training.video_file import frame_times
from flashwam_ros.wam.checkpoint import CheckpointError, save_checkpoint
from flashwam_ros.wam.codec import (
    NanoCodec,
    NanoCodecConfig,
    assemble_canvas,
    canvas_to_tensor,
)
from flashwam_ros.wam.config import SamplerSettings, TransformerConfig
from flashwam_ros.wam.normaliser import QuantileNormaliser
from flashwam_ros.wam.text import NanoTextEncoder
from flashwam_ros.wam.transformer import WanTransformer3DModel

CODEC = NanoCodecConfig(16, (8, 8, 8), (8, 8, 8))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp('checkpoint') / 'tiny'
    save_checkpoint(
        path, transformer=WanTransformer3DModel(TransformerConfig(
            num_attention_heads=1, attention_head_dim=16, in_channels=16, out_channels=16,
            text_dim=64, ffn_dim=16, num_layers=1, freq_dim=8)),
        codec=NanoCodec(CODEC), text_encoder=NanoTextEncoder(),
        normaliser=QuantileNormaliser.fit(np.tile(CONTRACT.upper, (2, 1))),
        contract=CONTRACT.to_dict(), sampler=SamplerSettings())
    return path


def run(root, checkpoint, out, *more):
    return extract_latents.main(['--dataset', str(root), '--checkpoint', str(checkpoint), '--out',
                                 str(out), *more])


@pytest.mark.parametrize(('write', 'fps', 'stride'), [(write_v21, 20, 2), (write_v30, 30, 3)])
def test_latents_equal_encoding_by_hand(tmp_path, checkpoint, write, fps, stride):
    episodes = [synthetic(0, 30, fps), synthetic(1, 26, fps)]
    root = write(tmp_path / 'set', episodes, fps, names=VENDOR_NAMES)
    assert run(root, checkpoint, tmp_path / 'out') == 0
    codec = load_encoders(checkpoint)[0]
    found = latent_files.load_latent_set(tmp_path / 'out', CONTRACT, codec.mark)
    source, plain = open_set(root), NanoCodec(CODEC)
    plain.load_state_dict(codec._codec.state_dict())
    for latents, meta, made in zip(found.episodes, source.episodes, episodes, strict=True):
        frames = 1 + (len(made.action) - 1) // (4 * stride)
        assert latents.latents.shape == (frames, 16, 12, 8)
        ids = stride * np.arange(4 * (frames - 1) + 1)
        views = {camera.key: [to_policy_size(rgb, camera)
                              for rgb in source.frames(meta, feature, ids)]
                 for camera, feature in zip(CONTRACT.cameras, CAMERAS, strict=True)}
        canvases = np.stack([assemble_canvas({key: v[i] for key, v in views.items()})
                             for i in range(len(ids))])
        with torch.no_grad():
            expected = plain.eval().encode(canvas_to_tensor(canvases)[None])[0].transpose(0, 1)
        # half precision on disk
        np.testing.assert_allclose(latents.latents, expected, atol=2e-3, rtol=2e-3)
        assert latents.rows.shape == (frames, 8, 16)
        np.testing.assert_allclose(latents.rows[1:, -1], made.action[ids[4::4] - 1], rtol=1e-6)
        assert torch.equal(found.text.encode(made.task), NanoTextEncoder().encode(made.task))


def test_files_are_as_lingbot_lays_them_out(tmp_path, checkpoint):
    episode = synthetic(0, 30)
    episode.segments = [(0, 5, 'too short'), (5, 30, 'lift')]
    root = write_v21(tmp_path / 'set', [episode])
    assert run(root, checkpoint, tmp_path / 'out') == 0
    folder = tmp_path / 'out' / 'latents' / 'chunk-000' / CAMERAS[1]
    assert [path.name for path in folder.iterdir()] == ['episode_000000_5_30.pth']
    state = torch.load(folder / 'episode_000000_5_30.pth', weights_only=True)
    assert state['latent'].shape == (4 * 4 * 4, 16)
    assert state['frame_ids'] == list(range(5, 30, 2))
    assert (state['latent_num_frames'], state['latent_height'], state['latent_width']) == (4, 4, 4)
    assert (state['video_num_frames'], state['video_height'], state['video_width']) == (13, 64, 64)
    assert (state['fps'], state['ori_fps'], state['text']) == (10.0, 20.0, 'lift')
    assert (state['start_frame'], state['end_frame']) == (5, 30)
    lines = open_set(tmp_path / 'out').episodes[0].segments
    assert lines == (Segment(0, 5, 'too short'), Segment(5, 30, 'lift'))
    assert (tmp_path / 'out' / 'empty_emb.pt').is_file()
    assert (tmp_path / 'out' / 'preview' / 'head.jpg').stat().st_size > 500
    assert len(json.loads((tmp_path / 'out' / 'meta/normaliser.json').read_text())['q01']) == 30


def test_continues_where_it_stopped(tmp_path, checkpoint, capsys):
    root = write_v21(tmp_path / 'set', [synthetic(i, 9) for i in range(3)])
    assert run(root, checkpoint, tmp_path / 'out') == 0
    paths = sorted((tmp_path / 'out').rglob('*.pth'))
    before = {path: path.stat().st_mtime_ns for path in paths}
    bytes_before = paths[1].read_bytes()
    paths[1].unlink()
    (paths[1].with_name('torn.pth.part')).write_bytes(b'torn')
    capsys.readouterr()
    assert run(root, checkpoint, tmp_path / 'out') == 0
    assert '1 segments to do' in capsys.readouterr().err
    assert paths[1].read_bytes() == bytes_before
    assert sum(path.stat().st_mtime_ns != before[path] for path in paths) == 3  # its cameras


def test_another_codec_does_not_mix_in(tmp_path, checkpoint, capsys):
    root = write_v21(tmp_path / 'set', [synthetic(0, 9)])
    assert run(root, checkpoint, tmp_path / 'out') == 0
    note = tmp_path / 'out' / latent_files.EXTRACTION
    note.write_text(json.dumps({**json.loads(note.read_text()), 'codec': 'other'}))
    assert run(root, checkpoint, tmp_path / 'out') == 1
    assert 'made with another codec' in capsys.readouterr().err
    with pytest.raises(ValueError, match='latents of codec other, expected 0123'):
        latent_files.load_latent_set(tmp_path / 'out', CONTRACT, '0123')


@pytest.mark.parametrize('noted', [True, False])
def test_other_episodes_under_the_same_indices_do_not_mix_in(tmp_path, checkpoint, capsys, noted):
    out, first = tmp_path / 'out', [synthetic(0, 9), synthetic(1, 9)]
    root = write_v21(tmp_path / 'set', first)
    assert run(root, checkpoint, out) == 0
    if not noted:  # as a version left it that noted nothing: its rows tell
        (out / extract_latents.SOURCE).unlink()
        assert run(root, checkpoint, out) == 0
        (out / extract_latents.SOURCE).unlink()
    before = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    shutil.rmtree(root)
    write_v21(root, [first[0], synthetic(2, 9)])  # another selection, exported to the same name
    capsys.readouterr()
    assert run(root, checkpoint, out) == 1
    assert f'episode 1 of {root} is another one' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob('*') if path.is_file()} == before


@pytest.mark.parametrize('noted', [True, False])
def test_other_instructions_do_not_mix_in(tmp_path, checkpoint, capsys, noted):
    out, episode = tmp_path / 'out', synthetic(0, 9)
    root = write_v21(tmp_path / 'set', [episode])
    assert run(root, checkpoint, out) == 0
    if not noted:  # as a version left it that noted the rows alone: its description tells
        note = out / extract_latents.SOURCE
        rows_alone = {'0': json.loads(note.read_text())['0']['rows']}
        note.write_text(json.dumps(rows_alone))
        assert run(root, checkpoint, out) == 0
        note.write_text(json.dumps(rows_alone))
    before = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    shutil.rmtree(root)
    episode.task = 'put the red bottle down'
    write_v21(root, [episode])
    capsys.readouterr()
    assert run(root, checkpoint, out) == 1
    error = capsys.readouterr().err
    assert f'episode 0 of {root} is another one' in error
    assert '(other instruction of frames 0..9): choose another --out or remove' in error
    assert {path: path.read_bytes() for path in out.rglob('*') if path.is_file()} == before


def test_pictures_that_were_put_right_do_not_mix_in(tmp_path, checkpoint, capsys):
    out, episodes = tmp_path / 'out', [synthetic(i, 9) for i in range(2)]
    root = write_v21(tmp_path / 'set', episodes)
    assert run(root, checkpoint, out) == 0
    shutil.rmtree(root)
    write_v21(root, episodes)  # another file of another date with the same pictures
    assert run(root, checkpoint, out) == 0
    before = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    shutil.rmtree(root)
    episodes[1].images[CAMERAS[2]] = episodes[1].images[CAMERAS[2]][..., ::-1].copy()
    write_v21(root, episodes)
    capsys.readouterr()
    assert run(root, checkpoint, out) == 1
    error = capsys.readouterr().err
    assert f'episode 1 of {root} is another one' in error
    assert f'(other pictures of {CAMERAS[2]})' in error
    assert {path: path.read_bytes() for path in out.rglob('*') if path.is_file()} == before


def test_episodes_that_come_into_the_same_video_are_extracted_alone(tmp_path, checkpoint, capsys):
    out, episodes = tmp_path / 'out', [synthetic(i, 9) for i in range(3)]
    root = write_v30(tmp_path / 'set', episodes[:2])
    assert run(root, checkpoint, out) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.pth')}
    shutil.rmtree(root)
    write_v30(root, episodes)
    frame_times.cache_clear()  # a process of its own
    capsys.readouterr()
    assert run(root, checkpoint, out) == 0
    assert '1 segments to do' in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_damaged_empty_prompt_is_named(tmp_path, checkpoint, capsys):
    root, out = write_v21(tmp_path / 'set', [synthetic(0, 9)]), tmp_path / 'out'
    assert run(root, checkpoint, out) == 0
    path = out / latent_files.EMPTY_TEXT
    path.write_bytes(path.read_bytes()[:-40])
    capsys.readouterr()
    assert run(root, checkpoint, out) == 1
    assert f'{path}: cannot be read: ' in capsys.readouterr().err
    path.unlink()  # as the message says
    assert run(root, checkpoint, out) == 0


@pytest.mark.parametrize(('folder', 'dataset'), [('.', '.'), ('meta', '..')])
def test_default_out_is_beside_the_set_and_never_in_it(tmp_path, checkpoint, monkeypatch, folder,
                                                       dataset):
    root = write_v21(tmp_path / 'set', [synthetic(0, 9)])
    before = sorted(root.rglob('*'))
    monkeypatch.chdir(root / folder)
    assert extract_latents.main(['--dataset', dataset, '--checkpoint', str(checkpoint)]) == 0
    assert (tmp_path / 'set-latents' / layout.INFO).is_file()
    assert sorted(root.rglob('*')) == before


def test_numbers_of_instructions_follow_a_set_that_grows(tmp_path, checkpoint):
    episodes = [synthetic(i, 9) for i in range(2)]
    episodes[0].task, episodes[1].task = 'pick', 'arrange'
    root = write_v21(tmp_path / 'set', episodes[:1])
    assert run(root, checkpoint, tmp_path / 'out') == 0
    shutil.rmtree(root)
    write_v21(root, episodes)
    assert run(root, checkpoint, tmp_path / 'out') == 0
    found = open_set(tmp_path / 'out')
    lines = (tmp_path / 'out' / layout.TASKS_JSONL).read_text().splitlines()
    tasks = {line['task_index']: line['task'] for line in map(json.loads, lines)}
    for episode in found.episodes:
        [number] = set(found.table(episode, ['task_index'])['task_index'].tolist())
        assert tasks[number] == episode.task


def test_unsound_set_is_refused_unless_accepted(tmp_path, checkpoint, capsys):
    episode = synthetic(0, 17)
    episode.action[3, 0] = 9.0
    root = write_v21(tmp_path / 'set', [episode])
    assert run(root, checkpoint, tmp_path / 'out') == 1
    assert 'range: ' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    assert run(root, checkpoint, tmp_path / 'out', '--accept', 'range') == 0


def test_rate_that_has_no_key_frames(tmp_path, checkpoint, capsys):
    root = write_v21(tmp_path / 'set', [synthetic(0, 17, 24)], fps=24)
    assert run(root, checkpoint, tmp_path / 'out') == 1
    assert 'key frame every 100.0 ms, which is 2.40 frames' in capsys.readouterr().err


def test_wan_codec_says_what_to_install(tmp_path):
    if importlib.util.find_spec('diffusers') is not None:
        pytest.skip('diffusers is installed')
    (tmp_path / 'vae').mkdir()
    (tmp_path / 'vae' / 'config.json').write_text('{"_class_name": "AutoencoderKLWan"}')
    with pytest.raises(CheckpointError, match='pip install diffusers transformers'):
        load_encoders(tmp_path)


def test_source_is_not_touched(tmp_path, checkpoint):
    root = write_v30(tmp_path / 'set', [synthetic(0, 9)])
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert run(root, checkpoint, tmp_path / 'out') == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before
    assert (tmp_path / 'out' / layout.EPISODES_JSONL).is_file()
