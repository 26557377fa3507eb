# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import torch
from objectives_support import (
    USED,
    generator,
    make_networks,
    make_windows,
    steady,
    toward,
)

from flashwam_ros.training.objectives.base import Networks
from flashwam_ros.training.objectives.registry import build_objective
from flashwam_ros.wam.flow import training_sigmas

BOTH = ('flashwam', 'naive_joint', 'linear_substeps', 'scaled_lcm')
VIDEO_ONLY = ('video_lcm', 'video_lcm_reg')
FORMS = {'flashwam': ('lcm', 'linear'), 'naive_joint': ('lcm', 'lcm'),
         'linear_substeps': ('linear', 'linear'), 'scaled_lcm': ('scaled', 'scaled')}


def coefficients(form, sigma):
    """Write c_skip and c_out out once more."""
    if form == 'linear':
        return torch.zeros_like(sigma), torch.ones_like(sigma)
    if form == 'lcm':
        return 0.25 / (sigma ** 2 + 0.25), sigma * 0.5 / (sigma ** 2 + 0.25) ** 0.5
    ten = 10 * sigma
    return 0.25 / (ten ** 2 + 0.25), ten / (ten ** 2 + 0.25) ** 0.5


def function(form, x, sigma, v):
    skip, out = coefficients(form, sigma)
    return skip * x + out * (x - sigma * v)


def spread(t):
    return t[:, None, :, None, None] / 1000


@pytest.mark.parametrize('name', BOTH)
def test_losses_by_hand(name):
    """Inputs as the networks saw them, forms and distance written out: same figures."""
    student, teacher, target = steady(0.5, -0.25), steady(0.3, -0.4), steady(0.1, 0.2)
    objective = build_objective(name, {'guidance': (1, 1), 'lambda_reg': 0.0, 'substeps': 1})
    losses = objective.losses(Networks(student, teacher, target), make_windows(), 0, generator())
    at, end = student.calls[0], target.calls[0]
    want = {}
    for modality, form, ours, theirs in (('video', FORMS[name][0], 0.5, 0.1),
                                         ('action', FORMS[name][1], -0.25, 0.2)):
        x, sigma = getattr(at, modality), spread(getattr(at, modality + '_t'))
        y, level = getattr(end, modality), spread(getattr(end, modality + '_t'))
        difference = function(form, x, sigma, ours) - function(form, y, level, theirs)
        huber = (difference ** 2 + 1e-6).sqrt() - 1e-3
        if modality == 'action':
            huber = huber[:, list(USED)]
        want[modality] = huber[:, :, 1:].mean()  # frame 0 is pinned
    for key, value in want.items():
        torch.testing.assert_close(losses.figures[key], value.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses.scalars['student'], want['video'] + want['action'],
                               atol=1e-5, rtol=1e-5)


def test_teacher_jump():
    """The end point lies `stride` ids on, moved by the teacher's velocity."""
    student, teacher, target = steady(0.5, -0.25), steady(0.3, -0.4), steady(0.1, 0.2)
    objective = build_objective('flashwam', {'guidance': (1, 1), 'stride': 200})
    objective.losses(Networks(student, teacher, target), make_windows(), 0, generator())
    at, end = student.calls[0], target.calls[0]
    for modality, shift, v in (('video', 5.0, 0.3), ('action', 1.0, -0.4)):
        levels = training_sigmas(shift)
        sigma, level = (getattr(side, modality + '_t')[:, 1:] / 1000 for side in (at, end))
        ids = (sigma[..., None] - levels).abs().argmin(-1)
        torch.testing.assert_close(level, levels[(ids + 200).clamp(max=999)], atol=2e-6, rtol=0)
        moved = getattr(end, modality) - getattr(at, modality)
        want = v * (spread(getattr(end, modality + '_t')) - spread(getattr(at, modality + '_t')))
        used = list(USED) if modality == 'action' else slice(None)
        torch.testing.assert_close(moved[:, used], want.expand_as(moved)[:, used], atol=1e-5,
                                   rtol=0)
    unused = [c for c in range(30) if c not in USED]
    assert end.action[:, unused].abs().max() == 0
    # Inference gives frame 0 clean: it stays what it was, at t = 0.
    assert end.video_t[:, 0].abs().max() == 0
    assert torch.equal(end.video[:, :, 0], make_windows().video[:, :, 0])


