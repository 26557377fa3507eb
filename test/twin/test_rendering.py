# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import functools
import hashlib
import os
import subprocess
import sys
import threading

import mujoco
import numpy as np
import pytest

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.twin import gl, looks
from flashwam_ros.twin.rendering import NoOpenGLError, Renderer, RenderingError
from flashwam_ros.twin.simulation import Simulation

TOP = 0.774
FROZEN = [
    [[202, 184, 160], [201, 182, 157], [203, 184, 159], [202, 183, 159]],
    [[208, 177, 136], [200, 158, 113], [198, 160, 123], [206, 174, 133]],
    [[205, 174, 132], [191, 154, 112], [185, 160, 136], [199, 169, 132]],
]


def scene(*things: tuple[str, float, float]) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The room with objects (kind, x, y) on the table, one camera above and behind."""
    xml, files = looks.assets()
    bodies = ''.join(
        f'<body name="{kind}" pos="{x} {y} {TOP + (0.02 if kind == "potato" else 0)}"><freejoint/>'
        f'<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>{looks.object_visual_geoms(kind)}'
        '</body>' for kind, x, y in things)
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><visual>{looks.visual_options()}</visual><asset>{xml}</asset><worldbody>'
        f'{looks.room_xml(TOP, 0.12, 0.84)}{bodies}'
        '<camera name="view" pos="0.1 0 1.2" xyaxes="0 -1 0 0.8 0 0.6" fovy="60"/>'
        '</worldbody></mujoco>', files)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


@functools.cache
def policy_picture(*things: tuple[str, float, float]) -> np.ndarray:
    model, data = scene(*things)
    with Renderer(model, 160, 120) as renderer:
        return renderer.render(data, 'view').astype(int)


@functools.cache
def seen(kind: str) -> np.ndarray:
    """Mean colour of the pixels that an object in the middle of the view changes a lot."""
    empty, full = policy_picture(), policy_picture((kind, 0.35, 0.0))
    changed = np.abs(full - empty).max(2) > 60
    assert changed.sum() > 25, f'{kind} is hardly visible'
    return full[changed].mean(0)


def test_red_is_red_and_blue_is_blue():
    """Colour order: red must come out in channel 0, blue in channel 2."""
    red, green, blue = seen('red_bottle')
    assert red > 2.0 * green and red > 2.0 * blue
    red, green, blue = seen('target')
    assert blue > 1.25 * red and blue > green
    red, green, blue = seen('pink_object')
    assert red > 1.5 * green and blue > 1.1 * green and red > blue


def test_objects_differ_from_each_other_and_from_the_table():
    colours = {k: seen(k) for k in ('red_bottle', 'yellow_bottle', 'pink_object', 'target')}
    colours['table'] = policy_picture()[60:70, 60:100].reshape(-1, 3).mean(0)
    names = list(colours)
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            assert np.linalg.norm(colours[a] - colours[b]) > 45, (a, b)


def test_wood_is_neither_black_nor_burnt_out():
    model, data = scene()
    for quality in ('policy', 'film', 'pretty'):
        with Renderer(model, 160, 120, quality) as renderer:
            wood = renderer.render(data, 'view')[55:75, 50:110].reshape(-1, 3)
        assert 120 < wood.mean() < 225
        assert (wood >= 254).all(1).mean() < 0.01


def test_picture_is_upright():
    """The far wall is above, the near edge of the table below."""
    image = policy_picture(('red_bottle', 0.35, 0.15))
    red = (image[..., 0] > 100) & (image[..., 0] > 2 * image[..., 1])
    rows, columns = np.nonzero(red)
    assert columns.mean() < 70            # y = +0.15 is to the left
    wall, table = image[2].mean(0), image[-25].mean(0)
    assert wall[2] >= wall[0] and table[0] > table[2] + 20


def test_the_look_is_frozen():
    """Shipped models were trained on these pictures: a new look means training them again."""
    image = policy_picture(('pot', 0.3, 0.1), ('red_bottle', 0.4, -0.05), ('target', 0.25, -0.15))
    grid = image.reshape(3, 40, 4, 40, 3).mean((1, 3)).round().astype(int)
    assert np.abs(grid - np.array(FROZEN)).max() <= 3, grid.tolist()


def test_same_state_same_picture():
    model, data = scene(('pot', 0.3, 0.0), ('lid', 0.45, 0.1), ('potato', 0.36, -0.1))
    with Renderer(model, 160, 120) as renderer:
        first = digest(renderer.render(data, 'view'))
        assert digest(renderer.render(data, 'view')) == first
    with Renderer(model, 160, 120) as renderer:
        assert digest(renderer.render(data, 'view')) == first


def test_a_closed_neighbour_leaves_the_others_pictures_alone():
    model, data = scene(('pot', 0.3, 0.0), ('potato', 0.36, -0.1))
    first = Renderer(model, 160, 120)
    expected = digest(first.render(data, 'view'))
    second = Renderer(model, 96, 64, 'pretty')
    second.render(data, 'view')
    second.close()
    assert digest(first.render(data, 'view')) == expected
    third = Renderer(model, 160, 120)
    del first
    assert digest(third.render(data, 'view')) == expected
    third.close()


def test_making_a_renderer_leaves_the_model_as_it_was():
    model, _ = scene()
    before = (model.vis.quality.offsamples, model.vis.quality.shadowsize,
              model.vis.quality.numslices, model.vis.global_.offwidth)
    Renderer(model, 32, 24).close()
    assert before == (model.vis.quality.offsamples, model.vis.quality.shadowsize,
                      model.vis.quality.numslices, model.vis.global_.offwidth)


def test_shadow_falls_below_the_object_and_fades_with_height():
    model, data = scene(('pink_object', 0.35, 0.0))
    empty = policy_picture()
    darkest = []
    with Renderer(model, 160, 120) as renderer:
        for lift in (0.0, 0.10, 0.25):
            data.qpos[2] = TOP + lift
            mujoco.mj_forward(model, data)
            change = renderer.render(data, 'view').astype(int).sum(2) - empty.sum(2)
            spread = np.ptp(renderer.render(data, 'view').astype(int) - empty, axis=2)
            darkest.append(int(change[spread < 40].min()))   # grey darkening only, not the pink
    assert darkest[0] < -60
    assert darkest[0] < darkest[1] < darkest[2] <= 0


def test_pictures_follow_light_and_camera_variation():
    model, data = scene(('pot', 0.3, 0.0))
    with Renderer(model, 96, 64) as renderer:
        nominal = digest(renderer.render(data, 'view'))
        looks.vary(model, np.random.default_rng(1))
        mujoco.mj_forward(model, data)
        varied = renderer.render(data, 'view')
        assert digest(varied) != nominal
        looks.restore(model)
        mujoco.mj_forward(model, data)
        assert digest(renderer.render(data, 'view')) == nominal


def test_misuse_is_named():
    model, data = scene()
    with pytest.raises(ValueError, match='quality'):
        Renderer(model, 32, 24, 'best')
    with pytest.raises(ValueError, match='size'):
        Renderer(model, 0, 24)
    renderer = Renderer(model, 32, 24)
    with pytest.raises(KeyError, match='no camera'):
        renderer.render(data, 'nose')
    caught = []

    def elsewhere():
        try:
            renderer.render(data, 'view')
        except RenderingError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10.0)
    assert caught and 'thread' in str(caught[0])
    renderer.close()
    renderer.close()
    with pytest.raises(RenderingError, match='closed'):
        renderer.render(data, 'view')


def test_the_users_choice_of_backend_is_kept(monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'osmesa')
    assert gl.choose_gl_backend() == 'osmesa'


def test_no_opengl_gives_the_packages_to_install(monkeypatch):
    monkeypatch.delenv('MUJOCO_GL', raising=False)
    monkeypatch.setattr(gl, '_probe', lambda backend: 'library not found')
    with pytest.raises(NoOpenGLError, match='apt-get install libosmesa6'):
        gl.choose_gl_backend()
    assert 'MUJOCO_GL' not in os.environ


def test_the_first_backend_that_works_is_remembered(monkeypatch):
    monkeypatch.delenv('MUJOCO_GL', raising=False)
    monkeypatch.setattr(gl, '_probe', lambda backend: '' if backend == 'osmesa' else 'broken')
    assert gl.choose_gl_backend() == 'osmesa'
    assert os.environ['MUJOCO_GL'] == 'osmesa'


def test_physics_first_and_pictures_later_works_and_exits_quietly():
    """MuJoCo imported, and used, before anyone thought of OpenGL."""
    code = (
        'import mujoco\n'
        "m = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size=\"1\"/>"
        "<camera name=\"c\" pos=\"0 0 4\"/></worldbody></mujoco>')\n"
        'd = mujoco.MjData(m); mujoco.mj_step(m, d)\n'
        'import sys; assert not any(n.startswith("OpenGL") for n in sys.modules)\n'
        'from flashwam_ros.twin.rendering import Renderer\n'
        'r = Renderer(m, 16, 12)\n'
        'assert r.render(d, "c").shape == (12, 16, 3)\n'
    )
    env = {k: v for k, v in os.environ.items() if k not in ('MUJOCO_GL', 'PYOPENGL_PLATFORM')}
    env['PYTHONPATH'] = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and done.stderr == '', done.stderr


def test_cameras_of_one_state_see_what_each_would_see_alone():
    """Also the light at the camera, and the order in which what is transparent is painted."""
    cameras = [camera.key for camera in RobotContract.load().cameras]
    simulation = Simulation('pot_potato')
    simulation.reset(5)
    with Renderer(simulation.model, 80, 60) as renderer:
        together = list(renderer.render_each(simulation.data, cameras))
        for name, picture in zip(cameras, together, strict=True):
            assert np.array_equal(picture, renderer.render(simulation.data, name)), name
