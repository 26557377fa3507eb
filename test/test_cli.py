# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from flashwam_ros import cli
from flashwam_ros.bringup import command


def test_help_lists_every_verb(capsys):
    assert cli.main(['--help']) == 0
    text = capsys.readouterr().out
    for name, verb in cli.VERBS.items():
        assert name in text
        assert verb.help in text


def test_unknown_verb_names_the_nearest_one(capsys):
    assert cli.main(['relase']) == 2
    assert "Did you mean 'release'?" in capsys.readouterr().err


def test_no_verb_is_an_error():
    assert cli.main([]) == 2


def test_missing_package_is_named(capsys, monkeypatch):
    monkeypatch.setitem(cli.VERBS, 'broken', cli.Verb('no_such_room:main', 'x'))
    assert cli.main(['broken']) == 2
    assert 'no_such_room' in capsys.readouterr().err


def test_launch_shows_its_arguments(capsys):
    assert cli.main(['launch', 'g1_task', '--show-args']) == 0
    assert 'task:=red_bottle [pot_potato|red_bottle|pink_object]' in capsys.readouterr().out


@pytest.mark.parametrize(('words', 'message'), [
    ([], 'name a launch file first'),
    (['dance'], 'name a launch file first'),
    (['g1_task', 'seed=1'], 'not of the form name:=value'),
    (['g1_task', 'task:=dance'], 'not one of'),
])  # fmt: skip
def test_wrong_launch_words_are_explained(capsys, words, message):
    assert command.main(words) == 2
    assert message in capsys.readouterr().err
