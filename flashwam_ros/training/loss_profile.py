# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How well a checkpoint denoises at each noise level, on held-out demonstrations.

Whole episodes are packed as in training, with clean history; every noisy frame of an episode has
the same level.  Noise follows from (seed, level, episode), so all checkpoints with the same codec
and contract see the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from flashwam_ros.training.codec_data import episode_canvases, split_files
from flashwam_ros.training.dataset import frame_rows
from flashwam_ros.training.episode_file import EpisodeData, read_episode
from flashwam_ros.training.results import manifest_sha256
from flashwam_ros.wam.checkpoint import Checkpoint, load_checkpoint
from flashwam_ros.wam.codec import canvas_to_tensor
from flashwam_ros.wam.flow import add_noise, consistency_function, velocity, x0_estimate
from flashwam_ros.wam.packed import PackedInputs, pack_actions, packed_forward

SIGMAS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0)
EPISODES_PER_TASK = 3
FRAMES = 16
"""Latent frames that are looked at of an episode, at most; a multiple of the chunk."""


def held_out_files(demos: Path, per_task: int) -> list[Path]:
    """The first held-out demonstrations of each task.

    Raises:
        ValueError: there are none.
    """
    _, held_out = split_files(demos)
    tasks = sorted({path.parent.name for path in held_out})
    files = [path for task in tasks
             for path in [p for p in held_out if p.parent.name == task][:per_task]]
    if not files:
        raise ValueError(f'no held-out demonstrations below {demos}: run `flashwam demos`, or '
                         'name their folder with --demos')
    return files


@torch.inference_mode()
def clean_window(checkpoint: Checkpoint, episode: EpisodeData) -> tuple[torch.Tensor,
                                                                         torch.Tensor]:
    """An episode in model space: video (1, z, F, h, w), action (1, 30, F, n, 1)."""
    chunk = checkpoint.sampler.frames_per_chunk
    frames = min(FRAMES, episode.latent_frames) // chunk * chunk
    images = canvas_to_tensor(episode_canvases(episode)[:1 + 4 * (frames - 1)])
    video = checkpoint.codec.encode(images[None])
    rows = checkpoint.normaliser.normalise(
        frame_rows(episode, checkpoint.sampler.actions_per_frame)[:frames].reshape(
            -1, episode.applied.shape[1]))
    action = pack_actions(torch.from_numpy(rows).float()[None],
                          checkpoint.sampler.actions_per_frame)
    action[:, :, 0] = 0  # slot 0 belongs to no action
    return video, action


def _noisy(clean: torch.Tensor, sigma: float, generator: torch.Generator):
    """(noisy, noise, level per frame); frame 0 stays clean, as at run time."""
    noise = torch.randn(clean.shape, generator=generator)
    level = torch.full((1, clean.shape[2]), sigma)
    level[:, 0] = 0
    return add_noise(clean, noise, level[:, None, :, None, None]), noise, level


def _errors(x, v, clean, noise, sigma: float, sampler, mask: torch.Tensor) -> dict[str, float]:
    x, v, clean, noise = (part[:, :, 1:] for part in (x, v, clean, noise))

    def mse(error: torch.Tensor) -> float:
        return float((error.square() * mask).sum() / mask.expand_as(error).sum())

    return {'velocity': mse(v - velocity(clean, noise)),
            'x0': mse(x0_estimate(x, v, sigma) - clean),
            'own': mse(consistency_function(x, v, sigma, sampler) - clean)}


@torch.inference_mode()
def loss_profile(checkpoint: Checkpoint, episodes: Sequence[EpisodeData],
                 sigmas: Sequence[float] = SIGMAS, seed: int = 0) -> dict:
    """Mean squared errors per noise level, in normalised units, over used channels.

    'velocity': of v against noise - x0; 'x0': of x - sigma v, what an Euler step to 0 gives;
    'own': of f(x, sigma), the consistency function that the checkpoint was trained for (the same
    as 'x0' where it has none).

    Returns:
        {'episodes': n, 'levels': [{'sigma', 'video_velocity', 'video_x0', 'video_own',
        'action_velocity', ...}]}.
    """
    sampler, model = checkpoint.sampler, checkpoint.transformer
    mask = torch.as_tensor(checkpoint.normaliser.channel_mask).float().view(1, -1, 1, 1, 1)
    windows = [(*clean_window(checkpoint, episode), checkpoint.text_encoder.encode(episode.prompt))
               for episode in episodes]
    levels = []
    for number, sigma in enumerate(sigmas):
        sums: dict[str, list[float]] = {}
        for place, (video, action, text) in enumerate(windows):
            generator = torch.Generator().manual_seed(
                int(np.random.SeedSequence([seed, number, place]).generate_state(1)[0]))
            action = action * mask
            x_v, noise_v, level = _noisy(video, sigma, generator)
            x_a, noise_a, _ = _noisy(action, sigma, generator)
            zero = torch.zeros_like(level)
            inputs = PackedInputs(x_v, video, x_a * mask, action, 1000 * level, zero,
                                  1000 * level, zero)
            v_v, v_a = packed_forward(model, inputs, text[None], sampler.frames_per_chunk,
                                      sampler.window)
            for stream, errors in (
                    ('video', _errors(x_v, v_v, video, noise_v, sigma, sampler.video,
                                      torch.ones(1, video.shape[1], 1, 1, 1))),
                    ('action', _errors(x_a, v_a, action, noise_a, sigma, sampler.action, mask))):
                for name, value in errors.items():
                    sums.setdefault(f'{stream}_{name}', []).append(value)
        levels.append({'sigma': sigma, **{name: float(np.mean(v)) for name, v in sums.items()}})
    return {'episodes': len(windows), 'levels': levels}


def profiles(folders: Mapping[str, Path], demos: Path, out: Path,
             report: Callable[[str], None]) -> dict[str, dict]:
    """`loss_profile` of each checkpoint; what ``out`` has of the same weights is kept."""
    cache = out / 'loss_profile.json'
    known = json.loads(cache.read_text(encoding='utf-8')) if cache.exists() else {}
    files = held_out_files(demos, EPISODES_PER_TASK)
    episodes = None
    found = {}
    for name, folder in folders.items():
        key = f'{manifest_sha256(folder)} {" ".join(path.name for path in files)}'
        if key not in known:
            report(f'loss over noise level of {name}')
            episodes = episodes or [read_episode(path) for path in files]
            known[key] = loss_profile(load_checkpoint(folder), episodes)
            cache.write_text(json.dumps(known), encoding='utf-8')
        found[name] = known[key]
    return found
