# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the robot looks like: silver shells, near-black joints, a glossy black face.

Sizes follow the primitives and bounding boxes of the robot description; every shell is made
here from numbers (see ``meshes``). Nothing has mass or contact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from flashwam_ros.twin.meshes import Mesh, drum, loft, rounded_box

ATTRIBUTES = 'group="2" mass="0" contype="0" conaffinity="0"'

MATERIALS = """
<material name="silver" rgba="0.76 0.77 0.79 1" specular="0.45" shininess="0.55"/>
<material name="steel" rgba="0.56 0.58 0.61 1" specular="0.6" shininess="0.6"/>
<material name="graphite" rgba="0.115 0.118 0.125 1" specular="0.35" shininess="0.45"/>
<material name="gloss" rgba="0.022 0.024 0.03 1" specular="0.9" shininess="0.9"/>
<material name="rubber" rgba="0.07 0.07 0.075 1" specular="0.1" shininess="0.1"/>
<material name="glow" rgba="0.25 0.66 1 1" emission="0.85" specular="0" shininess="0"/>
"""


class Parts:
    """Collects the geoms of one link and the meshes that they need."""

    def __init__(self) -> None:
        self.geoms: list[str] = []
        self.meshes: dict[str, Mesh] = {}

    def mesh(self, name: str, make: Callable[[], Mesh], material: str, pos=(0, 0, 0),
             euler=(0, 0, 0)) -> None:
        """Adds a mesh geom; meshes are shared by name."""
        if name not in self.meshes:
            self.meshes[name] = make()
        self.geoms.append(
            f'<geom type="mesh" mesh="{name}" material="{material}" {ATTRIBUTES} '
            f'pos="{_text(pos)}"{_turn(euler)}/>')

    def shape(self, kind: str, size, material: str, pos=(0, 0, 0), euler=(0, 0, 0)) -> None:
        """Adds a primitive with MuJoCo (half) sizes."""
        self.geoms.append(
            f'<geom type="{kind}" size="{_text(size)}" material="{material}" {ATTRIBUTES} '
            f'pos="{_text(pos)}"{_turn(euler)}/>')

    def drum(self, radius: float, length: float, axis: str, material: str, pos=(0, 0, 0)) -> None:
        """Adds a cylinder with rounded edges along x, y or z."""
        name = f'drum_{round(radius * 1e4)}_{round(length * 1e4)}'
        euler = {'x': (0, 90, 0), 'y': (90, 0, 0), 'z': (0, 0, 0)}[axis]
        edge = min(0.004, 0.3 * length, 0.3 * radius)
        self.mesh(name, lambda: drum(radius, length, edge), material, pos, euler)

    def box(self, size, material: str, pos=(0, 0, 0), edge: float = 0.006, axis: str = 'z',
            euler=(0, 0, 0)) -> None:
        """Adds a box with rounded edges; `size` = full edge lengths."""
        name = f'box{axis}_' + '_'.join(str(round(s * 1e4)) for s in size)
        self.mesh(name, lambda: rounded_box(size, edge, axis), material, pos, euler)

    def loft(self, name: str, sections, material: str, axis: str = 'z', power: float = 3.5,
             slices: int = 16, pos=(0, 0, 0), euler=(0, 0, 0)) -> None:
        """Adds a lofted shell."""
        self.mesh(name, lambda: loft(sections, axis, power, slices), material, pos, euler)


def _text(values) -> str:
    return ' '.join(f'{value:.6g}' for value in values)


def _turn(euler_deg) -> str:
    """A rotation of XYZ degrees as a quaternion, so that the compiler's units do not matter."""
    if not any(euler_deg):
        return ''
    quat = (1.0, 0.0, 0.0, 0.0)
    for axis, degrees in enumerate(euler_deg):
        half = math.radians(degrees) / 2.0
        turn = [math.cos(half), 0.0, 0.0, 0.0]
        turn[axis + 1] = math.sin(half)
        quat = _product(turn, quat)
    return f' quat="{_text(quat)}"'


def _product(a, b) -> tuple[float, float, float, float]:
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


