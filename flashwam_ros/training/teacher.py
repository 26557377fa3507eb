# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train a teacher by flow matching; running again continues.

``flashwam train-teacher``, or ``torchrun -m flashwam_ros.training.teacher`` on several GPUs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from flashwam_ros.training.codec_trainer import load_codec
from flashwam_ros.training.command import cache_folder, load_paraphrases, reporter
from flashwam_ros.training.dataset import LatentEpisode, fit_normaliser
from flashwam_ros.training.distributed import Peers
from flashwam_ros.training.networks import NetworkSet, current_state, random_weights
from flashwam_ros.training.objectives.registry import build_objective
from flashwam_ros.training.program import (
    INTERRUPTED,
    add_process_options,
    codec_marks,
    command_line,
    file_sha256,
    load_latents,
    machine,
    plain_path,
    run_processes,
)
from flashwam_ros.training.recipes import PRESETS, TeacherRecipe, read_teacher_recipe
from flashwam_ros.training.run_state import load_state
from flashwam_ros.training.trainer import Job, Trainer
from flashwam_ros.training.windows import WindowSource
from flashwam_ros.wam.checkpoint import load_checkpoint, save_checkpoint
from flashwam_ros.wam.codec import NanoCodec
from flashwam_ros.wam.config import SamplerSettings, TransformerConfig
from flashwam_ros.wam.normaliser import QuantileNormaliser
from flashwam_ros.wam.text import NanoTextEncoder

PORT = 29517
STATE = 'teacher_state.pt'


@dataclass(frozen=True)
class Start:
    """What a teacher begins with; ``parent`` is None for random weights."""

    config: TransformerConfig
    weights: dict[str, Tensor]
    normaliser: QuantileNormaliser
    parent: dict[str, str] | None = None


def read_normaliser(folder: Path) -> QuantileNormaliser:
    """The normaliser of a run's folder."""
    return QuantileNormaliser.from_dict(
        json.loads((folder / 'normaliser.json').read_text(encoding='utf-8')))


def read_codec(folder: Path) -> tuple[NanoCodec, Mapping]:
    """A codec, and the training record of the checkpoint that it lies in ({} without one)."""
    if (folder / 'vae').is_dir():
        checkpoint = load_checkpoint(folder)
        return checkpoint.codec.eval(), checkpoint.training
    return load_codec(folder), {}


def make_start(recipe: TeacherRecipe, episodes: list[LatentEpisode], text_dim: int) -> Start:
    """Random weights, or the averaged weights of ``recipe.init`` with its normaliser."""
    config = recipe.transformer(episodes[0].latents.shape[1], text_dim)
    if not recipe.init:
        return Start(config, random_weights(config, recipe.seed), fit_normaliser(episodes))
    path = Path(recipe.init).expanduser()
    if path.is_dir():
        checkpoint = load_checkpoint(path)
        return Start(checkpoint.transformer.config, dict(checkpoint.transformer.state_dict()),
                     checkpoint.normaliser,
                     {'name': plain_path(path), 'sha256': checkpoint.sha256})
    state = load_state(path)
    if state is None:
        raise FileNotFoundError(f'init: neither a checkpoint folder nor a state file: {path}')
    return Start(config, current_state(state, path)['networks']['average'],
                 read_normaliser(path.parent),
                 {'name': plain_path(path), 'sha256': file_sha256(path)})


