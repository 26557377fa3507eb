# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch

from flashwam_ros.wam.config import ModalitySampler, SamplerSettings
from flashwam_ros.wam.flow import (
    add_noise,
    consistency_function,
    euler_step,
    guided,
    jump_sigmas,
    lcm_function,
    loss_weights,
    shifted_sigmas,
    solver_step,
    training_sigmas,
    unfit_sampler_warning,
    velocity,
    x0_estimate,
)


@pytest.mark.parametrize(('steps', 'shift', 'timesteps'), [
    (1, 5.0, [1000]), (2, 5.0, [1000, 2500 / 3]), (2, 1.0, [1000, 500]),
    (2, 0.05, [1000, 0.05 / 0.525 * 500]), (4, 5.0, [1000, 937.5, 2500 / 3, 625])])
def test_schedules(steps, shift, timesteps):
    want = torch.tensor(timesteps, dtype=torch.float64)
    torch.testing.assert_close(1000 * shifted_sigmas(steps, shift), want, atol=1e-6, rtol=0)


def test_training_schedule_ends():
    assert training_sigmas(1.0)[-1].item() == pytest.approx(0.001, abs=1e-6)
    assert training_sigmas(5.0)[-1].item() == pytest.approx(0.00498, abs=1e-5)
    assert training_sigmas(5.0)[500].item() == pytest.approx(0.833333, abs=1e-6)


@pytest.mark.parametrize(('shift', 'values'), [
    (5.0, {0: 0, 50: 0.07, 100: 0.14, 250: 0.40, 500: 1.03, 750: 1.91, 999: 0.03}),
    (1.0, {0: 0, 50: 0.24, 100: 0.48, 250: 1.11, 500: 1.58, 750: 1.11, 999: 0.005})])
def test_loss_weights(shift, values):
    weights = loss_weights(shift)
    assert weights.mean().item() == pytest.approx(1.0, abs=1e-5)
    for index, value in values.items():
        assert weights[index].item() == pytest.approx(value, abs=6e-3)
    mixed = loss_weights(shift, 0.25)
    assert mixed[0].item() == pytest.approx(0.25) and mixed.mean().item() == pytest.approx(1.0)


def test_consistency_functions_and_steps():
    x0, eps = torch.randn(2, 4, 5)
    for sigma in (0.1, 0.5, 1.0):
        x, v = add_noise(x0, eps, torch.tensor(sigma)), velocity(x0, eps)
        torch.testing.assert_close(x0_estimate(x, v, sigma), x0, atol=1e-6, rtol=1e-5)
        step = euler_step(x, v, sigma, sigma / 2)
        torch.testing.assert_close(step, add_noise(x0, eps, torch.tensor(sigma / 2)),
                                   atol=1e-6, rtol=1e-5)
        linear = ModalitySampler(sampler='consistency', parametrisation='linear')
        torch.testing.assert_close(solver_step(x, v, sigma, sigma / 2, linear), step)
    # At sigma 1 a perfect velocity gives 0.447 x0 + 0.2 eps under the LCM form.
    got = lcm_function(eps, eps - x0, 1.0)
    torch.testing.assert_close(got, 0.2 * eps + 0.2 ** 0.5 * x0)
    lcm = ModalitySampler(sampler='consistency', parametrisation='lcm')
    torch.testing.assert_close(solver_step(eps, eps - x0, 1.0, 0.0, lcm), got)
    half = solver_step(eps, eps - x0, 1.0, 0.5, lcm)
    torch.testing.assert_close(half, 0.5 * got + 0.5 * eps)


FORMS = ('linear', 'lcm', 'scaled_lcm')


def form(name, **changes):
    return ModalitySampler(parametrisation=name, **changes)


@pytest.mark.parametrize('name', FORMS)
def test_boundary(name):
    """f(x, 0) = x, whatever the network says."""
    x, v = torch.randn(2, 7)
    torch.testing.assert_close(consistency_function(x, v, 0.0, form(name)), x, atol=0, rtol=0)


@pytest.mark.parametrize(('name', 'sigma', 'scale'), [
    ('linear', 0.1, 0.1), ('linear', 1.0, 1.0), ('lcm', 0.1, 0.0098), ('lcm', 0.5, 0.1768),
    ('lcm', 1.0, 0.4472), ('scaled_lcm', 0.01, 20 * 0.01 ** 2 * 0.98),
    ('scaled_lcm', 1.0, 0.9988)])
def test_gradient_scale(name, sigma, scale):
    """|b(sigma)|, by which gradients with respect to the network are multiplied."""
    v = torch.zeros(1, requires_grad=True)
    consistency_function(torch.ones(1), v, sigma, form(name)).backward()
    assert v.grad.abs().item() == pytest.approx(scale, rel=5e-3)


