# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The package as a whole: metadata, lists that must agree, lint, what is installed."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from flashwam_ros.bringup.graph import EXECUTABLES
from flashwam_ros.cli import VERBS

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / 'flashwam_ros').rglob('*.py'))
VERSION = '0.1.0'

#: Import name -> name in requirements/, where they differ.
DISTRIBUTIONS = {'cv2': 'opencv-python', 'yaml': 'PyYAML', 'zmq': 'pyzmq', 'PIL': 'pillow',
                 'mcap_ros2': 'mcap-ros2-support',
                 'unitree_sdk2py': 'unitree-sdk2py-dimos'}  # fmt: skip
#: Imported only for the published networks' codec and text encoder; the extra `wan`.
OPTIONAL = {'diffusers', 'transformers'}
#: Come with ROS 2; launch and cv_bridge only with one from apt, and are imported guarded.
ROS_MODULES = {'action_msgs', 'ament_index_python', 'builtin_interfaces', 'cv_bridge',
               'diagnostic_msgs', 'launch', 'launch_ros', 'lifecycle_msgs', 'rcl_interfaces',
               'rclpy', 'sensor_msgs', 'std_msgs', 'std_srvs'}  # fmt: skip


def cmake_executables():
    """Executable -> 'module:function' as CMakeLists.txt installs them."""
    text = (ROOT / 'CMakeLists.txt').read_text()
    block = re.search(r'set\(executables\n(.*?)\)', text, re.DOTALL).group(1)
    return dict(re.findall(r'"([^"=]+)=([^"]+)"', block))


