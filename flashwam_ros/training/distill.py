# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make a few-step student of a teacher; running again continues.

``flashwam distill``, or ``torchrun -m flashwam_ros.training.distill`` on several GPUs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from flashwam_ros.training.command import cache_folder, load_paraphrases, reporter
from flashwam_ros.training.dataset import LatentEpisode
from flashwam_ros.training.distributed import Peers
from flashwam_ros.training.networks import WEIGHTS, NetworkSet
from flashwam_ros.training.objectives.registry import METHODS, build_objective
from flashwam_ros.training.program import (
    INTERRUPTED,
    add_process_options,
    codec_marks,
    command_line,
    load_latents,
    machine,
    plain_path,
    run_processes,
)
from flashwam_ros.training.recipes import PRESETS, DistillRecipe, read_distill_recipe
from flashwam_ros.training.trainer import Job, Trainer
from flashwam_ros.training.windows import WindowSource
from flashwam_ros.wam.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

PORT = 29518
NOT_DISTILLING = 'flow_matching'


class Distillation:
    """One student's training, with what its checkpoint needs.

    Args:
        method: of ``objectives.registry.METHODS``.
        teacher: checkpoint that the student starts from and learns from.
        episodes: demonstrations, encoded with the teacher's codec.
        folder: state, log and plot of the run.
        recipe: of the run.
        peers: the processes that train together.

    Raises:
        ValueError: the teacher is a student of an LCM form, the method does not fit it, or the
            folder holds another run.
    """

    def __init__(self, method: str, teacher: Checkpoint, episodes: list[LatentEpisode],
                 folder: Path, recipe: DistillRecipe, peers: Peers | None = None):
        peers = peers or Peers()
        if not teacher.sampler.forward_dynamics:
            # Presets name a share; a teacher that cannot imagine a chunk cannot teach it.
            recipe = dataclasses.replace(
                recipe, options={**recipe.options, 'forward_dynamics_share': 0.0})
        self.method, self.teacher, self.recipe = method, teacher, recipe
        _require_teacher(teacher)
        self.objective = build_objective(method, {
            'chunk_size': teacher.sampler.frames_per_chunk, 'window': teacher.sampler.window,
            'seed': recipe.seed, **recipe.options})
        self.sampler = self.objective.sampler(teacher.sampler)
        weights = dict(teacher.transformer.state_dict())
        networks = NetworkSet(teacher.transformer.config, weights, self.objective.roles, recipe,
                              peers)
        self.source = WindowSource(episodes, recipe, teacher.normaliser, teacher.text_encoder,
                                   peers.device, load_paraphrases('training'))
        job = Job(method, folder, self.objective, recipe, parent=teacher.sha256)
        self.trainer = Trainer(job, networks, self.source, peers)

    def export(self, out: Path, preset: str = '', command: str = '',
               weights: str = 'average') -> str | None:
        """Write the student as a checkpoint folder; its hash (first process only).

        Args:
            out: folder.
            preset: for the record.
            command: for the record.
            weights: 'average' or 'online'. The published code saves both (target_student and
                online_student, flashwam_method.md section 7.2) and does not say which it ran.
        """
        trainer, teacher, recipe = self.trainer, self.teacher, self.recipe
        model = trainer.networks.model(weights)
        if not trainer.peers.first:
            return None
        codec = codec_marks(teacher.codec, teacher.training)[0]
        record = {
            'method': self.method, 'preset': preset, 'recipe': recipe.to_dict(),
            'weights': ('the student itself' if weights == 'online' else
                        f'moving average of the student, decay {recipe.ema}'),
            'products': str(trainer.networks.products).removeprefix('torch.'),
            'steps': trainer.step, 'seconds': round(trainer.elapsed_s),
            'skipped_steps': trainer.skipped,
            'machine': machine(trainer.peers.count, trainer.peers.device),
            'processes': trainer.peers.count, **trainer.data_entries(), 'codec': codec,
            'parent': {'name': plain_path(teacher.path), 'sha256': teacher.sha256},
            'seed': recipe.seed, 'command': command}
        return save_checkpoint(
            out, transformer=model, codec=teacher.codec, text_encoder=teacher.text_encoder,
            normaliser=teacher.normaliser, contract=teacher.contract, sampler=self.sampler,
            training=record)


