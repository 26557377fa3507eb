# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
import torch

from flashwam_ros.wam import attention as attention_module
from flashwam_ros.wam.attention import MissingMaskError, packed_attention
from flashwam_ros.wam.packed import (
    NoiseRecipe,
    PackedInputs,
    dense_mask,
    flow_matching_loss,
    forward_dynamics_inputs,
    pack_actions,
    packed_forward,
    packed_mask,
    packed_rope,
    packed_segments,
    training_sample,
    unpack_actions,
)

K, CHUNKS, PER_FRAME = 2, 3, 3
FRAMES = K * CHUNKS


def _inputs(rng, batch=1):
    def video():
        return torch.randn(batch, 4, FRAMES, 4, 4, generator=rng)

    def action():
        return torch.randn(batch, 30, FRAMES, PER_FRAME, 1, generator=rng)

    def times():
        return 1000 * torch.rand(batch, FRAMES, generator=rng)

    zero = torch.zeros(1, FRAMES)
    return PackedInputs(video(), video(), action(), action(), times(), zero, times(), zero)


def _all_outputs(model, inputs, text):
    """(noisy video, noisy action, clean video, clean action) outputs of the packed forward."""
    mask = packed_mask(FRAMES, 4, PER_FRAME, K, 72, torch.device('cpu'))
    rope = packed_rope(FRAMES, 2, 2, PER_FRAME, K, 18, 1e4, torch.device('cpu'))
    out = model(packed_segments(inputs, K), rope,
                lambda _i, q, k, v: packed_attention(q, k, v, mask), model.text_kv(text),
                outputs=4 * CHUNKS)
    noisy, clean = out[:2 * CHUNKS], out[2 * CHUNKS:]
    return [torch.cat(half[i::2], 2) for half in (noisy, clean) for i in (0, 1)]


def _changed(model, inputs, name, chunk, text):
    """Chunks of each output that move when chunk `chunk` of tensor `name` moves."""
    value = getattr(inputs, name).clone()
    value[:, :, chunk * K:(chunk + 1) * K] += 1.0
    before = _all_outputs(model, inputs, text)
    after = _all_outputs(model, dataclasses.replace(inputs, **{name: value}), text)
    names = ('noisy_video', 'noisy_action', 'clean_video', 'clean_action')
    out = {}
    for key, a, b in zip(names, before, after, strict=True):
        moved = (a - b).abs().amax(dim=(0, 1, 3, 4)).view(CHUNKS, K).amax(1) > 1e-6
        out[key] = {i for i in range(CHUNKS) if moved[i]}
    return out


def test_visibility_by_perturbation(tiny, rng):
    inputs, text = _inputs(rng), torch.randn(1, 5, 8, generator=rng)
    assert _changed(tiny, inputs, 'noisy_video', 1, text) == {
        'noisy_video': {1}, 'noisy_action': set(), 'clean_video': set(), 'clean_action': set()}
    assert _changed(tiny, inputs, 'noisy_action', 1, text) == {
        'noisy_video': set(), 'noisy_action': {1}, 'clean_video': set(), 'clean_action': set()}
    assert _changed(tiny, inputs, 'clean_video', 1, text) == {
        'noisy_video': {2}, 'noisy_action': {1, 2}, 'clean_video': {1, 2}, 'clean_action': {1, 2}}
    assert _changed(tiny, inputs, 'clean_action', 1, text) == {
        'noisy_video': {2}, 'noisy_action': {2}, 'clean_video': {2}, 'clean_action': {1, 2}}


def test_forward_dynamics_shows_a_chunk_its_own_actions(tiny, rng):
    inputs, text = _inputs(rng), torch.randn(1, 5, 8, generator=rng)

    def video(given):
        return packed_forward(tiny, given, text, K, 72, forward_dynamics=True)[0]

    def moved(name, chunk):
        value = getattr(inputs, name).clone()
        value[:, :, chunk * K:(chunk + 1) * K] += 1.0
        changed = dataclasses.replace(inputs, **{name: value})
        change = (video(forward_dynamics_inputs(changed)) - before).abs().amax(dim=(0, 1, 3, 4))
        return [i for i in range(CHUNKS) if change[i * K:(i + 1) * K].max() > 1e-6]

    before = video(forward_dynamics_inputs(inputs))
    assert moved('clean_action', 1) == [1, 2]
    assert moved('clean_video', 1) == [2]
    assert moved('noisy_video', 1) == [1]
    assert moved('noisy_action', 1) == []


