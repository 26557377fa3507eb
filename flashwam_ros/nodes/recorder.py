# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""recorder: every episode into a file of its own, audited while it is written.

Rollouts are recorded by themselves: the rollout node says on `episode_event` when one begins and
ends. Teleoperation is recorded by the services `~/start`, `~/stop`, `~/keep` and `~/discard`, with
the parameters `task`, `prompt` and `operator` as they are then.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import threading
import time
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from flashwam_ros.episodes import schemas
from flashwam_ros.episodes.mcap_writer import RecordingError
from flashwam_ros.episodes.messages import MessageError, header_stamp_ns, json_text, text_message
from flashwam_ros.episodes.recording import EpisodeRecorder, RecorderState, checkpoint_hash
from flashwam_ros.episodes.schemas import EPISODE_EVENT, SIM_STATE, STRING_TYPE, Topic
from flashwam_ros.episodes.sidecar import (
    DISCARD,
    KEEP,
    Sidecar,
    SidecarError,
    change_sidecar,
    sidecar_path,
)
from flashwam_ros.episodes.software import software
from flashwam_ros.nodes.clock import ros_now_ns, to_msg
from flashwam_ros.nodes.episode_events import BEGIN, END
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.lifecycle import STATUS_QOS, declare, declare_wire, run_node
from flashwam_ros.nodes.polled_input import PolledInput
from flashwam_ros.policy.handshake import is_server
from flashwam_ros.policy.protocol import PolicyError
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract

STATUS_S = 0.5
SIM_S = 0.1
FINISH_S = 19.0
LOST_S = 3.0
CLOSED_S = 10.0
"""So long a label waits for its episode to be whole; then it is written all the same."""
DEPTH = 200
"""Messages of a topic that may wait while this process does not get a processor."""
_BEST_EFFORT = (schemas.JOINT_STATES, schemas.JOINT_COMMANDS)
_SIDECAR = frozenset(entry.name for entry in dataclasses.fields(Sidecar))
_LEVELS = {'green': DiagnosticStatus.OK, 'amber': DiagnosticStatus.WARN,
           'red': DiagnosticStatus.ERROR}  # fmt: skip


def _message_class(kind: str) -> type:
    package, _, name = kind.split('/')
    return getattr(importlib.import_module(f'{package}.msg'), name)


