# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of the twin without a screen.

Three qualities. 'policy' is what models see, in demonstrations and roll-outs alike: cheap, no
shadow map, soft fake shadows. 'pretty' is for people: real shadows, smooth edges, reflections.
'film' lies between: what a rollout is filmed with.

An OpenGL context belongs to the thread that made it: create, use and close a `Renderer` in one
thread, and keep one per process for as long as pictures are needed. MuJoCo is imported, and
OpenGL looked for, only when a `Renderer` is made: physics needs neither.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from flashwam_ros.twin.gl import NoOpenGLError, choose_gl_backend

if TYPE_CHECKING:
    import mujoco

__all__ = ['NoOpenGLError', 'Renderer', 'RenderingError', 'choose_gl_backend']


class RenderingError(RuntimeError):
    """A picture that cannot be made; the message says why."""


@dataclasses.dataclass(frozen=True)
class _Quality:
    samples: int            # multi-sample anti-aliasing
    slices: int             # round things
    stacks: int
    quads: int
    shadow_size: int        # shadow map, 0 = none
    blob_depth: float       # alpha of the fake shadows
    reflections: bool


_QUALITIES = {
    'policy': _Quality(0, 14, 8, 1, 0, 0.52, False),
    'film': _Quality(4, 24, 12, 1, 0, 0.50, False),
    'pretty': _Quality(8, 32, 20, 4, 4096, 0.30, True),
}
_MOST_GEOMS = 1000


@contextlib.contextmanager
def _context_settings(model: mujoco.MjModel, width: int, height: int,
                      quality: _Quality) -> Iterator[None]:
    """Sets what MuJoCo reads from the model while it makes a context, then puts it back."""
    frame, wanted = model.vis.global_, model.vis.quality
    names = ('offsamples', 'numslices', 'numstacks', 'numquads', 'shadowsize')
    values = (quality.samples, quality.slices, quality.stacks, quality.quads, quality.shadow_size)
    before = (frame.offwidth, frame.offheight, [getattr(wanted, name) for name in names])
    frame.offwidth, frame.offheight = width, height
    for name, value in zip(names, values, strict=True):
        setattr(wanted, name, value)
    try:
        yield
    finally:
        frame.offwidth, frame.offheight = before[:2]
        for name, value in zip(names, before[2], strict=True):
            setattr(wanted, name, value)


_open: weakref.WeakSet[Renderer] = weakref.WeakSet()


def _context_maker(backend: str) -> type:
    """The class that makes an off-screen context for a value of ``MUJOCO_GL``.

    ``mujoco.GLContext`` is settled by the first import of MuJoCo, which physics may have done
    long before pictures were wanted: so the two off-screen classes are taken by name.
    """
    if backend in ('egl', 'osmesa'):
        return importlib.import_module(f'mujoco.{backend}').GLContext
    try:
        return importlib.import_module('mujoco').GLContext
    except AttributeError:
        raise NoOpenGLError(
            f'MUJOCO_GL={backend!r} switches pictures off: unset it, or set it to egl or osmesa'
        ) from None


def _close_all() -> None:
    """Closes what is left at exit, while the OpenGL library can still answer."""
    for renderer in list(_open):
        with contextlib.suppress(Exception):
            renderer.close()


class Renderer:
    """Renders any camera of one model at one size.

    Args:
        model: the compiled model.
        width: image width, pixels.
        height: image height, pixels.
        quality: 'policy' (what the robot's cameras see), 'film' (smooth edges, four times as fast
            as the next) or 'pretty' (real shadows).

    Raises:
        ValueError: unknown quality or a size below 1.
        NoOpenGLError: no off-screen OpenGL on this machine.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int,
                 quality: str = 'policy') -> None:
        self._gl = self._context = None
        if quality not in _QUALITIES:
            raise ValueError(f'quality must be one of {sorted(_QUALITIES)}, got {quality!r}')
        if width < 1 or height < 1:
            raise ValueError(f'image size must be positive, got {width} x {height}')
        make_context = _context_maker(choose_gl_backend())
        import mujoco

        from flashwam_ros.twin.shadows import BlobShadows
        self._mujoco = mujoco
        self._model = model
        self._thread = threading.get_ident()
        kind = _QUALITIES[quality]
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = [0, 0, 1, 0, 0, 0]
        self._scene = mujoco.MjvScene(model, _MOST_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = kind.shadow_size > 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = kind.reflections
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._shadows = BlobShadows(model, kind.blob_depth)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._gl = make_context(width, height)
        _open.add(self)
        atexit.unregister(_close_all)
        atexit.register(_close_all)  # the last to come is the first to run
        self._gl.make_current()
        with _context_settings(model, width, height, kind):
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def render(self, data: mujoco.MjData, camera_name: str) -> np.ndarray:
        """Renders one camera.

        Args:
            data: the state; kinematics, cameras and lights must be up to date (`mj_forward` or
                `mj_step` has run).
            camera_name: name of a camera of the model.

        Returns:
            (height, width, 3) uint8 RGB, a new array.

        Raises:
            KeyError: no such camera.
            RenderingError: closed, or called from a thread that did not create it.
        """
        return next(self.render_each(data, [camera_name]))

    def render_each(self, data: mujoco.MjData, camera_names: Iterable[str]
                    ) -> Iterator[np.ndarray]:
        """Renders one camera after the other; the scene is put together once for all.

        The state must not change before the last picture. Otherwise as `render`, whose pictures
        these are.
        """
        mj, first = self._mujoco, True
        for name in camera_names:
            self._look_through(name)
            if first:
                mj.mjv_updateScene(self._model, data, self._options, None, self._camera,
                                   mj.mjtCatBit.mjCAT_ALL, self._scene)
                self._shadows.add(self._scene, data)
            else:
                mj.mjv_updateCamera(self._model, data, self._camera, self._scene)
                mj.mjv_makeLights(self._model, data, self._scene)
            first = False
            mj.mjr_render(self._rect, self._scene, self._context)
            mj.mjr_readPixels(self._pixels, None, self._rect, self._context)
            yield self._pixels[::-1].copy()

    def _look_through(self, camera_name: str) -> None:
        if self._context is None:
            raise RenderingError('this Renderer is closed: make a new one')
        if threading.get_ident() != self._thread:
            raise RenderingError('a Renderer works only in the thread that created it')
        mj = self._mujoco
        camera = mj.mj_name2id(self._model, mj.mjtObj.mjOBJ_CAMERA, camera_name)
        if camera < 0:
            names = [self._model.camera(i).name for i in range(self._model.ncam)]
            raise KeyError(f'no camera {camera_name!r} in the model: it has {names}')
        self._gl.make_current()
        self._camera.fixedcamid = camera

    def close(self) -> None:
        """Frees the OpenGL objects. Its own context is made current first.

        Without that, MuJoCo would free the objects of whichever renderer drew last.
        """
        gl, context = self._gl, self._context
        self._gl = self._context = None
        if gl is None:
            return
        if context is not None:
            gl.make_current()
            context.free()
        gl.free()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()
