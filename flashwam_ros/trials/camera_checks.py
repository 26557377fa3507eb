# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of the cameras: rate, age, size, stamps, colour order, and which wrist is which."""

from __future__ import annotations

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.trials.check_result import CheckResult
from flashwam_ros.trials.observations import CameraSeen, Observations
from flashwam_ros.trials.wrist_identity import WRISTS, identity_score, load_reference, warmth

RATE_SHARE = 0.75
"""Of the rate that the policy counts on when it looks for the frame nearest to a due time."""
AGE_S = 0.25
FUTURE_S = 0.005
SKEW_S = 0.1
"""Less cannot be told from the way that pictures take one after the other."""
WARMTH = 5.0
IDENTITY = 0.05


def cameras(seen: Observations) -> list[CheckResult]:
    """Rate, age, size and colour order of each camera of the contract."""
    contract = RobotContract.load()
    found = {camera.key: camera for camera in seen.cameras}
    results = []
    for camera in contract.cameras:
        one = found.get(camera.key, CameraSeen(camera.key))
        wanted = (camera.wire_width, camera.wire_height)
        results += [_rate(one, seen.frame_period_s), _age(one)]
        results += [_size(one, wanted), _color_order(one)]
    return results


def _rate(one: CameraSeen, period_s: float) -> CheckResult:
    least = RATE_SHARE / period_s
    return CheckResult(
        f'camera_rate: {one.key}', one.rate_hz is not None and one.rate_hz >= least,
        one.rate_hz, f'>= {least:g} Hz', 'Hz',
        'is the camera server running, the camera plugged in, three cameras on one USB hub?',
    )  # fmt: skip


def _age(one: CameraSeen) -> CheckResult:
    age = one.age_s
    fresh = age is not None and -FUTURE_S <= age <= AGE_S
    return CheckResult(
        f'camera_age: {one.key}', fresh and not one.estimated,
        None if age is None else 1e3 * age,
        f'{-1e3 * FUTURE_S:g} .. {1e3 * AGE_S:g} ms' + ', stamped' * one.estimated, 'ms',
        'the camera server sends no capture stamps: they are estimated from the arrival'
        if fresh and one.estimated else
        'set the clocks of both computers by NTP or PTP; reduce the load of network and server',
        warning=fresh and one.estimated,
    )  # fmt: skip


def _size(one: CameraSeen, wanted: tuple[int, int]) -> CheckResult:
    return CheckResult(
        f'camera_size: {one.key}', one.size == wanted,
        None if one.size is None else '{}x{}'.format(*one.size), '{}x{}'.format(*wanted),
        remedy='set image_shape in the camera server\'s configuration',
    )  # fmt: skip


def _color_order(one: CameraSeen) -> CheckResult:
    value = None if one.image is None else warmth(one.image)
    return CheckResult(
        f'color_order: {one.key}', value is not None and value >= WARMTH, value,
        f'red - blue >= {WARMTH:g} (wooden table)', 'grey levels',
        'red and blue are exchanged, or the table is not in view: look at the picture',
    )  # fmt: skip


def wrists(seen: Observations) -> CheckResult:
    """Each wrist picture fits its own reference at the start pose better than the other's."""
    images = {camera.key: camera.image for camera in seen.cameras}
    score = None
    if all(images.get(key) is not None for key in WRISTS):
        score = identity_score(images[WRISTS[0]], images[WRISTS[1]], load_reference())
    return CheckResult(
        'wrist_identity', score is not None and score >= IDENTITY, score, f'>= {IDENTITY:g}', '',
        'left and right wrist camera are exchanged (score near its usual value, negative): '
        'exchange them in the camera server\'s configuration; near 0: the view is not that of '
        'the reference (arms away from the start pose, another table)',
    )  # fmt: skip


def stamp_skew(seen: Observations) -> CheckResult:
    """The cameras' stamps agree with each other."""
    skews = {camera.key: camera.skew_s for camera in seen.cameras if camera.skew_s is not None}
    complete = len(skews) == len(seen.cameras) > 0
    worst = max(skews, key=skews.get) if skews else ''
    return CheckResult(
        'stamp_skew', complete and skews[worst] <= SKEW_S,
        1e3 * skews[worst] if complete else None,
        f'<= {1e3 * SKEW_S:g} ms against the head camera' + (f' ({worst})' if worst else ''), 'ms',
        'cameras of one server must be stamped by one clock, when they are read',
    )  # fmt: skip
