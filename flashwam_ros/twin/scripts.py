# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One strategy per task, as generators of arm rows.

A script reads the scene through ``stage.world``, which is what was seen at the last call for rows:
objects that stand still may be older than the arm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from flashwam_ros.twin import scenes
from flashwam_ros.twin.ik import hand_rotation
from flashwam_ros.twin.motion import ArmMotion, HandPose
from flashwam_ros.twin.tasks import WorldState

Script = Iterator[np.ndarray]

_TABLE = scenes.TABLE_TOP_Z
_WAYPOINT_NOISE_M = 0.002
_BUMP_M = (0.02, 0.05)
_BUMP_PROBABILITY = 0.6


@dataclass
class Stage:
    """What the scripts of one episode share."""

    world: WorldState
    arms: tuple[ArmMotion, ArmMotion]
    rng: np.random.Generator
    recovery: bool
    home: np.ndarray
    flags: set = field(default_factory=set)

    def point(self, name: str, z: float) -> np.ndarray:
        """A point ``z`` m above an object's frame, with the waypoint noise (world, m)."""
        noise = self.rng.normal(0, _WAYPOINT_NOISE_M, 3) * (1, 1, 0.5)
        return self.world.position(name) + np.array([0, 0, z]) + noise

    def maybe_bump(self, arm: ArmMotion) -> None:
        """With ``recovery``, plan a push in the motion that starts now."""
        direction = self.rng.normal(size=3) * (1, 1, 0.5)
        size, delay = self.rng.uniform(*_BUMP_M), int(self.rng.integers(2, 12))
        if self.recovery and self.rng.random() < _BUMP_PROBABILITY:
            arm.schedule_bump(delay, size * direction / np.linalg.norm(direction))


def hand_yaw(arm: ArmMotion, x: float, y: float) -> float:
    """How a hand points at a place (rad): inward near the middle, to clear the torso."""
    across = -arm.side * y
    yaw = np.clip(2.8 * (across + 0.16) + 2.2 * max(0.0, 0.33 - x), -0.1, 0.8)
    return float(-arm.side * yaw)


def _hand(
    arm: ArmMotion, point: np.ndarray, pitch_deg: float, yaw: float | None = None
) -> HandPose:
    yaw = hand_yaw(arm, point[0], point[1]) if yaw is None else yaw
    return HandPose(np.array(point), hand_rotation(yaw, np.deg2rad(pitch_deg)))


def _over(arm: ArmMotion, pose: HandPose) -> Script:
    """From anywhere low: first up and back a little, then over to ``pose``."""
    here, turn = arm.kinematics.pose(arm.arm, arm.q)
    height = max(pose.position[2], here[2] + 0.03)
    via = HandPose(np.array([here[0] - 0.02, here[1], height]), turn)
    return arm.move(arm.solve(pose), arm.solve(via))


def _grasp(
    stage: Stage, arm: ArmMotion, above: HandPose, at: HandPose, squeeze_s: float
) -> Script:
    """Over the object, down onto it, close."""
    stage.maybe_bump(arm)
    yield from _over(arm, above)
    yield from arm.recovered()
    yield from arm.line(at)
    arm.grip_target = 0.0
    yield from arm.wait(squeeze_s)


def _home(stage: Stage, arm: ArmMotion) -> Script:
    return arm.move(stage.home[7 * arm.arm : 7 * arm.arm + 7])


def _held_offset(stage: Stage, arm: ArmMotion, name: str, nominal: np.ndarray) -> np.ndarray:
    """Object frame minus tool centre point (m) as seen, or ``nominal`` where that is stale."""
    seen = stage.world.position(name) - stage.world.tcp[arm.arm, :3, 3]
    return seen if np.linalg.norm(seen - nominal) < 0.02 else nominal


def red_bottle(stage: Stage) -> tuple[Script, Script]:
    """Nearest hand comes from above, closes around the bottle, lifts and holds it."""
    side = 0 if stage.world.position('red_bottle')[1] > 0 else 1
    return _placed(stage, side, _lift_bottle(stage, stage.arms[side]))


def _lift_bottle(stage: Stage, arm: ArmMotion) -> Script:
    at = _hand(arm, stage.point('red_bottle', 0.060), 19)
    arm.grip_target = 4.4
    yield from _grasp(stage, arm, at.moved(z=0.115), at, 0.65)
    yield from arm.line(at.moved(z=0.13))


def pink_object(stage: Stage) -> tuple[Script, Script]:
    """The hand on the object's side takes it from above and stands it on the cross."""
    side = 0 if stage.world.position('pink_object')[1] > 0 else 1
    return _placed(stage, side, _place_pink(stage, stage.arms[side]))


