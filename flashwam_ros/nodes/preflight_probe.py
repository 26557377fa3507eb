# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Collects what a preflight looks at: topics of the running graph, services of the robot."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from flashwam_ros.nodes import driver_diagnostics
from flashwam_ros.nodes.clock import from_msg
from flashwam_ros.nodes.driver_graph import REMEDY, second_driver
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.image_conversion import message_to_rgb
from flashwam_ros.nodes.lifecycle_client import LifecycleClient
from flashwam_ros.nodes.preflight_inputs import PreflightInputs
from flashwam_ros.nodes.rollout_recorder import RolloutRecorder
from flashwam_ros.policy.handshake import is_server
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.trials.checkpoint_facts import contract_differences, server_problems, servers_of
from flashwam_ros.trials.machine_checks import SILENT, SILENT_IN_TWIN
from flashwam_ros.trials.observations import CameraSeen, Observations, PolicySeen, RobotSeen
from flashwam_ros.wam.promotion import promotion_problem
from flashwam_ros.wire.arms_claim import ArmsClaim
from flashwam_ros.wire.services import RobotServices

LOOK_S = 1.5
DIAGNOSTICS_LIMIT_S = 4.0
ANSWER_S = 2.0
BATTERY_S = 0.5
_ARMS = 14
_POLL_S = 0.02
_CAMERA = 'camera: '


@dataclass
class _Stream:
    """Frames of one camera: (arrival, stamp) in ns of ROS time, and the newest message."""

    times: list[tuple[int, int]] = field(default_factory=list)
    newest: Image | None = None

    def ages_s(self) -> tuple[float, float] | None:
        """Median and least of arrival minus stamp, None for fewer than two frames."""
        if len(self.times) < 2:
            return None
        arrivals, stamps = np.array(self.times, np.int64).T
        ages_s = (arrivals - stamps) * 1e-9
        return float(np.median(ages_s)), float(ages_s.min())


