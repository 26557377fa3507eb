# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What denoising steps buy: error and spread of sampled chunks on held-out demonstrations.

Run: ``python -m benchmarks.few_steps --demos ~/.cache/flashwam/demos``

Every model predicts the same chunks of held-out demonstrations after their true history, several
times with different noise.  For what it predicts (arm joints in mrad, video latents in normalised
units) the mean squared distance of one sample from what was done is split into

- bias: the distance of the mean over all noise from what was done, corrected for few samples;
- spread: the standard deviation over noise.

What was done is one of the possible futures itself, so in a calibrated model bias and spread are
equal; a larger spread is the model's own noise.  One step gives nearly the mean: it loses what
that mean blurs and saves the spread.  Root mean squares over chunks and channels; intervals are
95 % bootstrap over episodes, those of differences paired.  Writes a table, and JSON with every
chunk.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._stack import header, header_lines, say, table  # noqa: E402
from flashwam_ros.robot.contract import GRIPPER_GROUPS, RobotContract  # noqa: E402
from flashwam_ros.training.command import cache_folder  # noqa: E402
from flashwam_ros.training.dataset import frame_rows  # noqa: E402
from flashwam_ros.training.episode_file import EpisodeData, read_episode  # noqa: E402
from flashwam_ros.training.loss_profile import held_out_files  # noqa: E402
from flashwam_ros.training.results import parse_steps  # noqa: E402
from flashwam_ros.training.strips import feed, make_engine, real_chunk  # noqa: E402
from flashwam_ros.wam.checkpoint import Checkpoint, load_checkpoint  # noqa: E402

MODELS = ('models/g1-nano-teacher', 'models/g1-nano-flash', 'models/g1-nano-flashwam')
STEPS = ('10v/20a', '3v/10a', '1v/2a', '1v/1a')
CHUNKS = (1, 3, 5)
RESAMPLES = 2000
COLUMNS = (
    'model', 'steps', 'arms: one sample mrad', 'against the first row', 'bias', 'spread',
    'video: one sample', 'bias', 'spread',
)  # fmt: skip


def split_error(samples: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Squared bias and variance of samples (K, ...) about a target (...), means over elements.

    The mean of K samples errs by its bias and by a K-th of the variance, which is taken off; the
    squared bias can come out below 0 where it is small.
    """
    variance = float(samples.var(axis=0, ddof=1).mean())
    off = float(np.square(samples.mean(axis=0) - target).mean())
    return off - variance / len(samples), variance


@torch.inference_mode()
def sampled(checkpoint: Checkpoint, episode: EpisodeData, steps: Sequence[str],
            count: int) -> Iterator[dict]:
    """For chunks of an episode and numbers of steps: bias and variance of arms and video."""
    frames, per_frame = checkpoint.sampler.frames_per_chunk, checkpoint.sampler.actions_per_frame
    engine = make_engine(checkpoint)
    rows = frame_rows(episode, per_frame)
    joints = np.ones(rows.shape[-1], bool)
    joints[RobotContract.load().group(*GRIPPER_GROUPS)] = False
    for chunk in CHUNKS:
        if episode.latent_frames < (chunk + 1) * frames:
            return
        latents = real_chunk(checkpoint, episode, chunk)
        feed(engine, checkpoint, episode, latents, chunk)
        target = rows[chunk * frames:(chunk + 1) * frames].reshape(-1, rows.shape[-1])[:, joints]
        seen = latents[:, chunk * frames:].numpy()
        for name in steps:
            arms, video = [], []
            for seed in range(count):
                forecast = engine.predict(*parse_steps(name), torch.Generator().manual_seed(seed))
                arms.append(checkpoint.normaliser.denormalise(forecast.actions.numpy())[:, joints])
                video.append(forecast.latents.numpy())
                engine.rewind(chunk)
            arm_bias, arm_variance = split_error(np.array(arms), target)
            video_bias, video_variance = split_error(np.array(video), seen)
            yield {'task': episode.task, 'seed': episode.seed, 'chunk': chunk, 'steps': name,
                   'arm_bias2': arm_bias, 'arm_variance': arm_variance,
                   'video_bias2': video_bias, 'video_variance': video_variance}


def interval(found: Sequence[dict], value) -> str:
    """A figure of records with its 95 % bootstrap interval over episodes."""
    episodes: dict[tuple, list[dict]] = {}
    for record in found:
        episodes.setdefault((record['task'], record['seed']), []).append(record)
    groups, random = list(episodes.values()), np.random.default_rng(0)
    draws = [value([record for pick in random.integers(len(groups), size=len(groups))
                    for record in groups[pick]]) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return f'{value(found):.2f} ({low:.2f}..{high:.2f})'


def _root(records: Sequence[dict], *names: str) -> float:
    total = sum(np.mean([record[name] for record in records]) for name in names)
    return float(np.sqrt(max(total, 0)))


def summary(found: Sequence[dict], steps: str, first: str) -> tuple[str, ...]:
    """A row of the table from the records of one model; ``first``: the steps to compare with."""

    def of(records: Sequence[dict], name: str, *parts: str) -> float:
        return _root([record for record in records if record['steps'] == name], *parts)

    def arms(*parts: str) -> str:
        return interval(found, lambda records: 1e3 * of(records, steps, *parts))

    def video(*parts: str) -> str:
        return interval(found, lambda records: of(records, steps, *parts))

    both = ('arm_bias2', 'arm_variance')
    more = '-' if steps == first else interval(
        found, lambda records: 1e3 * (of(records, steps, *both) - of(records, first, *both)))
    return (steps, arms(*both), more, arms('arm_bias2'), arms('arm_variance'),
            video('video_bias2', 'video_variance'), video('video_bias2'), video('video_variance'))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', type=Path, nargs='+', default=[Path(m) for m in MODELS])
    parser.add_argument('--steps', nargs='+', default=list(STEPS))
    parser.add_argument('--demos', type=Path, default=cache_folder('demos'))
    parser.add_argument('--episodes', type=int, default=8, help='held-out ones, per task')
    parser.add_argument('--samples', type=int, default=8, help='noises per chunk')
    parser.add_argument('--out', type=Path, default=cache_folder('few_steps'), help='folder')
    options = parser.parse_args(argv)
    if options.samples < 2:
        parser.error('a spread needs two samples or more')
    torch.set_num_threads(1)
    files = held_out_files(options.demos, options.episodes)
    records = []
    for folder in options.models:
        checkpoint = load_checkpoint(folder)
        for number, file in enumerate(files, 1):
            say(f'{folder.name}: episode {number} of {len(files)}')
            records += [{'model': folder.name, **record} for record in
                        sampled(checkpoint, read_episode(file), options.steps, options.samples)]
    rows = [(folder.name, *summary([r for r in records if r['model'] == folder.name], steps,
                                   options.steps[0]))
            for folder in options.models for steps in options.steps]
    chunks = len({(r['task'], r['seed'], r['chunk']) for r in records})
    text = '\n'.join([*header_lines(header(len(files))),
                      f'{chunks} chunks of {len(files)} held-out demonstrations, '
                      f'{options.samples} noises each.', '', *table(COLUMNS, rows)])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / 'few_steps.json').write_text(json.dumps(records), encoding='utf-8')
    (options.out / 'few_steps.md').write_text(text + '\n', encoding='utf-8')
    say(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