# --- legs and pelvis -----------------------------------------------------------------------
def _pelvis(p: Parts, s: float) -> None:
    p.loft('pelvis_shell', [
        (-0.148, -0.008, 0, 0.030, 0.045), (-0.140, -0.008, 0, 0.046, 0.060),
        (-0.110, -0.006, 0, 0.060, 0.068), (-0.062, -0.005, 0, 0.064, 0.068),
        (-0.046, -0.005, 0, 0.058, 0.062), (-0.040, -0.005, 0, 0.045, 0.050)], 'graphite')
    p.drum(0.0465, 0.046, 'z', 'graphite', (0, 0, -0.02))
    p.box((0.014, 0.084, 0.066), 'silver', (0.0575, 0, -0.092), 0.005, 'x')
    p.box((0.014, 0.084, 0.066), 'silver', (-0.067, 0, -0.092), 0.005, 'x')


def _hip_pitch(p: Parts, s: float) -> None:
    p.drum(0.041, 0.086, 'y', 'graphite', (-0.001, 0.047 * s, -0.038))
    p.drum(0.036, 0.074, 'y', 'graphite', (0, 0.037 * s, -0.004))
    p.drum(0.030, 0.006, 'y', 'steel', (-0.001, 0.0905 * s, -0.038))


def _hip_roll(p: Parts, s: float) -> None:
    p.loft('hip_roll_shell', [
        (-0.122, 0.057, 0, 0.016, 0.036), (-0.116, 0.057, 0, 0.022, 0.045),
        (-0.030, 0.057, 0, 0.024, 0.048), (0.010, 0.054, 0, 0.021, 0.042),
        (0.036, 0.051, 0, 0.017, 0.034), (0.044, 0.051, 0, 0.010, 0.024)], 'silver', power=4)
    p.drum(0.0455, 0.052, 'z', 'graphite', (0.026, 0, -0.098))
    p.drum(0.030, 0.014, 'x', 'graphite', (0.078, 0, -0.004))


def _hip_yaw(p: Parts, s: float) -> None:
    p.loft('thigh_shell', [
        (-0.224, -0.078, 0, 0.024, 0.024), (-0.214, -0.078, 0, 0.040, 0.031),
        (-0.176, -0.066, 0, 0.052, 0.034), (-0.130, -0.042, 0, 0.056, 0.037),
        (-0.080, -0.016, 0, 0.053, 0.041), (-0.025, -0.003, 0, 0.050, 0.042),
        (-0.006, -0.003, 0, 0.046, 0.038), (0.0, -0.003, 0, 0.036, 0.030)], 'silver', power=3)
    p.drum(0.046, 0.086, 'y', 'graphite', (-0.0765, -0.003 * s, -0.176))
    p.drum(0.030, 0.092, 'y', 'steel', (-0.0765, -0.003 * s, -0.176))


def _knee(p: Parts, s: float) -> None:
    p.loft('shin_shell', [
        (-0.300, 0.008, 0, 0.018, 0.015), (-0.292, 0.008, 0, 0.023, 0.020),
        (-0.230, 0.010, 0, 0.026, 0.022), (-0.175, 0.013, 0, 0.034, 0.027),
        (-0.110, 0.014, 0, 0.046, 0.033), (-0.040, 0.012, 0, 0.047, 0.034),
        (0.018, 0.006, 0, 0.036, 0.032), (0.034, 0.004, 0, 0.026, 0.026),
        (0.040, 0.003, 0, 0.014, 0.016)], 'silver', power=3)
    p.drum(0.034, 0.076, 'y', 'graphite')
    p.loft('shin_guard', [
        (-0.165, 0.022, 0, 0.026, 0.016), (-0.150, 0.024, 0, 0.032, 0.022),
        (-0.060, 0.026, 0, 0.037, 0.025), (-0.040, 0.026, 0, 0.030, 0.020)], 'graphite', power=3)


def _ankle_pitch(p: Parts, s: float) -> None:
    p.box((0.032, 0.020, 0.036), 'graphite', (-0.0045, 0, -0.0074), 0.004)
    p.drum(0.012, 0.050, 'y', 'steel')


def _foot(p: Parts, s: float) -> None:
    p.loft('foot_sole', [
        (-0.0354, 0.038, 0, 0.100, 0.034), (-0.032, 0.038, 0, 0.104, 0.0375),
        (-0.020, 0.036, 0, 0.103, 0.037), (-0.016, 0.035, 0, 0.098, 0.033)], 'rubber', power=3)
    p.loft('foot_shell', [
        (-0.018, 0.032, 0, 0.094, 0.033), (-0.010, 0.022, 0, 0.080, 0.031),
        (0.004, 0.006, 0, 0.052, 0.027), (0.016, -0.006, 0, 0.032, 0.022),
        (0.022, -0.008, 0, 0.022, 0.016)], 'graphite', power=2.8)


