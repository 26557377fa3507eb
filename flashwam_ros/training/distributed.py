# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The processes that train together: torchrun's environment, averaging, sharding, full tensors.

With ``sharding: replicate`` every process holds every weight and gradients are averaged; with
``fsdp`` (FSDP2) weights, gradients, moments and moving averages are spread over the processes.
Everything that leaves this module is a full tensor on the CPU, so a state does not depend on how
many processes wrote it.
"""

from __future__ import annotations

import datetime
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SHARDINGS = ('replicate', 'fsdp')
TIMEOUT = datetime.timedelta(minutes=10)


@dataclass(frozen=True)
class Peers:
    """The processes that train together.

    Attributes:
        rank: of this process.
        count: of all.
        device: where this process computes.
        sharding: 'replicate' or 'fsdp'.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device('cpu')
    sharding: str = 'replicate'

    def __post_init__(self) -> None:
        """Refuse unknown sharding."""
        if self.sharding not in SHARDINGS:
            raise ValueError(f'sharding {self.sharding!r} must be one of {SHARDINGS}')

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether weights are spread over the processes."""
        return self.sharding == 'fsdp' and self.count > 1

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average gradients of replicas in one message (sharded ones are averaged by FSDP)."""
        if self.count == 1 or self.sharded or not parameters:
            return
        message = self.mean(torch.cat([p.grad.reshape(-1) for p in parameters]))
        sizes = [p.numel() for p in parameters]
        for parameter, part in zip(parameters, message.split(sizes), strict=True):
            parameter.grad.copy_(part.view_as(parameter))


def connect(sharding: str = 'replicate') -> Peers:
    """Join the processes that torchrun (or ``spawn``) started; alone without their environment.

    NCCL on GPUs, gloo on CPUs (over the loopback interface where the meeting point is there).
    """
    count = int(os.environ.get('WORLD_SIZE', '1'))
    rank, local = int(os.environ.get('RANK', '0')), int(os.environ.get('LOCAL_RANK', '0'))
    cuda = torch.cuda.is_available()
    device = torch.device('cuda', local) if cuda else torch.device('cpu')
    if cuda:
        torch.cuda.set_device(device)
    if count > 1 and not dist.is_initialized():
        if not cuda and os.environ.get('MASTER_ADDR') in ('127.0.0.1', 'localhost'):
            os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
        dist.init_process_group('nccl' if cuda else 'gloo', timeout=TIMEOUT)
    return Peers(rank, count, device, sharding)


def disconnect() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def checkpoint_activations(model: nn.Module) -> None:
    """Recompute each block in the backward pass instead of keeping its activations."""
    for block in model.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False,
                                          preserve_rng_state=False)


def shard(model: nn.Module, peers: Peers, compute: torch.dtype | None) -> None:
    """Apply FSDP2 to every block and the root; ``compute`` is the dtype of gathered weights.

    Text keys and values are asked for outside `forward`, of the model and of each block's cross
    attention, so these methods gather weights as well. Gradients are reduced in fp32.
    """
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )
    mesh = _mesh(peers.device.type, peers.count)
    # Inputs stay as they are: latents, noise levels and RoPE tables are fp32 on purpose.
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32,
                                  cast_forward_inputs=False)
    for block in model.blocks:
        fully_shard(block.attn2, mesh=mesh, mp_policy=policy)
        for method in ('query', 'key_value', 'output'):
            register_fsdp_forward_method(block.attn2, method)
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, 'text_kv')


def rest(network: nn.Module) -> None:
    """Give gathered weights back, so that `parameters()` are this process's parts.

    FSDP keeps the root's gathered until a backward pass, which frozen networks never have.
    """
    for module in network.modules():
        if hasattr(module, 'reshard'):
            module.reshard()


@functools.lru_cache(maxsize=1)
def _mesh(kind: str, count: int):
    from torch.distributed.device_mesh import init_device_mesh
    return init_device_mesh(kind, (count,))


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if hasattr(tensor, 'to_local') else tensor


def full(tensor: Tensor) -> Tensor:
    """A copy of the whole tensor on the CPU (all processes must call it)."""
    whole = tensor.full_tensor() if hasattr(tensor, 'full_tensor') else tensor
    return whole.detach().to('cpu', copy=True)


def fill(target: Tensor, whole: Tensor) -> None:
    """Copy this process's part of a full CPU tensor into a target that may be sharded."""
    if tuple(target.shape) != tuple(whole.shape):
        raise ValueError(f'shape {tuple(whole.shape)} does not fit {tuple(target.shape)}')
    with torch.no_grad():
        if hasattr(target, 'device_mesh'):
            from torch.distributed.tensor import distribute_tensor
            # Every process has the whole tensor, so nothing is sent.
            whole = distribute_tensor(whole.to(target.device), target.device_mesh,
                                      target.placements, src_data_rank=None)
        target.copy_(whole)


def full_state(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter as a full CPU tensor (all processes must call it)."""
    rest(model)
    return {name: full(p) for name, p in model.named_parameters()}


def full_moments(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, dict]:
    """The optimiser's tensors by parameter name, as full CPU tensors."""
    rest(model)
    return {name: {key: full(value) for key, value in optimiser.state[p].items()}
            for name, p in model.named_parameters() if optimiser.state.get(p)}


def fill_moments(optimiser: torch.optim.Optimizer, model: nn.Module,
                 moments: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Give the optimiser the tensors of ``full_moments``."""
    for name, parameter in model.named_parameters():
        if name not in moments:
            continue
        state = optimiser.state[parameter]
        for key, whole in moments[name].items():
            if key == 'step':
                state[key] = whole.to(parameter.device, copy=True)
            else:
                state[key] = torch.empty_like(parameter, requires_grad=False)
                fill(state[key], whole)


def spawn(module: str, argv: Sequence[str], processes: int, port: int) -> int:
    """Start one process per rank on this machine, end them together; returns an exit code."""
    children = []
    for rank in range(processes):
        environment = {**os.environ, 'RANK': str(rank), 'LOCAL_RANK': str(rank),
                       'WORLD_SIZE': str(processes), 'MASTER_ADDR': '127.0.0.1',
                       'MASTER_PORT': str(port)}
        children.append(subprocess.Popen([sys.executable, '-m', module, *argv],
                                         env=environment))

    def forward(number, _frame) -> None:
        for child in children:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    while any(child.poll() is None for child in children):
        if any(child.poll() for child in children):
            # The others would wait for the dead one until their time is out.
            for child in children:
                child.terminate()
        time.sleep(0.2)
    return max(abs(child.returncode) for child in children)
