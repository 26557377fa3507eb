# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Objectives by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .base import Objective
from .flashwam import FlashWam
from .flow_matching import FlowMatching
from .joint_dmd2 import JointDmd2
from .linear_substeps import LinearSubsteps
from .naive_joint import NaiveJoint
from .scaled_lcm import ScaledLcm
from .video_dmd2_reg import VideoDmd2Reg
from .video_lcm import VideoLcm
from .video_lcm_reg import VideoLcmReg

_CLASSES: tuple[type, ...] = (FlowMatching, FlashWam, NaiveJoint, VideoLcm, VideoLcmReg,
                              VideoDmd2Reg, JointDmd2, LinearSubsteps, ScaledLcm)

METHODS: tuple[str, ...] = tuple(c.name for c in _CLASSES)


def build_objective(name: str, options: Mapping[str, Any]) -> Objective:
    """Build a method's objective from the options of its recipe.

    Raises:
        ValueError: the method or an option is unknown (the known ones are named), or a value is
            impossible.
    """
    by_name = {c.name: c for c in _CLASSES}
    if name not in by_name:
        raise ValueError(f'unknown method {name!r}; known: {sorted(by_name)}')
    known = [f.name for f in dataclasses.fields(by_name[name])]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f'{name}: unknown options {unknown}; known: {known}')
    return by_name[name](**options)
