# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Flow matching: shifted schedules, loss weights, solver steps and consistency functions.

Convention: x_sigma = (1 - sigma) x0 + sigma eps, v = eps - x0, t = 1000 sigma.
"""

import functools

import torch

from .config import ModalitySampler

TRAINING_STEPS = 1000
# c_skip and c_out of the scaled LCM form are within 3 % of 0 and 1 above this many sigma_data.
_SCALED_LCM_FLAT = 6.0


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


def scaled_lcm_function(x: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor | float,
                        sigma_data: float = 0.5, timestep_scaling: float = 10.0) -> torch.Tensor:
    """`c_skip x + c_out (x - sigma v)` with the coefficients of the original LCM code.

    They are taken at `s = timestep_scaling * sigma`: `c_skip = sd^2 / (s^2 + sd^2)`,
    `c_out = s / sqrt(s^2 + sd^2)`; c_out(1) is 0.9988 instead of the plain form's 0.447.
    """
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    scaled = timestep_scaling * sigma
    norm = scaled ** 2 + sigma_data ** 2
    return sigma_data ** 2 / norm * x + scaled / norm.sqrt() * (x - sigma * v)


def consistency_function(x: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor | float,
                         sampler: ModalitySampler) -> torch.Tensor:
    """f(x, sigma) of a modality's parametrisation, an estimate of x0; sigma must broadcast.

    Every form is `a(sigma) x + b(sigma) v` with a(0) = 1, b(0) = 0. A network without one
    ('velocity') gives its x0 estimate, as the linear form does.
    """
    if sampler.parametrisation == 'lcm':
        return lcm_function(x, v, sigma, sampler.sigma_data)
    if sampler.parametrisation == 'scaled_lcm':
        return scaled_lcm_function(x, v, sigma, sampler.sigma_data, sampler.timestep_scaling)
    return x0_estimate(x, v, sigma)


def jump_sigmas(sigma: torch.Tensor, stride: int, shift: float,
                substeps: int = 1) -> list[torch.Tensor]:
    """Noise levels of a jump of `stride` training ids: substeps + 1 fp32 tensors like `sigma`.

    The first is `sigma`, the last the level `stride` ids later, at most id 999; those between
    divide the ids evenly. Level 0 (a pinned frame) stays 0.
    """
    start = sigma.double() / (shift - (shift - 1) * sigma.double())
    end = (start - stride / TRAINING_STEPS).clamp(min=1 / TRAINING_STEPS).minimum(start)
    levels = [sigma.float()]
    for step in range(1, substeps + 1):
        part = start + (end - start) * (step / substeps)
        levels.append((shift * part / (1 + (shift - 1) * part)).float())
    return levels


def euler_step(x: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor | float,
               sigma_next: torch.Tensor | float) -> torch.Tensor:
    """`x + v (sigma_next - sigma)`."""
    return x + v * (sigma_next - sigma)


def solver_step(x: torch.Tensor, v: torch.Tensor, sigma: float, sigma_next: float,
                sampler: ModalitySampler) -> torch.Tensor:
    """One step of a modality's own sampler.

    'consistency' maps to x0 with the function f that the network was trained for, and keeps the
    noise that x and f imply for the next level (deterministic). For the linear form it is Euler.
    """
    if sampler.sampler == 'euler' or sampler.parametrisation not in ('lcm', 'scaled_lcm'):
        return euler_step(x, v, sigma, sigma_next)
    clean = consistency_function(x, v, sigma, sampler)
    noise = (x - (1 - sigma) * clean) / sigma
    return (1 - sigma_next) * clean + sigma_next * noise


def unfit_sampler_warning(sampler: ModalitySampler) -> str | None:
    """Why a modality's sampler does not fit what its network was trained for; None if it does."""
    form, steps = sampler.parametrisation, sampler.steps
    if form == 'lcm' and sampler.sampler == 'euler':
        scale = (1 + sampler.sigma_data ** 2) ** 0.5 / sampler.sigma_data
        return (f"sampler 'euler' does not fit the 'lcm' form: the network is trained for f = "
                f'c_skip x + c_out (x - sigma v), and its x - sigma v is about {scale:.2f} times '
                f"too large at sigma = 1; use sampler 'consistency'")
    if form == 'scaled_lcm' and sampler.sampler == 'euler':
        lowest = float(shifted_sigmas(steps, sampler.shift)[-1])
        if lowest * sampler.timestep_scaling < _SCALED_LCM_FLAT * sampler.sigma_data:
            return (f"sampler 'euler' does not fit the 'scaled_lcm' form at {steps} steps, whose "
                    f'lowest level is {lowest:.3f}: f and the Euler step agree only at high '
                    f"levels; use sampler 'consistency' or fewer steps")
    if form == 'velocity' and sampler.sampler == 'consistency':
        return ("sampler 'consistency' does not fit a 'velocity' network, which was not distilled "
                "and has no consistency function: Euler steps are taken; use sampler 'euler'")
    return None


def guided(conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance `v_u + w (v_c - v_u)`."""
    return unconditional + scale * (conditional - unconditional)