@pytest.mark.parametrize('sigma', [0.1, 0.3, 0.5, 0.833, 1.0])
def test_perfect_predictor(sigma):
    """The x0 form has it as a fixed point, the scaled form nearly; the plain LCM form does not."""
    x0, eps = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    x, v = add_noise(x0, eps, torch.tensor(sigma)), velocity(x0, eps)
    torch.testing.assert_close(consistency_function(x, v, sigma, form('linear')), x0,
                               atol=1e-6, rtol=0)
    norm = sigma ** 2 + 0.25
    skip, out = 0.25 / norm, 0.5 * sigma / norm ** 0.5
    plain = consistency_function(x, v, sigma, form('lcm'))
    torch.testing.assert_close(plain, (skip * (1 - sigma) + out) * x0 + skip * sigma * eps,
                               atol=1e-5, rtol=0)
    assert (plain - x0).square().mean().sqrt() > 0.08
    if sigma >= 0.3:
        scaled = consistency_function(x, v, sigma, form('scaled_lcm'))
        assert (scaled - x0).square().mean().sqrt() < 0.02


def test_what_a_converged_lcm_student_does_under_euler():
    """At sigma 1, f = x0 needs x - v = 2.236 x0 - 0.447 eps: the mismatch behind the collapse."""
    x0, eps = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    v = (0.2 * eps + 0.2 ** 0.5 * eps - x0) / 0.2 ** 0.5
    lcm = ModalitySampler(1, 5.0, 'consistency', 'lcm')
    torch.testing.assert_close(solver_step(eps, v, 1.0, 0.0, lcm), x0, atol=1e-5, rtol=0)
    euler = solver_step(eps, v, 1.0, 0.0, ModalitySampler(1, 5.0, 'euler', 'lcm'))
    torch.testing.assert_close(euler, 5 ** 0.5 * x0 - 0.2 ** 0.5 * eps, atol=1e-5, rtol=0)


def test_consistency_sampler_of_the_scaled_form():
    x, v = torch.randn(2, 6)
    scaled = form('scaled_lcm', sampler='consistency')
    f = consistency_function(x, v, 0.8, scaled)
    torch.testing.assert_close(solver_step(x, v, 0.8, 0.0, scaled), f)
    # The step keeps the noise that x and f imply.
    torch.testing.assert_close(solver_step(x, v, 0.8, 0.4, scaled),
                               0.6 * f + 0.4 * (x - 0.2 * f) / 0.8)


@pytest.mark.parametrize('shift', [5.0, 1.0, 0.05])
@pytest.mark.parametrize('stride', [1, 100, 500])
def test_jump_follows_the_training_ids(shift, stride):
    table = training_sigmas(shift)
    ids = torch.arange(1000)
    start, end = jump_sigmas(table, stride, shift)
    assert torch.equal(start, table)
    torch.testing.assert_close(end, table[(ids + stride).clamp(max=999)], atol=2e-6, rtol=0)
    levels = jump_sigmas(table, stride, shift, 4)
    torch.testing.assert_close(levels[4], end, atol=0, rtol=0)
    assert all((a >= b).all() for a, b in zip(levels, levels[1:], strict=False))
    if stride == 100:
        torch.testing.assert_close(levels[2][:800], table[50:850], atol=2e-6, rtol=0)


def test_jump_leaves_pinned_frames_clean():
    assert all((level == 0).all() for level in jump_sigmas(torch.zeros(2, 3), 500, 5.0, 3))


@pytest.mark.parametrize(('sampler', 'part'), [
    (ModalitySampler(1, 5.0, 'euler', 'lcm'), '2.24 times'),
    (ModalitySampler(10, 1.0, 'euler', 'scaled_lcm'), 'lowest level is 0.100'),
    (ModalitySampler(1, 5.0, 'consistency', 'velocity'), 'not distilled')])
def test_unfit_samplers_say_why(sampler, part):
    assert part in unfit_sampler_warning(sampler)


@pytest.mark.parametrize('sampler', [
    ModalitySampler(1, 5.0, 'consistency', 'lcm'), ModalitySampler(2, 1.0, 'euler', 'linear'),
    ModalitySampler(2, 1.0, 'consistency', 'linear'), ModalitySampler(10, 5.0),
    ModalitySampler(2, 1.0, 'euler', 'scaled_lcm'),
    ModalitySampler(10, 1.0, 'consistency', 'scaled_lcm')])
def test_fit_samplers_do_not_warn(sampler):
    assert unfit_sampler_warning(sampler) is None


def test_settings_round_trip_and_old_files():
    new = SamplerSettings(video=ModalitySampler(1, 5.0, 'consistency', 'lcm', 0.5, 10.0, 500),
                          guidance_range=(2, 10), forward_dynamics=True)
    assert SamplerSettings.from_dict(json.loads(json.dumps(new.to_dict()))) == new
    old = {'frames_per_chunk': 2, 'video': {'steps': 3, 'shift': 5.0, 'sampler': 'euler',
                                            'parametrisation': 'velocity', 'sigma_data': 0.5}}
    read = SamplerSettings.from_dict(old)
    assert read.guidance_range is None and not read.forward_dynamics and read.video.stride == 0


@pytest.mark.parametrize('values', [{'guidance_range': (5.0, 2.0)}, {'guidance_range': (0.0, 2.0)},
                                    {'video': {'stride': -1}}, {'video': {'sigma_data': 0.0}},
                                    {'action': {'timestep_scaling': 0.0}}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValueError):
        SamplerSettings.from_dict(values)


def test_guidance():
    a, b = torch.tensor([2.0]), torch.tensor([1.0])
    assert guided(a, b, 1.0) == a and guided(a, b, 5.0) == 6.0
