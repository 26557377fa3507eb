# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Flow matching: shifted schedules, loss weights, solver steps and consistency functions.

Convention: x_sigma = (1 - sigma) x0 + sigma eps, v = eps - x0, t = 1000 sigma.
"""

import functools

import torch

from .config import ModalitySampler

TRAINING_STEPS = 1000


def shifted_sigmas(steps: int, shift: float) -> torch.Tensor:
    """Noise levels of a schedule in float64: (steps,), first 1, the terminal 0 left out."""
    sigma = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)[:-1]
    return shift * sigma / (1 + (shift - 1) * sigma)


@functools.lru_cache(maxsize=8)
def loss_weights(shift: float, uniform_mix: float = 0.0) -> torch.Tensor:
    """Weight of each of the 1000 training levels, mean 1: float32 (1000,).

    The released bell `exp(-2((t-500)/1000)^2)`, less its minimum, is 0 at sigma = 1, exactly where
    few-step inference starts. `uniform_mix` m gives `(1-m)*bell + m`; 0 is the released weighting.
    """
    t = 1000 * shifted_sigmas(TRAINING_STEPS, shift)
    bell = torch.exp(-2 * ((t - 500) / 1000) ** 2)
    bell = bell - bell.min()
    bell = bell * (TRAINING_STEPS / bell.sum())
    return ((1 - uniform_mix) * bell + uniform_mix).float()


@functools.lru_cache(maxsize=8)
def training_sigmas(shift: float) -> torch.Tensor:
    """Noise level of each of the 1000 training ids: float32 (1000,)."""
    return shifted_sigmas(TRAINING_STEPS, shift).float()


def add_noise(x0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """x_sigma of x0 and noise; sigma must broadcast."""
    return (1 - sigma) * x0 + sigma * noise


def velocity(x0: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return the training target."""
    return noise - x0


def x0_estimate(x: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
    """Clean estimate x - sigma v: the linear (x0 form) consistency function."""
    return x - sigma * v


def lcm_function(x: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor | float,
                 sigma_data: float = 0.5) -> torch.Tensor:
    """`c_skip x + c_out (x - sigma v)` of Flash-WAM's video objective."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    norm = sigma ** 2 + sigma_data ** 2
    return sigma_data ** 2 / norm * x + sigma * sigma_data / norm.sqrt() * (x - sigma * v)


def euler_step(x: torch.Tensor, v: torch.Tensor, sigma: float, sigma_next: float) -> torch.Tensor:
    """`x + v (sigma_next - sigma)`."""
    return x + v * (sigma_next - sigma)


def solver_step(x: torch.Tensor, v: torch.Tensor, sigma: float, sigma_next: float,
                sampler: ModalitySampler) -> torch.Tensor:
    """One step of a modality's own sampler.

    'consistency' maps to x0 with the function f that the network was trained for, and keeps the
    noise that x and f imply for the next level (deterministic). For the linear form it is Euler.
    """
    if sampler.sampler == 'euler' or sampler.parametrisation != 'lcm':
        return euler_step(x, v, sigma, sigma_next)
    clean = lcm_function(x, v, sigma, sampler.sigma_data)
    noise = (x - (1 - sigma) * clean) / sigma
    return (1 - sigma_next) * clean + sigma_next * noise


def guided(conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance `v_u + w (v_c - v_u)`."""
    return unconditional + scale * (conditional - unconditional)