# --- waist, torso, head --------------------------------------------------------------------
def _waist_yaw(p: Parts, s: float) -> None:
    p.drum(0.0424, 0.0175, 'z', 'graphite', (0, 0, 0.008))
    p.box((0.063, 0.08, 0.020), 'graphite', (0.0075, 0, 0.025), 0.004)
    p.shape('box', (0.016, 0.010, 0.010), 'steel', (-0.004, 0, 0.044))


def _waist_roll(p: Parts, s: float) -> None:
    p.shape('box', (0.017, 0.010, 0.012), 'steel')


def _torso(p: Parts, s: float) -> None:
    p.loft('torso_hem', [
        (-0.006, 0.004, 0, 0.048, 0.058), (0.004, 0.004, 0, 0.058, 0.070),
        (0.034, 0.003, 0, 0.061, 0.078), (0.046, 0.003, 0, 0.060, 0.080)], 'graphite', power=4)
    p.loft('torso_shell', [
        (0.040, 0.003, 0, 0.058, 0.078), (0.048, 0.003, 0, 0.064, 0.085),
        (0.080, 0.003, 0, 0.068, 0.092), (0.140, 0.004, 0, 0.072, 0.097),
        (0.215, 0.005, 0, 0.074, 0.100), (0.255, 0.003, 0, 0.069, 0.101),
        (0.282, 0.000, 0, 0.058, 0.096), (0.300, -0.002, 0, 0.044, 0.080),
        (0.309, -0.003, 0, 0.030, 0.062)], 'silver', power=3.8, slices=28)
    p.loft('chest_plate', [
        (0.066, 0, 0.160, 0.058, 0.084), (0.0745, 0, 0.160, 0.056, 0.082),
        (0.0800, 0, 0.160, 0.052, 0.077), (0.0825, 0, 0.160, 0.046, 0.070)],
        'gloss', axis='x', power=5)
    p.drum(0.0075, 0.006, 'x', 'glow', (0.0815, 0, 0.212))
    p.loft('back_pack', [
        (-0.086, 0, 0.165, 0.056, 0.074), (-0.082, 0, 0.165, 0.062, 0.080),
        (-0.060, 0, 0.165, 0.064, 0.082)], 'graphite', axis='x', power=5)
    for side in (1.0, -1.0):
        p.drum(0.040, 0.020, 'y', 'graphite', (0.004, 0.096 * side, 0.245))


def _head(p: Parts, s: float) -> None:
    p.loft('collar', [
        (0.322, -0.006, 0, 0.050, 0.066), (0.330, -0.006, 0, 0.055, 0.071),
        (0.346, -0.006, 0, 0.050, 0.062), (0.358, -0.007, 0, 0.038, 0.044),
        (0.364, -0.007, 0, 0.032, 0.034)], 'graphite', power=2.4)
    p.drum(0.033, 0.060, 'z', 'graphite', (-0.006, 0, 0.375))
    p.loft('skull', [
        (0.384, -0.002, 0, 0.026, 0.032), (0.390, -0.002, 0, 0.036, 0.043),
        (0.404, -0.002, 0, 0.046, 0.051), (0.430, -0.002, 0, 0.055, 0.0565),
        (0.460, -0.001, 0, 0.061, 0.059), (0.486, 0.000, 0, 0.062, 0.0575),
        (0.507, 0.000, 0, 0.054, 0.050), (0.521, -0.001, 0, 0.040, 0.037),
        (0.528, -0.002, 0, 0.025, 0.023), (0.5305, -0.002, 0, 0.010, 0.009)],
        'silver', power=2.3, slices=22)
    p.loft('visor', [
        (0.392, 0.020, 0, 0.022, 0.020), (0.398, 0.018, 0, 0.033, 0.032),
        (0.412, 0.016, 0, 0.042, 0.041), (0.440, 0.014, 0, 0.053, 0.0475),
        (0.468, 0.014, 0, 0.058, 0.049), (0.490, 0.014, 0, 0.056, 0.046),
        (0.506, 0.013, 0, 0.047, 0.038), (0.515, 0.011, 0, 0.036, 0.027),
        (0.519, 0.009, 0, 0.022, 0.014)], 'gloss', power=2.2, slices=22)
    for side in (1.0, -1.0):
        p.drum(0.020, 0.012, 'y', 'graphite', (-0.006, 0.0575 * side, 0.452))
        p.drum(0.0135, 0.014, 'y', 'glow', (-0.006, 0.0575 * side, 0.452))
        p.drum(0.0095, 0.016, 'y', 'graphite', (-0.006, 0.0575 * side, 0.452))


