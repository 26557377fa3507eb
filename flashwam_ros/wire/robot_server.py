# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The robot's side of its wire, as the twin plays it: state out, commands in.

Also carries the simulator topics `rt/sim_state` (JSON out), `rt/sim_state_cmd` (JSON in) and
`rt/reset_pose/cmd`. Nothing here blocks: a real-time loop polls it.
"""

import json
from dataclasses import dataclass

import numpy as np

from flashwam_ros.wire import cdr, endpoints, idl
from flashwam_ros.wire.participant import open_participant
from flashwam_ros.wire.robot_bus import ARM_SLOTS, ArmCommand

BODY_JOINTS = 29


@dataclass(frozen=True)
class BodyState:
    """What the robot reports of itself: (29,) each in motor order, rad, rad/s, N.m; time in ms."""

    q: np.ndarray
    dq: np.ndarray
    tau: np.ndarray
    tick_ms: int


@dataclass(frozen=True)
class GripperCommand:
    """One gripper command: motor rad, rad/s, N.m, N.m/rad, N.m.s/rad."""

    q: float
    dq: float
    tau: float
    kp: float
    kd: float


class RobotServerBus:
    """The robot's endpoints.

    Args:
        domain: DDS domain id. interface: network interface, usually `lo`.
        mode_machine: machine type to report.

    Attributes:
        lowstate: the message that is published; set temperatures, remote bytes, error bits here.
        bad_crc: arm commands with a bad checksum (counted, not refused, as on the robot).
        refused: commands that were malformed, not finite or had a weight outside 0..1.
        participant: for further endpoints of the same robot.
        bad_requests: texts on rt/sim_state_cmd that were not a JSON object.
    """

    def __init__(self, domain: int, interface: str, mode_machine: int = 15) -> None:
        self.bad_crc = 0
        self.refused = 0
        self.bad_requests = 0
        self.lowstate = cdr.LowState()
        self.lowstate.mode_machine = mode_machine
        self.lowstate.motor_mode = [1 if k < BODY_JOINTS else 0 for k in range(cdr.MOTORS)]
        self.lowstate.quaternion[0] = 1.0
        self.lowstate.accelerometer[2] = 9.81
        self.lowstate.vol[:BODY_JOINTS] = 48.0
        self._gripper_state = cdr.GripperState()
        part = open_participant(domain, interface)
        self.participant = part
        self._state = endpoints.writer(part, endpoints.LOWSTATE)
        self._gripper_states = {
            side: endpoints.writer(part, name) for side, name in endpoints.GRIPPER_STATE.items()
        }
        self._sim_state = endpoints.writer(part, endpoints.SIM_STATE)
        self._arm = endpoints.reader(part, endpoints.ARM_SDK)
        self._grippers = {
            side: endpoints.reader(part, name) for side, name in endpoints.GRIPPER_CMD.items()
        }
        self._requests = endpoints.reader(part, endpoints.SIM_STATE_CMD)
        self._resets = endpoints.reader(part, endpoints.RESET_POSE)

    def publish_lowstate(self, body: BodyState) -> None:
        """Send `rt/lowstate` with a valid checksum."""
        message = self.lowstate
        message.q[:BODY_JOINTS] = body.q
        message.dq[:BODY_JOINTS] = body.dq
        message.tau_est[:BODY_JOINTS] = body.tau
        message.tick = body.tick_ms
        self._state.write(idl.LowStateType(message.seal()))

    def publish_gripper(self, side: str, q: float, dq: float, tau: float) -> None:
        """Send one gripper's state (motor rad, rad/s, N.m)."""
        self._gripper_state.set(q, dq, tau)
        raw = self._gripper_state.to_bytes()
        self._gripper_states[side].write(idl.GripperStateType(raw))

    def publish_sim_state(self, state: dict) -> None:
        """Send `rt/sim_state`."""
        self._sim_state.write(idl.TextType(json.dumps(state)))

    def arm_command(self) -> ArmCommand | None:
        """The newest arm command since the last call; a senseless one is counted and ignored."""
        raw = endpoints.take_raw(self._arm)
        if raw is None:
            return None
        try:
            view = cdr.LowCmd(raw)
        except cdr.WireFormatError:
            self.refused += 1
            return None
        if not view.crc_ok():
            self.bad_crc += 1
        values = np.array(
            [field[ARM_SLOTS] for field in (view.q, view.dq, view.tau, view.kp, view.kd)],
            dtype=np.float64,
        )
        if not (np.isfinite(values).all() and 0.0 <= view.weight <= 1.0):
            self.refused += 1
            return None
        return ArmCommand(*values, weight=view.weight)

    def gripper_command(self, side: str) -> GripperCommand | None:
        """The newest command of one gripper since the last call."""
        raw = endpoints.take_raw(self._grippers[side])
        if raw is None:
            return None
        try:
            values = cdr.GripperCmd(raw).values()
        except cdr.WireFormatError:
            self.refused += 1
            return None
        if not np.isfinite(values).all():
            self.refused += 1
            return None
        return GripperCommand(*values)

    def requests(self) -> list[dict]:
        """JSON objects sent to `rt/sim_state_cmd` since the last call, oldest first.

        `rt/reset_pose/cmd` ("1" object, "2" all) appears as `{"reset": {}}`: same task, same seed.
        """
        found = []
        for text in endpoints.take_texts(self._requests):
            try:
                request = json.loads(text)
            except json.JSONDecodeError:
                request = None
            if isinstance(request, dict):
                found.append(request)
            else:
                self.bad_requests += 1
        for text in endpoints.take_texts(self._resets):
            if text.strip() in ('1', '2'):
                found.append({'reset': {}})
            else:
                self.bad_requests += 1
        return found

    def close(self) -> None:
        """Leave the domain. The bus cannot be used afterwards."""
        del self._state, self._gripper_states, self._sim_state, self._arm, self._grippers
        del self._requests, self._resets, self.participant
