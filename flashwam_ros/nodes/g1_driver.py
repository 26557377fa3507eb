# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""g1_driver: the only process that may move the robot.

Wires the executor's control loop to topics: chunks in, joint states, accounts of chunks and
status out.
Starts passive; only the `activate` transition takes the arms over, and every way out gives them
back.
"""

from __future__ import annotations

import sys
import threading
from array import array

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from flashwam_ros.msg import ActionChunk, AppliedActions, DriverStatus
from flashwam_ros.nodes import convert
from flashwam_ros.nodes.clock import ros_now_ns, ros_offset_ns, to_msg
from flashwam_ros.nodes.control_loop import (
    ControlLoop,
    Snapshot,
    collect_garbage,
    quiet_garbage_collector,
)
from flashwam_ros.nodes.driver_diagnostics import robot_diagnostics
from flashwam_ros.nodes.driver_graph import REMEDY, second_driver, wait_for_predecessor
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.lifecycle import (
    CHUNK_QOS,
    COMMAND_QOS,
    SENSOR_QOS,
    STATUS_QOS,
    declare_wire,
    run_node,
)
from flashwam_ros.robot.chunk import ChunkRejected
from flashwam_ros.robot.chunk_messages import chunk_from_msg
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.description import load_description
from flashwam_ros.robot.executor import Executor, Mode
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.wire.arms_claim import ArmsClaim
from flashwam_ros.wire.participant import DomainError
from flashwam_ros.wire.realtime import SWITCH_INTERVAL_S, prefer_session
from flashwam_ros.wire.robot_bus import RobotBus

JOINT_STATES_S = 0.02
STATUS_S = 0.1
DIAGNOSTICS_S = 1.0
GRAPH_S = 0.5
EXIT_LIMIT_S = 12.0
START_LIMIT_S = 0.5
ENGAGE_LIMIT_S = 4.0
STATE_LIMIT_S = 5.0
BODY_JOINTS = 29
WEIGHT_NAME = 'arm_sdk_weight'
"""Name of the weight among the commanded joints."""


def make_executor(contract: RobotContract, remedy: str = 'flashwam release') -> Executor:
    """The executor of a driver: its retreat leads to where the arms were when they were taken.

    That is where the built-in controller has them, whatever that pose is on a given robot.
    `remedy` is the command by which a person gives the arms back.
    """
    kinematics = Kinematics(load_description())
    return Executor(contract, kinematics, None, robot_clock.monotonic_ns(), remedy=remedy)


class G1Driver(LifecycleNode):
    """Lifecycle node around one `ControlLoop`."""

    def __init__(self):
        super().__init__('g1_driver')
        self._domain, self._interface = declare_wire(self)
        self.contract = RobotContract.load()
        self._description = load_description()
        self.loop: ControlLoop | None = None
        self._bus: RobotBus | None = None
        self._events: list[str] = []
        self._entities: list = []
        self._publishing: threading.Thread | None = None
        self._gate = threading.RLock()
        self._claim = ArmsClaim(self._domain, self._interface)
        self._claimed = self._taking = False

    # -- transitions ------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the wire, start ticking in PASSIVE, wait for the robot's state."""
        try:
            self._bus = RobotBus(self._domain, self._interface)
        except DomainError as error:
            self.get_logger().error(f'cannot open the robot wire: {error}')
            return TransitionCallbackReturn.FAILURE
        executor = make_executor(self.contract, self._claim.remedy)
        self.loop = ControlLoop(self._bus, executor, self.contract)
        # The claim after the state: a simulated robot that has just started ends an old one.
        why = self._no_state() or self._claim.held or self._not_alone()
        if why:
            self.get_logger().error(f'not configured: {why}')
            self._close()
            return TransitionCallbackReturn.FAILURE
        self._create_entities()
        quiet_garbage_collector()
        self.loop.start()
        self._publishing = threading.Thread(
            target=self._publish_fast, args=(self.loop,), name='publisher', daemon=True
        )
        self._publishing.start()
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the arms over by a weight ramp from the measured pose; returns when it stands."""
        self._watch_writers()
        self._watch_graph()
        signs = self.loop.other_driver
        why = self._claim.foreign or (signs and f'second_driver: {signs}: {REMEDY}')
        if why:
            return self._refuse(why)
        self._taking = True
        try:
            self._claim.take()
            self._claimed = True
            return self._take_over(state)
        except OSError as error:
            return self._refuse(str(error))
        finally:
            self._taking = False

    def _refuse(self, why: str) -> TransitionCallbackReturn:
        self.get_logger().error(f'not activated: {why}')
        self.loop.events.append(f'activation_refused: {why}')
        return TransitionCallbackReturn.FAILURE

    def _take_over(self, state: LifecycleState) -> TransitionCallbackReturn:
        loop = self.loop
        loop.activate()
        begun = loop.wait_mode((Mode.ENGAGE, Mode.HOLD), START_LIMIT_S)
        if begun and loop.wait_taken_over(ENGAGE_LIMIT_S):
            return super().on_activate(state)
        output = self.loop.snapshot.output
        self.get_logger().error(f'not activated: {output.mode.name}, {output.reason}')
        self.give_back('activation failed')
        return TransitionCallbackReturn.FAILURE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the arms back; returns when the weight is 0, else fails: it can be asked again."""
        if not self.give_back('deactivated'):
            return TransitionCallbackReturn.FAILURE
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the wire."""
        self.give_back('cleaned up')
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the arms back, then close the wire."""
        self.give_back('shut down')
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the arms back, then close the wire."""
        self.give_back('error')
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def give_back(self, reason: str) -> bool:
        """HOLD, RETREAT, RELEASE, and wait for the end of it; whether the arms are given back.

        Also while PASSIVE: a take-over that was asked for may not have begun yet.
        """
        loop = self.loop
        if loop is None or not loop.ticking:
            return loop is None or not loop.holds
        asked_ns = robot_clock.monotonic_ns()
        loop.deactivate(reason)
        given = loop.wait_mode((Mode.PASSIVE,), EXIT_LIMIT_S, asked_ns) and not loop.holds
        if not given:
            why = 'the robot may not have heard it' if loop.mode is Mode.PASSIVE else loop.mode
            text = f'the arms may still be held ({why}): {self._claim.remedy}'
            self.get_logger().error(text)
            loop.events.append(f'not_given_back: {text}')
        return given

    def failed(self) -> bool:
        """Whether the control loop has broken down."""
        loop = self.loop
        return loop is not None and bool(loop.failure)

    # -- entities ---------------------------------------------------------------------------------

    def _create_entities(self) -> None:
        self._joint_states = self.create_publisher(JointState, 'joint_states', SENSOR_QOS)
        self._joint_commands = self.create_publisher(JointState, 'joint_commands', SENSOR_QOS)
        self._applied = self.create_publisher(AppliedActions, 'applied_actions', COMMAND_QOS)
        self._status = self.create_publisher(DriverStatus, 'driver_status', STATUS_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        events = SubscriptionEventCallbacks(liveliness=self._while_open(self._on_liveliness))
        quick, slow = QuickGroup(), ReentrantCallbackGroup()
        chunk = self.create_subscription(
            ActionChunk, 'action_chunk', self._while_open(self._on_chunk), CHUNK_QOS,
            event_callbacks=events, callback_group=quick,
        )  # fmt: skip
        self._entities = [
            (self.destroy_subscription, chunk),
            *(
                (
                    self.destroy_timer,
                    self.create_timer(period, self._while_open(callback), callback_group=quick),
                )
                for period, callback in (
                    (STATUS_S, self._publish_status),
                    (DIAGNOSTICS_S, self._publish_diagnostics),
                    (GRAPH_S, self._watch_graph),
                )
            ),
            *(
                (
                    self.destroy_service,
                    self.create_service(Trigger, name, callback, callback_group=group),
                )
                for name, callback, group in (
                    ('~/stop', self._while_open(self._on_stop), quick),
                    ('~/release', self._on_release, slow),
                )
            ),
            *(
                (self.destroy_publisher, publisher)
                for publisher in (
                    self._joint_states,
                    self._joint_commands,
                    self._applied,
                    self._status,
                    self._diagnostics,
                )
            ),
        ]

    def destroy_node(self) -> None:
        """Close the wire first."""
        self._close()
        super().destroy_node()

    def _while_open(self, callback):
        """A callback that does nothing once the wire is being closed in another thread.

        A service's callback has its response as last argument: it goes back unsuccessful then.
        """

        def call(*arguments):
            with self._gate:
                if self.loop is not None:
                    return callback(*arguments)
            return arguments[-1] if arguments else None

        return call

    def _close(self) -> None:
        with self._gate:
            loop, self.loop = self.loop, None
        if loop is not None:
            loop.stop()
            self._drop_claim(loop)
        if self._publishing is not None:
            self._publishing.join(1.0)
            self._publishing = None
        for destroy, entity in self._entities:
            destroy(entity)
        self._entities = []
        if self._bus is not None:
            self._bus.close()
        self._bus = None

    def _drop_claim(self, loop: ControlLoop) -> None:
        if self._claimed and not self._taking and not loop.holds:
            self._claim.drop()
            self._claimed = False

    # -- inputs -----------------------------------------------------------------------------------

    def _on_chunk(self, msg: ActionChunk) -> None:
        try:
            chunk = chunk_from_msg(msg, ros_offset_ns(self.get_clock()))
        except ChunkRejected as rejected:
            self.loop.events.append(f'chunk_rejected: {rejected.reason}')
            return
        self.loop.submit(chunk)

    def _on_liveliness(self, event) -> None:
        if event.not_alive_count_change > 0:
            self.loop.events.append('policy_lost: the publisher of action_chunk is gone')

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Hold at once; the second call gives the arms back; with no arms: not the next start."""
        held = self.loop.mode is not Mode.PASSIVE
        self.loop.halt('stop service')
        response.success = True
        response.message = (
            'holding; call again to give the arms back'
            if held
            else 'the arms are not held; the next take-over is refused'
        )
        return response

    def _on_release(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Give the arms back and answer when it is done."""
        response.success = self.give_back('release service')
        loop = self.loop
        response.message = Mode.PASSIVE.name if loop is None else loop.mode.name
        return response

    def _watch_writers(self) -> None:
        self.loop.other_writers = tuple(self._bus.foreign_writers())
        self.loop.other_robots = tuple(self._bus.other_robots())

    def _watch_graph(self) -> None:
        self.loop.other_driver = second_driver(
            self, self.get_fully_qualified_name(), self._status.topic_name
        )

    # -- what stands in the way -------------------------------------------------------------------

    def _no_state(self) -> str:
        if self._bus.wait_lowstate(STATE_LIMIT_S) is not None:
            return ''
        return (
            f'no robot state on DDS domain {self._domain}, interface {self._interface}, '
            f'within {STATE_LIMIT_S} s: is it (or the twin) running, the interface right?'
        )

    def _not_alone(self) -> str:
        """After a wait for a driver that is just ending; before there is a publisher here."""
        name, topic = self.get_fully_qualified_name(), self.resolve_topic_name('driver_status')
        signs = wait_for_predecessor(self, name, topic)
        return f'second_driver: {signs}: {REMEDY}' if signs else ''

    # -- outputs ----------------------------------------------------------------------------------

    def _publish_fast(self, loop: ControlLoop) -> None:
        """Joint states at 50 Hz and accounts of chunks at once.

        A thread of its own: a timer of the executor at this rate costs several times as much.
        """
        due = robot_clock.monotonic()
        while loop is self.loop and not loop.failure:
            due = max(due + JOINT_STATES_S, robot_clock.monotonic())
            while (left := due - robot_clock.monotonic()) > 0:
                if loop.wake.wait(robot_clock.machine_s(left)):
                    loop.wake.clear()
                    self._publish_accounts(loop)
            self._publish_joints(loop.snapshot)

    def _publish_accounts(self, loop: ControlLoop) -> None:
        clock = self.get_clock()
        while loop.accounts:
            account = loop.accounts.popleft()
            offset_ns = ros_offset_ns(clock)
            self._applied.publish(
                convert.applied_to_msg(
                    account, self.contract.channel_names, offset_ns, ros_now_ns(self)
                )
            )

    def _publish_joints(self, snapshot: Snapshot) -> None:
        if snapshot.sample is None:
            return
        offset_ns = ros_offset_ns(self.get_clock())
        state = JointState()
        state.header.stamp = to_msg(snapshot.sample.arrival_ns + offset_ns)
        grippers = list(self.contract.channel_names[-2:])
        state.name = [*self._description.motor_order[:BODY_JOINTS], *grippers]
        sample = snapshot.sample
        state.position = _doubles(sample.q[:BODY_JOINTS], snapshot.measured[-2:])
        state.velocity = _doubles(sample.dq[:BODY_JOINTS], snapshot.velocity[-2:])
        state.effort = _doubles(sample.tau_est[:BODY_JOINTS], (0.0, 0.0))
        self._joint_states.publish(state)
        output = snapshot.output
        if output is not None and output.write:
            command = JointState()
            command.header.stamp = to_msg(snapshot.now_ns + offset_ns)
            command.name = [*self.contract.channel_names, WEIGHT_NAME]
            command.position = _doubles(output.arm_q, output.gripper_q, (output.weight,))
            self._joint_commands.publish(command)

    def _publish_status(self) -> None:
        self._watch_writers()
        self._drop_claim(self.loop)
        snapshot = self.loop.snapshot
        if snapshot.output is None:
            return
        while self.loop.events:
            self._events.append(self.loop.events.popleft())
        events, self._events = self._events, []
        self._status.publish(self._status_message(snapshot, events))

    def _status_message(self, snapshot: Snapshot, events: list[str]) -> DriverStatus:
        output = snapshot.output
        msg = DriverStatus()
        msg.header.stamp = to_msg(ros_now_ns(self))
        msg.mode = output.mode.name
        msg.reason = output.reason
        msg.weight = float(output.weight)
        msg.session = output.session
        msg.chunk_index = output.chunk_index
        msg.tick_lateness_p50, msg.tick_lateness_p99 = self.loop.lateness.percentiles()
        msg.tick_lateness_max = self.loop.lateness.max_s
        msg.limited_ticks = self.loop.limited_ticks
        msg.tracking_error = output.tracking_error
        msg.events = events
        return msg

    def _publish_diagnostics(self) -> None:
        collect_garbage(self.loop.mode)
        status = robot_diagnostics(
            self.loop, self._bus, self._description.motor_order[:BODY_JOINTS],
            f'domain {self._domain} on {self._interface}', self.contract.sha256,
            self._claim.foreign,
        )  # fmt: skip
        message = DiagnosticArray(status=[status])
        message.header.stamp = to_msg(ros_now_ns(self))
        self._diagnostics.publish(message)


def _doubles(*parts) -> array:
    return array('d', np.concatenate([np.asarray(part, np.float64) for part in parts]).tobytes())


def main(argv: list[str] | None = None) -> int:
    """Run the node; SIGINT, SIGTERM and SIGHUP give the arms back before it ends."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    prefer_session()
    return run_node(
        G1Driver,
        argv,
        finish=lambda node, reason: node.give_back(reason),
        failed=G1Driver.failed,
    )


if __name__ == '__main__':
    sys.exit(main())
