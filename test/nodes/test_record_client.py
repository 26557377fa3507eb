# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What was done already is not done again; wrong arguments start nothing."""

import pytest

from flashwam_ros.cli import main
from flashwam_ros.episodes.library import list_episodes
from flashwam_ros.episodes.sidecar import CLOSED, Sidecar, save_sidecar
from flashwam_ros.nodes.record_client import seeds_done


@pytest.fixture
def add(tmp_path):
    """Adds an episode to the folder."""

    def add(name, seed, *labels, verdict='success', task='red_bottle', device='expert',
            policy='teleop', state=CLOSED, suffix='.mcap'):  # fmt: skip
        (tmp_path / f'{name}{suffix}').touch()
        sidecar = Sidecar(
            name, name, task=task, seed=seed, policy=policy, state=state,
            verdict=verdict and {'verdict': verdict}, extra={'device': device},
        )  # fmt: skip
        for label in labels:
            sidecar = sidecar.labelled(label)
        save_sidecar(tmp_path / f'{name}.json', sidecar)

    return add


def test_seeds_that_are_done(tmp_path, add):
    add('a', 1, 'keep')
    add('b', 2, verdict='failure')
    add('c', 3, 'discard', verdict='invalid')
    add('d', 4, 'keep', task='pot_potato')
    add('e', 5, 'keep', device='web')
    add('f', 6, 'keep', policy='expert')
    add('g', 7, verdict=None, state='recovered')
    add('h', 8, verdict=None, state='recording', suffix='.mcap.part')
    add('i', 9, 'discard')
    add('j', 9, 'keep')
    add('k', 10, 'keep', 'discard')
    assert seeds_done(list_episodes(tmp_path), 'red_bottle') == {1: True, 2: False, 9: True}


@pytest.mark.parametrize(('words', 'said'), [
    ([], 'number of episodes'), (['episodes:=0'], 'number of episodes'),
    (['episodes:=many'], 'number of episodes'), (['episodes:=2', 'task:=juggle'], 'task'),
    (['episodes:=2', 'record:=false'], 'nothing to keep'), (['episodes:=2', 'sed:=3'], 'sed'),
    (['episodes:=2', 'robot:=real'], 'robot:=twin only'),
])  # fmt: skip
def test_wrong_arguments(capsys, words, said):
    assert main(['record', *words]) == 2
    assert said in capsys.readouterr().err