def _require_teacher(teacher: Checkpoint) -> None:
    """A jump takes Euler steps along the teacher's velocity, which an LCM form has not."""
    for stream in (teacher.sampler.video, teacher.sampler.action):
        if stream.sampler != 'euler':
            raise ValueError(f'{teacher.path} is a student ({stream.parametrisation} form), not a '
                             'teacher: name the checkpoint that it was made of')


def _distill(options: argparse.Namespace, recipe: DistillRecipe, peers: Peers) -> int:
    report = reporter(f'distill {options.method}') if peers.first else (lambda _line: None)
    teacher = load_checkpoint(options.teacher)
    episodes = load_latents(options.latents, codec_marks(teacher.codec, teacher.training))
    run = Distillation(options.method, teacher, episodes, options.out, recipe, peers)
    online = options.weights == 'online'
    # A folder named after the run is what an evaluation is named after.
    beside = options.out.with_name(options.out.name + '-online') if online else options.out
    trainer, target = run.trainer, options.export or beside / 'export'
    command = command_line(
        'distill', method=options.method, preset=options.preset, teacher=options.teacher,
        latents=options.latents, recipe=options.recipe, seed=recipe.seed, steps=options.steps,
        processes=peers.count, weights=options.weights if online else None)

    def export() -> None:
        run.export(target, options.preset, command, options.weights)

    report(f'{len(run.source.episodes)} of {len(episodes)} episodes, teacher '
           f'{teacher.sha256[:12]}, from step {trainer.step}')
    trainer.stop_on_signals()
    trainer.run(report, on_export=export)
    export()
    report(f'{"stopped" if trainer.stopped else "done"} at step {trainer.step}: {target}')
    return INTERRUPTED if trainer.stopped else 0


def main(argv: Sequence[str] | None = None) -> int:
    """``flashwam distill``: make a student, or continue a run."""
    argv = list(sys.argv[1:] if argv is None else argv)
    methods = [name for name in METHODS if name != NOT_DISTILLING]
    parser = argparse.ArgumentParser(prog='flashwam distill', description=__doc__)
    parser.add_argument('--method', choices=methods, required=True)
    parser.add_argument('--preset', choices=PRESETS, default='nano')
    parser.add_argument('--teacher', type=Path, required=True, help='checkpoint folder')
    parser.add_argument('--latents', type=Path, default=cache_folder('codec', 'latents'),
                        help='demonstrations encoded with the teacher\'s codec')
    parser.add_argument('--out', type=Path, default=None,
                        help='state and log (default: below the cache, one per method and seed)')
    parser.add_argument('--recipe', type=Path, default=None,
                        help='YAML whose section of the preset is put over the method\'s own')
    parser.add_argument('--seed', type=int, default=None, help='instead of the recipe\'s')
    parser.add_argument('--steps', type=int, default=None, help='instead of the recipe\'s')
    parser.add_argument('--weights', choices=WEIGHTS, default='average',
                        help='what is exported: the moving average of the student, or the student '
                             'itself; of a finished run, too')
    parser.add_argument('--export', type=Path, default=None,
                        help='checkpoint folder (default: export in --out; with online weights '
                             'in a folder beside it, <out>-online)')
    add_process_options(parser, PORT)
    options = parser.parse_args(argv)
    try:
        recipe = read_distill_recipe(options.method, options.preset, options.recipe,
                                     seed=options.seed, steps=options.steps)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    if options.out is None:
        name = f'{options.method}-{options.preset}-seed{recipe.seed}'
        options.out = cache_folder('distill', name)
    return run_processes(options, argv, 'flashwam_ros.training.distill', recipe.sharding,
                         lambda peers: _distill(options, recipe, peers))


if __name__ == '__main__':
    sys.exit(main())
