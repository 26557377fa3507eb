# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from flashwam_ros import resources


def test_finds_the_description_in_the_checkout():
    assert resources.share_path('config', 'robot', 'g1_kinematics.json').is_file()


def test_nearest_place_wins(tmp_path, monkeypatch):
    for name in ('near', 'far'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'a').write_text(name)
    monkeypatch.setattr(
        resources, '_candidate_roots', lambda: [tmp_path / n for n in ('none', 'near', 'far')])
    assert resources.share_path('a').read_text() == 'near'


def test_error_names_every_place():
    with pytest.raises(FileNotFoundError) as raised:
        resources.share_path('config', 'nothing.yaml')
    for root in resources._candidate_roots():
        assert str(root / 'config' / 'nothing.yaml') in str(raised.value)


def test_ros_that_is_installed_but_not_sourced(monkeypatch):
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    assert resources.share_path('config', 'robot', 'g1_kinematics.json').is_file()
