# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny network, stand-ins with known velocities, and windows of noise."""

import copy
import dataclasses
from types import SimpleNamespace

import torch

from flashwam_ros.training.objectives.base import Networks, Windows
from flashwam_ros.wam.config import TransformerConfig
from flashwam_ros.wam.transformer import WanTransformer3DModel

TINY = TransformerConfig(num_attention_heads=1, attention_head_dim=16, in_channels=4,
                         out_channels=4, text_dim=8, freq_dim=16, ffn_dim=16, num_layers=2)
USED = (0, 3, 28)
BATCH, FRAMES, ROWS = 2, 4, 2


def make_windows(**changes):
    """Windows that begin an episode, actions on three channels, nothing pushed."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.zeros(30)
    mask[list(USED)] = 1
    action = torch.randn(BATCH, 30, FRAMES, ROWS, 1, generator=generator).clamp(-1.5, 1.5)
    windows = Windows(
        video=torch.randn(BATCH, 4, FRAMES, 4, 2, generator=generator),
        action=action * mask.view(1, -1, 1, 1, 1), channel_mask=mask,
        starts=torch.ones(BATCH, dtype=torch.bool), keep=torch.ones(BATCH, FRAMES),
        text=torch.randn(BATCH, 3, 8, generator=generator), empty_text=torch.zeros(3, 8))
    return dataclasses.replace(windows, **changes)


def make_network(seed=0):
    torch.manual_seed(seed)
    model = WanTransformer3DModel(TINY)
    for name, parameter in model.named_parameters():
        if 'norm' not in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


def make_networks():
    """A teacher and copies of it that have moved away a little."""
    teacher = make_network().requires_grad_(False)
    others = []
    for seed in (1, 2, 3):
        other = copy.deepcopy(teacher)
        generator = torch.Generator().manual_seed(seed)
        for parameter in other.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
        others.append(other)
    student, target, critic = others
    return Networks(student.requires_grad_(True), teacher, target, critic.requires_grad_(True))


class StandIn(torch.nn.Module):
    """Looks like the transformer to `packed_forward`; velocities by a formula.

    Args:
        formula: (x, sigma broadcast over x, modality, mean text of each row, scale) -> velocity;
            `scale` is the module's one parameter, initially 1.
    """

    def __init__(self, formula):
        super().__init__()
        self.config = TINY
        self.scale = torch.nn.Parameter(torch.ones(()))
        self._formula = formula
        self.calls = []

    def text_kv(self, text_rows):
        return text_rows.mean(dim=(1, 2))

    def forward(self, segments, rope, attend, text, outputs):
        self.calls.append(SimpleNamespace(rows=len(segments[0].values), **{
            f'{modality}{part}': torch.cat([getattr(s, field) for s in segments[:outputs]
                                            if s.modality == modality], dim=axis)
            for modality in ('video', 'action')
            for part, field, axis in (('', 'values', 2), ('_t', 'timesteps', 1))}))
        out = []
        for segment in segments[:outputs]:
            sigma = segment.timesteps[:, None, :, None, None] / 1000
            out.append(self._formula(segment.values, sigma, segment.modality,
                                     text.view(-1, 1, 1, 1, 1), self.scale))
        return out


def toward(video, action=None, text_gain=0.0):
    """The exact linear field whose every trajectory ends at constants."""
    ends = {'video': video, 'action': video if action is None else action}

    def formula(x, sigma, modality, text, scale):
        end = ends[modality] + (text_gain * text if modality == 'video' else 0)
        return scale * (x - end) / sigma.clamp(min=1e-6)

    return StandIn(formula)


def steady(video, action):
    """Constant velocities."""
    values = {'video': video, 'action': action}

    def formula(x, sigma, modality, text, scale):
        return scale * values[modality] * torch.ones_like(x)

    return StandIn(formula)


def generator(seed=5):
    return torch.Generator().manual_seed(seed)
