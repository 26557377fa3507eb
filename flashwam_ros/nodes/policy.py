# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""policy: camera streams and accounts of chunks in, action chunks out.

`configure` loads the backend and compares its robot contract; `activate` begins a session with the
parameters `session`, `prompt`, `seed` and `execution` as they are then; `deactivate` ends it.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState

from flashwam_ros.imaging import ImageError, to_policy_size
from flashwam_ros.msg import ActionChunk, AppliedActions, PolicyStatus
from flashwam_ros.nodes import convert
from flashwam_ros.nodes.clock import from_msg, ros_now_ns, to_msg
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.image_conversion import message_to_rgb
from flashwam_ros.nodes.lifecycle import (
    CHUNK_QOS,
    COMMAND_QOS,
    SENSOR_QOS,
    declare,
    declare_wire,
    run_node,
)
from flashwam_ros.policy.backends import BACKENDS, PolicyChoice, make_policy, read_arms
from flashwam_ros.policy.loop import LOOKAHEAD
from flashwam_ros.policy.protocol import Policy, PolicyError
from flashwam_ros.policy.worker import Loaded, PolicyWorker
from flashwam_ros.robot import chunk as robot_chunk
from flashwam_ros.robot.chunk_messages import applied_from_msg
from flashwam_ros.robot.contract import Camera, RobotContract

STATUS_S = 0.1
LOAD_LIMIT_S = 120.0
TWIN_LIMIT_S = 10.0
_JOINTS = 14


