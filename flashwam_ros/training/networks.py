# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The networks of a run and their roles: student, its moving average, teacher, critic.

The moving average is a network of its own: it is what a checkpoint gets, and it is the target
network of the consistency methods.  Student and critic have an optimiser each; the teacher is
frozen and belongs to no state, because its checkpoint does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from flashwam_ros.training.distributed import (
    Peers,
    checkpoint_activations,
    fill,
    fill_moments,
    full_moments,
    full_state,
    local,
    rest,
    shard,
)
from flashwam_ros.training.objectives.base import Networks
from flashwam_ros.training.precision import product_dtype
from flashwam_ros.training.recipes import Recipe
from flashwam_ros.wam.config import TransformerConfig
from flashwam_ros.wam.transformer import WanTransformer3DModel

Weights = Mapping[str, Tensor]
WEIGHTS = ('average', 'online')
"""What a checkpoint may get: the student's moving average, or the student that was trained."""


def random_weights(config: TransformerConfig, seed: int) -> dict[str, Tensor]:
    """Weights of a new network."""
    torch.manual_seed(seed)
    return dict(WanTransformer3DModel(config).state_dict())


class NetworkSet:
    """Networks, optimisers and their state.

    With precision 'fp32' and 'bf16' all weights, moments and averages are fp32; products in bf16
    take bf16 copies, which sharding gathers and otherwise autocast makes. With 'legacy_bf16' all
    are bf16.

    Args:
        config: size, the same for all networks.
        weights: what the student, its average and the critic start from.
        roles: of {'teacher', 'target', 'critic'}.
        recipe: of the run.
        peers: the processes that train together.
        teacher: the teacher's weights, where ``roles`` has one.

    Attributes:
        products: number format of matrix products, see ``precision``.

    Raises:
        ValueError: weights do not fit the size.
    """

    def __init__(self, config: TransformerConfig, weights: Weights, roles: frozenset[str],
                 recipe: Recipe, peers: Peers, teacher: Weights | None = None):
        self.config, self._recipe, self._peers = config, recipe, peers
        self.products = product_dtype(recipe.precision, peers.device)
        self.student = self._network(weights, trained=True)
        self.average = self._network(weights, trained=False)
        self.critic = self._network(weights, trained=True) if 'critic' in roles else None
        self.teacher = None
        if 'teacher' in roles:
            self.teacher = self._network(weights if teacher is None else teacher, trained=False)
        self.view = Networks(self.student, self.teacher,
                             self.average if 'target' in roles else None, self.critic)
        self.trained: dict[str, nn.Module] = {'student': self.student}
        if self.critic is not None:
            self.trained['critic'] = self.critic
        self.optimisers = {name: self._optimiser(net) for name, net in self.trained.items()}

    def _network(self, weights: Weights, trained: bool) -> nn.Module:
        recipe, peers = self._recipe, self._peers
        with torch.device('meta'):
            network = WanTransformer3DModel(self.config)
        if recipe.precision == 'legacy_bf16':
            network = network.to(torch.bfloat16)
        network.requires_grad_(trained).train(trained)
        if recipe.activation_checkpointing and trained:
            checkpoint_activations(network)
        if recipe.compile:
            _compile_blocks(network)
        if peers.sharded:
            gathered = torch.bfloat16 if recipe.precision == 'bf16' else None
            shard(network, peers, gathered if self.products is torch.bfloat16 else None)
        network.to_empty(device=peers.device)
        load_full(network, weights)
        return network

    def _optimiser(self, network: nn.Module) -> torch.optim.AdamW:
        recipe = self._recipe
        matrices = [p for p in network.parameters() if p.ndim == 2]
        others = [p for p in network.parameters() if p.ndim != 2]
        return torch.optim.AdamW(
            [{'params': matrices, 'weight_decay': recipe.weight_decay},
             {'params': others, 'weight_decay': 0.0}], betas=recipe.betas, eps=1e-8,
            fused=True)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)

    def gradient_norm(self, name: str) -> float:
        """Average the gradients of a network over the processes, clip them; norm before that."""
        rest(self.trained[name])
        used = [p for p in self.trained[name].parameters() if p.grad is not None]
        self._peers.average_gradients(used)
        norm = torch.nn.utils.clip_grad_norm_(used, self._recipe.clip)
        return float(norm.full_tensor() if hasattr(norm, 'full_tensor') else norm)

    def step(self, name: str, rate: float) -> None:
        """One optimiser step of a network."""
        for group in self.optimisers[name].param_groups:
            group['lr'] = rate
        self.optimisers[name].step()

    def update_average(self, decay: float) -> None:
        """Move the average towards the student, in the weights' own precision."""
        rest(self.average)
        with torch.no_grad():
            torch._foreach_lerp_([local(p) for p in self.average.parameters()],
                                 [local(p) for p in self.student.parameters()], 1 - decay)

    def state(self) -> dict:
        """Full tensors of everything that is trained (all processes must call it)."""
        networks = {'student': full_state(self.student), 'average': full_state(self.average)}
        if self.critic is not None:
            networks['critic'] = full_state(self.critic)
        return {'networks': networks,
                'optimisers': {name: full_moments(optimiser, self.trained[name])
                               for name, optimiser in self.optimisers.items()}}

    def load(self, state: Mapping) -> None:
        """Continue from ``state``; ValueError when it belongs to other roles or sizes."""
        modules = {'average': self.average, **self.trained}
        if set(state['networks']) != set(modules):
            raise ValueError(f'the state has networks {sorted(state["networks"])}, this method '
                             f'needs {sorted(modules)}: choose another --out folder')
        for name, network in modules.items():
            load_full(network, state['networks'][name])
        for name, optimiser in self.optimisers.items():
            fill_moments(optimiser, self.trained[name], state['optimisers'][name])

    def model(self, weights: str) -> WanTransformer3DModel:
        """A plain fp32 copy of 'average' or 'online' on the CPU (all processes must call it)."""
        network = {'average': self.average, 'online': self.student}[weights]
        model = WanTransformer3DModel(self.config)
        model.load_state_dict({k: v.float() for k, v in full_state(network).items()})
        return model.eval().requires_grad_(False)


