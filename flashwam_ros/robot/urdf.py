# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The URDF of the robot, generated from the description; primitive geometry only.

``python -m flashwam_ros.robot.urdf`` rewrites ``urdf/g1_29dof_dex1.urdf``; a test proves that the
file equals the generator.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np

from flashwam_ros.resources import share_path
from flashwam_ros.robot.description import (
    Description,
    Frame,
    Geometry,
    Joint,
    Link,
    load_description,
)
from flashwam_ros.robot.kinematics import rotation_from_rpy

NAME = 'g1_29dof_dex1'
_NOTICE = (
    ' Generated from config/robot/g1_kinematics.json by flashwam_ros.robot.urdf: do not edit. '
    'Numbers of links and joints: Unitree G1 description, unitree_ros, BSD-3-Clause. '
)
_INERTIA = ('ixx', 'iyy', 'izz', 'ixy', 'ixz', 'iyz')
# Both jaws move alike: state publishers need only the first.
_MIMIC = ('_finger_joint_2', '_finger_joint_1')


def _numbers(values: tuple[float, ...]) -> str:
    """Shortest decimals that give the same doubles back; no negative zeros."""
    return ' '.join(repr(float(v) + 0.0) for v in values)


def _origin(parent: Xml.Element, xyz: tuple[float, ...], rpy: tuple[float, ...]) -> None:
    Xml.SubElement(parent, 'origin', xyz=_numbers(xyz), rpy=_numbers(rpy))


def _primitives(geometry: Geometry) -> list[Geometry]:
    """The geometry in URDF's three shapes; an ellipsoid becomes the cylinder around it."""
    size, xyz, rpy, role = geometry.size, geometry.xyz, geometry.rpy, geometry.role
    if geometry.kind == 'ellipsoid':
        return [Geometry('cylinder', (max(size[:2]), 2.0 * size[2]), xyz, rpy, role)]
    if geometry.kind != 'capsule':
        return [geometry]
    half = 0.5 * size[1] * rotation_from_rpy(rpy)[:, 2]
    ends = [tuple(np.round(np.add(xyz, s * half), 9)) for s in (1.0, -1.0)]
    return [
        Geometry('cylinder', size, xyz, rpy, role),
        *(Geometry('sphere', size[:1], end, rpy, role) for end in ends),
    ]


def _shape(parent: Xml.Element, geometry: Geometry) -> None:
    _origin(parent, geometry.xyz, geometry.rpy)
    holder = Xml.SubElement(parent, 'geometry')
    if geometry.kind == 'box':
        Xml.SubElement(holder, 'box', size=_numbers(geometry.size))
        return
    sizes = dict(zip(('radius', 'length'), geometry.size, strict=False))
    Xml.SubElement(holder, geometry.kind, {k: _numbers((v,)) for k, v in sizes.items()})


def _add_link(robot: Xml.Element, link: Link) -> None:
    element = Xml.SubElement(robot, 'link', name=link.name)
    if link.mass > 0.0:
        inertial = Xml.SubElement(element, 'inertial')
        _origin(inertial, link.com, (0.0, 0.0, 0.0))
        Xml.SubElement(inertial, 'mass', value=_numbers((link.mass,)))
        tensor = dict(zip(_INERTIA, link.inertia, strict=True))
        Xml.SubElement(inertial, 'inertia', {k: _numbers((v,)) for k, v in tensor.items()})
    for geometry in link.geometry:
        for primitive in _primitives(geometry):
            visual = Xml.SubElement(element, 'visual')
            _shape(visual, primitive)
            Xml.SubElement(visual, 'material', name=link.color)
            # The rails of two jaws pass through each other by design.
            if geometry.role != 'rail':
                _shape(Xml.SubElement(element, 'collision'), primitive)


def _add_joint(robot: Xml.Element, joint: Joint) -> None:
    element = Xml.SubElement(robot, 'joint', name=joint.name, type=joint.kind)
    _origin(element, joint.xyz, joint.rpy)
    Xml.SubElement(element, 'parent', link=joint.parent)
    Xml.SubElement(element, 'child', link=joint.child)
    if joint.kind == 'fixed':
        return
    Xml.SubElement(element, 'axis', xyz=_numbers(joint.axis))
    limits = {k: getattr(joint, k) for k in ('lower', 'upper', 'effort', 'velocity')}
    Xml.SubElement(element, 'limit', {k: _numbers((v,)) for k, v in limits.items()})
    follower, leader = _MIMIC
    if joint.name.endswith(follower):
        Xml.SubElement(element, 'mimic', joint=joint.name.replace(follower, leader))


def _add_frame(robot: Xml.Element, frame: Frame) -> None:
    Xml.SubElement(robot, 'link', name=frame.name)
    element = Xml.SubElement(robot, 'joint', name=f'{frame.name}_joint', type='fixed')
    _origin(element, frame.xyz, frame.rpy)
    Xml.SubElement(element, 'parent', link=frame.parent)
    Xml.SubElement(element, 'child', link=frame.name)


def generate(description: Description) -> str:
    """The URDF text of a description."""
    robot = Xml.Element('robot', name=NAME)
    robot.append(Xml.Comment(_NOTICE))
    for name, rgba in description.materials.items():
        material = Xml.SubElement(robot, 'material', name=name)
        Xml.SubElement(material, 'color', rgba=_numbers(rgba))
    for link in description.links:
        _add_link(robot, link)
    for joint in description.joints:
        _add_joint(robot, joint)
    for frame in description.frames:
        _add_frame(robot, frame)
    Xml.indent(robot)
    return '<?xml version="1.0"?>\n' + Xml.tostring(robot, encoding='unicode') + '\n'


def main() -> None:
    """Rewrite the file next to the description's folder."""
    folder: Path = share_path('config').parent / 'urdf'
    folder.mkdir(exist_ok=True)
    text = generate(load_description())
    (folder / f'{NAME}.urdf').write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
