# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from objectives_support import USED, generator, make_networks, make_windows, steady, toward

from flashwam_ros.training.objectives.base import Networks
from flashwam_ros.training.objectives.distribution_matching import matching_gradient, surrogate
from flashwam_ros.training.objectives.registry import build_objective

NAMES = ('joint_dmd2', 'video_dmd2_reg')


def test_surrogate_by_hand():
    generated = torch.tensor([[1.0, 3.0], [0.0, 2.0]], requires_grad=True).view(2, 1, 2, 1, 1)
    generated.retain_grad()
    fake = torch.tensor([2.0, 2.0, 1.0, 0.0]).view(2, 1, 2, 1, 1)
    real = torch.tensor([0.0, 1.0, 1.0, 4.0]).view(2, 1, 2, 1, 1)
    # mean |G - real|: (1 + 2) / 2 = 1.5 and (1 + 2) / 2 = 1.5
    gradient = matching_gradient(generated.detach(), fake, real, torch.ones(1))
    want = torch.tensor([2.0, 1.0, 0.0, -4.0]).view(2, 1, 2, 1, 1) / 1.5
    torch.testing.assert_close(gradient, want, atol=1e-6, rtol=1e-6)
    loss = surrogate(generated, gradient)
    torch.testing.assert_close(loss, 0.5 * want ** 2)
    loss.sum().backward()
    torch.testing.assert_close(generated.grad, want)


def test_normaliser_counts_what_is_generated():
    generated, real = torch.tensor([[4.0, 1.0]]), torch.zeros(1, 2)
    shape = (1, 1, 2, 1, 1)
    gradient = matching_gradient(generated.view(shape), torch.ones(shape), real.view(shape),
                                 torch.tensor([0.0, 1.0]).view(shape))
    torch.testing.assert_close(gradient.flatten(), torch.tensor([0.0, 1.0]))


def ends(student, critic, teacher):
    """Networks whose x0 estimates are constants (video, action), whatever the input."""
    return Networks(toward(*student), toward(*teacher), None, toward(*critic))


def test_student_loss_by_hand():
    """G = student, x0_fake = critic, x0_real = teacher: everything is known."""
    nets = ends(student=(0.5, 0.9), critic=(0.3, -0.2), teacher=(0.1, 0.4))
    objective = build_objective('joint_dmd2', {'guidance': 1.0})
    losses = objective.losses(nets, make_windows(), 4, generator())
    video, action = (0.3 - 0.1) / 0.4, (-0.2 - 0.4) / 0.5
    assert losses.figures['video'].item() == pytest.approx(0.5 * video ** 2, rel=1e-3)
    assert losses.figures['action'].item() == pytest.approx(0.5 * action ** 2, rel=1e-3)
    total = 0.5 * video ** 2 + 0.1 * 0.5 * action ** 2
    assert losses.scalars['student'].item() == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize('batched', [True, False])
def test_reference_guidance_is_on_video_only(batched):
    """With an end of text, x0_real = 0 + 3 (1 - 0)."""
    windows = make_windows(text=torch.ones(2, 3, 8))
    nets = Networks(toward(0.5, 0.9), toward(0.0, 0.4, text_gain=1.0), None, toward(0.3, -0.2))
    objective = build_objective('joint_dmd2', {'batched_guidance': batched})
    losses = objective.losses(nets, windows, 4, generator())
    video, action = (0.3 - 3.0) / 2.5, (-0.2 - 0.4) / 0.5
    assert losses.figures['video'].item() == pytest.approx(0.5 * video ** 2, rel=1e-3)
    assert losses.figures['action'].item() == pytest.approx(0.5 * action ** 2, rel=1e-3)
    assert [call.rows for call in nets.teacher.calls] == ([4] if batched else [2, 2])


@pytest.mark.parametrize('name', NAMES)
def test_rollout(name):
    """Four bands, fresh noise between them, pinned frames clean, actions by method."""
    nets = ends(student=(0.5, 0.9), critic=(0.3, -0.2), teacher=(0.1, 0.4))
    windows = make_windows()
    build_objective(name, {}).losses(nets, windows, 0, generator())
    calls = nets.student.calls
    assert [call.video_t[0, 1].item() for call in calls] == [1000, 750, 500, 250]
    eps = []
    for call in calls:
        sigma = call.video_t[0, 1].item() / 1000
        assert call.video_t[:, 0].abs().max() == 0
        assert torch.equal(call.video[:, :, 0], windows.video[:, :, 0])
        eps.append((call.video[:, :, 1:] - (1 - sigma) * 0.5) / sigma)
        clean = windows.action[:, list(USED), 1:] if name == 'video_dmd2_reg' else 0.9
        noise = (call.action[:, list(USED), 1:] - (1 - sigma) * clean) / sigma
        assert noise.mean().abs() < 0.6 and 0.5 < noise.std() < 1.5
        unused = [c for c in range(30) if c not in USED]
        assert call.action[:, unused].abs().max() == 0
    assert all(0.8 < e.std() < 1.2 for e in eps)
    assert (eps[1] - eps[0]).std() > 1.0 and (eps[2] - eps[1]).std() > 1.0