def _place_pink(stage: Stage, arm: ArmMotion) -> Script:
    at = _hand(arm, stage.point('pink_object', 0.040), 26)
    arm.grip_target = 5.4
    yield from _grasp(stage, arm, at.moved(z=0.09), at, 0.4)
    yield from arm.line(at.moved(z=0.08))
    offset = _held_offset(stage, arm, 'pink_object', np.array([0, 0, -0.040]))
    goal = stage.point('target', 0.004) - offset
    down = _hand(arm, goal, 26)
    stage.maybe_bump(arm)
    yield from arm.move(arm.solve(down.moved(z=0.07)))
    yield from arm.recovered()
    yield from arm.line(down)
    arm.grip_target = 5.4
    yield from arm.wait(0.45)
    yield from arm.line(down.moved(z=0.09))
    yield from _home(stage, arm)


def _placed(stage: Stage, side: int, script: Script) -> tuple[Script, Script]:
    idle = iter(())
    return (script, idle) if side == 0 else (idle, script)


def pot_potato(stage: Stage) -> tuple[Script, Script]:
    """Left hand takes the lid by its knob and lays it aside; right hand drops the potato in."""
    return _take_lid(stage, stage.arms[0]), _drop_potato(stage, stage.arms[1])


def _lid_is_off(world: WorldState) -> bool:
    apart = world.position('lid')[:2] - world.position('pot')[:2]
    return float(np.linalg.norm(apart)) > scenes.POT_RADIUS


def _take_lid(stage: Stage, arm: ArmMotion) -> Script:
    if _lid_is_off(stage.world):
        stage.flags.add('lid_clear')
        arm.grip_target = 3.4
        yield from _home(stage, arm)
        return
    knob = scenes.LID_FOOT + scenes.LID_THICKNESS + scenes.KNOB_HEIGHT / 2
    # The pads' tips take the knob: further in, the fingers would press on the lid.
    at = _hand(arm, stage.point('lid', knob + 0.003), 25, -0.75).advanced(-0.011)
    arm.grip_target = 4.2
    yield from _grasp(stage, arm, at.advanced(-0.02).moved(z=0.06), at, 0.75)
    yield from arm.line(at.moved(z=0.08))
    aside = at.position.copy()
    aside[1] = stage.world.position('pot')[1] + 0.165
    aside[2] = at.position[2] - scenes.POT_HEIGHT + 0.003
    down = _hand(arm, aside, 25)
    stage.maybe_bump(arm)
    yield from arm.move(arm.solve(down.moved(z=0.07)))
    stage.flags.add('lid_clear')
    yield from arm.recovered()
    yield from arm.line(down)
    arm.grip_target = 3.4
    yield from arm.wait(0.55)
    yield from arm.line(down.moved(z=0.08))
    yield from _home(stage, arm)


def _drop_potato(stage: Stage, arm: ArmMotion) -> Script:
    while 'lid_clear' not in stage.flags:
        yield arm.q
    x, y = stage.world.position('potato')[:2]
    prefer = hand_yaw(arm, x, y)
    turned = stage.world.objects['potato'][1]
    along = 2 * np.arctan2(turned[3], turned[0])
    turn = (along - prefer + np.pi / 2) % np.pi - np.pi / 2
    # Only inward: pointing further out, the upper arm rubs on the torso.
    yaw = prefer + float(np.clip(turn, 0.0, 0.3))
    at = _hand(arm, stage.point('potato', 0.004), 38, yaw).advanced(-0.004)
    arm.grip_target = 4.2
    yield from _grasp(stage, arm, at.moved(z=0.08), at, 0.65)
    yield from arm.line(at.moved(z=0.13))
    offset = _held_offset(stage, arm, 'potato', np.zeros(3))
    rim = stage.point('pot', scenes.POT_HEIGHT + 0.025)
    down = _hand(arm, rim - offset * (1, 1, 0), 28)
    stage.maybe_bump(arm)
    yield from arm.move(arm.solve(down.moved(z=0.05)))
    yield from arm.recovered()
    yield from arm.line(down)
    arm.grip_target = 3.6
    yield from arm.wait(0.45)
    yield from arm.line(down.moved(z=0.07))
    yield from _home(stage, arm)


SCRIPTS: dict[str, Callable[[Stage], tuple[Script, Script]]] = {
    'pot_potato': pot_potato,
    'red_bottle': red_bottle,
    'pink_object': pink_object,
}
