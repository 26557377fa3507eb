# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the nano codec: see where things are first, look good second.

Loss: squared error weighted towards edges and towards what differs from the mean picture, plus a
probe that regresses object and tool positions from the latents (small objects hardly count in a
pixel loss). Noise of 5 % of the latents' spread is added before decoding and probing.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file

from flashwam_ros.training import codec_data
from flashwam_ros.training.codec_data import ENTITIES, Groups
from flashwam_ros.training.command import cache_folder, load_recipe, reporter
from flashwam_ros.training.dataset import latent_episode, read_latents, write_latents
from flashwam_ros.training.episode_file import read_episode
from flashwam_ros.training.precision import product_dtype
from flashwam_ros.training.run_state import (
    Budget,
    CsvLog,
    Throttle,
    learning_rate,
    load_state,
    save_state,
)
from flashwam_ros.wam.checkpoint import load_checkpoint
from flashwam_ros.wam.codec import NanoCodec, NanoCodecConfig, PositionProbe, canvas_to_tensor

_CODEC_PARTS = ('vae', 'codec.json')  # of a checkpoint, of the folder that is written here
COLUMNS = ('step', 'seconds', 'reconstruction', 'probe', 'learning_rate')


@dataclass(frozen=True)
class CodecRecipe:
    """How a codec is trained (``config/training/nano_codec.yaml``)."""

    steps: int = 4000
    seconds: float = 600.0
    batch: int = 16
    peak_learning_rate: float = 2e-3
    warmup_steps: int = 100
    probe_weight: float = 0.2
    foreground_weight: float = 8.0
    edge_weight: float = 4.0
    latent_noise: float = 0.05
    groups_per_episode: int = 16
    max_episodes: int = 500
    bf16: bool = True
    threads: int = 1
    seed: int = 0


def pixel_weights(images: torch.Tensor, mean: torch.Tensor, recipe: CodecRecipe) -> torch.Tensor:
    """Weights (B, 4, 1, H, W) of mean 1 for images (B, 4, 3, H, W); ``mean`` is (3, H, W)."""
    different = (images - mean).abs().amax(dim=2, keepdim=True)
    foreground = ((different - 0.15) / 0.3).clamp(0, 1)
    dx = F.pad((images[..., 1:] - images[..., :-1]).abs(), (0, 1))
    dy = F.pad((images[..., 1:, :] - images[..., :-1, :]).abs(), (0, 0, 0, 1))
    edges = (dx + dy).amax(dim=2, keepdim=True).clamp(max=1)
    weight = 1 + recipe.foreground_weight * foreground + recipe.edge_weight * edges
    return weight / weight.mean()


