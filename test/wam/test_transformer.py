# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from flashwam_ros.wam.attention import attention
from flashwam_ros.wam.config import TransformerConfig
from flashwam_ros.wam.rope import (
    action_positions,
    apply_rope,
    axis_split,
    rope_table,
    video_positions,
)
from flashwam_ros.wam.transformer import (
    Segment,
    WanTransformer3DModel,
    load_weights,
    patchify,
    unpatchify,
)


def _meta(config):
    with torch.device('meta'):
        return WanTransformer3DModel(config)


def test_released_keys_and_shapes():
    state = _meta(TransformerConfig()).state_dict()
    assert len(state) == 839
    assert sum(v.numel() for v in state.values()) == 5_088_872_670
    expected = {'patch_embedding_mlp.weight': (3072, 192), 'action_embedder.weight': (3072, 30),
                'scale_shift_table': (1, 2, 3072), 'proj_out.weight': (192, 3072),
                'action_proj_out.bias': (30,), 'blocks.29.scale_shift_table': (1, 6, 3072),
                'blocks.0.ffn.net.0.proj.weight': (14336, 3072),
                'blocks.0.ffn.net.2.weight': (3072, 14336), 'blocks.3.norm2.bias': (3072,),
                'blocks.7.attn1.norm_q.weight': (3072,),
                'blocks.7.attn2.to_out.0.weight': (3072, 3072)}
    for name in ('condition_embedder', 'condition_embedder_action'):
        expected |= {f'{name}.time_embedder.linear_1.weight': (3072, 256),
                     f'{name}.time_proj.weight': (18432, 3072),
                     f'{name}.text_embedder.linear_1.weight': (3072, 4096)}
    assert {k: tuple(state[k].shape) for k in expected} == expected
    block = {k: v for k, v in state.items() if k.startswith('blocks.11.')}
    assert len(block) == 27 and sum(v.numel() for v in block.values()) == 163_656_704


def test_nano_size():
    config = TransformerConfig.nano()
    assert sum(v.numel() for v in _meta(config).state_dict().values()) == 4_321_246
    assert TransformerConfig.from_dict(config.to_dict()) == config


def test_config_ignores_stored_backend_and_refuses_unknown_keys():
    values = TransformerConfig().to_dict()
    released = {**values, 'attn_mode': 'flex', 'rope_max_seq_len': 1024, '_diffusers_version': '0'}
    assert TransformerConfig.from_dict(released) == TransformerConfig()
    with pytest.raises(ValueError, match='num_layer'):
        TransformerConfig.from_dict({**values, 'num_layer': 2})
    with pytest.raises(ValueError, match='AutoencoderKLWan'):
        TransformerConfig.from_dict({'_class_name': 'AutoencoderKLWan'})


def test_loading_ignores_vestigial_and_names_what_is_wrong(tiny):
    state = dict(tiny.state_dict())
    model = WanTransformer3DModel(tiny.config)
    extra = {'patch_embedding.weight': torch.zeros(1), 'patch_embedding.bias': torch.zeros(1)}
    load_weights(model, {**state, **extra}, 'file')
    assert torch.equal(model.proj_out.weight, tiny.proj_out.weight)
    bad = {k: v for k, v in state.items() if k != 'proj_out.bias'}
    with pytest.raises(ValueError, match='proj_out.bias'):
        load_weights(model, bad, 'file')
    with pytest.raises(ValueError, match='wrong shape.*proj_out.bias'):
        load_weights(model, {**state, 'proj_out.bias': torch.zeros(3)}, 'file')


def test_patch_orders_differ_between_input_and_output():
    x = torch.arange(2 * 3 * 2 * 4 * 6, dtype=torch.float32).reshape(2, 3, 2, 4, 6)
    tokens = patchify(x, (1, 2, 2))
    assert tokens.shape == (2, 2 * 2 * 3, 12)
    token = tokens[1, 1 * 6 + 1 * 3 + 2].reshape(3, 2, 2)  # frame 1, row 1, column 2
    assert torch.equal(token, x[1, :, 1, 2:4, 4:6])
    channel_last = tokens.reshape(2, 12, 3, 4).transpose(2, 3).reshape(2, 12, 12)
    assert torch.equal(unpatchify(channel_last, x.shape, (1, 2, 2)), x)
    assert not torch.equal(unpatchify(tokens, x.shape, (1, 2, 2)), x)


def test_rope_grid_ids():
    assert axis_split(128) == (44, 42, 42)
    assert axis_split(48) == (16, 16, 16)
    video = video_positions(2, 2, 3, offset=5)
    assert video.tolist()[:4] == [[5, 0, 0], [5, 0, 1], [5, 0, 2], [5, 1, 0]]
    assert video[-1].tolist() == [6, 1, 2]
    action = action_positions(2, 4, offset=3)
    np.testing.assert_allclose(action[:, 0], [3.2, 3.4, 3.6, 3.8, 4.2, 4.4, 4.6, 4.8])
    assert (action[:, 1:] == -1).all()