# --- arms ----------------------------------------------------------------------------------
def _shoulder_pitch(p: Parts, s: float) -> None:
    p.drum(0.034, 0.068, 'y', 'graphite', (0, 0.038 * s, -0.017))
    p.drum(0.037, 0.022, 'y', 'silver', (0, 0.050 * s, -0.017))
    p.drum(0.031, 0.050, 'y', 'graphite', (0, 0.025 * s, 0.004))


def _shoulder_roll(p: Parts, s: float) -> None:
    p.drum(0.034, 0.080, 'x', 'graphite', (0, 0.003 * s, 0))
    p.drum(0.024, 0.086, 'x', 'steel', (0, 0.003 * s, 0))
    p.loft('upper_arm_shell', [
        (-0.101, 0.0, 0.0, 0.020, 0.020), (-0.095, 0.0, 0.0, 0.028, 0.028),
        (-0.060, 0.0, 0.0, 0.0345, 0.0345), (-0.020, 0.0, 0.0, 0.0385, 0.0375),
        (0.010, 0.0, 0.0, 0.034, 0.036), (0.026, 0.0, 0.0, 0.022, 0.028),
        (0.033, 0.0, 0.0, 0.010, 0.015)],
        'silver', power=2.4, pos=(0, 0.005 * s, 0))


def _shoulder_yaw(p: Parts, s: float) -> None:
    p.drum(0.0335, 0.034, 'z', 'graphite', (0, 0, 0.012))
    p.loft('elbow_shell', [
        (-0.110, 0.011, 0, 0.020, 0.020), (-0.104, 0.011, 0, 0.030, 0.028),
        (-0.080, 0.010, 0, 0.0375, 0.033), (-0.050, 0.006, 0, 0.0355, 0.0335),
        (-0.015, 0.001, 0, 0.033, 0.0325), (0.0, 0, 0, 0.031, 0.031)],
        'silver', power=2.6, pos=(0, -0.005 * s, 0))
    p.drum(0.030, 0.070, 'y', 'graphite', (0.0125, -0.0085 * s, -0.079))


def _elbow(p: Parts, s: float) -> None:
    p.drum(0.0305, 0.016, 'y', 'graphite', (0, 0.0275 * s, 0))
    p.drum(0.020, 0.020, 'y', 'steel', (0, 0.0275 * s, 0))
    p.box((0.050, 0.015, 0.058), 'graphite', (0.0225, 0.0275 * s, -0.008), 0.005, 'x')
    p.loft('forearm_shell', [
        (0.030, 0, 0, 0.022, 0.022), (0.034, 0, 0, 0.030, 0.030), (0.050, 0, 0, 0.034, 0.034),
        (0.085, 0, 0, 0.0325, 0.0325), (0.098, 0, 0, 0.030, 0.030), (0.100, 0, 0, 0.026, 0.026)],
        'silver', axis='x', power=2.3, pos=(0, 0.002 * s, -0.010))


def _wrist_roll(p: Parts, s: float) -> None:
    p.drum(0.0305, 0.014, 'x', 'graphite', (0.006, 0, 0))
    p.box((0.046, 0.060, 0.040), 'graphite', (0.035, 0, 0), 0.006, 'x')


def _wrist_pitch(p: Parts, s: float) -> None:
    p.drum(0.0285, 0.045, 'y', 'graphite', (0, 0, 0))
    p.loft('wrist_shell', [
        (0.012, 0, 0, 0.020, 0.020), (0.018, 0, 0, 0.0265, 0.025), (0.050, 0, 0, 0.0270, 0.0245),
        (0.070, 0, 0, 0.0255, 0.023), (0.075, 0, 0, 0.020, 0.018)],
        'silver', axis='x', power=3.5)


def _wrist_yaw(p: Parts, s: float) -> None:
    p.drum(0.021, 0.062, 'z', 'graphite')
    p.box((0.043, 0.045, 0.050), 'graphite', (0.0195, 0, 0), 0.006, 'x')