class CodecTraining:
    """A resumable training run.

    Args:
        groups: training groups in memory.
        folder: where the state and the log go.
        recipe: see CodecRecipe.
        config: widths of the codec.
    """

    def __init__(self, groups: Groups, folder: Path, recipe: CodecRecipe,
                 config: NanoCodecConfig | None = None):
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.codec = NanoCodec(config).to(memory_format=torch.channels_last)
        self.probe = PositionProbe(3 * len(ENTITIES), self.codec.latent_channels)
        self._groups = groups
        self._folder = folder
        stride = max(1, len(groups) // 256)
        self._mean = canvas_to_tensor(groups.canvases[::stride, 0]).mean(dim=0)
        self._parameters = [*self.codec.parameters(), *self.probe.parameters()]
        self._optimiser = torch.optim.AdamW(self._parameters, betas=(0.9, 0.99),
                                            weight_decay=1e-4)
        self.step, self.elapsed_s = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        self._log = CsvLog(folder / 'codec.csv', COLUMNS, self.step)

    def _resume(self) -> None:
        state = load_state(self._folder / 'codec_state.pt')
        if state is not None:
            self.codec.load_state_dict(state['codec'])
            self.probe.load_state_dict(state['probe'])
            self._optimiser.load_state_dict(state['optimiser'])
            self.step, self.elapsed_s = state['step'], state['elapsed_s']

    def save(self) -> None:
        """Write the state that a restart continues from."""
        save_state(self._folder / 'codec_state.pt', {
            'codec': self.codec.state_dict(), 'probe': self.probe.state_dict(),
            'optimiser': self._optimiser.state_dict(), 'step': self.step,
            'elapsed_s': self.elapsed_s})

    def run(self, report: Callable[[str], None], until: int | None = None) -> None:
        """Train to the end of the budget (or to step ``until``), saving every minute."""
        budget = Budget(self.recipe.steps, self.recipe.seconds)
        saver = Throttle(60.0, time.monotonic)
        while budget.progress(self.step, self.elapsed_s) < 1 and self.step != until:
            begin = time.monotonic()
            rate = learning_rate(self.recipe.peak_learning_rate, self.step,
                                 budget.progress(self.step, self.elapsed_s),
                                 self.recipe.warmup_steps, 0.3)
            figures = self._train_step(rate)
            self.elapsed_s += time.monotonic() - begin
            if self.step % 20 == 0:
                self._log.add({'step': self.step, 'seconds': self.elapsed_s,
                               'learning_rate': rate, **figures})
            if self.step % 100 == 0:
                report(f'codec step {self.step}, {self.elapsed_s:.0f} s: '
                       f'reconstruction {figures["reconstruction"]:.4f}, '
                       f'probe {figures["probe"]:.4f}')
            self.step += 1
            if saver.ready():
                self.save()
        self.save()

    def _train_step(self, rate: float) -> dict[str, float]:
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, self.step])
        index = np.sort(rng.choice(len(self._groups), recipe.batch, replace=False))
        images = canvas_to_tensor(self._groups.canvases[index])
        generator = torch.Generator().manual_seed(int(rng.integers(2 ** 62)))
        for group in self._optimiser.param_groups:
            group['lr'] = rate
        self._optimiser.zero_grad(set_to_none=True)
        products = product_dtype('bf16' if recipe.bf16 else 'fp32', images.device)
        with torch.autocast('cpu', torch.bfloat16, enabled=products is torch.bfloat16):
            raw = self.codec.encode_raw(images)
            noise = torch.randn(raw.shape, generator=generator)
            raw = raw + recipe.latent_noise * raw.detach().float().std() * noise
            decoded = self.codec.decode_raw(raw)
            probed = self.probe(raw)
        weight = pixel_weights(images, self._mean, recipe)
        reconstruction = (weight * (decoded.float() - images).square()).mean()
        probe = self._probe_loss(probed.float(), index)
        # A light pull keeps the latents' scale where the normaliser expects it.
        loss = reconstruction + recipe.probe_weight * probe + 1e-4 * raw.float().square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        return {'reconstruction': float(reconstruction.detach()), 'probe': float(probe.detach())}

    def _probe_loss(self, probed: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        target = torch.from_numpy(codec_data.scaled(self._groups.positions[index])).float()
        present = torch.from_numpy(self._groups.present[index]).float()[..., None]
        error = F.smooth_l1_loss(probed.view(target.shape), target, beta=0.1, reduction='none')
        return (error * present).sum() / (3 * present.sum())


def set_statistics(codec: NanoCodec, groups: Groups, batch: int = 64) -> None:
    """Per-channel mean and spread of the raw latents over the groups."""
    with torch.no_grad():
        raw = torch.cat([codec.encode_raw(canvas_to_tensor(groups.canvases[i:i + batch]))
                         for i in range(0, len(groups), batch)])
    codec.set_latent_statistics(raw.mean(dim=(0, 2, 3)), raw.std(dim=(0, 2, 3)).clamp(min=1e-4))


def report_card(codec: NanoCodec, probe: PositionProbe, groups: Groups,
                batch: int = 64) -> dict[str, float]:
    """PSNR in dB and the probe's mean error per entity in cm (centimetres), on given groups."""
    squared, errors = [], {name: [] for name in ENTITIES}
    with torch.no_grad():
        for i in range(0, len(groups), batch):
            images = canvas_to_tensor(groups.canvases[i:i + batch])
            raw = codec.encode_raw(images)
            decoded = codec.decode_raw(raw).clamp(-1, 1)
            squared.append(((decoded - images) / 2).square().mean(dim=(1, 2, 3, 4)))
            probed = probe(raw).view(-1, len(ENTITIES), 3).numpy()
            truth = codec_data.scaled(groups.positions[i:i + batch])
            distance = 100 * codec_data.metres(np.linalg.norm(probed - truth, axis=2))
            present = groups.present[i:i + batch]
            for column, name in enumerate(ENTITIES):
                errors[name].extend(distance[present[:, column], column])
    card = {'psnr_db': -10 * math.log10(float(torch.cat(squared).mean()))}
    card.update({f'{name}_cm': float(np.mean(values)) for name, values in errors.items()
                 if len(values)})
    return card


def codec_hash(codec: NanoCodec) -> str:
    """SHA-256 over the codec's weights and statistics."""
    digest = hashlib.sha256()
    for name, value in sorted(codec.state_dict().items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_codec(codec: NanoCodec, folder: Path) -> None:
    """Write ``codec.json`` and ``codec.safetensors``."""
    (folder / 'codec.json').write_text(json.dumps(codec.config.to_dict()), encoding='utf-8')
    save_file({name: value.contiguous() for name, value in codec.state_dict().items()},
              folder / 'codec.safetensors')


def load_codec(folder: Path) -> NanoCodec:
    """Read what ``save_codec`` wrote, or the codec of a checkpoint folder."""
    if (folder / 'vae').is_dir():
        return load_checkpoint(folder).codec.eval()
    config = json.loads((folder / 'codec.json').read_text(encoding='utf-8'))
    codec = NanoCodec(NanoCodecConfig.from_dict(config))
    codec.load_state_dict(load_file(folder / 'codec.safetensors'))
    return codec.eval()


def encode_demonstrations(codec: NanoCodec, demos: Path, out: Path,
                          report: Callable[[str], None]) -> int:
    """Pre-encode every demonstration that is not yet encoded with this codec; returns how many."""
    mark, done = codec_hash(codec), 0
    files = sorted(demos.glob('*/episode_*.npz'))
    for number, path in enumerate(files, 1):
        target = out / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and _made_by(target, mark):
            continue
        episode = read_episode(path)
        canvases = canvas_to_tensor(codec_data.episode_canvases(episode))
        with torch.no_grad():
            latents = codec.encode(canvases[None])[0].transpose(0, 1)
        write_latents(target, latent_episode(episode, latents.numpy()), mark)
        done += 1
        if number % 50 == 0:
            report(f'encoded {number}/{len(files)}')
    return done


def _made_by(path: Path, mark: str) -> bool:
    """Whether the latents can be read and are of this codec."""
    try:
        read_latents(path, mark)
    except ValueError:
        return False
    return True


def train_codec(demos: Path, out: Path, recipe: CodecRecipe,
                report: Callable[[str], None]) -> dict[str, float]:
    """Train on demonstrations, set the statistics, write the codec and its report card."""
    torch.set_num_threads(recipe.threads)
    training, held_out = codec_data.split_files(demos)
    rng = np.random.default_rng(recipe.seed)
    rng.shuffle(training)
    groups = codec_data.load_groups(training[:recipe.max_episodes], recipe.groups_per_episode)
    report(f'{len(groups)} groups of {min(len(training), recipe.max_episodes)} episodes')
    run = CodecTraining(groups, out, recipe)
    run.run(report)
    run.codec.eval()
    set_statistics(run.codec, groups)
    save_codec(run.codec, out)
    card = report_card(run.codec, run.probe, codec_data.load_groups(held_out, 8, seed=1))
    card.update(steps=run.step, seconds=run.elapsed_s, recipe=dataclasses.asdict(recipe))
    (out / 'codec_card.json').write_text(json.dumps(card, indent=1), encoding='utf-8')
    return card


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam train-codec``: train, or continue, then encode all demonstrations."""
    parser = argparse.ArgumentParser(prog='flashwam train-codec', description=__doc__)
    parser.add_argument('--demos', type=Path, default=cache_folder('demos'))
    parser.add_argument('--out', type=Path, default=cache_folder('codec'))
    parser.add_argument('--recipe', type=Path, default=None,
                        help='YAML (default: the installed nano_codec.yaml)')
    parser.add_argument('--codec', type=Path, default=None, metavar='FOLDER',
                        help='train nothing, encode with this one: a checkpoint, or an --out')
    options = parser.parse_args(argv)
    if options.codec and not any((options.codec / part).exists() for part in _CODEC_PARTS):
        parser.error(f'--codec {options.codec}: it has none of {", ".join(_CODEC_PARTS)}; give a '
                     'checkpoint folder or the --out of an earlier run')
    report = reporter('codec')
    if options.codec is None:
        recipe = CodecRecipe(**load_recipe('nano_codec.yaml', options.recipe))
        card = train_codec(options.demos, options.out, recipe, report)
        report(', '.join(f'{name} {value:.2f}' for name, value in card.items()
                         if isinstance(value, float)))
    torch.set_num_threads(1)
    count = encode_demonstrations(load_codec(options.codec or options.out), options.demos,
                                  options.out / 'latents', report)
    report(f'{count} episodes encoded')
    return 0


if __name__ == '__main__':
    sys.exit(main())
