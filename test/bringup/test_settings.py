# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import json
import os

import pytest

from flashwam_ros.bringup.command import graph_for
from flashwam_ros.bringup.settings import (
    ARGUMENTS,
    DEFAULT_CHECKPOINT,
    Settings,
    SettingsError,
    check_domains,
)

EXPERT = {'policy': 'expert'}


def test_defaults_are_the_simulated_robot():
    settings = Settings.parse(EXPERT)
    assert settings.robot == 'twin'
    assert (settings.unitree_domain, settings.network_interface) == (1, 'lo')
    assert settings.camera_host == '127.0.0.1'
    assert settings.camera_ports == (55555, 55556, 55557)
    assert settings.headless is True


@pytest.mark.parametrize(('cores', 'rate'), [(1, 10), (2, 10), (4, 20), (None, 10)])
def test_small_machines_draw_fewer_pictures(monkeypatch, cores, rate):
    monkeypatch.setattr(os, 'cpu_count', lambda: cores)
    twin = Settings.parse(EXPERT)
    assert twin.camera_rate == rate
    assert Settings.parse({**EXPERT, 'camera_rate': '30'}).camera_rate == 30
    assert Settings.parse({'device': 'expert'}).camera_rate == max(rate, 15)
    real = {'robot': 'real', 'policy': 'wam', 'network_interface': 'eth0', 'checkpoint': 'x'}
    assert Settings.parse({**real, 'checkpoint': 'g1-nano-teacher'}).camera_rate == 20
    graph = graph_for(EXPERT)
    twin_words = graph['twin'].arguments
    assert twin_words[twin_words.index('--camera-rate') + 1] == str(rate)
    assert dict(graph['policy'].parameters)['frame_period'] == pytest.approx(1 / rate)


def test_every_argument_is_described_and_its_default_allowed():
    for argument in ARGUMENTS:
        assert len(argument.description) > 10
        assert not argument.choices or argument.default in argument.choices


@pytest.mark.parametrize(('values', 'message'), [
    ({'task': 'dance'}, 'task:=dance is not one of pot_potato'),
    ({'tusk': 'red_bottle'}, "unknown argument 'tusk'"),
    ({'seed': 'x'}, 'seed:=x is not a whole number'),
    ({'seed': '-1'}, 'not between'),
    ({'unitree_domain': '233'}, 'not between 0 and 232'),
    ({'robot': 'real', 'policy': 'expert', 'network_interface': 'eth0'}, 'robot:=twin only'),
    ({'robot': 'real', 'policy': 'wam'}, 'network_interface:=NAME'),
    ({'robot': 'real', 'policy': 'wam', 'network_interface': 'eth0'}, 'checkpoint:=FOLDER'),
    ({'robot': 'real', 'policy': 'wam', 'network_interface': 'eth0', 'checkpoint': ''},
     'checkpoint:=FOLDER'),
    ({'network_interface': 'eth0'}, 'speaks on lo only.*say robot:=real'),
    ({'unitree_domain': '0'}, 'domain of a real robot; .*say robot:=real'),
    ({'device': 'joy', 'network_interface': 'eth0', 'unitree_domain': '0'}, 'say robot:=real'),
    ({'real_time_factor': '2'}, 'not a number between 0.25 and 1'),
    ({'real_time_factor': 'slow'}, 'not a number between 0.25 and 1'),
    ({'real_time_factor': '0.5', 'device': 'web'}, 'nor an operator can be slowed'),
    ({'real_time_factor': '0.5', 'robot': 'real', 'policy': 'wam', 'network_interface': 'eth0',
      'checkpoint': 'g1-nano-teacher'}, 'neither a real robot'),
    ({'execution': 'async_grounded'}, 'needs policy:=wam'),
    ({'policy': 'expert', 'shadow': '/no/such/folder'}, 'Give the folder of a trained model'),
    ({'policy': 'wam', 'checkpoint': '/no/such/folder'}, 'Give the folder of a trained model'),
])  # fmt: skip
def test_a_wrong_choice_is_named_with_its_remedy(values, message):
    with pytest.raises(SettingsError, match=message):
        Settings.parse({**EXPERT, **values})


def test_only_the_twin_has_a_checkpoint_of_its_own():
    assert Settings.parse({}).checkpoint == Settings.parse({'checkpoint': ''}).checkpoint
    assert Settings.parse({}).checkpoint.endswith(DEFAULT_CHECKPOINT)
    described = {argument.name: argument.description for argument in ARGUMENTS}
    assert f'default: {DEFAULT_CHECKPOINT} for the twin' in described['checkpoint']


def test_checkpoint_may_be_a_folder(tmp_path):
    assert Settings.parse({'checkpoint': str(tmp_path)}).checkpoint == str(tmp_path)


def test_imagining_needs_a_model_that_was_trained_for_it(tmp_path):
    values = {'checkpoint': str(tmp_path), 'execution': 'async_grounded'}
    with pytest.raises(SettingsError, match=r'flashwam\.json cannot be read'):
        Settings.parse(values)
    manifest = tmp_path / 'flashwam.json'
    manifest.write_text('{"sampler": {}}', encoding='utf-8')
    with pytest.raises(SettingsError, match='not trained with forward dynamics'):
        Settings.parse(values)
    manifest.write_text('{"sampler": {"forward_dynamics": true}}', encoding='utf-8')
    assert Settings.parse(values).execution == 'async_grounded'