class RecorderNode(LifecycleNode):
    """Lifecycle node around one `EpisodeRecorder`; configures and activates itself."""

    def __init__(self):
        super().__init__('recorder')
        self._wire = declare_wire(self)
        self._robot = declare(self, 'robot', 'twin', 'twin or real')
        folder = declare(self, 'episodes_dir', 'episodes', 'folder that receives the episodes')
        checkpoint = declare(self, 'checkpoint', '', 'folder of the model, or its server')
        free_gb = declare(
            self, 'min_free_gb', 1.0, 'free disk space (GB) below which nothing is started',
            bounds=(0.0, 1e6),
        )  # fmt: skip
        declare(self, 'task', '', 'task of the next manual episode', read_only=False)
        declare(self, 'prompt', '', 'instruction of the next manual episode', read_only=False)
        declare(self, 'operator', '', 'who labels', read_only=False)
        self._contract = RobotContract.load()
        self._topics = {
            topic.name: Topic(self.resolve_topic_name(topic.name), topic.type)
            for topic in schemas.recorded_topics(self._contract)
        }
        common = {
            'robot': self._robot, 'checkpoint': checkpoint,
            'checkpoint_sha256': self._model_hash(checkpoint), 'namespace': self.get_namespace(),
        }  # fmt: skip
        self.core = EpisodeRecorder(
            Path(folder).absolute(), self._contract, tuple(self._topics.values()), common,
            self._now_ns, round(free_gb * 1e9),
        )  # fmt: skip
        self._active = False
        self._alone_since: float | None = None
        self._sim_bus = None
        self._sim_ns = 0
        self._input: PolledInput | None = None
        self._status = self.create_publisher(String, 'recorder_status', STATUS_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(STATUS_S, self._publish_status, callback_group=QuickGroup())
        for name, callback in (
            ('~/start', self._on_start), ('~/stop', self._on_stop),
            ('~/keep', partial(self._on_label, KEEP)),
            ('~/discard', partial(self._on_label, DISCARD)),
        ):  # fmt: skip
            self.create_service(Trigger, name, callback)

    def _model_hash(self, checkpoint: str) -> str:
        if not is_server(checkpoint):
            return checkpoint_hash(checkpoint)
        from flashwam_ros.policy.remote_policy import ask_handshake

        try:
            return ask_handshake(checkpoint).sha256
        except PolicyError as error:
            self.get_logger().warning(f'recordings will not name their model: {error}')
            return ''

    def _now_ns(self) -> int:
        return ros_now_ns(self)

    # -- transitions ------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to everything that is recorded."""
        self._input = PolledInput(self)
        for name, topic in self._topics.items():
            if name == SIM_STATE:
                continue
            reliability = (
                QoSReliabilityPolicy.BEST_EFFORT
                if name in _BEST_EFFORT
                else QoSReliabilityPolicy.RELIABLE
            )
            qos = QoSProfile(depth=DEPTH, reliability=reliability)
            on_message = self._on_event if name == EPISODE_EVENT else partial(self._on_raw, topic)
            self._input.add(_message_class(topic.type), name, qos, on_message)
        if self._robot == 'twin':
            from flashwam_ros.wire.sim_bus import SimBus

            self._sim_bus = SimBus(*self._wire)
            self._timer = self.create_timer(
                SIM_S, self._take_sim_state, callback_group=QuickGroup()
            )
        self._input.start()
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Episodes may begin."""
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the running episode; begin none."""
        self._active = False
        self.core.stop('recorder deactivated')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen no more."""
        self._close()
        return TransitionCallbackReturn.SUCCESS

    on_shutdown = on_error = on_cleanup

    def destroy_node(self) -> None:
        """End the episode first."""
        self._close()
        super().destroy_node()

    def _close(self) -> None:
        self._active = False
        self.core.stop('recorder ended')
        self.core.wait()
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._sim_bus is not None:
            self.destroy_timer(self._timer)
            self._sim_bus.close()
            self._sim_bus = None

    def finish(self, reason: str) -> None:
        """Wait for a rollout to say its verdict, then end the episode."""
        deadline = time.monotonic() + robot_clock.machine_s(FINISH_S)
        while self.core.kind == 'rollout' and time.monotonic() < deadline:
            if not self.count_publishers(EPISODE_EVENT):
                break
            time.sleep(0.05)
        self.core.stop(f'interrupted: {reason}')
        self.core.wait()

    # -- topics -----------------------------------------------------------------------------------

    def _on_raw(self, topic: Topic, data: bytes, arrival_ns: int) -> None:
        if not self.core.session:
            return
        try:
            stamp_ns = header_stamp_ns(data)
        except MessageError as error:
            self.get_logger().error(f'{topic.name}: {error}', throttle_duration_sec=1.0)
            return
        self.core.put(topic.name, stamp_ns, arrival_ns, data)

    def _on_event(self, data: bytes, arrival_ns: int) -> None:
        try:
            event = json_text(data, STRING_TYPE)
            stamp_ns = int(event['stamp_ns'])
        except (MessageError, KeyError, ValueError) as error:
            self.get_logger().error(f'episode_event: {error!r}')
            return
        begins = event.get('event') == BEGIN
        if begins:
            self._start('rollout', event.get('task', ''), event['session'], event.get('about', {}))
        self.core.put(self._topics[EPISODE_EVENT].name, stamp_ns, arrival_ns, data)
        if event.get('event') == END and event.get('session') == self.core.session:
            # In a thread: putting the file on the disk may take a moment.
            threading.Thread(
                target=self.core.stop, daemon=True,
                args=('rollout ended', event.get('verdict'), event['session']),
            ).start()  # fmt: skip

    def _take_sim_state(self) -> None:
        state = self._sim_bus.state()
        if state is None or not self.core.session or state['time_ns'] == self._sim_ns:
            return
        self._sim_ns = state['time_ns']
        topic = self._topics[SIM_STATE].name
        self.core.put(topic, self._sim_ns, self._now_ns(), text_message(state))

    def _start(self, kind: str, task: str, session: str, about: dict) -> str:
        """Begin an episode; why not, or ''."""
        if not self._active:
            return 'the recorder is not active'
        known = {name: about[name] for name in ('prompt', 'seed', 'policy', 'execution')
                 if name in about}  # fmt: skip
        extra = {name: value for name, value in about.items() if name not in _SIDECAR}
        extra['software'] = software()
        try:
            self.core.start(kind, task, session, **known, extra=extra)
        except RecordingError as error:
            self.get_logger().error(f'nothing is recorded: {error}')
            return str(error)
        return ''

    # -- services ---------------------------------------------------------------------------------

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin a manual episode."""
        if self.core.kind == 'rollout':
            response.message = f'rollout {self.core.session} is being recorded'
            return response
        task, prompt = (self.get_parameter(name).value for name in ('task', 'prompt'))
        about = {'prompt': prompt, 'policy': 'teleop'}
        state = self._sim_bus.state() if self._sim_bus else None
        if state is not None:
            about['seed'] = state['seed']
        response.message = self._start('manual', task, '', about)
        response.success = not response.message
        response.message = response.message or self.core.state().episode
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """End the manual episode."""
        if self.core.kind == 'rollout':
            response.message = 'a rollout is being recorded: cancel the rollout instead'
            return response
        session = self.core.session
        sidecar = self.core.stop('stopped by the operator', session=session)
        response.success = sidecar is not None
        state = self.core.state()
        response.message = state.episode
        if sidecar is None:
            failed = session and state.session == session and state.state == 'error'
            response.message = state.reason if failed else 'nothing was being recorded'
        return response

    def _on_label(
        self, label: str, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Label the current episode (a manual one is ended first), else the last one."""
        # The one that is meant now: while this waits for the disk, the next one may begin.
        state = self.core.state()
        if not state.episode:
            response.message = 'there is no episode to label'
            return response
        if (state.state, state.kind) == ('recording', 'manual'):
            self.core.stop('stopped by the operator', session=state.session)
        self.core.wait(CLOSED_S)
        by = self.get_parameter('operator').value
        try:
            change_sidecar(sidecar_path(Path(state.episode)), lambda old: old.labelled(label, by))
        except (OSError, SidecarError) as error:
            response.message = f'not labelled: {error}'
            return response
        response.success, response.message = True, f'{state.episode}: {label}'
        return response

    # -- status -----------------------------------------------------------------------------------

    def _publish_status(self) -> None:
        self._watch()
        state = self.core.state()
        self._status.publish(String(data=state.to_json()))
        message = DiagnosticArray(status=[_diagnostic(state)])
        message.header.stamp = to_msg(ros_now_ns(self))
        self._diagnostics.publish(message)

    def _watch(self) -> None:
        """End an episode that nobody else will end: full disk, or its rollout is gone."""
        self.core.poll()
        if self.core.kind != 'rollout' or self.count_publishers(EPISODE_EVENT):
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > LOST_S:
            self.core.stop('rollout_lost: the rollout node is gone')


def _diagnostic(state: RecorderState) -> DiagnosticStatus:
    status = DiagnosticStatus(name='recorder: episode', hardware_id=state.episode)
    status.level = _LEVELS.get(state.level, DiagnosticStatus.OK)
    if state.state == 'error':
        status.level = DiagnosticStatus.ERROR
    status.message = '; '.join(filter(None, (state.state, state.reason, *state.findings)))
    values = {'seconds': state.seconds, 'messages': state.messages, 'bytes': state.size,
              'dropped': json.dumps(dict(state.dropped)), 'free GB': round(state.free / 1e9, 2),
              'quality': '' if state.score is None else state.score}  # fmt: skip
    status.values = [KeyValue(key=name, value=str(value)) for name, value in values.items()]
    return status


def _make() -> RecorderNode:
    node = RecorderNode()
    node.trigger_configure()
    node.trigger_activate()
    return node


def main(argv: list[str] | None = None) -> int:
    """Run the node; SIGINT and SIGTERM let a rollout say its verdict and end the episode."""
    return run_node(_make, argv, finish=RecorderNode.finish)


if __name__ == '__main__':
    sys.exit(main())
