# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What holds for every method."""

import dataclasses

import pytest
import torch
from objectives_support import (
    USED,
    generator,
    make_network,
    make_networks,
    make_windows,
    steady,
)

from flashwam_ros.training.objectives.base import Networks
from flashwam_ros.training.objectives.registry import METHODS, build_objective
from flashwam_ros.wam.config import SamplerSettings
from flashwam_ros.wam.flow import unfit_sampler_warning
from flashwam_ros.wam.packed import (
    NoiseRecipe,
    flow_matching_loss,
    packed_forward,
    training_sample,
)

LAST = 4  # a step in which DMD2 updates its student too


def test_methods():
    assert set(METHODS) == {
        'flow_matching', 'flashwam', 'naive_joint', 'video_lcm', 'video_lcm_reg',
        'video_dmd2_reg', 'joint_dmd2', 'linear_substeps', 'scaled_lcm'}
    with pytest.raises(ValueError, match='unknown method.*flashwam'):
        build_objective('flash', {})
    with pytest.raises(ValueError, match='lamda.*known.*lambda_reg'):
        build_objective('flashwam', {'lamda': 1})


@pytest.mark.parametrize('share', [0.0, 1.0])
@pytest.mark.parametrize('name', METHODS)
def test_one_step(name, share):
    """Finite, descending, and named as announced."""
    objective = build_objective(name, {'forward_dynamics_share': share})
    nets, windows = make_networks(), make_windows()
    for role in ('teacher', 'target', 'critic'):
        if role not in objective.roles:
            nets = dataclasses.replace(nets, **{role: None})
    first = objective.losses(nets, windows, LAST, generator())
    assert set(first.figures) <= set(objective.columns) and objective.name == name
    assert ('forward_dynamics' in first.figures) == (share == 1.0)
    assert all(torch.isfinite(f) and f.dtype == torch.float32 for f in first.figures.values())
    assert set(first.scalars) == {'student'} | ({'critic'} & objective.roles)
    for role, scalar in first.scalars.items():
        scalar.backward()
        parameters = [p for p in getattr(nets, role).parameters() if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        assert torch.isfinite(norm) and norm > 0
        with torch.no_grad():
            for parameter in parameters:
                parameter -= 1e-3 / norm * parameter.grad
    second = objective.losses(nets, windows, LAST, generator())
    for role in first.scalars:
        # The value of DMD2's student surrogate is not what descends.
        if not (role == 'student' and 'dmd2' in name):
            assert second.scalars[role] < first.scalars[role]


@pytest.mark.parametrize('name', METHODS)
def test_unused_channels_do_not_matter(name):
    nets, windows = make_networks(), make_windows()
    noise = torch.randn(windows.action.shape, generator=generator(9))
    noise[:, list(USED)] = 0
    dirty = dataclasses.replace(windows, action=windows.action + noise)
    objective = build_objective(name, {})
    one, two = (objective.losses(nets, w, LAST, generator()) for w in (windows, dirty))
    for key, value in one.figures.items():
        assert torch.equal(value, two.figures[key]), key


@pytest.mark.parametrize('name', METHODS)
def test_frames_that_are_not_kept_have_no_loss(name):
    objective = build_objective(name, {})
    losses = objective.losses(make_networks(), make_windows(keep=torch.zeros(2, 4)), LAST,
                              generator())
    assert all(value == 0 for value in losses.figures.values())


@pytest.mark.parametrize('name', METHODS)
def test_repeatable_and_noisy(name):
    objective = build_objective(name, {})
    nets, windows = make_networks(), make_windows()
    with torch.no_grad():
        a, b, c = (objective.losses(nets, windows, LAST, generator(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(a.figures[k], b.figures[k]) for k in a.figures)
    assert any(not torch.equal(a.figures[k], c.figures[k]) for k in a.figures)


@pytest.mark.parametrize('name', METHODS)
def test_coin_is_the_same_on_every_process(name):
    """It follows from the step, not from the process's generator."""
    objective = build_objective(name, {'forward_dynamics_share': 0.5})
    coins = [objective.forward_dynamics(step) for step in range(400)]
    assert 160 < sum(coins) < 240
    nets = Networks(*(steady(0.1, 0.1) for _ in range(4)))
    steps = [coins.index(True), coins.index(False)]
    for step in steps:
        for rank in (5, 6):
            losses = objective.losses(nets, make_windows(), step, generator(rank))
            seen = 'forward_dynamics' in losses.figures or (
                'critic' in losses.scalars and 'critic_action' not in losses.figures)
            assert seen == coins[step]


@pytest.mark.parametrize('name', METHODS)
def test_forward_dynamics_gives_each_chunk_its_own_clean_actions(name):
    student = steady(0.1, 0.1)
    nets = Networks(student, *(steady(0.1, 0.1) for _ in range(3)))
    objective = build_objective(name, {'forward_dynamics_share': 1.0})
    losses = objective.losses(nets, make_windows(), LAST, generator())
    for net in (nets.student, nets.teacher, nets.target, nets.critic):
        for call in net.calls:
            rows = make_windows().action.clone()
            rows[:, :, 0] = 0  # the dummy before the first frame
            assert torch.equal(call.action, rows.repeat(call.rows // 2, 1, 1, 1, 1))
            assert call.action_t.abs().max() == 0
    assert 'action' not in losses.figures and 'regulariser' not in losses.figures


@pytest.mark.parametrize('name', METHODS)
def test_a_non_finite_loss_becomes_zero_with_its_graph(name):
    windows = make_windows()
    windows.video[0, 0, 2, 0, 0] = float('nan')
    losses = build_objective(name, {}).losses(make_networks(), windows, LAST, generator())
    for scalar in losses.scalars.values():
        assert scalar.item() == 0 and scalar.requires_grad
        scalar.backward()
    assert any(not torch.isfinite(value) for value in losses.figures.values())


@pytest.mark.parametrize('name', METHODS)
def test_bf16_products_leave_fp32_losses(name):
    objective = build_objective(name, {})
    with torch.autocast('cpu', torch.bfloat16):
        half = objective.losses(make_networks(), make_windows(), LAST, generator())
    full = objective.losses(make_networks(), make_windows(), LAST, generator())
    for key, value in half.figures.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, full.figures[key], atol=0.05, rtol=0.2)


@pytest.mark.parametrize(('name', 'video', 'action'), [
    ('flow_matching', ('velocity', 'euler', 0), ('velocity', 'euler', 0)),
    ('flashwam', ('lcm', 'consistency', 500), ('linear', 'euler', 500)),
    ('naive_joint', ('lcm', 'consistency', 500), ('lcm', 'consistency', 500)),
    ('video_lcm', ('lcm', 'consistency', 500), ('velocity', 'euler', 0)),
    ('video_lcm_reg', ('lcm', 'consistency', 500), ('velocity', 'euler', 0)),
    ('linear_substeps', ('linear', 'euler', 500), ('linear', 'euler', 500)),
    ('scaled_lcm', ('scaled_lcm', 'consistency', 500), ('scaled_lcm', 'consistency', 500)),
    ('joint_dmd2', ('linear', 'euler', 0), ('linear', 'euler', 0)),
    ('video_dmd2_reg', ('linear', 'euler', 0), ('velocity', 'euler', 0))])
def test_what_the_checkpoint_stores(name, video, action):
    start = SamplerSettings(window=9, actions_per_frame=2, forward_dynamics=True)
    got = build_objective(name, {'window': 9, 'forward_dynamics_share': 0.2}).sampler(start)
    for stream, want in ((got.video, video), (got.action, action)):
        assert (stream.parametrisation, stream.sampler, stream.stride) == want
        assert unfit_sampler_warning(stream) is None
    assert got.window == 9 and got.actions_per_frame == 2 and got.forward_dynamics
    assert SamplerSettings.from_dict(got.to_dict()) == got
    if name != 'flow_matching':
        assert (got.video.steps, got.action.steps) == (1, 2) and got.video_guidance == 1.0
        assert got.guidance_range == ((3.0, 3.0) if 'dmd2' in name else (2.0, 10.0))
        with pytest.raises(ValueError, match='teacher'):
            build_objective(name, {'forward_dynamics_share': 0.2}).sampler(SamplerSettings())
    assert not build_objective(name, {}).sampler(start).forward_dynamics


def test_flow_matching_is_the_native_loss():
    """Draws in the order sample, text dropout; weights, history noise and sum as configured."""
    windows = make_windows(keep=torch.tensor([[1.0, 1, 0, 1], [1, 1, 1, 1]]))
    model = make_network()
    got = build_objective('flow_matching', {'text_dropout': 0.5}).losses(
        Networks(model), windows, 0, generator())
    rng = generator()
    sample = training_sample(
        windows.video, windows.action, windows.channel_mask, windows.starts,
        NoiseRecipe(per_chunk=2, history_noise=0.5, uniform_mix=0.5), generator=rng)
    sample = dataclasses.replace(sample, video_weight=sample.video_weight * windows.keep,
                                 action_weight=sample.action_weight * windows.keep)
    dropped = torch.rand(2, generator=rng) < 0.5
    text = torch.stack([windows.empty_text if drop else row
                        for drop, row in zip(dropped, windows.text, strict=True)])
    video, action = flow_matching_loss(sample, *packed_forward(model, sample.inputs, text, 2, 7))
    assert torch.equal(got.figures['video'], video) and torch.equal(got.figures['action'], action)
    assert torch.equal(got.scalars['student'], video + 5 * action)


def test_random_structure_follows_from_the_step():
    objective = build_objective('flow_matching', {'random_structure': True, 'per_chunk': 0})
    drawn = [objective._structure(step) for step in range(200)]
    assert drawn == [objective._structure(step) for step in range(200)]
    assert {chunk for chunk, _ in drawn} == {1, 2, 3, 4}
    assert min(w for _, w in drawn) >= 4 and max(w for _, w in drawn) <= 64
    losses = objective.losses(Networks(make_network()), make_windows(), 1, generator())
    assert torch.isfinite(losses.scalars['student'])
