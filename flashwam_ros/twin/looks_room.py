# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The room: butcher-block bench on steel legs, white partition behind the robot, soft light."""

from __future__ import annotations

from flashwam_ros.twin.looks_robot import ATTRIBUTES

TABLE_GEOM = 'table_top'
TABLE_MATERIAL = 'butcher_block'
BLOB_MATERIAL = 'soft_blob'
KEY_LIGHT = 'key_light'
TABLE_HALF_WIDTH = 0.55
TABLE_THICKNESS = 0.04

MATERIALS = f"""
<material name="{TABLE_MATERIAL}" texture="butcher_block" texrepeat="1 1" texuniform="false"
  specular="0.18" shininess="0.35"/>
<material name="bench_edge" rgba="0.66 0.53 0.38 1" specular="0.1" shininess="0.2"/>
<material name="bench_steel" rgba="0.30 0.32 0.35 1" specular="0.5" shininess="0.5"/>
<material name="floor" texture="floor" texrepeat="5 5" texuniform="false" specular="0.1"
  shininess="0.2" reflectance="0.06"/>
<material name="fabric" texture="fabric" texrepeat="1 1" texuniform="false" specular="0"
  emission="0.20"/>
<material name="frame" rgba="0.62 0.64 0.67 1" specular="0.6" shininess="0.6"/>
<material name="wall" rgba="0.84 0.86 0.88 1" specular="0" emission="0.30"/>
<material name="skirting" rgba="0.36 0.39 0.43 1" specular="0.1"/>
<material name="{BLOB_MATERIAL}" texture="soft_blob" rgba="1 1 1 0.5" texrepeat="1 1"
  texuniform="false" specular="0" shininess="0"/>
"""

_LIGHTS = f"""
<light name="{KEY_LIGHT}" type="directional" pos="1.25 -0.80 3" dir="-0.36 0.30 -1"
  diffuse="0.53 0.52 0.50" specular="0.35 0.35 0.34" ambient="0 0 0" castshadow="true"/>
<light name="fill_light" type="directional" pos="0 2 2" dir="0.80 -0.45 -0.50"
  diffuse="0.24 0.25 0.27" specular="0.05 0.05 0.05" ambient="0 0 0" castshadow="false"/>
"""


def _box(size, pos, material: str, name: str = '') -> str:
    label = f'name="{name}" ' if name else ''
    return (f'<geom {label}type="box" size="{size[0]:.5g} {size[1]:.5g} {size[2]:.5g}" '
            f'pos="{pos[0]:.5g} {pos[1]:.5g} {pos[2]:.5g}" material="{material}" {ATTRIBUTES}/>')


def _plane(size, pos, material: str, name: str = '', extra: str = '') -> str:
    label = f'name="{name}" ' if name else ''
    return (f'<geom {label}type="plane" size="{size[0]:.5g} {size[1]:.5g} 1" '
            f'pos="{pos[0]:.5g} {pos[1]:.5g} {pos[2]:.5g}" material="{material}" {ATTRIBUTES} '
            f'{extra}/>')


def _bench(top: float, x0: float, x1: float) -> list[str]:
    middle, half = (x0 + x1) / 2.0, (x1 - x0) / 2.0
    width, thick = TABLE_HALF_WIDTH, TABLE_THICKNESS
    geoms = [
        _plane((half, width), (middle, 0, top), TABLE_MATERIAL, TABLE_GEOM),
        _box((half, width, thick / 2 - 0.0003), (middle, 0, top - thick / 2 - 0.0003),
             'bench_edge'),
    ]
    leg_height = top - thick
    for y in (-width + 0.06, width - 0.06):
        for x in (x0 + 0.05, x1 - 0.05):
            geoms.append(_box((0.022, 0.022, leg_height / 2), (x, y, leg_height / 2),
                              'bench_steel'))
        geoms.append(_box((half - 0.07, 0.014, 0.018), (middle, y, 0.16), 'bench_steel'))
        geoms.append(_box((half - 0.05, 0.016, 0.025), (middle, y, leg_height - 0.025),
                          'bench_steel'))
    geoms.append(_box((0.016, width - 0.06, 0.025), (x1 - 0.05, 0, leg_height - 0.025),
                      'bench_steel'))
    geoms.append(_box((0.014, width - 0.06, 0.018), (x1 - 0.05, 0, 0.16), 'bench_steel'))
    return geoms


def _partition() -> list[str]:
    """Three cloth panels in aluminium frames behind the robot, facing +x."""
    x, width, height, foot = -0.75, 0.80, 1.86, 0.08
    geoms = []
    for panel in range(-1, 2):
        y = panel * 2.0 * width
        geoms.append(_plane((height / 2, width - 0.02), (x, y, foot + height / 2), 'fabric',
                            extra='quat="0.70710678 0 0.70710678 0"'))
        geoms.append(_box((0.012, width, 0.016), (x, y, foot + height), 'frame'))
        geoms.append(_box((0.012, width, 0.016), (x, y, foot), 'frame'))
    for post in range(-2, 2):
        y = (post + 0.5) * 2.0 * width
        geoms.append(_box((0.016, 0.018, (height + foot) / 2), (x, y, (height + foot) / 2),
                          'frame'))
        geoms.append(_box((0.16, 0.02, 0.012), (x, y, 0.012), 'frame'))
    return geoms


def _walls() -> list[str]:
    geoms = []
    for size, pos in (((0.05, 3.6, 1.6), (3.4, 0, 1.6)), ((0.05, 3.6, 1.6), (-1.9, 0, 1.6)),
                      ((2.7, 0.05, 1.6), (0.75, 3.4, 1.6)), ((2.7, 0.05, 1.6), (0.75, -3.4, 1.6))):
        geoms.append(_box(size, pos, 'wall'))
        geoms.append(_box((size[0] + 0.012, size[1] + 0.012, 0.06), (pos[0], pos[1], 0.06),
                          'skirting'))
    return geoms


def room(top: float, x0: float, x1: float) -> str:
    """Visual geoms and lights of the room, for the world body.

    Args:
        top: height of the table top above the floor, m.
        x0: near edge of the table (pelvis at x = 0), m.
        x1: far edge, m.
    """
    middle, half = (x0 + x1) / 2.0, (x1 - x0) / 2.0
    shade = [
        _plane((half + 0.30, TABLE_HALF_WIDTH + 0.30), (middle, 0, 0.002), BLOB_MATERIAL,
               'table_shade'),
        _plane((0.30, 0.34), (0.02, 0, 0.003), BLOB_MATERIAL, 'robot_shade'),
    ]
    # nearest first: what the bench hides is then never painted
    geoms = [*_bench(top, x0, x1), _plane((3.0, 3.6), (0.6, 0, 0), 'floor', 'floor_look'),
             *_partition(), *_walls(), *shade]
    return _LIGHTS + '\n'.join(geoms)
