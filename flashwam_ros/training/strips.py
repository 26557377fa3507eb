# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the models imagine: one chunk of a held-out demonstration, predicted, beside what happened.

Every model is given the same true history up to the chunk (observed video, executed rows) and
predicts the chunk; its latents are decoded by its codec.  A row 'codec' shows the real frames
through the codec: no prediction can look better than that.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from flashwam_ros.training.codec_data import episode_canvases
from flashwam_ros.training.episode_file import EpisodeData, read_episode
from flashwam_ros.training.loss_profile import held_out_files
from flashwam_ros.training.results import parse_steps
from flashwam_ros.wam.checkpoint import Checkpoint, load_checkpoint
from flashwam_ros.wam.codec import WRIST_SIZE, canvas_to_tensor, tensor_to_canvas
from flashwam_ros.wam.engine import StreamingEngine

CHUNK = 3
"""The chunk that is predicted: its arms are on the way or at the object."""
COLUMNS = 4
DPI = 80


def make_engine(checkpoint: Checkpoint, engine_class=StreamingEngine):
    """An engine of a checkpoint, as the policy makes it."""
    normaliser = checkpoint.normaliser
    still = np.zeros(len(checkpoint.contract['channels']), np.float32)
    return engine_class(checkpoint.transformer, checkpoint.sampler, checkpoint.codec.latent_size,
                        torch.from_numpy(normaliser.channel_mask),
                        torch.from_numpy(normaliser.normalise(still)))


@torch.inference_mode()
def real_chunk(checkpoint: Checkpoint, episode: EpisodeData, chunk: int) -> torch.Tensor:
    """Latents (z, F, h, w) of an episode up to the end of a chunk.

    Raises:
        ValueError: the episode is shorter.
    """
    frames = (chunk + 1) * checkpoint.sampler.frames_per_chunk
    if episode.latent_frames < frames:
        raise ValueError(f'{episode.task} seed {episode.seed} has {episode.latent_frames} latent '
                         f'frames, chunk {chunk} needs {frames}')
    images = canvas_to_tensor(episode_canvases(episode)[:1 + 4 * (frames - 1)])
    return checkpoint.codec.encode(images[None])[0]


def feed(engine, checkpoint: Checkpoint, episode: EpisodeData, latents: torch.Tensor,
         chunks: int) -> None:
    """Give an engine the true history of the first ``chunks`` chunks of an episode."""
    sampler = checkpoint.sampler
    frames, per_frame = sampler.frames_per_chunk, sampler.actions_per_frame
    rows = torch.from_numpy(checkpoint.normaliser.normalise(episode.applied)).float()
    encoder = checkpoint.text_encoder
    engine.reset(encoder.encode(episode.prompt), encoder.encode(''))
    engine.set_initial(latents[:, 0])
    for chunk in range(chunks):
        engine.predict(1, 1, torch.Generator().manual_seed(0))
        first, last = max(1, chunk * frames), (chunk + 1) * frames
        engine.ground(latents[:, first:last], rows[(first - 1) * per_frame:
                                                   (last - 1) * per_frame])


@torch.inference_mode()
def imagine(checkpoint: Checkpoint, episode: EpisodeData, chunk: int, steps: tuple[int, int],
            seed: int = 0) -> np.ndarray:
    """Predict a chunk after its true history; canvases (4 K, 192, 128, 3) uint8."""
    latents = real_chunk(checkpoint, episode, chunk)
    engine = make_engine(checkpoint)
    feed(engine, checkpoint, episode, latents, chunk)
    forecast = engine.predict(*steps, torch.Generator().manual_seed(seed))
    return decode(checkpoint, latents, forecast.latents, chunk)


def decode(checkpoint: Checkpoint, latents: torch.Tensor, predicted: torch.Tensor,
           chunk: int) -> np.ndarray:
    """Images of a chunk's latents (z, K, h, w), decoded behind the true frames before it."""
    frames = checkpoint.sampler.frames_per_chunk
    sequence = torch.cat([latents[:, :chunk * frames], predicted], dim=1)
    with torch.inference_mode():
        images = checkpoint.codec.decode(sequence[None])[0]
    return tensor_to_canvas(images[-4 * frames:])


def draw(rows: Mapping[str, np.ndarray], title: str, path: Path) -> None:
    """Tile the head views of labelled rows of canvases (T, 192, 128, 3), at the same instants."""
    from matplotlib.figure import Figure

    count = min(len(images) for images in rows.values())
    shown = np.linspace(0, count - 1, COLUMNS + 1).round().astype(int)[1:]
    figure = Figure(figsize=(2.4 + 1.1 * len(shown), 0.5 + 1.0 * len(rows)),
                    layout='constrained')
    panels = figure.subplots(len(rows), len(shown), squeeze=False)
    for axes, index in zip(panels[0], shown, strict=True):
        axes.set_title(f'+{0.1 * (index + 1):.1f} s', fontsize=8)
    for line, (label, images) in zip(panels, rows.items(), strict=True):
        for axes, index in zip(line, shown, strict=True):
            axes.imshow(images[index][WRIST_SIZE:])
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, fontsize=8, rotation=0, ha='right', va='center')
    figure.suptitle(textwrap.fill(title, 60), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def strip(models: Sequence[tuple[str, Checkpoint, tuple[int, int]]], episode: EpisodeData,
          path: Path, chunk: int = CHUNK) -> dict[str, float]:
    """Draw real, codec and every model's prediction of one chunk.

    Args:
        models: (label, checkpoint, steps).
        episode: with images.
        path: picture.
        chunk: which chunk; an earlier one where the episode is shorter.

    Returns:
        Label -> mean squared error of the images against the real ones, in [0, 1] units.
    """
    frames = models[0][1].sampler.frames_per_chunk
    chunk = min(chunk, episode.latent_frames // frames - 1)
    end = 1 + 4 * ((chunk + 1) * frames - 1)
    real = episode_canvases(episode)[end - 4 * frames:end]
    first = models[0][1]
    latents = real_chunk(first, episode, chunk)
    rows = {'real': real,
            'codec': decode(first, latents, latents[:, chunk * frames:], chunk)}
    for label, checkpoint, steps in models:
        rows[label] = imagine(checkpoint, episode, chunk, steps)
    target = real.astype(np.float32) / 255
    errors = {label: float(np.square(images / 255 - target).mean())
              for label, images in rows.items() if label != 'real'}
    draw({f'{label}\nerror {1e3 * errors[label]:.2f}e-3' if label in errors else label: images
          for label, images in rows.items()},
         f'{episode.prompt} (held-out demonstration {episode.seed}, chunk {chunk})', path)
    return errors


def draw_all(folders: Mapping[str, Path], demos: Path, out: Path,
             report: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """A strip for each task: the first checkpoint in full, then all at one step each.

    Returns:
        Task -> label -> image error; also written to ``strips.json``.
    """
    loaded = {name: load_checkpoint(folder) for name, folder in folders.items()}
    if not loaded:
        return {}
    models = [(f'{name}\n{steps}', checkpoint, parse_steps(steps))
              for number, (name, checkpoint) in enumerate(loaded.items())
              for steps in (('10v/20a', '1v/1a') if number == 0 else ('1v/1a',))]
    errors = {}
    for file in held_out_files(demos, 1):
        task = file.parent.name
        report(f'predicted video of {task}')
        errors[task] = strip(models, read_episode(file), out / f'strip_{task}.png')
    (out / 'strips.json').write_text(json.dumps(errors, indent=1), encoding='utf-8')
    return errors