@pytest.mark.parametrize('name', VIDEO_ONLY)
def test_actions_of_video_only_methods_stay_at_their_level(name):
    student, teacher, target = steady(0.5, -0.25), steady(0.3, -0.4), steady(0.1, 0.2)
    objective = build_objective(name, {'guidance': (1, 1)})
    losses = objective.losses(Networks(student, teacher, target), make_windows(), 0, generator())
    at, end = student.calls[0], target.calls[0]
    assert torch.equal(at.action, end.action) and torch.equal(at.action_t, end.action_t)
    assert not torch.equal(at.video, end.video) and 'action' not in losses.figures
    assert ('regulariser' in losses.figures) == (name == 'video_lcm_reg')


@pytest.mark.parametrize('stride', [1, 500])
def test_zero_loss_on_a_linear_field_with_the_x0_form(stride):
    """Straight trajectories: one jump is exact for every stride and guidance."""
    nets = Networks(toward(0.4, -0.2), toward(0.4, -0.2), toward(0.4, -0.2))
    objective = build_objective('linear_substeps', {'stride': stride})
    losses = objective.losses(nets, make_windows(), 0, generator())
    assert losses.scalars['student'].item() < 1e-5


@pytest.mark.parametrize('name', BOTH)
def test_zero_loss_on_a_linear_field_with_a_small_stride(name):
    nets = Networks(toward(0.4, -0.2), toward(0.4, -0.2), toward(0.4, -0.2))
    losses = {}
    for stride in (1, 500):
        objective = build_objective(name, {'stride': stride, 'lambda_reg': 0.0, 'distance': 'l2'})
        losses[stride] = objective.losses(nets, make_windows(), 0, generator())
    assert losses[1].scalars['student'] < 1e-3
    if name in ('flashwam', 'naive_joint'):
        # A perfect network is no fixed point of the LCM form: over a real jump f moves.
        assert losses[500].figures['video'] > 0.01


