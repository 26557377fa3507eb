# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes of the expert through the teleoperation path: reset, take over, play, score."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import Protocol

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from std_msgs.msg import String

from flashwam_ros.action import RunRollout
from flashwam_ros.episodes.rollout_log import judge
from flashwam_ros.nodes.episode_events import EpisodeEvents
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.lifecycle import STATUS_QOS
from flashwam_ros.nodes.lifecycle_client import NodeUnavailableError
from flashwam_ros.nodes.operator_arms import OperatorArms
from flashwam_ros.teleop.session import TeleopSession
from flashwam_ros.twin.tasks import TASKS
from flashwam_ros.wire.sim_bus import SimBus, SimulatorTimeoutError

POLL_S = 0.05
READY_S = 5.0
STARTING_S = 60.0
AFTER_S = 1.0
FINISH_S = 18.0
POLICY = 'teleop'
"""What sidecars of these episodes name as the policy; the device stands beside it."""


class EpisodeFault(RuntimeError):
    """The episode could not be played; the message is its reason."""


class Owner(Protocol):
    """What the episodes need of their node, beside what every node has."""

    task: str
    arms: OperatorArms
    sim: SimBus
    session: TeleopSession
    lock: threading.Lock
    started: threading.Event


class ExpertEpisodes:
    """Action server `run_rollout`, one goal at a time, as the rollout node's.

    Args:
        node: owner; its device is the expert.
    """

    def __init__(self, node: Owner):
        self._node = node
        self._events = EpisodeEvents(node, 'teleop')
        self._busy = threading.Lock()
        self._recorder: dict = {}
        self.interrupted = ''
        node.create_subscription(
            String, 'recorder_status', self._on_recorder, STATUS_QOS, callback_group=QuickGroup()
        )
        self._server = ActionServer(
            node, RunRollout, 'run_rollout', self._execute, goal_callback=self._on_goal,
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether an episode is under way."""
        return self._busy.locked()

    def finish(self, reason: str) -> None:
        """End the episode in hand; returns when it has ended."""
        self.interrupted = f'interrupted: {reason}'
        if self._busy.acquire(timeout=FINISH_S):
            self._busy.release()

    def _on_recorder(self, msg: String) -> None:
        self._recorder = json.loads(msg.data)

    def _on_goal(self, goal: RunRollout.Goal) -> GoalResponse:
        why = ''
        if goal.task != self._node.task:
            why = f'task {goal.task!r}: this graph was started for {self._node.task!r}'
        elif self.running:
            why = 'an episode is running'
        if why:
            self._node.get_logger().error(f'goal refused: {why}')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _execute(self, handle) -> RunRollout.Result:
        with self._busy:
            result = self._run(handle)
        if handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.succeed()
        return result

    # -- one episode ------------------------------------------------------------------------------

    def _run(self, handle) -> RunRollout.Result:
        goal, node = handle.request, self._node
        score = _Score(node, goal, handle)
        name = f'{goal.task}-{goal.seed}-{uuid.uuid4().hex[:8]}'
        about = {
            'prompt': goal.prompt or TASKS[goal.task].prompt, 'seed': int(goal.seed),
            'policy': POLICY, 'device': 'expert', 'time_limit_s': score.limit_s,
        }  # fmt: skip
        begun, since = False, node.arms.releases
        try:
            score.tell('starting')
            node.started.wait(STARTING_S)
            score.tell('resetting')
            node.arms.give_back()
            node.sim.reset(goal.task, int(goal.seed))
            score.tell('preflight')
            node.arms.take_over(since)
            begun = True
            self._events.begin(name, goal.task, about)
            self._await_ready(name)
            self._play(score, int(goal.seed))
        except (EpisodeFault, NodeUnavailableError, SimulatorTimeoutError, ValueError) as error:
            score.fault = str(error)
        verdict, reason = judge(score.success, score.failure, score.fault, score.real_time_factor)
        node.get_logger().info(f'seed {goal.seed}: {verdict}: {reason}')
        outcome = {
            'verdict': verdict, 'reason': reason, 'stages': score.stages,
            'elapsed_s': round(score.elapsed_s, 3),
        }  # fmt: skip
        if begun:
            self._events.end(name, outcome)
        with node.lock:
            node.session.device.end()
            late = node.session.late - score.late_before
        score.tell('giving back')
        try:
            node.arms.give_back()
        except NodeUnavailableError as error:
            node.get_logger().error(f'the arms were not given back: {error}')
        summary = {
            **about, **outcome, 'session': name, 'late_chunks': late, 'recorded': begun,
            'real_time_factor': score.real_time_factor,
        }  # fmt: skip
        return RunRollout.Result(
            success=verdict == 'success', verdict=verdict, reason=reason,
            stages=list(score.stages), stage_reached=list(score.stages.values()),
            summary_json=json.dumps(summary),
        )  # fmt: skip

    def _await_ready(self, name: str) -> None:
        """Nothing of a demonstration may be missing: the recorder writes before anything moves.

        Raises:
            EpisodeFault: it does not, or the driver does not hold the arms.
        """
        deadline = time.monotonic() + READY_S
        while True:
            recorded = (
                not self._node.count_publishers('recorder_status')
                or self._recorder.get('session') == name
                and self._recorder.get('state') == 'recording'
            )
            if recorded and self._node.session.state == 'ready':
                return
            if time.monotonic() > deadline:
                raise EpisodeFault(
                    f'driver: {self._node.session.note or self._node.session.state}' if recorded
                    else f'recorder: {self._recorder.get("reason") or "does not record"}'
                )  # fmt: skip
            time.sleep(POLL_S)

    def _play(self, score: _Score, seed: int) -> None:
        node = self._node
        with node.lock:
            node.session.device.begin(node.session.command_in_force, seed, time.monotonic_ns())
        done_at = float('inf')
        while not score.over(self.interrupted):
            if node.session.device.done:
                done_at = min(done_at, time.monotonic())
            if time.monotonic() - done_at > AFTER_S:
                score.failure = 'not_solved'
                return
            time.sleep(POLL_S)


class _Score:
    """What became of an episode so far."""

    def __init__(self, node: Owner, goal: RunRollout.Goal, handle):
        task = TASKS[goal.task]
        self._node, self._seed, self._handle = node, int(goal.seed), handle
        self.limit_s = goal.time_limit or task.time_limit_s
        self.stages = dict.fromkeys(task.stages, False)
        self.success, self.failure, self.fault = False, None, ''
        self.real_time_factor: float | None = None
        self.late_before = node.session.late
        self._began = 0.0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began if self._began else 0.0

    def tell(self, stage: str) -> None:
        self._handle.publish_feedback(
            RunRollout.Feedback(elapsed=self.elapsed_s, chunk=-1, stage=stage))

    def over(self, interrupted: str) -> bool:
        """Whether the episode is over; call it often.

        Raises:
            EpisodeFault: it was ended from outside.
        """
        self._look()
        if self.success or self.failure:
            return True
        session = self._node.session
        if not self._began and session.state == 'streaming':
            self._began = time.monotonic()
            self.tell('running')
        elif self._began and session.state != 'streaming':
            raise EpisodeFault(f'driver: {session.note or session.state}')
        if interrupted or self._handle.is_cancel_requested:
            raise EpisodeFault(interrupted or 'cancelled')
        if self.elapsed_s > self.limit_s:
            self.failure = 'time_limit'
        return self.failure is not None

    def _look(self) -> None:
        state = self._node.sim.state()
        if state is None or state['seed'] != self._seed:
            return
        self.real_time_factor = state['real_time_factor_episode']
        for name, reached in state['stages'].items():
            self.stages[name] = self.stages.get(name, False) or reached
        self.success = self.success or state['success']
        self.failure = self.failure or state['failure']