def test_forward_dynamics_keeps_the_clean_tokens_of_streaming():
    noisy = np.array([0, 0, 1, 2, 2, 3])
    plain, dynamics = (dense_mask(noisy, noisy, 72, flag) for flag in (False, True))
    np.testing.assert_array_equal(plain[6:], dynamics[6:])
    assert not dynamics[2, 6:].any()  # the first chunk's actions come before its video
    assert dynamics[0, 2] and not dynamics[2, 0] and dynamics[5, 6:9].all()
    assert not dynamics[5, 9:].any()


def test_window_limits_visibility():
    ids = np.repeat([0, 2, 4, 6], 2)
    mask = dense_mask(ids, ids, 2)
    clean = mask[8:, 8:]
    assert clean[6, 4] and not clean[6, 3] and not clean[4, 6]
    assert mask[:8, :8].sum() == 8 * 2 and not mask[8:, :8].any()


def _grouped_ids(frames, chunk_size):
    """Ids by the rule id = 2c or 2c+1, c = frame // chunk_size, sorted chunk-major."""
    video = [2 * (f // chunk_size) for f in range(frames) for _ in range(4)]
    action = [2 * (f // chunk_size) + 1 for f in range(frames) for _ in range(PER_FRAME)]
    return np.array(sorted(video + action))


@pytest.mark.parametrize(('frames', 'chunk_size', 'window'),
                         [(6, 2, 72), (7, 2, 72), (6, 1, 2), (7, 3, 3), (4, 4, 1)])
@pytest.mark.parametrize('forward_dynamics', [False, True])
def test_runs_equal_the_dense_mask_with_gradients(rng, frames, chunk_size, window,
                                                  forward_dynamics):
    mask = packed_mask(frames, 4, PER_FRAME, chunk_size, window, torch.device('cpu'),
                       forward_dynamics)
    ids = _grouped_ids(frames, chunk_size)
    np.testing.assert_array_equal(mask.dense.numpy(),
                                  dense_mask(ids, ids, window, forward_dynamics))
    for queries in (len(mask.dense), mask.noisy):
        q, k, v = torch.randn(3, 2, 2, len(mask.dense), 18, generator=rng, requires_grad=True)
        q = q[:, :, :queries]
        dense = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask.dense[:queries])
        runs = packed_attention(q, k, v, mask)
        torch.testing.assert_close(runs, dense, atol=1e-5, rtol=1e-4)
        weight = torch.randn(dense.shape, generator=rng)
        want = torch.autograd.grad((dense * weight).sum(), (q, k, v))
        got = torch.autograd.grad((runs * weight).sum(), (q, k, v))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_last_block_is_exact(tiny, rng):
    inputs, text = _inputs(rng, batch=2), torch.randn(2, 5, 8, generator=rng)
    video, action = packed_forward(tiny, inputs, text, K, 72)
    want = _all_outputs(tiny, inputs, text)
    torch.testing.assert_close(video, want[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(action, want[1], atol=1e-5, rtol=1e-4)


def test_rows_are_independent_and_offset_does_not_matter(tiny, rng):
    inputs, text = _inputs(rng, batch=2), torch.randn(2, 5, 8, generator=rng)
    video, action = packed_forward(tiny, inputs, text, K, 72)
    fields = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs)}
    one = PackedInputs(**{n: v[1:] if len(v) == 2 else v for n, v in fields.items()})
    video1, action1 = packed_forward(tiny, one, text[1:], K, 72, frame_offset=40)
    torch.testing.assert_close(video[1:], video1, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(action[1:], action1, atol=2e-4, rtol=1e-3)


def test_training_without_a_mask_raises():
    q = torch.zeros(1, 1, 4, 6)
    with pytest.raises(MissingMaskError):
        packed_attention(q, q, q, None)
    mask = packed_mask(FRAMES, 4, PER_FRAME, K, 72, torch.device('cpu'))
    with pytest.raises(ValueError, match='mask is for'):
        packed_attention(q, q, q, mask)


@pytest.mark.skipif(attention_module.flex_attention is None, reason='no flex attention')
def test_flex_block_mask_equals_the_dense_mask(rng):
    mask = packed_mask(FRAMES, 4, PER_FRAME, K, 72, torch.device('cpu'))
    size = len(mask.dense)
    q, k, v = torch.randn(3, 1, 2, size, 16, generator=rng)
    block = attention_module.create_block_mask(lambda b, h, i, j: mask.dense[i, j], None, None,
                                               size, size, device='cpu')
    flex = attention_module.flex_attention(q, k, v, block_mask=block)
    torch.testing.assert_close(flex, packed_attention(q, k, v, mask), atol=1e-5, rtol=1e-4)


def test_action_packing_round_trip(rng):
    rows = torch.randn(2, 6, 30, generator=rng)
    packed = pack_actions(rows, 3)
    assert packed.shape == (2, 30, 2, 3, 1) and torch.equal(packed[1, :, 1, 2, 0], rows[1, 5])
    assert torch.equal(unpack_actions(packed), rows)


def test_training_sample_pins_only_true_starts(rng):
    mask = torch.zeros(30)
    mask[14:] = 1
    video = torch.randn(2, 4, FRAMES, 4, 4, generator=rng)
    action = torch.randn(2, 30, FRAMES, PER_FRAME, 1, generator=rng)
    recipe = NoiseRecipe(per_chunk=K, history_noise=1.0, uniform_mix=0.3)
    sample = training_sample(video, action, mask, torch.tensor([True, False]), recipe,
                             frame0_action=torch.full((30,), 0.5), generator=rng)
    inputs = sample.inputs
    assert torch.equal(inputs.noisy_video[0, :, 0], video[0, :, 0])
    assert inputs.noisy_video_t[0, 0] == 0 and sample.video_weight[0, 0] == 0
    assert (inputs.clean_action[0, 14:, 0] == 0.5).all()
    assert torch.equal(inputs.clean_action[0], inputs.clean_action[0] * mask.view(30, 1, 1, 1))
    assert (inputs.noisy_action[0, 14:, 0] == 0.5).all() and inputs.noisy_action_t[0, 0] == 0
    assert inputs.noisy_video_t[1, 0] > 0 and sample.video_weight[1].min() >= 0.3
    assert (inputs.noisy_action[:, :14] == 0).all() and (sample.action_target[:, :14] == 0).all()
    t = inputs.noisy_video_t
    assert torch.equal(t[:, 2::2], t[:, 3::2]) and len(t[:, 2:].unique()) > 2
    assert inputs.clean_video_t.max() <= 833.34 and inputs.clean_video_t.min() > 0


def test_perfect_velocities_have_no_loss_and_gradients_flow(tiny, rng):
    video = torch.randn(2, 4, FRAMES, 4, 4, generator=rng)
    action = torch.randn(2, 30, FRAMES, PER_FRAME, 1, generator=rng)
    sample = training_sample(video, action, torch.ones(30), torch.tensor([True, False]),
                             NoiseRecipe(uniform_mix=0.5), generator=rng)
    zero = flow_matching_loss(sample, sample.video_target, sample.action_target)
    assert zero[0] == 0 and zero[1] == 0
    model = type(tiny)(tiny.config)
    out = packed_forward(model, sample.inputs, torch.randn(2, 5, 8, generator=rng), K, 72)
    sum(flow_matching_loss(sample, *out)).backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None}
    assert silent == {f'condition_embedder_action.text_embedder.linear_{i}.{p}'
                      for i in (1, 2) for p in ('weight', 'bias')}