def test_regulariser_is_the_native_action_loss():
    """On the same noisy actions; v = eps - a0 is recovered from what the student saw."""
    student = steady(0.5, -0.25)
    nets = Networks(student, steady(0.3, -0.4), steady(0.1, 0.2))
    objective = build_objective('flashwam', {'guidance': (1, 1), 'lambda_reg': 0.2})
    losses = objective.losses(nets, make_windows(), 0, generator())
    at, windows = student.calls[0], make_windows()
    used = list(USED)
    native = (at.action - windows.action)[:, used, 1:] / spread(at.action_t)[:, :, 1:]
    want = (-0.25 - native).square().mean()
    torch.testing.assert_close(losses.figures['regulariser'], want, atol=1e-4, rtol=1e-4)
    total = losses.figures['video'] + losses.figures['action'] + 0.2 * want
    torch.testing.assert_close(losses.scalars['student'].detach(), total, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('batched', [True, False])
def test_guidance_moves_the_video_target_only(batched):
    """With end = text, v_u + w (v_c - v_u) ends at w text: x_e follows from the drawn w."""
    windows = make_windows(text=torch.ones(2, 3, 8))
    teacher, target = toward(0.0, -0.2, text_gain=1.0), steady(0.0, 0.0)
    student = steady(0.0, 0.0)
    objective = build_objective('flashwam', {'guidance': (3, 3), 'batched_guidance': batched})
    objective.losses(Networks(student, teacher, target), windows, 0, generator())
    assert [call.rows for call in teacher.calls] == ([4] if batched else [2, 2])
    at, end = student.calls[0], target.calls[0]
    sigma, level = spread(at.video_t)[:, :, 1:], spread(end.video_t)[:, :, 1:]
    x = at.video[:, :, 1:]
    torch.testing.assert_close(end.video[:, :, 1:], x + (x - 3.0) / sigma * (level - sigma),
                               atol=1e-4, rtol=1e-4)
    sigma, level = spread(at.action_t)[:, :, 1:], spread(end.action_t)[:, :, 1:]
    x = at.action[:, list(USED), 1:]
    torch.testing.assert_close(end.action[:, list(USED), 1:],
                               x + (x + 0.2) / sigma * (level - sigma), atol=1e-4, rtol=1e-4)


def test_batched_and_plain_teacher_passes_agree():
    nets = make_networks()
    windows = make_windows()
    values = [build_objective('flashwam', {'batched_guidance': batched, 'history_noise': 0.5})
              .losses(nets, windows, 0, generator()).scalars['student'] for batched in (1, 0)]
    torch.testing.assert_close(*values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(('substeps', 'guidance', 'calls'), [
    (1, (1, 1), 1), (4, (1, 1), 4), (4, (2, 10), 4)])
def test_teacher_passes(substeps, guidance, calls):
    teacher = steady(0.3, -0.4)
    objective = build_objective('linear_substeps', {'substeps': substeps, 'guidance': guidance})
    student, target = steady(0.0, 0.0), steady(0.0, 0.0)
    objective.losses(Networks(student, teacher, target), make_windows(), 0, generator())
    assert len(teacher.calls) == calls
    times = [call.video_t[0, 2].item() for call in teacher.calls] + \
        [target.calls[0].video_t[0, 2].item()]
    assert times == sorted(times, reverse=True) and len(set(times)) == calls + 1
    assert {call.rows for call in teacher.calls} == {4 if guidance[1] > 1 else 2}


def test_no_gradient_reaches_teacher_or_target():
    nets = make_networks()
    nets.teacher.requires_grad_(True)
    nets.target.requires_grad_(True)
    objective = build_objective('flashwam', {})
    objective.losses(nets, make_windows(), 0, generator()).scalars['student'].backward()
    assert all(p.grad is None for n in (nets.teacher, nets.target) for p in n.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in nets.student.parameters())


@pytest.mark.parametrize('name', BOTH)
def test_action_gradient_scale_is_that_of_the_form(name):
    """|df/dv| through the whole step, at the action level that was drawn."""
    student = steady(1e3, 1e3)
    nets = Networks(student, steady(0.0, 0.0), steady(0.0, 0.0))
    windows = make_windows(keep=torch.zeros(2, 4).index_fill(1, torch.tensor([2]), 1.0))
    objective = build_objective(name, {'guidance': (1, 1), 'lambda_reg': 0.0, 'per_chunk': 0})
    losses = objective.losses(nets, windows, 0, generator())
    losses.scalars['student'].backward()
    want = 0.0
    for modality, form in zip(('video', 'action'), FORMS[name], strict=True):
        sigma = getattr(student.calls[0], modality + '_t')[:, 2] / 1000
        # Far from the target the Huber distance has slope 1; two of six free frames count.
        want += (coefficients(form, sigma)[1] * sigma).sum().item() / 6
    assert abs(student.scale.grad.item()) == pytest.approx(1e3 * want, rel=1e-4)


def test_uniform_weights():
    """Level 1 has a loss, unlike under the teacher's bell."""
    windows = make_windows()
    whole = build_objective('linear_substeps', {'guidance': (1, 1)})
    nets = Networks(steady(9.0, 9.0), steady(0.0, 0.0), steady(0.0, 0.0))
    video = whole.losses(nets, windows, 0, generator()).figures['video']
    sigma = nets.student.calls[0].video_t[:, 1:] / 1000
    rough = (9 * sigma).mean()
    assert video == pytest.approx(rough.item(), rel=0.15)


def test_impossible_options_are_refused():
    for options in ({'guidance': (0.5, 2)}, {'guidance': (5, 2)}, {'stride': 0}, {'substeps': 0},
                    {'distance': 'l1'}, {'sigma_data': 0.0}, {'forward_dynamics_share': 1.5},
                    {'chunk_size': 0}):
        with pytest.raises(ValueError):
            build_objective('flashwam', options)


def test_options_of_a_yaml_file_become_what_they_should():
    objective = build_objective('flashwam', {'guidance': [2, 10]})
    assert objective.guidance == (2.0, 10.0)
    assert dataclasses.replace(objective, forward_dynamics_share=0.0) == objective
