# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""LingBot-VA's latent files: slots, assembly, text rows, and what is refused."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_support import CAMERAS, CONTRACT, synthetic, write_v21

from flashwam_ros.training import latent_files
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.dataset import PrecomputedText, WindowSampler, fit_normaliser
from flashwam_ros.training.latent_files import CameraLatents, latent_path, slot_rows
from flashwam_ros.training.lerobot_meta import LeRobotError, Segment

STRIDE, SPAN = 2, 8


@given(stride=st.integers(1, 5), frames=st.integers(1, 6), start=st.integers(0, 9),
       spare=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_slot_f_leads_from_latent_frame_f_minus_1_to_f(stride, frames, start, spare):
    ids = start + stride * np.arange(4 * (frames - 1) + 1)
    action = np.arange(1.0, ids[-1] + 1 + spare + 1)[:, None] * np.ones(2)
    slots = slot_rows(action, ids, 4 * stride)
    assert slots.shape == (frames, 4 * stride, 2)
    assert not slots[0].any()
    for frame in range(1, frames):
        first_image, last_image = ids[4 * (frame - 1)], ids[4 * frame]
        np.testing.assert_array_equal(slots[frame], action[first_image:last_image])


@given(stride=st.integers(1, 4), rows=st.integers(1, 20), slope=st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_other_row_rate_keeps_the_times_of_a_straight_motion(stride, rows, slope):
    """A row is the target at its end: the last row of a slot is the same at every rate."""
    ids = stride * np.arange(9)
    action = slope * np.arange(1.0, ids[-1] + 2)[:, None]
    slots = slot_rows(action, ids, rows)
    np.testing.assert_allclose(slots[1:, -1, 0], slope * ids[[4, 8]], atol=1e-9)
    ends = 4 * stride * np.arange(1, rows + 1) / rows
    known = ends >= 1  # before the end of the first row nothing is known but that row
    np.testing.assert_allclose(slots[1, known, 0], slope * ends[known], atol=1e-9)


@pytest.mark.parametrize(('ids', 'rows', 'match'), [
    ([0, 2, 4, 6, 9], 20, 'one stride'), ([0, 2, 4, 6], 20, '4 m'), ([0, 0, 0, 0, 0], 9, 'stride'),
    ([8, 6, 4, 2, 0], 20, 'stride'), ([0, 2, 4, 6, 8], 7, 'only 7 rows')])
def test_frames_and_rows_that_do_not_fit(ids, rows, match):
    with pytest.raises(ValueError, match=match):
        slot_rows(np.zeros((rows, 2)), ids, 8)


def test_assembly_of_both_forms():
    head, left, right = (torch.full((2, h, w, 3), float(value)) for value, h, w in
                         ((0, 8, 6), (1, 4, 3), (2, 4, 3)))
    canvas = latent_files.assemble([head, left, right])
    assert canvas.shape == (2, 12, 6, 3)
    assert canvas[0, :, :, 0].unique(dim=0).tolist() == [[0.0] * 6, [1.0] * 3 + [2.0] * 3]
    assert canvas[0, 0, 0, 0] == 1.0
    wide = latent_files.assemble([head, head + 1, head + 2])
    assert wide.shape == (2, 8, 18, 3)
    assert wide[0, 0, ::6, 0].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(LeRobotError, match='neither of one size'):
        latent_files.assemble([head, left, head])
    with pytest.raises(LeRobotError, match='neither of one size'):
        latent_files.assemble([head, left[:1], right[:1]])


def wan_like(text, frames, start, seed, text_shape):
    """Latents as another program would have written them: 48 channels, bf16."""
    generator = torch.Generator().manual_seed(seed)
    sizes, channels = ((16, 20), (8, 10), (8, 10)), 48
    ids = tuple(start + STRIDE * i for i in range(4 * (frames - 1) + 1))
    rows = torch.zeros(text_shape, dtype=torch.bfloat16)
    rows[:len(text)] = len(text)
    return [CameraLatents(torch.randn(frames, h, w, channels, generator=generator).bfloat16(),
                          ids, text, rows) for h, w in sizes]


def write_set(tmp_path, text_shape):
    """Two episodes with Wan-like latents; the second one's second segment has none."""
    episodes = [synthetic(i, 33) for i in range(2)]
    for episode in episodes:
        episode.segments = [(0, 18, 'reach'), (18, 33, 'lift it')]
    root = write_v21(tmp_path / 'set', episodes)
    for index, segment in ((0, Segment(0, 18, 'reach')), (0, Segment(18, 33, 'lift it')),
                           (1, Segment(0, 18, 'reach'))):
        frames = 1 + (segment.end - 1 - segment.start) // SPAN
        views = wan_like(segment.text, frames, segment.start, index, text_shape)
        for camera, latents in zip(CAMERAS, views, strict=True):
            latent_files.write_camera(latent_path(root, camera, index, segment), latents, segment,
                                      (256, 320), 10.0, 20.0)
    latent_files.write_empty_text(root, torch.ones(text_shape, dtype=torch.bfloat16))
    return root, episodes


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path, (16, 32))


def test_wan_latents_with_long_text_reach_the_batch(tmp_path):
    root, made = write_set(tmp_path, (512, 4096))
    lines = []
    found = latent_files.load_latent_set(root, CONTRACT, report=lines.append)
    assert [(e.seed, e.prompt, len(e.latents)) for e in found.episodes] == [
        (0, 'reach', 3), (0, 'lift it', 2), (1, 'reach', 3)]
    assert found.episodes[0].latents.shape == (3, 48, 24, 20)
    assert '1 segments have no latents' in lines[0]
    np.testing.assert_allclose(found.episodes[1].rows[1], made[0].action[18:26])
    assert found.text.encode('lift it').shape == (512, 4096)
    assert found.text.encode('')[0, 0] == 1.0
    sampler = WindowSampler(list(found.episodes), (2,), 0.5, {made[0].task: 1.0})
    batch = sampler.batch(0, 3)
    assert batch.latents.shape == (3, 2, 48, 24, 20)
    assert batch.rows.shape == (3, 2, 8, 16)
    assert all(found.text.encode(prompt).dtype == torch.float32 for prompt in batch.prompts)
    assert fit_normaliser(found.episodes).q99[28] <= 5.4


def test_nothing_but_tensors_is_unpickled(folder):
    root, _ = folder
    path = latent_path(root, CAMERAS[0], 0, Segment(0, 18, ''))

    class Evil:
        def __reduce__(self):
            return (print, ('unpickled',))

    torch.save({'latent': Evil()}, path)
    with pytest.raises(LeRobotError, match=r'episode_000000_0_18\.pth: cannot be read: Unpickl'):
        latent_files.load_latent_set(root, CONTRACT)


@pytest.mark.parametrize(('change', 'match'), [
    ({'latent_num_frames': 2}, 'is not'), ({'frame_ids': [0, 2, 4]}, '3 frame_ids for 3'),
    ({'latent': torch.full((3 * 320, 48), torch.nan)}, 'not finite'),
    ({'text_emb': torch.full((16, 32), torch.nan)}, 'text_emb is not finite'),
    ({'text_emb': None}, 'cannot be read'),
    ({'text': 'lift it'}, "made for the text 'lift it', but meta/ says 'reach'"),
    ({'frame_ids': list(range(0, 27, 3))}, 'different frame_ids')])
def test_files_that_do_not_fit_are_named(folder, change, match):
    root, _ = folder
    path = latent_path(root, CAMERAS[0], 0, Segment(0, 18, ''))
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(LeRobotError, match=match) as caught:
        latent_files.load_latent_set(root, CONTRACT)
    assert 'episode_000000_0_18.pth' in str(caught.value)


def test_blanks_around_a_text_are_no_other_text(folder):
    root, _ = folder
    path = latent_path(root, CAMERAS[0], 0, Segment(0, 18, ''))
    torch.save({**torch.load(path, weights_only=True), 'text': ' reach\n'}, path)
    assert len(latent_files.load_latent_set(root, CONTRACT).episodes) == 3


@pytest.mark.parametrize(('fps', 'stride', 'seconds'), [
    (20, 1, '0.200'), (30, 2, '0.267'), (50, 1, '0.080'), (10, 2, '0.800'), (10, 1, None)])
def test_latent_frames_take_as_long_as_the_contract_says(folder, fps, stride, seconds):
    root, _ = folder
    info = json.loads((root / layout.INFO).read_text())
    (root / layout.INFO).write_text(json.dumps({**info, 'fps': fps}))
    for path in root.rglob('*.pth'):
        state = torch.load(path, weights_only=True)
        ids = [state['start_frame'] + stride * i for i in range(len(state['frame_ids']))]
        torch.save({**state, 'frame_ids': ids}, path)
    if seconds is None:  # rows at half the contract's rate: the time is the same
        found = latent_files.load_latent_set(root, CONTRACT)
        assert found.episodes[0].rows.shape == (3, 8, 16)
        return
    match = rf'{seconds} s per latent frame; .* 0\.400 s'
    with pytest.raises(LeRobotError, match=match) as caught:
        latent_files.load_latent_set(root, CONTRACT)
    assert 'episode_000000_0_18.pth: an image every' in str(caught.value)


@pytest.mark.parametrize(('change', 'match'), [
    ({}, None), ({'contract': 'other'}, 'latents of contract other, expected'),
    ({'stride': 5}, 'latents of stride 5, expected 2: extract them again'),
    ({'codec': 'other'}, 'latents of codec other, expected 0123')])
def test_extraction_that_noted_another_origin_is_refused(folder, change, match):
    root, _ = folder
    latent_files.write_extraction(root, {'codec': '0123', 'contract': CONTRACT.sha256,
                                         'stride': STRIDE, **change})
    if match is None:
        assert len(latent_files.load_latent_set(root, CONTRACT, '0123').episodes) == 3
        return
    with pytest.raises(LeRobotError, match=match) as caught:
        latent_files.load_latent_set(root, CONTRACT, '0123')
    assert str(root / latent_files.EXTRACTION) in str(caught.value)


@pytest.mark.parametrize('rows', [None, {'no': 'tensor'}, torch.full((16, 32), torch.nan)])
def test_empty_prompt_that_cannot_be_used_is_named(folder, rows):
    root, _ = folder
    path = root / latent_files.EMPTY_TEXT
    if rows is None:
        path.write_bytes(path.read_bytes()[:-40])
    else:
        torch.save(rows, path)
    with pytest.raises(LeRobotError, match='extract-latents` again') as caught:
        latent_files.load_latent_set(root, CONTRACT)
    assert str(caught.value).startswith(f'{path}: ')


def test_two_text_encoders_in_one_set_are_refused(folder):
    root, _ = folder
    path = latent_path(root, CAMERAS[0], 1, Segment(0, 18, ''))
    state = torch.load(path, weights_only=True)
    torch.save({**state, 'text_emb': state['text_emb'] + 1}, path)
    with pytest.raises(LeRobotError, match='different text encoders'):
        latent_files.load_latent_set(root, CONTRACT)


def test_set_without_latents_or_empty_prompt(tmp_path):
    root = write_v21(tmp_path / 'set', [synthetic(0, 9)])
    with pytest.raises(LeRobotError, match=r'empty_emb\.pt: missing'):
        latent_files.load_latent_set(root, CONTRACT)
    latent_files.write_empty_text(root, torch.zeros(4, 8))
    with pytest.raises(LeRobotError, match='flashwam extract-latents'):
        latent_files.load_latent_set(root, CONTRACT)


def test_text_that_was_not_embedded():
    text = PrecomputedText({'': torch.zeros(4, 8), 'a': torch.ones(4, 8)})
    assert (text.rows, text.text_dim) == (4, 8)
    with pytest.raises(KeyError, match="no embedding of 'b'"):
        text.encode('b')
    with pytest.raises(ValueError, match='one shape'):
        PrecomputedText({'': torch.zeros(4, 8), 'a': torch.ones(5, 8)})