class PolicyNode(LifecycleNode):
    """Lifecycle node around one `PolicyWorker`."""

    def __init__(self):
        super().__init__('policy')
        self._wire = declare_wire(self)
        choices = f'one of {", ".join(BACKENDS)}'
        self._choice = PolicyChoice(
            policy=declare(self, 'policy', 'wam', f'backend, {choices}'),
            checkpoint=declare(
                self, 'checkpoint', '', 'folder of the world-action model, or its server'
            ),
            video_steps=declare(
                self, 'video_steps', 0, 'video sampler steps, 0: as the checkpoint', bounds=(0,
                1000)
            ),
            action_steps=declare(
                self, 'action_steps', 0, 'action sampler steps, 0: as the checkpoint',
                bounds=(0, 1000),
            ),
        )  # fmt: skip
        self._arms_file = declare(
            self, 'arms', '', 'arms.json of a compiled study: all its policies stay loaded'
        )
        self._period_s = declare(
            self, 'frame_period', 0.05, 'nominal time between camera frames (s)', bounds=(0.005, 1)
        )
        self._stale_s = declare(
            self, 'stale_after', 0.5, 'age (s) at which a camera counts as dead', bounds=(0.1, 10)
        )
        declare(self, 'model', '', 'said by this node: what its server serves', read_only=False)
        declare(self, 'session', '', 'name of the next session', read_only=False)
        declare(self, 'arm', '', 'blind code of the next session, with arms', read_only=False)
        declare(self, 'prompt', '', 'instruction of the next session', read_only=False)
        declare(self, 'seed', 0, 'seed of the next session', read_only=False)
        declare(
            self, 'execution', 'sync', f'one of {", ".join(LOOKAHEAD)}', read_only=False
        )
        self.add_on_set_parameters_callback(self._check_parameters)
        self.contract = RobotContract.load()
        self._measured: tuple[np.ndarray, np.ndarray] | None = None
        self._worker: PolicyWorker | None = None
        self._loaded: dict[str, Loaded] = {}
        self._sim_bus = None
        self._entities: list = []
        self._active = False
        self._arm = ''
        self._load_failure = ''
        self._status = self.create_publisher(PolicyStatus, 'policy_status', COMMAND_QOS)
        self.create_timer(STATUS_S, self._publish_status, callback_group=QuickGroup())

    # -- transitions ------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the backend, compare contracts, run one blank inference."""
        self._worker = PolicyWorker(
            self.contract,
            self._publish_chunk,
            lambda: ros_now_ns(self),
            self._period_s,
            self._stale_s,
            blind=bool(self._arms_file),
        )
        self._create_entities()
        try:
            self._load()
        except FutureTimeoutError:
            return self._refuse(f'loading took longer than {LOAD_LIMIT_S:.0f} s')
        except Exception as error:  # noqa: BLE001 (the worker has logged it with its trace)
            return self._refuse(f'{type(error).__name__}: {error}')
        self._load_failure = ''
        return TransitionCallbackReturn.SUCCESS

    def _load(self) -> None:
        """Load the policy, or all arms of a study; of those nothing is said that tells them apart.

        What a study's arms are warned about is in the files that it was compiled to.
        """
        if self._arms_file:
            shared: dict = {}
            arms = read_arms(self._arms_file)
            for choice in dict.fromkeys(arms.values()):
                names = [name for name, wanted in arms.items() if wanted == choice]
                make = partial(self._make_policy, choice, shared)
                loaded = self._worker.load(make, names).result(LOAD_LIMIT_S)
                self._loaded.update(dict.fromkeys(names, loaded))
            self.get_logger().info(f'{len(self._loaded)} arms are loaded and warm')
            return
        loaded = self._worker.load(partial(self._make_policy, self._choice)).result(LOAD_LIMIT_S)
        self._loaded[''] = loaded
        self.set_parameters([Parameter('model', value=json.dumps(loaded.model))])
        for warning in loaded.warnings:
            self.get_logger().warning(warning)
        self.get_logger().info(
            f'policy {loaded.name} is ready, a warm chunk takes {loaded.warm_s * 1e3:.0f} ms'
        )

    def _refuse(self, reason: str) -> TransitionCallbackReturn:
        self.get_logger().error(f'the policy cannot be used: {reason}')
        self._load_failure = reason
        self._close()
        return TransitionCallbackReturn.FAILURE

    def _make_policy(self, choice: PolicyChoice, shared: dict | None = None) -> Policy:
        sim_state = None
        if choice.policy == 'expert':
            from flashwam_ros.wire.sim_bus import SimBus

            if self._sim_bus is None:
                self._sim_bus = SimBus(*self._wire)
                self._sim_bus.wait_state(TWIN_LIMIT_S)
            sim_state = self._sim_bus.state
        return make_policy(choice, self.contract, sim_state, self._joints, shared)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin a session."""
        values = {
            name: self.get_parameter(name).value
            for name in ('session', 'prompt', 'seed', 'execution')
        }
        if not values['session']:
            self.get_logger().error('set the parameter session before activating the policy')
            return TransitionCallbackReturn.FAILURE
        if self._arm not in self._loaded:
            self.get_logger().error('this policy holds a study\'s arms: name one in the goal')
            return TransitionCallbackReturn.FAILURE
        self._active = True
        self._worker.begin(
            values['session'], values['prompt'], int(values['seed']), values['execution']
        )
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the session; the arm has to be named again for the next one."""
        self._active = False
        self._arm = ''
        self._worker.end()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the backend."""
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the backend."""
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the backend."""
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """End the worker first."""
        self._close()
        super().destroy_node()

    def _close(self) -> None:
        self._active = False
        for destroy, entity in self._entities:
            destroy(entity)
        self._entities = []
        if self._worker is not None:
            self._worker.close()
        if self._sim_bus is not None:
            self._sim_bus.close()
        self._worker = self._sim_bus = None
        self._loaded, self._arm = {}, ''

    # -- topics -----------------------------------------------------------------------------------

    def _create_entities(self) -> None:
        self._chunks = self.create_publisher(ActionChunk, 'action_chunk', CHUNK_QOS)
        self._entities.append((self.destroy_publisher, self._chunks))
        quick = QuickGroup()
        wanted = [
            (
                Image,
                f'{camera.topic}/image_raw',
                partial(self._on_image, camera),
                SENSOR_QOS,
            )
            for camera in self.contract.cameras
        ]
        wanted += [
            (AppliedActions, 'applied_actions', self._on_applied, COMMAND_QOS),
            (JointState, 'joint_states', self._on_joints, SENSOR_QOS),
        ]
        for kind, topic, callback, profile in wanted:
            subscription = self.create_subscription(
                kind, topic, callback, profile, callback_group=quick
            )
            self._entities.append((self.destroy_subscription, subscription))

    def _on_image(self, camera: Camera, msg: Image) -> None:
        worker = self._worker
        if worker is None:
            return
        try:
            image = to_policy_size(message_to_rgb(msg), camera)
        except (ImageError, ValueError) as error:
            worker.fail(f"StreamError: camera '{camera.key}': {error}")
            return
        worker.add_frame(camera.key, image, from_msg(msg.header.stamp))

    def _on_applied(self, msg: AppliedActions) -> None:
        worker = self._worker
        if worker is None or not self._active:
            return
        try:
            worker.applied(applied_from_msg(msg))
        except robot_chunk.ChunkRejected as error:
            worker.fail(f'HistoryError: {error.reason}')

    def _on_joints(self, msg: JointState) -> None:
        position = dict(zip(msg.name, msg.position, strict=False))
        values = np.array([position[name] for name in self.contract.channel_names])
        self._measured = values[:_JOINTS], values[_JOINTS:]

    def _joints(self) -> tuple[np.ndarray, np.ndarray]:
        if self._measured is None:
            raise PolicyError('no joint_states have arrived: is g1_driver configured?')
        return self._measured

    def _publish_chunk(self, chunk: robot_chunk.ActionChunk) -> None:
        if self._active:
            self._chunks.publish(convert.chunk_to_msg(chunk))

    def _publish_status(self) -> None:
        worker = self._worker
        msg = PolicyStatus()
        msg.header.stamp = to_msg(ros_now_ns(self))
        msg.predicted = msg.grounded = -1
        if worker is None:
            msg.state = 'error' if self._load_failure else 'unconfigured'
            msg.reason = self._load_failure
        else:
            state = worker.state
            msg.state, msg.reason, msg.session = state.state, state.reason, state.session
            msg.predicted, msg.grounded = state.predicted, state.grounded
            msg.chunk_latency, msg.slack = state.chunk_latency_s, state.slack_s
        self._status.publish(msg)

    # -- parameters -------------------------------------------------------------------------------

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if self._active:
                return SetParametersResult(
                    successful=False, reason='a session is running: deactivate the policy first'
                )
            if parameter.name == 'execution' and parameter.value not in LOOKAHEAD:
                return SetParametersResult(
                    successful=False, reason=f'execution must be one of {sorted(LOOKAHEAD)}'
                )
            if parameter.name == 'arm' and (problem := self._choose(parameter.value)):
                return SetParametersResult(successful=False, reason=problem)
            loaded = self._loaded.get(self._arm)
            problems = loaded.mode_problems if loaded is not None else {}
            if parameter.name == 'execution' and parameter.value in problems:
                why = 'this arm cannot' if self._arms_file else problems[parameter.value]
                return SetParametersResult(
                    successful=False, reason=f'{parameter.value} is refused: {why}'
                )
            if parameter.name == 'seed' and parameter.value < 0:
                return SetParametersResult(successful=False, reason='seed must not be negative')
        return SetParametersResult(successful=True)

    def _choose(self, arm: str) -> str:
        """Put this arm in charge of the next session; why not, '' where it is."""
        if arm not in self._loaded:
            return f'arm {arm!r} is not loaded; there are {len(self._loaded)}'
        worker = self._worker
        if worker is not None and (arm != self._arm or worker.state.state == 'error'):
            worker.choose(arm)
        self._arm = arm
        return ''


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(PolicyNode, argv)


if __name__ == '__main__':
    sys.exit(main())
