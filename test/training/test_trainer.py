# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop: resumption, precision, steps that are left out."""

import dataclasses
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trainer_process import KILL_AT, STEPS, quiet, run_recipe, spoil
from training_support import make_latents

from flashwam_ros.training import trainer as trainer_module
from flashwam_ros.training.distributed import Peers
from flashwam_ros.training.progress import Progress, duration
from flashwam_ros.training.run_state import read_log
from flashwam_ros.training.teacher import TeacherRun

PROCESS = Path(__file__).parent / 'trainer_process.py'


@pytest.fixture(autouse=True)
def one_thread():
    """Small products are slower on many threads, and exactness wants one."""
    torch.set_num_threads(1)


def make_run(folder, **changes):
    return TeacherRun(make_latents(), folder, run_recipe(**changes))


def curve(folder):
    """The log without what a clock says."""
    return [{k: v for k, v in row.items() if k != 'seconds'}
            for row in read_log(folder / 'teacher.csv')]


def weights(run):
    return [p.detach().clone() for p in run.trainer.networks.student.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_killed_run_continues_on_the_same_curve(tmp_path):
    with subprocess.Popen([sys.executable, str(PROCESS), 'slow', str(tmp_path / 'killed')],
                          stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.startswith(f'step {KILL_AT},'):
                child.kill()
                break
        child.stdout.close()
    assert child.returncode == -signal.SIGKILL
    resumed = make_run(tmp_path / 'killed')
    assert KILL_AT - 1 <= resumed.trainer.step < STEPS
    resumed.trainer.run(quiet)
    whole = make_run(tmp_path / 'whole')
    whole.trainer.run(quiet)
    assert curve(tmp_path / 'killed') == curve(tmp_path / 'whole')
    assert len(curve(tmp_path / 'whole')) == STEPS
    assert same(weights(resumed), weights(whole))
    assert same(resumed.trainer.networks.model('average').parameters(),
                whole.trainer.networks.model('average').parameters())


def test_stop_signal_ends_after_the_step_and_saves(tmp_path):
    run = make_run(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        run.trainer.stop_on_signals()
        signal.raise_signal(signal.SIGTERM)
        run.trainer.run(quiet)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert run.trainer.stopped and run.trainer.step == 1
    assert make_run(tmp_path).trainer.step == 1


def test_step_that_is_not_finite_is_left_out_and_counted(tmp_path):
    run = make_run(tmp_path)
    spoil(run.trainer, 1, 0)
    run.trainer.run(quiet, until=1)
    before = weights(run)
    run.trainer.run(quiet, until=2)
    assert same(before, weights(run))
    run.trainer.run(quiet, until=3)
    assert not same(before, weights(run))
    assert all(bool(torch.isfinite(w).all()) for w in weights(run))
    assert [row['skipped'] for row in read_log(tmp_path / 'teacher.csv')] == ['0', '1', '1']
    assert make_run(tmp_path).trainer.skipped == 1


def test_run_beyond_repair_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, 'MOST_SKIPPED', 3)
    run = make_run(tmp_path)
    with torch.no_grad():
        next(run.trainer.networks.student.parameters()).fill_(math.nan)
    with pytest.raises(trainer_module.DivergedError, match='lower the learning rate'):
        run.trainer.run(quiet)


def test_cpu_without_bf16_is_told_and_makes_products_in_fp32(tmp_path, monkeypatch):
    lines, seen = [], []

    def first_step(name, capability):
        monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
        run = make_run(tmp_path / name, precision='bf16', bf16=True, head_dim=32)
        linear = next(module for module in run.trainer.networks.student.blocks.modules()
                      if isinstance(module, torch.nn.Linear))
        linear.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
        run.trainer.run(lines.append, until=1)
        return seen.pop()

    assert first_step('fast', 'AVX512') is torch.bfloat16
    assert not any('fp32' in line for line in lines)
    assert first_step('slow', 'AVX2') is torch.float32
    assert any('fp32' in line for line in lines)


def moved(folder, precision):
    """Share of the student's weights that a published learning rate changes in three steps."""
    run = make_run(folder, precision=precision, peak_learning_rate=5e-6, warmup_steps=1,
                   head_dim=32)
    student = run.trainer.networks.student
    before = weights(run)
    run.trainer.run(quiet, until=3)
    state = run.trainer.networks.optimisers['student'].state
    kept = torch.bfloat16 if precision == 'legacy_bf16' else torch.float32
    assert {m['exp_avg'].dtype for m in state.values()} == {kept}
    for network in (student, run.trainer.networks.average):
        assert {p.dtype for p in network.parameters()} == {kept}
    changed = [(p != b)[b.abs() > 0.01] for p, b in zip(student.parameters(), before, strict=True)
               if p in state and bool(state[p]['exp_avg'].any())]
    return float(torch.cat(changed).float().mean())


def test_published_bf16_recipe_rounds_most_updates_away(tmp_path):
    assert moved(tmp_path / 'legacy', 'legacy_bf16') < 0.05
    assert moved(tmp_path / 'bf16', 'bf16') > 0.8
    assert moved(tmp_path / 'fp32', 'fp32') > 0.8


def test_activation_checkpointing_changes_nothing(tmp_path):
    plain, lean = make_run(tmp_path / 'a'), make_run(tmp_path / 'b',
                                                     activation_checkpointing=True)
    for run in (plain, lean):
        run.trainer.run(quiet, until=3)
    assert same(weights(plain), weights(lean))


def test_micro_batches_must_share_out(tmp_path):
    with pytest.raises(ValueError, match='micro_batches 2 cannot be shared by 3 processes'):
        TeacherRun(make_latents(), tmp_path, run_recipe(), Peers(0, 3))


def test_state_of_another_parent_is_refused(tmp_path):
    run = make_run(tmp_path)
    run.trainer.run(quiet, until=1)
    job = dataclasses.replace(run.trainer.job, parent='f' * 64)
    with pytest.raises(ValueError, match='choose another --out'):
        trainer_module.Trainer(job, run.trainer.networks, run.trainer._source, Peers())


def test_progress_tells_the_time_left():
    lines, clock = [], iter([0.0, 100.0, 101.0, 130.0])
    bar = Progress(lines.append, 0.5, clock=lambda: next(clock))
    bar.tell(10, 3700.0, 0.6, 'video 1')
    bar.tell(11, 3701.0, 0.61, 'video 1')
    bar.tell(12, 3730.0, 0.63, 'video 1')
    assert lines[0] == 'step 10, 1 h 01 min: video 1; 60 %, about 6 min 40 s left'
    assert len(lines) == 2
    assert [duration(s) for s in (3, 245)] == ['3 s', '4 min 05 s']
