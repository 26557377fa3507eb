# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The look of the twin as MJCF text: what ``model.py`` pastes into the model that it builds.

All visible geoms are in group 2, weigh nothing and touch nothing.
"""

from __future__ import annotations

import functools

from flashwam_ros.twin import looks_objects, looks_robot, looks_room, textures
from flashwam_ros.twin.variation import restore, vary

__all__ = ['assets', 'object_visual_geoms', 'restore', 'robot_visual_geoms', 'room_xml', 'vary',
           'visual_options']

_TEXTURES = {
    'butcher_block': textures.butcher_block,
    'floor': textures.floor,
    'fabric': textures.fabric,
    'potato': textures.potato,
    'cork': textures.cork,
    'red_label': lambda: textures.label((190, 24, 22)),
    'yellow_label': lambda: textures.label((226, 150, 10)),
}
_BLOB_TEXTURE = 'soft_blob'


def assets() -> tuple[str, dict[str, bytes]]:
    """Everything for the ``<asset>`` section.

    Returns:
        (xml, files): the inner text of ``<asset>``, and the PNG files that it names, for the
        ``assets`` argument of ``MjModel.from_xml_string`` / ``MjSpec``.
    """
    xml, files = _assets()
    return xml, dict(files)


@functools.cache
def _assets() -> tuple[str, dict[str, bytes]]:
    files = {f'{name}.png': make() for name, make in _TEXTURES.items()}
    files[f'{_BLOB_TEXTURE}.png'] = textures.soft_blob()
    lines = [
        '<texture name="sky" type="skybox" builtin="gradient" rgb1="0.86 0.89 0.93" '
        'rgb2="0.62 0.66 0.71" width="64" height="384"/>',
        f'<texture name="{_BLOB_TEXTURE}" type="2d" nchannel="4" file="{_BLOB_TEXTURE}.png"/>',
    ]
    lines += [f'<texture name="{name}" type="2d" file="{name}.png"/>' for name in _TEXTURES]
    lines += [looks_robot.MATERIALS, looks_objects.MATERIALS, looks_room.MATERIALS]
    meshes = {}
    for link in looks_robot.all_links():
        meshes.update(looks_robot.link_parts(link).meshes)
    for kind in looks_objects.all_kinds():
        meshes.update(looks_objects.object_parts(kind).meshes)
    lines += [mesh.xml(name) for name, mesh in meshes.items()]
    return '\n'.join(lines), files


def robot_visual_geoms(link_name: str) -> str:
    """Visible geoms of one link, in the link frame of the robot description ('' for bare frames).

    Raises:
        KeyError: no such link.
    """
    return '\n'.join(looks_robot.link_parts(link_name).geoms)


def object_visual_geoms(kind: str) -> str:
    """Visible geoms of one kind of object.

    Kinds: 'pot', 'lid', 'potato', 'red_bottle', 'yellow_bottle', 'pink_object', 'target'.
    Frame: z up, origin at the centre of the underside (where it stands); the potato's origin is
    its centre, long axis x. Sizes: constants of ``looks_objects``.

    Raises:
        KeyError: no such kind.
    """
    return '\n'.join(looks_objects.object_parts(kind).geoms)


def room_xml(table_top_z: float, table_x0: float, table_x1: float) -> str:
    """Floor, walls, partition, bench and lights, for the world body (floor at z = 0, metres)."""
    return looks_room.room(table_top_z, table_x0, table_x1)


def visual_options() -> str:
    """The inner text of the ``<visual>`` element."""
    return """
  <global offwidth="1280" offheight="960"/>
  <quality shadowsize="4096" offsamples="8" numslices="28" numstacks="16" numquads="4"/>
  <headlight ambient="0.34 0.34 0.35" diffuse="0.17 0.17 0.17" specular="0.05 0.05 0.05"/>
  <map znear="0.0008" zfar="1" shadowclip="0.1" shadowscale="0.7"/>
"""