def test_rope_scores_depend_on_frame_differences_only(rng):
    q, k = torch.randn(2, 1, 6, 1, 18, generator=rng, dtype=torch.float64)

    def scores(offset):
        table = rope_table(video_positions(1, 2, 3, offset), 18, 1e4)
        a, b = (apply_rope(x, table, torch.float64)[0, :, 0] for x in (q, k))
        return a @ b.T

    torch.testing.assert_close(scores(0), scores(37), atol=1e-4, rtol=0)
    assert not torch.allclose(scores(0), q[0, :, 0] @ k[0, :, 0].T, atol=1e-2)


def test_rope_survives_module_casts(tiny):
    before = rope_table(video_positions(1, 2, 3), 18, 1e4)
    WanTransformer3DModel(tiny.config).to(torch.bfloat16)
    assert torch.equal(before, rope_table(video_positions(1, 2, 3), 18, 1e4))


def _naive_forward(model, video, t, text_rows):
    """Per-token, complex-valued restatement of the reference's block for one video segment."""
    config, width = model.config, model.config.dim
    heads = config.num_attention_heads
    b, _, f, h, w = video.shape
    per_frame = h * w // 4
    embed = model.condition_embedder
    t = t.repeat_interleave(per_frame, dim=1)
    k = torch.arange(config.freq_dim // 2) / (config.freq_dim // 2)
    angle = t[..., None] * torch.exp(-math.log(1e4) * k)
    temb = embed.time_embedder(torch.cat([angle.cos(), angle.sin()], -1))
    p = embed.time_proj(F.silu(temb)).view(b, -1, 6, width)
    text = embed.text_embedder(text_rows)
    x = model.patch_embedding_mlp(patchify(video, (1, 2, 2)))
    pos = torch.from_numpy(video_positions(f, h // 2, w // 2))
    freqs = [1e4 ** (-torch.arange(0, n, 2, dtype=torch.float64) / n)
             for n in axis_split(config.attention_head_dim)]
    angles = torch.cat([pos[:, i:i + 1] * fr for i, fr in enumerate(freqs)], 1).float()
    rot = torch.polar(torch.ones_like(angles), angles)[:, None]

    def split(y, rotate):
        y = y.view(b, -1, heads, config.attention_head_dim)
        if rotate:
            y = torch.view_as_complex(y.reshape(*y.shape[:-1], -1, 2)) * rot
            y = torch.view_as_real(y).flatten(-2)
        return y.transpose(1, 2)

    def attn(m, y, z, rotate):
        q, k_, v = (split(m.norm_q(m.to_q(y)), rotate), split(m.norm_k(m.to_k(z)), rotate),
                    split(m.to_v(z), False))
        weights = (q @ k_.transpose(-1, -2) / config.attention_head_dim ** 0.5).softmax(-1)
        return m.to_out[0]((weights @ v).transpose(1, 2).reshape(b, -1, width))

    def norm(y):
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True)
                                                  + 1e-6).sqrt()

    for block in model.blocks:
        s1, c1, g1, s2, c2, g2 = (block.scale_shift_table + p).unbind(2)
        x = x + attn(block.attn1, *[norm(x) * (1 + c1) + s1] * 2, True) * g1
        x = x + attn(block.attn2, norm(x) * block.norm2.weight + block.norm2.bias, text, False)
        y = block.ffn.net[0].proj(norm(x) * (1 + c2) + s2)
        x = x + block.ffn.net[2](F.gelu(y, approximate='tanh')) * g2
    shift, scale = (model.scale_shift_table + temb[:, :, None]).unbind(2)
    out = model.proj_out(norm(x) * (1 + scale) + shift)
    return unpatchify(out, (b, config.out_channels, f, h, w), (1, 2, 2))


def _video_forward(model, video, t, text_rows):
    f, h, w = video.shape[2:]
    rope = rope_table(video_positions(f, h // 2, w // 2), model.config.attention_head_dim, 1e4)
    return model([Segment('video', video, t)], rope, lambda _i, q, k, v: attention(q, k, v),
                 model.text_kv(text_rows), outputs=1)[0]


def test_forward_equals_a_naive_restatement(tiny, rng):
    video = torch.randn(2, 4, 3, 4, 6, generator=rng)
    t = 1000 * torch.rand(2, 3, generator=rng)
    text = torch.randn(2, 5, 8, generator=rng)
    torch.testing.assert_close(_video_forward(tiny, video, t, text),
                               _naive_forward(tiny, video, t, text), atol=2e-5, rtol=1e-4)


def test_bf16_parameters_stay_close_to_fp32(tiny, rng):
    video = torch.randn(1, 4, 3, 4, 6, generator=rng)
    t, text = torch.full((1, 3), 700.0), torch.randn(1, 5, 8, generator=rng)
    half = WanTransformer3DModel(tiny.config).eval()
    half.load_state_dict(tiny.state_dict())
    got = _video_forward(half.to(torch.bfloat16), video, t, text)
    assert got.dtype == torch.bfloat16
    want = _video_forward(tiny, video, t, text)
    cosine = F.cosine_similarity(got.float().flatten(), want.flatten(), dim=0)
    assert cosine > 0.999
