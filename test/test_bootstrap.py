# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The set-up script: what it decides, with every effect on the machine replaced."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bootstrap(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location('bootstrap', ROOT / 'tools' / 'bootstrap.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'bootstrap', module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'VENV', tmp_path / 'venv')
    module.commands = []
    monkeypatch.setattr(
        module, 'run', lambda command, what, log, env=None: module.commands.append(command))
    return module


@pytest.fixture
def everything_there(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, 'loads', lambda *names: True)
    monkeypatch.setattr(bootstrap, 'has_venv', lambda python: True)
    monkeypatch.setattr(bootstrap, 'has_headers', lambda python: True)
    monkeypatch.setattr(bootstrap, 'has_software_renderer', lambda: True)
    monkeypatch.setattr(bootstrap.shutil, 'which', lambda name: f'/usr/bin/{name}')


def test_a_sourced_ros_wins(bootstrap, monkeypatch):
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    assert bootstrap.find_ros() == bootstrap.Ros('jazzy')


def test_a_complete_machine_needs_nothing(bootstrap, everything_there):
    bootstrap.ensure_system_packages('python3', bootstrap.Ros(None), Path('log'))
    assert bootstrap.commands == []


def test_missing_renderer_is_explained_to_an_ordinary_user(
        bootstrap, everything_there, monkeypatch):
    monkeypatch.setattr(bootstrap, 'has_software_renderer', lambda: False)
    monkeypatch.setattr(bootstrap.os, 'geteuid', lambda: 1000)
    with pytest.raises(bootstrap.BootstrapError) as raised:
        bootstrap.ensure_system_packages('python3', bootstrap.Ros(None), Path('log'))
    assert 'sudo apt-get install -y --no-install-recommends libegl1 libopengl0 libgl1-mesa-dri' \
        in str(raised.value)
    assert bootstrap.commands == []


def test_missing_packages_are_installed_as_root(bootstrap, everything_there, monkeypatch):
    answers = iter([False, True])
    monkeypatch.setattr(bootstrap, 'has_headers', lambda python: next(answers))
    monkeypatch.setattr(bootstrap.os, 'geteuid', lambda: 0)
    bootstrap.ensure_system_packages('python3', bootstrap.Ros(None), Path('log'))
    assert bootstrap.commands[1][-1] == 'python3-dev'


def test_colcon_is_needed_beside_an_installed_ros_only(bootstrap, everything_there, monkeypatch):
    monkeypatch.setattr(
        bootstrap.shutil, 'which', lambda name: None if name == 'colcon' else '/bin/x')
    assert bootstrap.missing_packages('python3', bootstrap.Ros(None)) == {}
    assert 'python3-colcon-common-extensions' in bootstrap.missing_packages(
        'python3', bootstrap.Ros('humble'))


def test_packages_are_installed_once(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, 'torch_options', lambda pip, requirements: [])
    (bootstrap.VENV / 'bin').mkdir(parents=True)
    wheels = bootstrap.Ros(None)
    bootstrap.ensure_venv(wheels, 'python3', False, Path('log'))
    assert [c[1:3] for c in bootstrap.commands] == [['-m', 'venv'], ['-m', 'pip']]
    installed = ' '.join(bootstrap.commands[1])
    assert 'ros.txt' in installed and 'constraints.txt' in installed
    assert 'test.txt' not in installed

    bootstrap.commands.clear()
    (bootstrap.VENV / 'bin' / 'python').touch()
    bootstrap.ensure_venv(wheels, 'python3', False, Path('log'))
    assert bootstrap.commands == []
    bootstrap.ensure_venv(wheels, 'python3', True, Path('log'))
    assert [word for word in bootstrap.commands[0] if word.endswith('.txt')][1:] == [
        str(ROOT / 'requirements' / 'test.txt')]


def test_changed_requirements_are_installed_again(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, 'torch_options', lambda pip, requirements: [])
    (bootstrap.VENV / 'bin').mkdir(parents=True)
    (bootstrap.VENV / 'bin' / 'python').touch()
    bootstrap.ensure_venv(bootstrap.Ros('humble'), 'python3', False, Path('log'))
    stamp = bootstrap.VENV / 'flashwam.json'
    stamped = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({**stamped, 'runtime-system-ros.txt': 'older'}))
    bootstrap.ensure_venv(bootstrap.Ros('humble'), 'python3', False, Path('log'))
    assert len(bootstrap.commands) == 2
    assert 'constraints.txt' not in ' '.join(bootstrap.commands[0])


def test_the_cpu_build_of_torch_needs_no_other_index(bootstrap, monkeypatch):
    def pip_finds(version):
        report = json.dumps({'install': [{'metadata': {'version': version}}]})
        monkeypatch.setattr(
            bootstrap.subprocess, 'run',
            lambda *args, **options: type('Done', (), {'stdout': report}))
        return bootstrap.torch_options(['pip'], ROOT / 'requirements' / 'runtime.txt')

    monkeypatch.setattr(bootstrap, 'has_nvidia_gpu', lambda: False)
    assert pip_finds('2.13.0+cpu') == []
    assert '--extra-index-url' in pip_finds('2.13.0')
    monkeypatch.setattr(bootstrap, 'has_nvidia_gpu', lambda: True)
    assert pip_finds('2.13.0') == []


def test_a_build_is_made_of_names_and_interfaces(bootstrap, monkeypatch, tmp_path):
    for folder in ('tools', 'msg', 'action', 'flashwam_ros'):
        (tmp_path / folder).mkdir()
    for name in ('CMakeLists.txt', 'package.xml', 'tools/executable.py.in', 'msg/A.msg',
                 'flashwam_ros/a.py'):  # fmt: skip
        (tmp_path / name).write_text('1')
    monkeypatch.setattr(bootstrap, 'ROOT', tmp_path)
    first = bootstrap.build_inputs()
    (tmp_path / 'flashwam_ros/a.py').write_text('2')  # linked: no new build
    assert bootstrap.build_inputs() == first
    (tmp_path / 'flashwam_ros/b.py').write_text('1')
    second = bootstrap.build_inputs()
    (tmp_path / 'msg/A.msg').write_text('2')
    assert len({first, second, bootstrap.build_inputs()}) == 3