def test_a_real_robot_has_its_own_domain_and_cameras(tmp_path):
    settings = Settings.parse(
        {'robot': 'real', 'network_interface': 'eth0', 'checkpoint': str(tmp_path)})
    assert (settings.unitree_domain, settings.camera_host) == (0, '192.168.123.164')


@pytest.mark.parametrize(('domain', 'environment', 'said'), [
    ('7', {'ROS_DOMAIN_ID': '7'}, r'ROS_DOMAIN_ID=7 is also.*another unitree_domain'),
    ('42', {'ROS_DOMAIN_ID': '42'}, 'export ROS_DOMAIN_ID=43'),
    ('1', {'ROS_DOMAIN_ID': 'one'}, 'not a whole number'),
])  # fmt: skip
def test_ros_and_the_robot_do_not_share_a_domain(domain, environment, said):
    settings = Settings.parse({**EXPERT, 'unitree_domain': domain})
    with pytest.raises(SettingsError, match=said):
        check_domains(settings, environment)


def test_ros_keeps_off_the_domain_of_a_real_robot(tmp_path):
    settings = Settings.parse(
        {'robot': 'real', 'network_interface': 'eth0', 'checkpoint': str(tmp_path)})
    said = r'ROS_DOMAIN_ID=0 \(it is not set, so 0\).*unitree_domain:=0, eth0.*ROS_DOMAIN_ID=42'
    with pytest.raises(SettingsError, match=said):
        check_domains(settings, {})
    check_domains(settings, {'ROS_DOMAIN_ID': '3'})


def test_different_domains_are_fine():
    check_domains(Settings.parse(EXPERT), {})
    check_domains(Settings.parse({**EXPERT, 'unitree_domain': '7'}), {'ROS_DOMAIN_ID': '3'})


def test_a_launch_is_refused_on_a_shared_domain(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '1')
    with pytest.raises(SettingsError, match='they would hear each other'):
        graph_for(EXPERT)


def test_a_mapping_must_be_a_file(tmp_path):
    file = tmp_path / 'pad.yaml'
    file.touch()
    assert Settings.parse({'device': 'joy', 'mapping': str(file)}).mapping == str(file)
    assert Settings.parse({}).mapping == ''
    with pytest.raises(SettingsError, match='mapping'):
        Settings.parse({'device': 'joy', 'mapping': str(tmp_path)})


@pytest.mark.parametrize(('given', 'url'), [
    ({}, 'http://127.0.0.1:8765'),
    ({'study_options': '--port=9001 --task=red_bottle'}, 'http://127.0.0.1:9001'),
    ({'study_options': '--server http://10.0.0.5:8000'}, 'http://10.0.0.5:8000'),
    ({'study_url': 'http://lab:1'}, 'http://lab:1'),
    ({'study_url': ''}, 'http://127.0.0.1:8765'),
])  # fmt: skip
def test_the_console_of_a_study_is_one_click_away(tmp_path, given, url):
    stated = {'study': {'arms': [{'id': 'a', 'policy': 'expert'}], 'tasks': {'red_bottle': {}}},
              'resolved': {'a': {'checkpoint': ''}}}
    (tmp_path / 'study.json').write_text(json.dumps(stated), encoding='utf-8')
    settings = Settings.parse({'study': str(tmp_path), **given})
    assert settings.study_url == url
    assert settings.film, 'a trial comes with its film'


@pytest.mark.parametrize('score', ['predicate', None])
def test_a_study_that_starts_trials_by_itself_never_gets_a_robot(tmp_path, score):
    stated = {'study': {'arms': [{'id': 'a', 'policy': 'wam'}], 'tasks': {'red_bottle': {}},
                        'score': score}, 'resolved': {'a': {'checkpoint': 'x'}}}
    (tmp_path / 'study.json').write_text(json.dumps(stated), encoding='utf-8')
    with pytest.raises(SettingsError, match='score: operator'):
        Settings.parse({'study': str(tmp_path), 'robot': 'real', 'network_interface': 'eth0'})


def test_a_study_without_a_model_leaves_a_robot_none_to_fall_back_on(tmp_path):
    stated = {'study': {'arms': [{'id': 'a', 'policy': 'wam'}], 'tasks': {'red_bottle': {}},
                        'score': 'operator'}, 'resolved': {'a': {'checkpoint': ''}}}
    (tmp_path / 'study.json').write_text(json.dumps(stated), encoding='utf-8')
    with pytest.raises(SettingsError, match='checkpoint:=FOLDER'):
        Settings.parse({'study': str(tmp_path), 'robot': 'real', 'network_interface': 'eth0'})


def test_a_study_names_its_models_itself_on_a_robot_too(tmp_path):
    stated = {'study': {'arms': [{'id': 'a', 'policy': 'wam'}], 'tasks': {'red_bottle': {}},
                        'score': 'operator'}, 'resolved': {'a': {'checkpoint': str(tmp_path)}}}
    (tmp_path / 'study.json').write_text(json.dumps(stated), encoding='utf-8')
    settings = Settings.parse(
        {'study': str(tmp_path), 'robot': 'real', 'network_interface': 'eth0'})
    assert settings.checkpoint == str(tmp_path)
