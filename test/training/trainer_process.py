# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training runs for the tests that need processes of their own.

    python trainer_process.py slow FOLDER        one run that saves and reports every step
    torchrun ... trainer_process.py spread FOLDER   runs that two processes share
"""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import torch
from training_support import make_latents, tiny_recipe

from flashwam_ros.training import progress, trainer
from flashwam_ros.training.distill import Distillation
from flashwam_ros.training.distributed import connect, disconnect
from flashwam_ros.training.recipes import read_distill_recipe
from flashwam_ros.training.teacher import TeacherRun
from flashwam_ros.wam.checkpoint import load_checkpoint

STEPS, KILL_AT = 12, 4


def quiet(_line):
    """No progress lines in tests."""


def run_recipe(**changes):
    """A run of a few steps of two micro-batches each, logged at every step."""
    return tiny_recipe(**{'micro_batches': 2, 'log_every': 1, 'held_out_every': 3,
                          'steps': STEPS, 'layers': 2, **changes})


#: Students that two processes train as shards: all roles, and gathered weights in bf16.
STUDENTS = {'flashwam': {'precision': 'fp32'},
            'joint_dmd2': {'precision': 'bf16', 'options': {'student_every': 1}}}


def make_student(folder, method, peers, options=None, **changes):
    """A student of the teacher that lies beside the run's folder."""
    recipe = read_distill_recipe(method, 'paper', steps=2, batch=1, micro_batches=2,
                                 lengths=[4], **changes)
    recipe = dataclasses.replace(recipe, options={**recipe.options, **(options or {})},
                                 activation_checkpointing=False)
    return Distillation(method, load_checkpoint(folder.parent / 'teacher'), make_latents(2),
                        folder / method, recipe, peers)


def spoil(trainer, step, rank):
    """Make the loss of one step NaN on one process."""
    losses = trainer._losses

    def spoiled(part):
        result = losses(part)
        if (trainer.step, trainer.peers.rank) == (step, rank):
            result.scalars['student'] = result.scalars['student'] * float('nan')
        return result

    trainer._losses = spoiled


def slow(folder):
    """Save after every step and tell each, so that a kill may come anywhere."""
    trainer.SAVE_EVERY_S = progress.LINE_EVERY_S = 0.0

    def tell(line):
        sys.stdout.write(line + '\n')
        sys.stdout.flush()

    TeacherRun(make_latents(), folder, run_recipe()).trainer.run(tell)


def spread(folder):
    """The same run twice by replicas and shards; a skipped step; a continued state."""
    for sharding in ('replicate', 'fsdp'):
        peers = connect(sharding)
        recipe = run_recipe(steps=4, activation_checkpointing=sharding == 'fsdp')
        TeacherRun(make_latents(), folder / sharding, recipe, peers).trainer.run(quiet)
        run = TeacherRun(make_latents(), folder / f'{sharding}_nan', recipe, peers)
        spoil(run.trainer, 1, 1)
        run.trainer.run(quiet, until=3)
        run = TeacherRun(make_latents(), folder / f'{sharding}_continued', recipe, peers)
        run.trainer.run(quiet)
    for method, changes in STUDENTS.items():
        make_student(folder / 'fsdp', method, connect('fsdp'), **changes).trainer.run(quiet)
    disconnect()


if __name__ == '__main__':
    torch.set_num_threads(1)
    {'slow': slow, 'spread': spread}[sys.argv[1]](Path(sys.argv[2]))