def test_only_the_last_rollout_step_carries_gradient():
    """G = x - scale (x - e) at the last level; x itself, made by earlier steps, is a constant."""
    nets = ends(student=(0.5, 0.9), critic=(0.3, -0.2), teacher=(0.1, 0.4))
    with torch.no_grad():
        nets.student.scale.fill_(0.5)  # at 1, G would not depend on x
    objective = build_objective('video_dmd2_reg', {'guidance': 1.0, 'lambda_reg': 0.0})
    losses = objective.losses(nets, make_windows(), 4, generator())
    losses.scalars['student'].backward()
    x = nets.student.calls[3].video[:, :, 1:].detach()
    generated = x - 0.5 * (x - 0.5)
    norm = (generated - 0.1).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
    want = -((x - 0.5) * 0.2 / norm).mean()
    assert nets.student.scale.grad.item() == pytest.approx(want.item(), rel=1e-3)
    assert not nets.student.calls[3].video.requires_grad
    assert nets.critic.scale.grad is None and nets.teacher.scale.grad is None


def test_regulariser_at_the_last_level():
    nets = ends(student=(0.5, 0.9), critic=(0.3, -0.2), teacher=(0.1, 0.4))
    windows = make_windows()
    losses = build_objective('video_dmd2_reg', {}).losses(nets, windows, 4, generator())
    x = nets.student.calls[3].action[:, list(USED), 1:]
    truth = windows.action[:, list(USED), 1:]
    want = ((x - 0.9) / 0.25 - (x - truth) / 0.25).square().mean()
    assert losses.figures['regulariser'].item() == pytest.approx(want.item(), rel=1e-3)


def test_critic_learns_the_student():
    """Zero loss where its x0 estimate is what the student makes; else weighted flow matching."""
    nets = ends(student=(0.5, 0.9), critic=(0.5, 0.9), teacher=(0.1, 0.4))
    losses = build_objective('joint_dmd2', {}).losses(nets, make_windows(), 0, generator())
    assert losses.scalars['critic'].item() < 1e-6
    nets = ends(student=(0.5, 0.9), critic=(0.3, 0.9), teacher=(0.1, 0.4))
    losses = build_objective('joint_dmd2', {}).losses(nets, make_windows(), 0, generator())
    sigma = nets.critic.calls[-1].video_t[:, 1] / 1000
    want = (torch.exp(-2 * (sigma - 0.5) ** 2) * (0.2 / sigma) ** 2).mean()
    assert losses.figures['critic_video'].item() == pytest.approx(want.item(), rel=1e-3)
    assert losses.figures['critic_action'].item() < 1e-6


def test_critic_of_video_only_sees_ground_truth_actions():
    nets = Networks(toward(0.5, 0.9), toward(0.1, 0.4), None, steady(0.0, 0.0))
    windows = make_windows()
    losses = build_objective('video_dmd2_reg', {}).losses(nets, windows, 0, generator())
    call, used = nets.critic.calls[-1], list(USED)
    sigma = call.action_t[:, None, :, None, None][:, :, 1:] / 1000
    target = (call.action[:, used, 1:] - windows.action[:, used, 1:]) / sigma
    want = (torch.exp(-2 * (sigma - 0.5) ** 2) * target ** 2).mean()
    assert losses.figures['critic_action'].item() == pytest.approx(want.item(), rel=1e-3)


@pytest.mark.parametrize('name', NAMES)
def test_update_ratio(name):
    objective = build_objective(name, {'rollout_steps': 1})
    nets = ends(student=(0.5, 0.9), critic=(0.3, -0.2), teacher=(0.1, 0.4))
    keys = [frozenset(objective.losses(nets, make_windows(), step, generator()).scalars)
            for step in range(10)]
    assert [step for step, key in enumerate(keys) if 'student' in key] == [4, 9]
    assert all('critic' in key for key in keys)


@pytest.mark.parametrize('name', NAMES)
def test_held_out_windows_give_every_figure(name):
    objective = build_objective(name, {'guidance': 1.0})
    assert not objective.updates_student(0)
    with torch.no_grad():
        figures = objective.losses(make_networks(), make_windows(), 0, generator()).figures
    assert set(figures) == set(objective.columns) - {'forward_dynamics'}


@pytest.mark.parametrize('name', NAMES)
def test_backward_of_each_scalar_stays_in_its_network(name):
    nets = make_networks()
    losses = build_objective(name, {}).losses(nets, make_windows(), 4, generator())
    losses.scalars['critic'].backward()
    assert all(p.grad is None for p in nets.student.parameters())
    moved = sum(p.grad.abs().sum() for p in nets.critic.parameters() if p.grad is not None)
    for parameter in nets.critic.parameters():
        parameter.grad = None
    losses.scalars['student'].backward()
    assert all(p.grad is None for p in nets.critic.parameters()) and moved > 0
    assert sum(p.grad.abs().sum() for p in nets.student.parameters() if p.grad is not None) > 0