def _hand(p: Parts, s: float) -> None:
    p.drum(0.0245, 0.040, 'x', 'steel', (0.0190, 0, 0))
    p.box((0.022, 0.058, 0.062), 'graphite', (0.048, 0, 0), 0.006, 'x')
    p.box((0.0113, 0.040, 0.060), 'graphite', (0.0640, 0, 0), 0.003, 'x')
    # camera module and its stalk, behind the lens so that it never sees itself
    p.loft('camera_stalk', [
        (0.020, 0.004, 0, 0.010, 0.017), (0.050, -0.004, 0, 0.005, 0.010),
        (0.086, -0.005, 0, 0.004, 0.008)], 'graphite', slices=12)
    p.loft('camera_bar', [
        (-0.024, 0.093, -0.003, 0.006, 0.005), (-0.020, 0.093, -0.003, 0.0095, 0.0085),
        (0.020, 0.093, -0.003, 0.0095, 0.0085), (0.024, 0.093, -0.003, 0.006, 0.005)],
        'steel', axis='y', power=2.6, slices=16)
    p.loft('camera_front', [
        (0.0, 0, 0.093, 0.0195, 0.0065), (0.0065, 0, 0.093, 0.0185, 0.0055)],
        'gloss', axis='x', power=4, slices=16)


def _finger(p: Parts, s: float) -> None:
    """A jaw; s = +1 for the one on the -y side (finger 1)."""
    p.box((0.013, 0.078, 0.0125), 'graphite', (0.0588, 0, 0.01335 * s), 0.003)
    name = 'jaw_1' if s > 0 else 'jaw_2'
    p.loft(name, [
        (0.0650, -0.0335 * s, 0, 0.0052, 0.0120), (0.0670, -0.0335 * s, 0, 0.0055, 0.0142),
        (0.0920, -0.0325 * s, 0, 0.0063, 0.0142), (0.1080, -0.0305 * s, 0, 0.0052, 0.0132),
        (0.1220, -0.0285 * s, 0, 0.0038, 0.0108), (0.1380, -0.0268 * s, 0, 0.0022, 0.0066),
        (0.1430, -0.0264 * s, 0, 0.0014, 0.0040)], 'steel', axis='x', power=5, slices=16)
    pad = 'pad_1' if s > 0 else 'pad_2'
    p.loft(pad, [
        (0.0890, -0.0247 * s, 0, 0.0014, 0.0122), (0.0905, -0.0247 * s, 0, 0.0016, 0.0128),
        (0.1120, -0.0247 * s, 0, 0.0016, 0.0125), (0.1300, -0.0247 * s, 0, 0.0016, 0.0090),
        (0.1432, -0.0247 * s, 0, 0.0014, 0.0046)], 'rubber', axis='x', power=6, slices=16)


_LINKS: dict[str, Callable[[Parts, float], None]] = {
    'pelvis': _pelvis, 'waist_yaw_link': _waist_yaw, 'waist_roll_link': _waist_roll,
    'torso_link': _torso, 'head_link': _head,
}
_SIDED: dict[str, Callable[[Parts, float], None]] = {
    'hip_pitch_link': _hip_pitch, 'hip_roll_link': _hip_roll, 'hip_yaw_link': _hip_yaw,
    'knee_link': _knee, 'ankle_pitch_link': _ankle_pitch, 'ankle_roll_link': _foot,
    'shoulder_pitch_link': _shoulder_pitch, 'shoulder_roll_link': _shoulder_roll,
    'shoulder_yaw_link': _shoulder_yaw, 'elbow_link': _elbow, 'wrist_roll_link': _wrist_roll,
    'wrist_pitch_link': _wrist_pitch, 'wrist_yaw_link': _wrist_yaw, 'dex1_base_link': _hand,
}
BARE_LINKS = ('logo_link', 'imu_in_torso', 'imu_in_pelvis', 'd435_link', 'mid360_link')


@functools.cache
def link_parts(link_name: str) -> Parts:
    """Geoms and meshes of one link of the robot description.

    Raises:
        KeyError: no such link.
    """
    parts = Parts()
    if link_name in BARE_LINKS:
        return parts
    if link_name in _LINKS:
        _LINKS[link_name](parts, 1.0)
        return parts
    side, _, rest = link_name.partition('_')
    if side in ('left', 'right'):
        if rest in ('dex1_finger_link_1', 'dex1_finger_link_2'):
            _finger(parts, 1.0 if rest.endswith('1') else -1.0)
            return parts
        if rest in _SIDED:
            _SIDED[rest](parts, 1.0 if side == 'left' else -1.0)
            return parts
    raise KeyError(f'no look for link {link_name!r}: add it to looks_robot.py')


def all_links() -> tuple[str, ...]:
    """Names of all links that have a look."""
    fingers = ('dex1_finger_link_1', 'dex1_finger_link_2')
    sided = [f'{side}_{rest}' for side in ('left', 'right') for rest in (*_SIDED, *fingers)]
    return (*_LINKS, *sided)
