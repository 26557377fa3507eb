# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: everything about a training run that is a number or a name (``config/training/``)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashwam_ros.training.command import load_recipe
from flashwam_ros.training.distributed import SHARDINGS
from flashwam_ros.wam.config import TransformerConfig

PRECISIONS = ('fp32', 'bf16', 'legacy_bf16')
PRESETS = ('paper', 'nano')
FREE = frozenset({'steps', 'seconds', 'log_every', 'held_out_every', 'activation_checkpointing',
                  'compile', 'sharding'})
"""Names that may change when a run is continued: its length, its log, its memory."""


@dataclass(frozen=True)
class Recipe:
    """What the training loop needs.

    Attributes:
        batch: windows of one micro-batch.
        micro_batches: micro-batches of one optimiser step over all processes; each process runs
            its share one after the other. 0: one per process.
        lengths: window lengths in latent frames, one drawn per micro-batch.
        start_share: share of windows that begin at their episode's initial frame.
        task_weights: relative frequency of the tasks; {} takes all alike.
        paraphrase_share: share of the windows whose prompt is said in other words
            (``config/training/paraphrases.yaml``), where there are some for it.
        peak_learning_rate: of the student.
        critic_learning_rate: of the critic, where the method has one.
        betas: of AdamW.
        warmup_steps: linear from 0.
        constant_share: share of the budget before the cosine begins; 1: no cosine.
        weight_decay: of matrices.
        clip: largest gradient norm.
        ema: decay of the moving average of the weights, per optimiser step.
        precision: 'fp32'; 'bf16': fp32 master weights, moments and moving average, products in
            bf16 where that is fast (``precision``); 'legacy_bf16': all of these really in bf16,
            as published.
        activation_checkpointing: recompute each block in the backward pass.
        compile: compile each block with torch.compile.
        sharding: 'replicate' or 'fsdp', see ``distributed``.
        steps: budget in optimiser steps.
        seconds: budget in seconds of training, if that ends first.
        seed: of weights, windows and noise.
        log_every: steps from row to row of the log.
        held_out_every: steps between losses on held-out windows.
    """

    batch: int = 8
    micro_batches: int = 0
    lengths: tuple[int, ...] = (8,)
    start_share: float = 0.2
    task_weights: Mapping[str, float] = field(default_factory=dict)
    paraphrase_share: float = 0.0
    peak_learning_rate: float = 1e-3
    critic_learning_rate: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 150
    constant_share: float = 0.3
    weight_decay: float = 0.01
    clip: float = 2.0
    ema: float = 0.998
    precision: str = 'bf16'
    activation_checkpointing: bool = False
    compile: bool = False
    sharding: str = 'replicate'
    steps: int = 100000
    seconds: float = math.inf
    seed: int = 0
    log_every: int = 10
    held_out_every: int = 250

    def __post_init__(self) -> None:
        """Lists of a YAML file become tuples; unknown names are refused."""
        object.__setattr__(self, 'lengths', tuple(self.lengths))
        object.__setattr__(self, 'betas', tuple(self.betas))
        object.__setattr__(self, 'seconds', float(self.seconds))
        for value, known in ((self.precision, PRECISIONS), (self.sharding, SHARDINGS)):
            if value not in known:
                raise ValueError(f'recipe: {value!r} must be one of {known}')
        if self.batch < 1 or self.micro_batches < 0 or self.steps < 1:
            raise ValueError(f'recipe: batch {self.batch}, micro_batches {self.micro_batches}, '
                             f'steps {self.steps}: too small')

    @classmethod
    def read(cls, values: Mapping[str, Any], source: str = 'recipe') -> Recipe:
        """Make a recipe of plain data; ValueError names unknown keys and the known ones."""
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f'{source}: unknown keys {unknown}; known: {known}')
        return cls(**values)

    def to_dict(self) -> dict:
        """Plain data that JSON can hold; no end in seconds is null."""
        values = dataclasses.asdict(self)
        if math.isinf(self.seconds):
            values['seconds'] = None
        return values

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Names in which another recipe's ``to_dict`` trains otherwise, like 'ema 0.9, not 0.5'.

        A name that only one of them knows is left out: it came with a newer version.
        """
        mine = json.loads(json.dumps(self.to_dict()))
        return [f'{name} {other[name]}, not {value}' for name, value in mine.items()
                if name not in FREE and name in other and other[name] != value]

    def parts(self, processes: int) -> int:
        """Micro-batches of a step over all processes; ValueError when they do not share out."""
        total = self.micro_batches or processes
        if total % processes:
            raise ValueError(f'micro_batches {total} cannot be shared by {processes} processes')
        return total


@dataclass(frozen=True)
class TeacherRecipe(Recipe):
    """How a teacher is trained (``config/training/nano_teacher.yaml``).

    Attributes:
        heads: and ``head_dim``, ``layers``, ``ffn_dim``, ``freq_dim``: size of the network.
        window: ids that a query sees back, see ``SamplerSettings``.
        text_dropout: and the names down to ``action_steps``: options of ``flow_matching``.
        init: checkpoint folder or state file to start from instead of random weights.
        bf16: older name of the choice between precision bf16 and fp32.
    """

    heads: int = 2
    head_dim: int = 80
    layers: int = 5
    ffn_dim: int = 640
    freq_dim: int = 128
    window: int = 7
    text_dropout: float = 0.1
    action_weight: float = 5.0
    history_noise: float = 0.5
    uniform_mix: float = 0.5
    per_chunk: int = 2
    random_structure: bool = False
    forward_dynamics_share: float = 0.0
    video_steps: int = 3
    action_steps: int = 10
    init: str = ''
    bf16: bool = True

    def __post_init__(self) -> None:
        """`bf16: false` is precision fp32."""
        super().__post_init__()
        if not self.bf16 and self.precision == 'bf16':
            object.__setattr__(self, 'precision', 'fp32')

    def transformer(self, latent_channels: int, text_dim: int) -> TransformerConfig:
        """Sizes of the network."""
        return TransformerConfig(
            num_attention_heads=self.heads, attention_head_dim=self.head_dim,
            in_channels=latent_channels, out_channels=latent_channels, text_dim=text_dim,
            freq_dim=self.freq_dim, ffn_dim=self.ffn_dim, num_layers=self.layers,
            rope_theta=100.0)

    def objective_options(self) -> dict[str, Any]:
        """Options of the ``flow_matching`` objective."""
        names = ('window', 'text_dropout', 'action_weight', 'history_noise', 'uniform_mix',
                 'per_chunk', 'random_structure', 'forward_dynamics_share', 'video_steps',
                 'action_steps', 'seed')
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class DistillRecipe(Recipe):
    """How a student is made of a teacher (``config/training/distill/<method>.yaml``).

    Attributes:
        options: of the method's objective (``training/objectives``); its chunk size and window
            are the teacher's.
    """

    options: Mapping[str, Any] = field(default_factory=dict)


def read_teacher_recipe(path: Path | None = None, preset: str = 'nano') -> TeacherRecipe:
    """``<preset>_teacher.yaml``, or the file at ``path``."""
    name = f'{preset}_teacher.yaml'
    return TeacherRecipe.read(load_recipe(name, path), str(path or name))


def read_distill_recipe(method: str, preset: str, path: Path | None = None,
                        **changes: Any) -> DistillRecipe:
    """A method's preset: ``distill/common.yaml``, over it the method's YAML, over both ``path``.

    ``changes`` that are not None are put over all of them.

    Raises:
        ValueError: the preset or a key is unknown.
    """
    source = f'{path or method}, {preset}'
    layers = [load_recipe('distill/common.yaml'), load_recipe(f'distill/{method}.yaml')]
    layers += [load_recipe('', path)] if path else []
    if not any(preset in layer for layer in layers):
        raise ValueError(f'{source}: no such preset; there are {PRESETS}')
    values: dict[str, Any] = {}
    for section in (layer.get(preset) or {} for layer in layers):
        options = {**values.get('options', {}), **section.get('options', {})}
        values = {**values, **section, 'options': options}
    values.update({name: value for name, value in changes.items() if value is not None})
    return DistillRecipe.read(values, source)
