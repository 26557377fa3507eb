# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import mujoco
import numpy as np
import pytest

from flashwam_ros.resources import share_path
from flashwam_ros.twin import looks, looks_objects, looks_robot, scenes, textures
from flashwam_ros.twin.meshes import drum, lathe, loft, rounded_box


def compiled(body: str) -> mujoco.MjModel:
    xml, files = looks.assets()
    return mujoco.MjModel.from_xml_string(
        f'<mujoco><visual>{looks.visual_options()}</visual><asset>{xml}</asset>'
        f'<worldbody>{looks.room_xml(0.774, 0.12, 0.84)}{body}</worldbody></mujoco>', files)


def all_in_one() -> mujoco.MjModel:
    inertia = '<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
    parts = [looks.robot_visual_geoms(link) for link in looks_robot.all_links()]
    parts += [looks.object_visual_geoms(kind) for kind in looks_objects.all_kinds()]
    bodies = ''.join(f'<body name="b{i}"><freejoint/>{inertia}{geoms}</body>'
                     for i, geoms in enumerate(parts))
    return compiled(bodies)


def test_every_visible_geom_is_weightless_and_untouchable():
    model = all_in_one()
    assert model.ngeom > 150
    assert set(model.geom_group) == {2}
    assert not model.geom_contype.any() and not model.geom_conaffinity.any()
    assert np.allclose(model.body_mass[1:], 1.0)


def test_every_link_of_the_description_has_a_look():
    text = share_path('config', 'robot', 'g1_kinematics.json').read_text(encoding='utf-8')
    for link in json.loads(text)['links']:
        geoms = looks.robot_visual_geoms(link['name'])
        assert bool(geoms) == (link['name'] not in looks_robot.BARE_LINKS), link['name']


@pytest.mark.parametrize('make', [looks.robot_visual_geoms, looks.object_visual_geoms])
def test_unknown_names_are_refused(make):
    with pytest.raises(KeyError, match='no look'):
        make('teapot')


def half_extent(parts) -> tuple[np.ndarray, np.ndarray]:
    inertia = '<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
    model = compiled(f'<body name="x"><freejoint/>{inertia}{parts}</body>')
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    points = []
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] == 0:
            continue
        low_high = model.geom_aabb[geom]
        corners = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3) * low_high[3:]
        points.append((corners + low_high[:3]) @ data.geom_xmat[geom].reshape(3, 3).T
                      + data.geom_xpos[geom])
    points = np.concatenate(points)
    return points.min(0), points.max(0)


@pytest.mark.parametrize(('kind', 'radius', 'low', 'high'), [
    ('lid', scenes.LID_RADIUS, 0.0, scenes.LID_FOOT + scenes.LID_THICKNESS + scenes.KNOB_HEIGHT),
    ('red_bottle', scenes.BOTTLE_RADIUS, 0.0, scenes.BOTTLE_HEIGHT + scenes.CAP_HEIGHT),
    ('pink_object', scenes.PINK_RADIUS, 0.0, scenes.PINK_HEIGHT),
    ('target', scenes.TARGET_RADIUS, 0.0, scenes.TARGET_HEIGHT),
    ('potato', scenes.POTATO_AXES[0], -scenes.POTATO_AXES[2], scenes.POTATO_AXES[2]),
])
def test_objects_look_as_big_as_they_are(kind, radius, low, high):
    """What is seen must be what is touched, to 2 mm."""
    lower, upper = half_extent(looks.object_visual_geoms(kind))
    assert abs(upper[0] - radius) < 0.002 and abs(lower[0] + radius) < 0.002
    assert abs(lower[2] - low) < 0.002 and abs(upper[2] - high) < 0.002


def test_pot_is_as_big_as_it_is():
    meshes = looks_objects.object_parts('pot').meshes
    points = np.concatenate([meshes[name].vertices for name in ('pot_front', 'pot_back')])
    assert abs(np.hypot(points[:, 0], points[:, 1]).max() - scenes.POT_RADIUS) < 0.001
    assert abs(points[:, 2].min()) < 0.001 and abs(points[:, 2].max() - scenes.POT_HEIGHT) < 0.001


