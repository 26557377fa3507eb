# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from flashwam_ros.wam.config import ModalitySampler
from flashwam_ros.wam.flow import (
    add_noise,
    euler_step,
    guided,
    lcm_function,
    loss_weights,
    shifted_sigmas,
    solver_step,
    training_sigmas,
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


def test_gradient_scale_of_the_lcm_form():
    v = torch.zeros(1, requires_grad=True)
    lcm_function(torch.ones(1), v, 0.1).backward()
    assert v.grad.abs().item() == pytest.approx(0.0098, abs=1e-4)


def test_guidance():
    a, b = torch.tensor([2.0]), torch.tensor([1.0])
    assert guided(a, b, 1.0) == a and guided(a, b, 5.0) == 6.0