class TeacherRun:
    """A teacher's training, with what its checkpoint needs.

    Args:
        episodes: pre-encoded demonstrations.
        folder: state, log, plot and normaliser of the run.
        recipe: of the run.
        peers: the processes that train together.
    """

    def __init__(self, episodes: list[LatentEpisode], folder: Path, recipe: TeacherRecipe,
                 peers: Peers | None = None):
        peers = peers or Peers()
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe, self.text = recipe, NanoTextEncoder()
        self.start = make_start(recipe, episodes, self.text.text_dim)
        self.normaliser = self._normaliser(folder, peers)
        self.objective = build_objective('flow_matching', recipe.objective_options())
        networks = NetworkSet(self.start.config, self.start.weights, self.objective.roles,
                              recipe, peers)
        self.source = WindowSource(episodes, recipe, self.normaliser, self.text, peers.device,
                                   load_paraphrases('training'))
        parent = self.start.parent
        job = Job('teacher', folder, self.objective, recipe, parent['sha256'] if parent else '',
                  average_warms_up=parent is None)
        self.trainer = Trainer(job, networks, self.source, peers)

    def _normaliser(self, folder: Path, peers: Peers) -> QuantileNormaliser:
        """Fixed at the run's first state, so that more data later does not shift the actions.

        A file without a state is of a run that never began, perhaps from another start.
        """
        if (folder / STATE).exists():
            return read_normaliser(folder)
        if peers.first:
            part = folder / 'normaliser.json.part'
            part.write_text(json.dumps(self.start.normaliser.to_dict()), encoding='utf-8')
            os.replace(part, folder / 'normaliser.json')
        return self.start.normaliser

    def export(self, codec_folder: Path, out: Path, preset: str = '',
               command: str = '') -> str | None:
        """Write the averaged weights as a checkpoint folder; its hash (first process only)."""
        from flashwam_ros.robot.contract import RobotContract
        trainer, recipe = self.trainer, self.recipe
        model = trainer.networks.model('average')
        if not trainer.peers.first:
            return None
        contract = RobotContract.load()
        codec, training = read_codec(codec_folder)
        settings = SamplerSettings(frames_per_chunk=contract.frames_per_chunk,
                                   actions_per_frame=contract.actions_per_frame)
        record = {
            'method': self.objective.name, 'preset': preset, 'recipe': recipe.to_dict(),
            'weights': f'moving average, decay {recipe.ema}',
            'products': str(trainer.networks.products).removeprefix('torch.'),
            'steps': trainer.step,
            'seconds': round(trainer.elapsed_s), 'skipped_steps': trainer.skipped,
            'machine': machine(trainer.peers.count, trainer.peers.device),
            'processes': trainer.peers.count, **trainer.data_entries(),
            'codec': codec_marks(codec, training)[0], 'parent': self.start.parent,
            'seed': recipe.seed, 'command': command}
        return save_checkpoint(
            out, transformer=model, codec=codec, text_encoder=self.text,
            normaliser=self.normaliser, contract=contract.to_dict(),
            sampler=self.objective.sampler(settings), training=record)


def _train(options: argparse.Namespace, recipe: TeacherRecipe, peers: Peers) -> int:
    latents = options.latents or options.codec / 'latents'
    episodes = load_latents(latents, codec_marks(*read_codec(options.codec)))
    run = TeacherRun(episodes, options.out, recipe, peers)
    trainer, target = run.trainer, options.export or options.out / 'export'
    command = command_line('train-teacher', preset=options.preset, init=options.init,
                           codec=options.codec, latents=options.latents, recipe=options.recipe,
                           steps=options.steps, processes=peers.count)

    def export() -> None:
        run.export(options.codec, target, options.preset, command)

    report = reporter('teacher')
    quiet = report if peers.first else (lambda _line: None)
    size = sum(value.numel() for value in run.start.weights.values())
    quiet(f'{size / 1e6:.2f} M parameters, {len(run.source.episodes)} of {len(episodes)} '
          f'episodes, from step {trainer.step}')
    if not options.export_only:
        trainer.stop_on_signals()
        trainer.run(quiet, on_export=export)
    export()
    quiet(f'{"stopped" if trainer.stopped else "done"} at step {trainer.step}: {target}')
    return INTERRUPTED if trainer.stopped else 0


def _recipe(options: argparse.Namespace) -> TeacherRecipe:
    if options.preset == 'paper' and options.init is None and options.recipe is None:
        raise ValueError('the paper preset fine-tunes a published network: name its folder with '
                         '--init')
    options.preset = options.preset or ('finetune' if options.init else 'nano')
    recipe = read_teacher_recipe(options.recipe, options.preset)
    changes = {'init': options.init and str(options.init), 'steps': options.steps}
    return dataclasses.replace(
        recipe, **{name: value for name, value in changes.items() if value is not None})


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam train-teacher``: train, or continue a run."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog='flashwam train-teacher', description=__doc__)
    parser.add_argument('--preset', choices=(*PRESETS, 'finetune'), default=None,
                        help='default: nano, with --init finetune')
    parser.add_argument('--init', type=Path, default=None, help='checkpoint folder to fine-tune')
    parser.add_argument('--codec', type=Path, default=None,
                        help='folder of a codec or a checkpoint (default: --init, else the cache)')
    parser.add_argument('--latents', type=Path, default=None,
                        help='pre-encoded demonstrations (default: <codec>/latents)')
    parser.add_argument('--out', type=Path, default=cache_folder('teacher'))
    parser.add_argument('--recipe', type=Path, default=None,
                        help='YAML instead of the preset\'s own')
    parser.add_argument('--steps', type=int, default=None, help='instead of the recipe\'s')
    parser.add_argument('--export-only', action='store_true',
                        help='write the checkpoint folder of the saved state, do not train')
    parser.add_argument('--export', type=Path, default=None,
                        help='checkpoint folder (default: <out>/export)')
    add_process_options(parser, PORT)
    options = parser.parse_args(argv)
    options.codec = options.codec or options.init or cache_folder('codec')
    try:
        recipe = _recipe(options)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    if options.export_only:
        return _train(options, recipe, Peers())
    return run_processes(options, argv, 'flashwam_ros.training.teacher', recipe.sharding,
                         lambda peers: _train(options, recipe, peers))


if __name__ == '__main__':
    sys.exit(main())