def imported_modules(path):
    """Top-level names of all absolute imports in a file, also those inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split('.')[0])
    return names


def test_package_xml_is_format_3_and_complete():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert package.get('format') == '3'
    assert package.findtext('name') == 'flashwam_ros'
    assert package.findtext('version') == VERSION
    assert package.findtext('license') == 'Apache-2.0'
    assert re.fullmatch(r'[\w.-]+@[\w.-]+\.\w+', package.find('maintainer').get('email'))
    assert package.findtext('member_of_group') == 'rosidl_interface_packages'
    assert package.find('export').findtext('build_type') == 'ament_cmake'


@pytest.mark.ros
def test_package_xml_passes_catkin_pkg():
    parse_package = pytest.importorskip('catkin_pkg.package').parse_package
    warnings = []
    parse_package(str(ROOT), warnings=warnings)
    assert warnings == []


def test_one_version_and_one_command_everywhere():
    setup = (ROOT / 'setup.py').read_text()
    assert f"version='{VERSION}'" in setup
    assert "'flashwam=flashwam_ros.cli:main'" in setup
    assert cmake_executables()['flashwam'] == 'flashwam_ros.cli:main'


def test_executables_of_cmake_and_graph_agree():
    assert cmake_executables() == {name: f'{module}:main' for name, module in EXECUTABLES.items()}


@pytest.mark.parametrize('target', sorted(
    {*cmake_executables().values(), *(f'flashwam_ros.{v.target}' for v in VERBS.values())}))
def test_every_executable_and_verb_has_its_function(target):
    module, function = target.split(':')
    path = ROOT / Path(*module.split('.')).with_suffix('.py')
    assert path.is_file(), f'{target}: {path} does not exist'
    tree = ast.parse(path.read_text())
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert function in names


def test_interfaces_of_cmake_are_the_files():
    text = (ROOT / 'CMakeLists.txt').read_text()
    block = re.search(r'rosidl_generate_interfaces\(.*?\n(.*?)DEPENDENCIES', text, re.DOTALL)
    files = {str(p.relative_to(ROOT)) for d in ('msg', 'action', 'srv')
             for p in (ROOT / d).glob('*.*')}  # fmt: skip
    assert set(re.findall(r'"([^"]+)"', block.group(1))) == files


def requirements(pattern):
    """Names, in lower case, of the packages in the requirement files that match."""
    return {
        re.split(r'[=<>~!]', line, maxsplit=1)[0].lower()
        for path in (ROOT / 'requirements').glob(pattern)
        for line in path.read_text().splitlines() if line and not line.startswith('#')
    }  # fmt: skip


def undeclared(paths, declared, known):
    """Import name -> files, for the third-party imports of `paths` that are not declared."""
    missing = {}
    for path in paths:
        for name in imported_modules(path) - set(sys.stdlib_module_names) - ROS_MODULES - known:
            if DISTRIBUTIONS.get(name, name).lower() not in declared:
                missing.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return missing


def test_every_third_party_import_is_a_requirement():
    product = requirements('r*.txt')
    assert undeclared(SOURCES, product, {'flashwam_ros'} | OPTIONAL) == {}, \
        'add to requirements/runtime.txt and runtime-system-ros.txt'
    others = [path for folder in ('test', 'benchmarks', 'tools')
              for path in (ROOT / folder).rglob('*.py')]  # fmt: skip
    ours = {'flashwam_ros', 'benchmarks'} | {path.stem for path in others}
    assert undeclared(others, product | requirements('test.txt'), ours) == {}, \
        'add to requirements/test.txt'
    extras = (ROOT / 'setup.py').read_text()
    assert all(f"'{name}>=" in extras for name in OPTIONAL)


def test_both_runtime_lists_name_the_same_packages():
    assert requirements('runtime.txt') == requirements('runtime-system-ros.txt')


def test_one_opencv_and_no_unpinned_torch():
    for path in (ROOT / 'requirements').glob('*.txt'):
        lines = [line for line in path.read_text().splitlines() if not line.startswith('#')]
        assert not [line for line in lines if line.startswith('opencv-python-headless')]
        assert all(re.match(r'torch[=<>]', ln) for ln in lines if re.match(r'torch\b', ln))


def test_rooms_import_only_what_they_may():
    """Only nodes/ may import rclpy; wam/ and robot/ import nothing of ours but themselves."""
    for path in SOURCES:
        room = path.relative_to(ROOT / 'flashwam_ros').parts[0]
        names = imported_modules(path)
        if room != 'nodes':
            assert 'rclpy' not in names, path
        if room in ('wam', 'robot'):
            ours = re.findall(r'(?:from|import) flashwam_ros(?:\.(\w+))?', path.read_text())
            # resources.py needs only the standard library: it is where data files lie.
            assert set(ours) <= {room, 'resources'}, f'{path} imports {ours}'


def test_every_python_file_has_the_licence_header():
    lines = ['# Copyright 2026 The flashwam_ros authors', '# SPDX-License-Identifier: Apache-2.0']
    files = [path for folder in ('flashwam_ros', 'test', 'launch', 'tools')
             for path in (ROOT / folder).rglob('*.py')]  # fmt: skip
    assert [p for p in files if not all(x in p.read_text()[:200] for x in lines)] == []


def test_ruff_finds_nothing():
    pytest.importorskip('ruff')
    done = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--no-cache', str(ROOT)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.ros
def test_install_space_has_modules_data_and_executables():
    if importlib.util.find_spec('ament_index_python') is None:
        pytest.skip('no ROS 2 here')
    from ament_index_python.packages import get_package_prefix

    prefix = Path(get_package_prefix('flashwam_ros'))
    site = next(prefix.glob('lib/python3*/site-packages/flashwam_ros'), None) or next(
        prefix.glob('local/lib/python3*/dist-packages/flashwam_ros'))
    share = prefix / 'share' / 'flashwam_ros'
    data = [p for d in ('config', 'launch', 'urdf', 'models') for p in (ROOT / d).rglob('*')]
    missing = [p for p in SOURCES if not (site / p.relative_to(ROOT / 'flashwam_ros')).exists()]
    missing += [p for p in data if not (share / p.relative_to(ROOT)).exists()]
    assert missing == [], 'run `make setup`'
    executables = list((prefix / 'lib' / 'flashwam_ros').iterdir())
    assert {p.name for p in executables} == set(EXECUTABLES)
    for path in (*executables, prefix / 'bin' / 'flashwam'):
        assert os.access(path, os.X_OK), path


@pytest.mark.ros
def test_messages_can_be_used():
    rclpy_serialization = pytest.importorskip('rclpy.serialization')
    from flashwam_ros.action import RunRollout
    from flashwam_ros.msg import ActionChunk

    message = ActionChunk(session='s', index=3, predecessor=2, positions=[0.5] * 256)
    data = rclpy_serialization.serialize_message(message)
    assert rclpy_serialization.deserialize_message(data, ActionChunk) == message
    assert RunRollout.Goal(seed=2**63).seed == 2**63
