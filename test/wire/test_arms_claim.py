# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The file that says that a driver holds the arms: whoever did not write it does not remove it."""

import pytest

from flashwam_ros.wire.arms_claim import ArmsClaim


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path))


def test_it_is_taken_and_dropped():
    claim = ArmsClaim(41, 'lo')
    assert not claim.taken and claim.held == claim.foreign == ''
    claim.take()
    claim.take()
    assert claim.taken and claim.foreign == '' and claim.remedy in claim.held
    assert not ArmsClaim(42, 'lo').taken and not ArmsClaim(41, 'eth0').taken
    claim.drop()
    assert not claim.taken


def test_that_of_another_stays_and_names_the_command():
    dead, mine = ArmsClaim(0, 'eth0'), ArmsClaim(0, 'eth0')
    dead.take()
    said = 'the arms may still be held: flashwam release --domain 0 --interface eth0'
    assert mine.foreign.startswith(said)
    with pytest.raises(OSError, match='the arms may still be held'):
        mine.take()
    mine.drop()
    assert dead.taken and mine.foreign
    mine.clear()
    mine.take()
    dead.drop()
    assert mine.taken, 'a driver that comes to again does not end the claim of its successor'


def test_an_empty_file_of_a_full_disk_is_not_ours():
    claim = ArmsClaim(0, 'eth0')
    claim.path.parent.mkdir(parents=True)
    claim.path.touch()
    assert claim.foreign


def test_it_is_not_kept_where_a_logout_empties_it(monkeypatch, tmp_path):
    monkeypatch.delenv('XDG_STATE_HOME')
    monkeypatch.setenv('XDG_RUNTIME_DIR', str(tmp_path / 'run'))
    monkeypatch.setenv('HOME', str(tmp_path))
    assert ArmsClaim(0, 'eth0').path.parent == tmp_path / '.local' / 'state' / 'flashwam'