@pytest.mark.parametrize('side', ['left', 'right'])
def test_pads_end_where_the_contact_plane_is(side):
    """Finger 1 is on the -y side; its rubber ends at y = -0.0231 at joint zero."""
    text = share_path('config', 'robot', 'g1_kinematics.json').read_text(encoding='utf-8')
    plane = json.loads(text)['gripper']['pad']['contact_plane_y_at_q0']
    for finger, sign in ((1, -1.0), (2, 1.0)):
        parts = looks_robot.link_parts(f'{side}_dex1_finger_link_{finger}')
        inner = np.abs(parts.meshes[f'pad_{finger}'].vertices[:, 1]).min()
        assert abs(inner - plane) < 0.0006
        assert np.sign(parts.meshes[f'pad_{finger}'].vertices[:, 1].mean()) == sign


@pytest.mark.parametrize('mesh', [
    drum(0.03, 0.05), rounded_box((0.02, 0.05, 0.09), 0.005, 'x'),
    rounded_box((0.02, 0.05, 0.09), 0.005, 'y'), rounded_box((0.02, 0.05, 0.09), 0.005, 'z'),
    loft([(0, 0, 0, 0.02, 0.03), (0.1, 0, 0, 0.03, 0.02)], 'x'),
    lathe([(0, 0), (0.02, 0), (0.02, 0), (0.02, 0.05), (0.02, 0.05), (0, 0.05)]),
])
def test_meshes_are_closed_and_face_outwards(mesh):
    corner = mesh.vertices[mesh.faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    volume = float((corner[:, 0] * normal).sum() / 6.0)
    size = np.ptp(mesh.vertices, axis=0)
    assert 0.5 * size.prod() < volume <= size.prod()
    assert np.abs(normal.sum(0)).max() < 1e-9             # closed
    shading = mesh.normals[mesh.faces].mean(1)
    assert (np.einsum('ij,ij->i', normal, shading) > 0).mean() > 0.99


def test_rounded_box_has_the_size_asked_for():
    for axis in 'xyz':
        assert np.allclose(np.ptp(rounded_box((0.02, 0.05, 0.09), 0.004, axis).vertices, axis=0),
                           (0.02, 0.05, 0.09), rtol=0.02)


def test_textures_never_change():
    assert textures.butcher_block() == textures.butcher_block()
    assert looks.assets()[1] == looks.assets()[1]


def test_variation_is_seeded_modest_and_undone():
    model = all_in_one()
    before = {name: getattr(model, name).copy()
              for name in ('light_diffuse', 'light_dir', 'mat_rgba', 'cam_pos', 'cam_quat')}
    looks.vary(model, np.random.default_rng(3))
    once = {name: getattr(model, name).copy() for name in before}
    assert not np.allclose(once['light_diffuse'], before['light_diffuse'])
    assert np.abs(once['light_diffuse'] - before['light_diffuse']).max() < 0.12
    looks.vary(model, np.random.default_rng(4))
    assert not np.allclose(model.light_diffuse, once['light_diffuse'])
    looks.vary(model, np.random.default_rng(3))
    for name, value in once.items():
        assert np.array_equal(getattr(model, name), value), name
    looks.restore(model)
    for name, value in before.items():
        assert np.array_equal(getattr(model, name), value), name


def test_variation_moves_the_robots_cameras_a_little_and_no_others():
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><camera name="people" pos="1 0 1"/>'
        '<body><freejoint/><geom size="0.1"/><camera name="head" pos="0.1 0 0"/></body>'
        '</worldbody></mujoco>')
    pos, quat = model.cam_pos.copy(), model.cam_quat.copy()
    for seed in range(20):
        looks.vary(model, np.random.default_rng(seed))
        assert np.array_equal(model.cam_pos[0], pos[0])
        assert 0 < np.abs(model.cam_pos[1] - pos[1]).max() <= 0.004
        turn = 2 * np.arccos(min(1.0, abs(float(model.cam_quat[1] @ quat[1]))))
        assert 0 < turn <= np.deg2rad(1.0) * np.sqrt(3)
