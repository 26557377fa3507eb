# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The interface between the trainer and the objectives.

An objective turns one micro-batch into the scalars to run backward on. It owns no weights and no
state: what it draws follows from `step`, its seed and the generator, so a resumed run repeats it.

What a trainer has to know:

* `step` counts optimiser steps. Choices that all processes must share (the forward-dynamics coin,
  which network is updated) follow from `step` and the objective's seed; noise comes from the
  process's own `generator` and is drawn on the CPU.
* Call `losses` under the autocast of your choice: network outputs are made fp32 at once and all
  arithmetic behind them is fp32.
* `scalars` are finite: a non-finite loss becomes 0 with its graph kept, so that every process
  still runs backward. Its gradients may hold NaN, so check their norm; `figures` show the value.
* `roles` says which networks beside the student must be given; teacher, target and critic start
  as copies of the teacher. Only networks named in `scalars` are to be updated in a step.
* Networks are called through `wam.packed.packed_forward`, which reads `.config` and calls
  `.text_kv` beside `forward`: a sharded module must register that method as a forward.
* For held-out figures without the forward-dynamics coin:
  ``dataclasses.replace(objective, forward_dynamics_share=0.0)`` (objectives are frozen).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from flashwam_ros.wam.config import SamplerSettings


@dataclass(frozen=True)
class Windows:
    """One micro-batch of windows in model space, on the device.

    Attributes:
        video: (B, C, F, h, w) normalised latents, fp32.
        action: (B, 30, F, n, 1) normalised, clipped to +-1.5, zero on unused channels.
        channel_mask: (30,) 1 on used action channels.
        starts: (B,) bool; where true, frame 0 is given clean and slot 0 is the dummy (see
            `wam.packed`), and neither gets a loss.
        keep: (B, F) float, 0 where a frame gets no loss (the arm is pushed on purpose).
        text: (B, R, T) prompt rows.
        empty_text: (R, T) rows of the empty prompt.
    """

    video: Tensor
    action: Tensor
    channel_mask: Tensor
    starts: Tensor
    keep: Tensor
    text: Tensor
    empty_text: Tensor


@dataclass(frozen=True)
class Networks:
    """The networks of a run, possibly sharded; None where the method does not need one."""

    student: nn.Module
    teacher: nn.Module | None = None
    target: nn.Module | None = None
    critic: nn.Module | None = None


@dataclass(frozen=True)
class Losses:
    """What one micro-batch gives.

    Attributes:
        scalars: network name ('student', 'critic') -> fp32 scalar to run backward on; only those
            networks that are updated in this step.
        figures: column -> detached scalar, those columns that this step computed (the same ones
            on every process).
    """

    scalars: dict[str, Tensor]
    figures: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """One training method.

    Attributes:
        name: of the method, a key of ``registry.METHODS``.
        roles: networks needed beside the student, of {'teacher', 'target', 'critic'}.
        columns: every name that may be in ``Losses.figures``, in the order of a log.
        forward_dynamics_share: probability that a step trains forward dynamics instead.
    """

    name: str
    roles: frozenset[str]
    columns: tuple[str, ...]
    forward_dynamics_share: float

    def sampler(self, settings: SamplerSettings) -> SamplerSettings:
        """What the trained checkpoint stores, given the settings of the one it starts from."""
        ...

    def losses(self, networks: Networks, windows: Windows, step: int,
               generator: torch.Generator) -> Losses:
        """Losses of one micro-batch of optimiser step `step`."""
        ...
