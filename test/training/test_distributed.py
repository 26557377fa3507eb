# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two processes (FSDP2 and replicas, over gloo) do what one does with the same windows."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trainer_process import STUDENTS, make_student, quiet, run_recipe
from training_support import make_latents

from flashwam_ros.training.codec_trainer import save_codec
from flashwam_ros.training.distributed import Peers
from flashwam_ros.training.run_state import load_state, read_log
from flashwam_ros.training.teacher import TeacherRun
from flashwam_ros.wam.codec import NanoCodec, NanoCodecConfig

PROCESS = Path(__file__).parent / 'trainer_process.py'
KINDS = ('replicate', 'fsdp')
#: Imports of three interpreters on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run_alone(folder, until=None):
    torch.set_num_threads(1)
    run = TeacherRun(make_latents(), folder, run_recipe(steps=4))
    run.trainer.run(quiet, until=until)
    return run


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Folders of one process and of two; the latter also continue a state of the former."""
    folder = tmp_path_factory.mktemp('runs')
    alone = run_alone(folder / 'alone')
    save_codec(NanoCodec(NanoCodecConfig(4, (8, 8, 8), (8, 8, 8))), folder)
    alone.export(folder, folder / 'teacher')
    for method, changes in STUDENTS.items():
        make_student(folder / 'alone', method, Peers(), **changes).trainer.run(quiet)
    run_alone(folder / 'half', until=2)
    for kind in KINDS:
        shutil.copytree(folder / 'half', folder / f'{kind}_continued')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2',
                    '--master-addr', '127.0.0.1', '--master-port', str(port),
                    str(PROCESS), 'spread', str(folder)], check=True, timeout=500)
    return folder


def losses(folder, name='teacher'):
    return [[float(row[column]) for column in ('video', 'action', 'gradient_norm')]
            for row in read_log(folder / f'{name}.csv')]


@pytest.mark.parametrize('kind', KINDS)
def test_losses_equal_those_of_one_process(runs, kind):
    alone, spread = losses(runs / 'alone'), losses(runs / kind)
    assert len(spread) == 4
    torch.testing.assert_close(torch.tensor(spread), torch.tensor(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('method, tolerance', [('flashwam', 1e-5), ('joint_dmd2', 0.05)])
def test_sharded_students_equal_those_of_one_process(runs, method, tolerance):
    """Gathered bf16 weights round elsewhere than autocast does, so that one is only near."""
    alone, spread = (losses(runs / kind / method, method) for kind in ('alone', 'fsdp'))
    assert len(spread) == 2
    torch.testing.assert_close(torch.tensor(spread), torch.tensor(alone), rtol=tolerance,
                               atol=tolerance)


@pytest.mark.parametrize('kind', KINDS)
def test_state_goes_from_one_process_to_two(runs, kind):
    torch.testing.assert_close(torch.tensor(losses(runs / f'{kind}_continued')),
                               torch.tensor(losses(runs / 'alone')), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_state_goes_from_two_processes_to_one(runs, kind):
    spread = run_alone(runs / kind)
    assert spread.trainer.step == 4
    alone = load_state(runs / 'alone' / 'teacher_state.pt')
    for name, value in spread.trainer.networks.model('average').named_parameters():
        torch.testing.assert_close(value, alone['networks']['average'][name], rtol=1e-4,
                                   atol=1e-5)
    moments = spread.trainer.networks.state()['optimisers']['student']
    assert moments.keys() == alone['optimisers']['student'].keys()
    for name, values in moments.items():
        for key, value in values.items():
            torch.testing.assert_close(value, alone['optimisers']['student'][name][key],
                                       rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_a_loss_that_one_process_has_not_is_left_out_on_both(runs, kind):
    assert [row['skipped'] for row in read_log(runs / f'{kind}_nan' / 'teacher.csv')] == [
        '0', '1', '1']
    state = load_state(runs / f'{kind}_nan' / 'teacher_state.pt')
    for values in state['networks']['student'].values():
        assert bool(torch.isfinite(values).all())