def _compile_blocks(network: nn.Module) -> None:
    # A variant per layer, batch size, last block or not, with and without gradient: all networks
    # share one cache, and beyond its limit a block would silently run uncompiled.
    torch._dynamo.config.recompile_limit = 128
    torch._dynamo.config.accumulated_recompile_limit = 1024
    for block in network.blocks:
        block.compile(dynamic=False)


def load_full(network: nn.Module, weights: Weights) -> None:
    """Fill a network, sharded or not, with full weights; ValueError names what does not fit."""
    own = dict(network.named_parameters())
    if own.keys() != weights.keys():
        raise ValueError('weights do not fit the network: missing '
                         f'{sorted(own.keys() - weights.keys())[:5]}, unexpected '
                         f'{sorted(weights.keys() - own.keys())[:5]}')
    for name, parameter in own.items():
        try:
            fill(parameter, weights[name])
        except ValueError as error:
            raise ValueError(f'{name}: {error}: the size of the network differs') from error


def current_state(state: Mapping, path: Path) -> Mapping:
    """A state in today's layout: states of the first teacher trainer are converted.

    That trainer stored {model, average (a list), optimiser (torch's layout), step, elapsed_s}.
    """
    if 'networks' in state:
        return state
    if not {'model', 'average', 'optimiser', 'step', 'elapsed_s'} <= set(state):
        raise ValueError(f'{path} is no training state: it holds {sorted(state)}')
    names = list(state['model'])
    ranks = [state['model'][name].ndim for name in names]
    ordered = ([n for n, rank in zip(names, ranks, strict=True) if rank == 2]
               + [n for n, rank in zip(names, ranks, strict=True) if rank != 2])
    moments = state['optimiser']['state']
    return {'networks': {'student': state['model'],
                         'average': dict(zip(names, state['average'], strict=True))},
            'optimisers': {'student': {n: moments[i] for i, n in enumerate(ordered)
                                       if i in moments}},
            'step': state['step'], 'elapsed_s': state['elapsed_s'], 'skipped': 0}
