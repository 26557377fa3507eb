# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a simulated episode from outside, drawn afterwards from its recorded states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from flashwam_ros.twin.gl import choose_gl_backend


def external_view(
    task: str, seed: int, states: Iterable[np.ndarray], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Draw recorded states with the external camera.

    Make and exhaust the iterator in one thread (an OpenGL context belongs to one).

    Args:
        task: task of the scene.
        seed: seed of the scene; places what does not move.
        states: positions (nq,) of the simulated world.
        size: (width, height) of the pictures.

    Yields:
        (height, width, 3) uint8 RGB.

    Raises:
        NoOpenGLError: no off-screen OpenGL works here; the message names the packages.
        ValueError: a state does not fit the scene.
    """
    choose_gl_backend()
    import mujoco

    from flashwam_ros.twin.rendering import Renderer
    from flashwam_ros.twin.simulation import Simulation

    simulation = Simulation(task)
    simulation.reset(seed)
    model, data = simulation.model, simulation.data
    renderer = Renderer(model, *size, 'film')
    try:
        drawn, picture = None, None
        for state in states:
            if len(state) != model.nq:
                raise ValueError(f'a state of {task} has {model.nq} positions, got {len(state)}')
            if state is not drawn:
                data.qpos[:] = state
                mujoco.mj_forward(model, data)
                drawn, picture = state, renderer.render(data, 'external')
            yield picture
    finally:
        renderer.close()
