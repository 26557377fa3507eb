# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Choice of the off-screen OpenGL route, made before MuJoCo is imported.

MuJoCo reads ``MUJOCO_GL`` once, at import. Physics needs no OpenGL at all, so nothing here
runs unless pictures are wanted, and this module itself never imports MuJoCo.
"""

import os
import subprocess
import sys

_BACKENDS = ('egl', 'osmesa')
_PROBE_S = 120.0  # a busy machine is slow to start an interpreter
_PROBE = (
    'import mujoco; c = mujoco.GLContext(16, 16); c.make_current(); '
    "m = mujoco.MjModel.from_xml_string('<mujoco/>'); mujoco.MjrContext(m, 100); c.free()"
)
_ADVICE = (
    'No off-screen OpenGL works here, so the twin cannot make pictures (physics still runs). '
    'Install one of these (Debian, Ubuntu):\n'
    '  sudo apt-get install libosmesa6\n'
    '  sudo apt-get install libegl1 libgl1-mesa-dri libopengl0\n'
    'Tried: '
)


class NoOpenGLError(RuntimeError):
    """No off-screen OpenGL route works on this machine."""


def _probe(backend: str) -> str:
    """Returns '' when a context of this backend can be made, else the last error line."""
    env = dict(os.environ, MUJOCO_GL=backend)
    env.pop('PYOPENGL_PLATFORM', None)
    try:
        done = subprocess.run(
            [sys.executable, '-c', _PROBE],
            env=env, capture_output=True, text=True, timeout=_PROBE_S, check=False,
        )
    except subprocess.TimeoutExpired:
        return f'no answer in {_PROBE_S:.0f} s'
    if done.returncode == 0:
        return ''
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f'exit status {done.returncode}'


def choose_gl_backend() -> str:
    """Sets ``MUJOCO_GL`` for off-screen pictures; keeps a value that the user has set.

    Must run before the first ``import mujoco`` of the process (later it cannot change
    anything). Each candidate is tried in a process of its own, because a failed attempt
    spoils the process that makes it. The answer is kept in the environment, so child
    processes do not probe again.

    Returns:
        The value of ``MUJOCO_GL`` in force.

    Raises:
        NoOpenGLError: no route works; the message names the packages to install.
    """
    chosen = os.environ.get('MUJOCO_GL', '')
    if chosen:
        return chosen
    failures = []
    for backend in _BACKENDS:
        failure = _probe(backend)
        if not failure:
            os.environ['MUJOCO_GL'] = backend
            return backend
        failures.append(f'{backend} ({failure})')
    raise NoOpenGLError(_ADVICE + '; '.join(failures))
