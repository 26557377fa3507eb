# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an experimenter may ask of the twin: reset, and faults that a robot can have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flashwam_ros.twin import camera_faults
from flashwam_ros.wire import cdr

_KNOWN = (
    'reset', 'remote', 'motor_error', 'temperature', 'tilt', 'freeze_state', 'mode', 'fsm',
    'mode_machine', 'battery', 'no_gripper', 'gripper_offset', 'cameras', 'arm_pose', 'cut_link',
    'id',
)  # fmt: skip
_GRAVITY = 9.81
_NORMAL_C = (35, 40)
_JOINTS = 29
_ARMS = 14
_LONGEST_CUT_S = 60.0


class RequestError(ValueError):
    """A request that the twin cannot carry out."""


class Requests:
    """Applies requests from `rt/sim_state_cmd` to the robot's reported state.

    `remote`: buttons held; `motor_error`: error bits by motor index (others cleared);
    `temperature`: winding deg C by motor index (others normal); `tilt`: pelvis roll, rad;
    `freeze_state`: stop publishing the robot's state; `mode`: name of the built-in motion service,
    '' for debug mode; `fsm`: its state; `mode_machine`: machine type; `battery`: percent;
    `no_gripper`: both services silent; `gripper_offset`: rad added to both reported angles;
    `cameras`: names of `camera_faults.FAULTS`; `arm_pose`: (14,) rad where the arms are put and
    held; `cut_link`: s for which neither state nor commands get through; `reset`: see `apply`.

    Args:
        lowstate: the message that the twin publishes.

    Attributes:
        frozen: whether the state is to be withheld.
        mode: of the motion service. fsm: its state. battery: percent.
        no_gripper: whether the grippers' state is to be withheld. gripper_offset: rad.
        camera_faults: bits. arm_pose: (14,) rad wanted, None for none; the server takes it.
        cut_s: s for which the link is to be cut from now on, 0 for not; the server takes it.
        last_id: `id` of the last request; last_error: why it was refused, None if it was not.
    """

    def __init__(self, lowstate: cdr.LowState) -> None:
        self._lowstate = lowstate
        self.frozen = self.no_gripper = False
        self.mode, self.fsm, self.battery = 'ai', 501, 90
        self.gripper_offset = 0.0
        self.camera_faults = 0
        self.arm_pose: np.ndarray | None = None
        self.cut_s = 0.0
        self.last_id: Any = None
        self.last_error: str | None = None

    def apply(self, request: dict) -> dict | None:
        """Carry out one request; returns the reset wanted (`task`, `seed` optional), if any."""
        self.last_id, self.last_error = request.get('id'), None
        try:
            return self._apply(request)
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            self.refuse(RequestError(str(error)))
            return None

    def refuse(self, error: RequestError) -> None:
        """Say that the last request was not carried out."""
        self.last_error = str(error)

    def _apply(self, request: dict) -> dict | None:
        unknown = sorted(set(request) - set(_KNOWN))
        if unknown:
            raise RequestError(f'unknown request {unknown}: one of {", ".join(_KNOWN)}')
        state = self._lowstate
        if 'remote' in request:
            state.wireless_remote[:] = np.frombuffer(cdr.remote_bytes(request['remote']), 'u1')
        if 'motor_error' in request:
            bits = _by_motor(request['motor_error'])
            state.motorstate[:] = 0
            for motor, value in bits.items():
                state.motorstate[motor] = int(value)
        if 'temperature' in request:
            warm = _by_motor(request['temperature'])
            state.temperature[:_JOINTS] = _NORMAL_C
            for motor, value in warm.items():
                state.temperature[motor, 1] = int(value)
        if 'tilt' in request:
            self._tilt(float(request['tilt']))
        if 'freeze_state' in request:
            self.frozen = bool(request['freeze_state'])
        if 'cut_link' in request:
            seconds = float(request['cut_link'])
            if not 0.0 < seconds <= _LONGEST_CUT_S:
                raise RequestError(f'cut_link: give 0..{_LONGEST_CUT_S:g} s, not {seconds:g}')
            self.cut_s = seconds
        self._apply_services(request)
        reset = request.get('reset')
        if reset is not None and not isinstance(reset, dict):
            raise RequestError(f'reset: give an object with task and seed, not {reset!r}')
        return reset

    def _apply_services(self, request: dict) -> None:
        if 'mode' in request:
            self.mode = str(request['mode'])
        if 'fsm' in request:
            self.fsm = int(request['fsm'])
        if 'mode_machine' in request:
            self._lowstate.mode_machine = int(request['mode_machine'])
        if 'battery' in request:
            self.battery = min(max(int(request['battery']), 0), 100)
        if 'no_gripper' in request:
            self.no_gripper = bool(request['no_gripper'])
        if 'gripper_offset' in request:
            self.gripper_offset = float(request['gripper_offset'])
        if 'cameras' in request:
            self.camera_faults = camera_faults.to_bits(request['cameras'])
        if 'arm_pose' in request:
            pose = np.array(request['arm_pose'], float)
            if pose.shape != (_ARMS,) or not np.isfinite(pose).all():
                raise RequestError(f'arm_pose: give {_ARMS} finite angles (rad)')
            self.arm_pose = pose

    def _tilt(self, roll: float) -> None:
        state = self._lowstate
        state.rpy[:] = (roll, 0.0, 0.0)
        state.quaternion[:] = (math.cos(roll / 2), math.sin(roll / 2), 0.0, 0.0)
        state.accelerometer[:] = (0.0, _GRAVITY * math.sin(roll), _GRAVITY * math.cos(roll))


def _by_motor(values: dict) -> dict[int, float]:
    numbered = {int(motor): value for motor, value in values.items()}
    for motor in numbered:
        if not 0 <= motor < _JOINTS:
            raise RequestError(f'no motor {motor}: 0..{_JOINTS - 1}')
    return numbered