class PreflightProbe:
    """Looks for about two seconds; nothing is commanded.

    Args:
        node: owner.
        recorder: newest status messages, images.
        contract: cameras and channels.
        wire: DDS domain and interface of the robot.
        policy: client of the policy node, None where an operator steers.
        output: folder of the rollouts.
    """

    def __init__(
        self,
        node: Node,
        recorder: RolloutRecorder | PreflightInputs,
        contract: RobotContract,
        wire: tuple[int, str],
        policy: LifecycleClient | None,
        output: Path,
    ):
        self._node, self._recorder, self._contract = node, recorder, contract
        self._wire, self._policy, self._output = wire, policy, output
        self._services: RobotServices | None = None
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}
        self._driver: list[tuple[int, Mapping[str, str]]] = []
        self._estimated: dict[str, bool] = {}
        node.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, 10, callback_group=QuickGroup()
        )

    def look(self, backend: str, execution: str) -> Observations:
        """Observe; blocks for `LOOK_S` to `DIAGNOSTICS_LIMIT_S`.

        Args:
            backend: of the policy, '' where an operator steers.
            execution: 'sync' or 'async'.
        """
        with self._lock:
            self._streams = {camera.key: _Stream() for camera in self._contract.cameras}
            self._driver = []
        self._recorder.on_image = self._on_image
        offsets = [self._offset_ns()]
        begun = robot_clock.monotonic()
        try:
            mode = self._ask_robot()
            while (passed := robot_clock.monotonic() - begun) < LOOK_S or (
                len(self._driver) < 2 and passed < DIAGNOSTICS_LIMIT_S
            ):
                offsets.append(self._offset_ns())
                time.sleep(_POLL_S)
        finally:
            self._recorder.on_image = None
        with self._lock:
            streams, self._streams = self._streams, {}
            driver = list(self._driver)
        joints = self._recorder.joints
        lag_s = self._lag_s(joints)  # before anything is asked: that takes time
        names = 'checkpoint', 'frame_period', 'model', 'arms'
        parameters = ({'frame_period': self._node.get_parameter('frame_period').value}
                      if self._policy is None else self._policy.parameters(*names))
        return Observations(
            robot=self._robot(mode, driver, joints),
            cameras=self._cameras(streams),
            policy=self._policy_seen(backend, parameters, driver),
            clock_step_s=max(np.abs(np.diff(offsets)), default=0) * 1e-9,
            state_lag_s=lag_s,
            free_gib=self._free_gib(),
            execution=execution,
            frame_period_s=float(parameters.get('frame_period', Observations.frame_period_s)),
        )

    def obstacle(self) -> str:
        """Why the driver may have refused to configure, '' where nothing shows it."""
        held, second = ArmsClaim(*self._wire).held, self._second_driver()
        return held or (f'second_driver: {second}: {REMEDY}' if second else '')

    def close(self) -> None:
        """Leave the robot's wire."""
        if self._services is not None:
            self._services.close()
            self._services = None

    # -- subscriptions ----------------------------------------------------------------------------

    def _on_image(self, camera: str, msg: Image) -> None:
        now_ns = self._recorder.now_ns()
        with self._lock:
            stream = self._streams.setdefault(camera, _Stream())
            stream.times.append((now_ns, from_msg(msg.header.stamp)))
            stream.newest = msg

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        stamp = from_msg(msg.header.stamp)
        for status in msg.status:
            values = {entry.key: entry.value for entry in status.values}
            with self._lock:
                if status.name == driver_diagnostics.NAME:
                    self._driver = [*self._driver[-4:], (stamp, values)]
                elif status.name.startswith(_CAMERA):
                    key = status.name.removeprefix(_CAMERA)
                    self._estimated[key] = values.get('stamps estimated') == 'True'

    # -- what was seen ----------------------------------------------------------------------------

    def _ask_robot(self) -> tuple[str | None, int | None, int | None]:
        """Mode, state and charge from the robot's services."""
        if self._services is None:
            self._services = RobotServices(*self._wire)
        name = self._services.mode_name(ANSWER_S)
        # A robot that does not answer one of them will not answer the other either.
        fsm = None if name is None else self._services.fsm_id(ANSWER_S)
        return name, fsm, self._services.battery_percent(BATTERY_S)

    def _robot(self, mode, driver: list, joints: JointState | None) -> RobotSeen:
        name, fsm, battery = mode
        second = self._second_driver()
        if not driver:
            held = ArmsClaim(*self._wire).held
            return RobotSeen(name, fsm, battery_percent=battery, second_driver=second,
                             arms_held=held)  # fmt: skip
        (first_ns, first), (last_ns, last) = driver[0], driver[-1]
        span_s, count = (last_ns - first_ns) * 1e-9, 'states received'
        rate = (int(last[count]) - int(first[count])) / span_s if span_s > 0 else None
        age_s = float(last['state age s'])
        errors = last.get('motor errors')
        winding, machine = last.get('hottest winding C'), last.get('mode machine')
        return RobotSeen(
            mode_name=name,
            fsm_id=fsm,
            battery_percent=battery,
            mode_machine=None if machine is None else int(machine),
            state_rate_hz=rate,
            state_age_s=age_s if age_s >= 0 else None,
            other_writers=tuple(json.loads(last['other writers'])),
            other_robots=tuple(json.loads(last['other robots'])),
            second_driver=second,
            arms_held=last['arms held'],
            winding_c=None if winding is None else float(winding),
            hottest=last.get('hottest joint', ''),
            motor_errors=None if errors is None else json.loads(errors),
            arm_q=self._arms(joints),
            gripper_q=json.loads(last.get('gripper rad', '{}')),
            gripper_age_s=json.loads(last.get('gripper ages s', '{}')),
        )

    def _second_driver(self) -> str:
        node = self._node
        driver = f'{node.get_namespace().rstrip("/")}/g1_driver'
        return second_driver(node, driver, node.resolve_topic_name('driver_status'))

    def _arms(self, joints: JointState | None) -> np.ndarray | None:
        if joints is None:
            return None
        position = dict(zip(joints.name, joints.position, strict=False))
        return np.array([position[name] for name in self._contract.channel_names[:_ARMS]])

    def _cameras(self, streams: Mapping[str, _Stream]) -> tuple[CameraSeen, ...]:
        keys = [camera.key for camera in self._contract.cameras]
        head = streams[keys[0]].ages_s()
        return tuple(self._camera(key, streams[key], head) for key in keys)

    def _camera(
        self, key: str, stream: _Stream, head_ages_s: tuple[float, float] | None
    ) -> CameraSeen:
        ages_s = stream.ages_s()
        if ages_s is None:
            return CameraSeen(key)
        span_s = (stream.times[-1][0] - stream.times[0][0]) * 1e-9
        return CameraSeen(
            key,
            # Over the whole look: a camera that stopped half way is slow.
            rate_hz=(len(stream.times) - 1) / max(span_s, LOOK_S - 0.2),
            age_s=ages_s[0],
            size=(stream.newest.width, stream.newest.height),
            # The quickest picture of each: the others have waited somewhere.
            skew_s=None if head_ages_s is None else abs(ages_s[1] - head_ages_s[1]),
            estimated=self._estimated.get(key, False),
            image=message_to_rgb(stream.newest),
        )

    def _policy_seen(
        self, backend: str, parameters: Mapping[str, object], driver: list
    ) -> PolicySeen:
        if self._policy is None:
            told = bool(driver) and 'contract' in driver[-1][1]
            return PolicySeen('', contract_differences=self._of_driver(driver) if told else None)
        status, at_ns = self._recorder.policy
        if status is None or (self._recorder.now_ns() - at_ns) * 1e-9 > ANSWER_S:
            return PolicySeen(backend=backend)
        # The reason of an earlier session does not stand in the way of the next one.
        failed = status.state == 'error' and status.session == ''
        state = 'ready' if status.state == 'error' and not failed else status.state
        reason = status.reason if failed else ''
        folder, model, arms = (str(parameters.get(name) or '')
                               for name in ('checkpoint', 'model', 'arms'))
        differences, promoted = (), None
        if backend == 'wam' and not is_server(folder):
            try:
                differences = contract_differences(Path(folder), self._contract)
            except (OSError, ValueError) as error:
                differences = (str(error),)
            promoted = promotion_problem(folder) is None
        if backend == 'wam':
            # Rows of another order move the wrong joints: nothing but the twin may find that out.
            twin = self._node.get_parameter('robot').value == 'twin'
            problem, theirs = server_problems(
                servers_of(folder, model, arms), self._contract,
                silent=SILENT_IN_TWIN if twin else SILENT, blind=bool(arms))
            differences += theirs
            state, reason = ('error', reason or problem) if problem else (state, reason)
        differences += self._of_driver(driver)
        # A model that takes no time has not been warmed up; the script of the expert has no need.
        cold = backend == 'wam' and status.chunk_latency <= 0.0
        return PolicySeen(
            backend, state, reason,
            None if cold else status.chunk_latency, differences, promoted, folder,
        )  # fmt: skip

    def _of_driver(self, driver: list) -> tuple[str, ...]:
        """How the driver's contract differs from the one here."""
        theirs, ours = driver[-1][1].get('contract', '') if driver else '', self._contract.sha256
        if not theirs or theirs == ours:
            return ()
        return (f'driver: contract {theirs[:12]}, here {ours[:12]}',)

    def _lag_s(self, joints: JointState | None) -> float | None:
        if joints is None:
            return None
        return (self._recorder.now_ns() - from_msg(joints.header.stamp)) * 1e-9

    def _free_gib(self) -> float | None:
        folder = self._output.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free / 2**30

    @staticmethod
    def _offset_ns() -> int:
        """System clock minus monotonic clock; the narrowest of three readings counts."""
        readings = []
        for _ in range(3):
            before = robot_clock.monotonic_ns()
            now = robot_clock.time_ns()
            after = robot_clock.monotonic_ns()
            readings.append((after - before, now - (before + after) // 2))
        return min(readings)[1]
