# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sizes of the transformer and settings of inference, as data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

MANIFEST = 'flashwam.json'
"""The file of a checkpoint folder that says what it is and covers the others by hash."""
_IGNORED_KEYS = ('attn_mode', 'rope_max_seq_len', 'pos_embed_seq_len')
FRAME0_ACTIONS = ('normalized_zero', 'physical_zero')
SAMPLERS = ('euler', 'consistency')
PARAMETRISATIONS = ('velocity', 'linear', 'lcm', 'scaled_lcm')


def _known(cls: type, values: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> dict[str, Any]:
    """Keep the fields of `cls`; unknown keys are an error unless private or in `ignored`."""
    names = {field.name for field in dataclasses.fields(cls)}
    unknown = [k for k in values if k not in names and k not in ignored and not k.startswith('_')]
    if unknown:
        raise ValueError(f'{cls.__name__}: unknown keys {sorted(unknown)}; known: {sorted(names)}')
    return {k: v for k, v in values.items() if k in names}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Keys of `transformer/config.json` (LingBot-VA); the defaults are the released 5B model.

    `rope_theta` is ours: it is written only where it differs from the released value.
    A stored `attn_mode` is ignored: the attention back-end is chosen by where the model runs.
    """

    patch_size: tuple[int, int, int] = (1, 2, 2)
    num_attention_heads: int = 24
    attention_head_dim: int = 128
    in_channels: int = 48
    out_channels: int = 48
    action_dim: int = 30
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 14336
    num_layers: int = 30
    cross_attn_norm: bool = True
    eps: float = 1e-6
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        """Refuse sizes that the architecture cannot express."""
        object.__setattr__(self, 'patch_size', tuple(int(p) for p in self.patch_size))
        if len(self.patch_size) != 3 or self.patch_size[0] != 1:
            raise ValueError(f'patch_size must be (1, p_h, p_w), got {self.patch_size}')
        if self.attention_head_dim % 2 or self.attention_head_dim < 6:
            raise ValueError(f'attention_head_dim must be even and >= 6, got '
                             f'{self.attention_head_dim}')
        if not self.cross_attn_norm:
            raise ValueError('cross_attn_norm=false is not a released variant of this model')

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.num_attention_heads * self.attention_head_dim

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `config.json`."""
        values = dataclasses.asdict(self)
        values['patch_size'] = list(self.patch_size)
        if self.rope_theta == 10000.0:
            del values['rope_theta']
        return {'_class_name': 'WanTransformer3DModel', **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'TransformerConfig':
        """Read the content of `config.json`; ValueError on unknown keys or another class."""
        name = values.get('_class_name', 'WanTransformer3DModel')
        if name != 'WanTransformer3DModel':
            raise ValueError(f'config.json describes a {name}, expected WanTransformer3DModel')
        return cls(**_known(cls, values, _IGNORED_KEYS))

    @classmethod
    def nano(cls) -> 'TransformerConfig':
        """Return the size that trains and runs on a CPU (4.3 M parameters)."""
        return cls(num_attention_heads=4, attention_head_dim=48, in_channels=16, out_channels=16,
                   text_dim=64, ffn_dim=768, num_layers=6, rope_theta=100.0)


@dataclasses.dataclass(frozen=True)
class ModalitySampler:
    """How one modality is denoised.

    `steps` network evaluations on a schedule with `shift`. `parametrisation` says what the network
    was trained for: 'velocity' (flow matching), 'linear' (x0 form, whose consistency step is the
    Euler step), 'lcm' (needs `sampler='consistency'` and `sigma_data`) or 'scaled_lcm' (the same
    with `timestep_scaling`, as the original LCM code has it). `stride` is the distance in training
    ids that a distilled network learned to jump; 0: not distilled.
    """

    steps: int = 10
    shift: float = 1.0
    sampler: str = 'euler'
    parametrisation: str = 'velocity'
    sigma_data: float = 0.5
    timestep_scaling: float = 10.0
    stride: int = 0

    def __post_init__(self) -> None:
        """Refuse names that no code path implements and impossible values."""
        if self.steps < 1 or not self.shift > 0:
            raise ValueError(f'need steps >= 1 and shift > 0, got {self.steps}, {self.shift}')
        if not self.sigma_data > 0 or not self.timestep_scaling > 0 or self.stride < 0:
            raise ValueError(f'need sigma_data > 0, timestep_scaling > 0 and stride >= 0: {self}')
        if self.sampler not in SAMPLERS or self.parametrisation not in PARAMETRISATIONS:
            raise ValueError(f'sampler {self.sampler!r} must be one of {SAMPLERS}, '
                             f'parametrisation {self.parametrisation!r} one of '
                             f'{PARAMETRISATIONS}')


@dataclasses.dataclass(frozen=True)
class SamplerSettings:
    """What a checkpoint ships with: everything inference needs beside the weights.

    `window` counts ids (two per chunk: 2c video, 2c+1 action); a query sees |id difference| <=
    window. `frame0_action` is the clean action of slot 0, before the first frame: zeros in
    normalised space (the LingBot-VA server) or normalised physical zeros (its training data).
    `guidance_range` is what video guidance a student was distilled with (None: none), and
    `forward_dynamics` says that the network was also trained to imagine a chunk given its actions.
    """

    frames_per_chunk: int = 2
    actions_per_frame: int = 8
    window: int = 72
    video: ModalitySampler = ModalitySampler(steps=10, shift=5.0)
    action: ModalitySampler = ModalitySampler(steps=20, shift=1.0)
    video_guidance: float = 1.0
    frame0_action: str = 'normalized_zero'
    guidance_range: tuple[float, float] | None = None
    forward_dynamics: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible shapes and unknown switches."""
        if self.frames_per_chunk < 1 or self.actions_per_frame < 1 or self.window < 1:
            raise ValueError(f'frames_per_chunk, actions_per_frame, window must be >= 1: {self}')
        if self.frame0_action not in FRAME0_ACTIONS:
            raise ValueError(f'frame0_action {self.frame0_action!r} must be in {FRAME0_ACTIONS}')
        if self.guidance_range is not None:
            low, high = (float(w) for w in self.guidance_range)
            if not 0 < low <= high:
                raise ValueError(f'guidance_range must be 0 < low <= high: {self.guidance_range}')
            object.__setattr__(self, 'guidance_range', (low, high))

    @property
    def rows_per_chunk(self) -> int:
        """Action rows of one chunk."""
        return self.frames_per_chunk * self.actions_per_frame

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `flashwam.json`."""
        values = dataclasses.asdict(self)
        if self.guidance_range is not None:
            values['guidance_range'] = list(self.guidance_range)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'SamplerSettings':
        """Read plain data (missing keys: the defaults); ValueError on unknown keys."""
        fields = _known(cls, values)
        for name in ('video', 'action'):
            if isinstance(fields.get(name), Mapping):
                fields[name] = ModalitySampler(**_known(ModalitySampler, fields[name]))
        return cls(**fields)
