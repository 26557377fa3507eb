# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""rollout: runs one episode from reset to a safe pose and says how it went, with a reason."""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path

from lifecycle_msgs.msg import State
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from flashwam_ros.action import RunRollout
from flashwam_ros.episodes.rollout_log import Outcome, RolloutLog, RolloutSetting, judge
from flashwam_ros.episodes.rollout_report import write_report
from flashwam_ros.nodes.episode_events import EpisodeEvents
from flashwam_ros.nodes.lifecycle import declare, declare_wire, run_node
from flashwam_ros.nodes.lifecycle_client import LifecycleClient, NodeUnavailableError
from flashwam_ros.nodes.preflight_probe import PreflightProbe
from flashwam_ros.nodes.rollout_recorder import RolloutRecorder
from flashwam_ros.nodes.rollout_watch import RolloutWatch
from flashwam_ros.policy.loop import LOOKAHEAD
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.trials.check_result import Report
from flashwam_ros.trials.preflight import not_observed, preflight
from flashwam_ros.twin.tasks import TASKS
from flashwam_ros.wire.arms_claim import held_hint
from flashwam_ros.wire.sim_bus import SimBus, SimulatorTimeoutError

CONFIGURE_DRIVER_S = 15.0
CONFIGURE_POLICY_S = 150.0
ACTIVATE_S = 8.0
DEACTIVATE_S = 15.0
OPERATOR_S = 600.0
LONGEST_S = 600.0
FINISH_S = 18.0
LOOKS = 2


class RolloutError(RuntimeError):
    """The episode could not be run; the message is the rollout's reason."""


class RolloutNode(Node):
    """Action server `run_rollout`, one goal at a time."""

    def __init__(self):
        super().__init__('rollout')
        domain, interface = declare_wire(self)
        self._robot = declare(self, 'robot', 'twin', 'twin or real')
        self._policy_name = declare(self, 'policy', 'wam', 'backend of the policy node')
        self._execution = declare(self, 'execution', 'async', 'judged by the service preflight')
        self._output = Path(declare(self, 'output_dir', 'rollouts', 'one folder per rollout'))
        self._film = declare(self, 'film', True, 'whether plot and film are drawn')
        self.contract = RobotContract.load()
        self._sim = SimBus(domain, interface) if self._robot == 'twin' else None
        self._held_hint = held_hint(domain, interface)
        self._driver = LifecycleClient(self, 'g1_driver')
        self._policy = LifecycleClient(self, 'policy')
        self._recorder = RolloutRecorder(self, self.contract)
        self._episode = EpisodeEvents(self, 'rollout')
        self._probe = PreflightProbe(
            self, self._recorder, self.contract, (domain, interface), self._policy, self._output
        )
        self._busy = threading.Lock()
        self.interrupted = ''
        self._operator_ready = threading.Event()
        group = ReentrantCallbackGroup()
        self.create_service(Trigger, '~/ready', self._on_ready, callback_group=group)
        self.create_service(Trigger, '~/preflight', self._on_preflight, callback_group=group)
        self._server = ActionServer(
            self, RunRollout, 'run_rollout', self._execute,
            goal_callback=self._on_goal, cancel_callback=self._on_cancel, callback_group=group,
        )  # fmt: skip

    # -- goals ------------------------------------------------------------------------------------

    def _on_goal(self, goal: RunRollout.Goal) -> GoalResponse:
        why = ''
        if goal.task not in TASKS:
            why = f"task '{goal.task}' is not one of {', '.join(TASKS)}"
        elif goal.execution not in LOOKAHEAD:
            why = f"execution '{goal.execution}' is not one of {', '.join(LOOKAHEAD)}"
        elif not 0.0 <= goal.time_limit <= LONGEST_S:
            why = f'time_limit {goal.time_limit} s is not in 0..{LONGEST_S:.0f} (0: of the task)'
        elif self._busy.locked():
            why = 'a rollout is running'
        if why:
            self.get_logger().error(f'goal refused: {why}')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_cancel(self, handle) -> CancelResponse:
        return CancelResponse.ACCEPT

    def _on_ready(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """The operator has put the scene in order."""
        self._operator_ready.set()
        response.success = True
        return response

    def _on_preflight(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Look at everything without moving anything; the message is the report as JSON."""
        if not self._busy.acquire(blocking=False):
            response.message = 'a rollout is running'
            return response
        try:
            for configure in (self._configure_policy, self._configure_driver):
                try:
                    configure()
                except NodeUnavailableError as error:
                    # What is missing for that is red, with its remedy.
                    self.get_logger().error(self._explain(error))
            report = self._preflight(self._execution)
            response.success, response.message = report.ok, report.to_json()
        finally:
            self._busy.release()
        return response

    def destroy_node(self) -> None:
        """Leave the robot's wire first."""
        self._probe.close()
        self._recorder.close()
        super().destroy_node()

    def _execute(self, handle) -> RunRollout.Result:
        with self._busy:
            result = self._run(handle)
        if handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.succeed()
        return result

    def finish(self) -> None:
        """Wait for the rollout in hand to come to its end after an interruption."""
        if self._busy.acquire(timeout=robot_clock.machine_s(FINISH_S)):
            self._busy.release()

    # -- one episode ------------------------------------------------------------------------------

    def _run(self, handle) -> RunRollout.Result:
        goal = handle.request
        task = TASKS[goal.task]
        session = f'{goal.task}-{goal.seed}-{uuid.uuid4().hex[:8]}'
        setting = RolloutSetting(
            task=goal.task,
            prompt=goal.prompt or task.prompt,
            seed=goal.seed,
            policy=self._policy_name,
            execution=goal.execution,
            robot=self._robot,
            session=session,
            time_limit_s=goal.time_limit or task.time_limit_s,
            arm=goal.arm,
            trial=goal.trial,
            clock_factor=robot_clock.factor,
        )
        log = RolloutLog(setting)
        watch = RolloutWatch(log, self._recorder, self._sim, task.stages)
        feedback = partial(self._feedback, handle, watch)
        report = None
        try:
            self._prepare(setting, feedback)
            feedback('preflight')
            report = self._preflight(setting.execution)
            if not report.ok:
                raise RolloutError(f'preflight: {report.reason}')
            if handle.is_cancel_requested or self.interrupted:
                raise RolloutError(self.interrupted or 'cancelled')
            self._recorder.start(log)
            self._episode.begin(setting.session, setting.task, asdict(setting))
            self._begin(setting, watch, feedback)
            while not watch.over(handle.is_cancel_requested, self.interrupted):
                feedback('running')
                time.sleep(watch.PERIOD_S)
        except (NodeUnavailableError, RolloutError, SimulatorTimeoutError, ValueError) as error:
            watch.fault = watch.fault or self._explain(error)
        finally:
            watch.end()
            feedback('giving back')
            self._give_back(watch)
            self._recorder.stop()
        return self._report(log, watch, report)

    def _prepare(self, setting: RolloutSetting, feedback) -> None:
        """Everything passive, the scene in order, both nodes configured."""
        feedback('configuring')
        self._policy.deactivate(ACTIVATE_S)
        if self._driver.state() == State.PRIMARY_STATE_ACTIVE:
            self._driver.deactivate(DEACTIVATE_S)
        self._configure_policy()
        self._configure_driver()
        if setting.arm:
            self._policy.set_parameters({'arm': setting.arm})
        feedback('resetting')
        if self._sim is not None:
            self._sim.reset(setting.task, setting.seed)
            return
        self._operator_ready.clear()
        self.get_logger().warning(
            f'put the scene of {setting.task} in order, stand clear, then call rollout/ready'
        )
        deadline = time.monotonic() + OPERATOR_S
        while not self._operator_ready.wait(0.1):
            if self.interrupted or time.monotonic() > deadline:
                raise RolloutError('operator: the scene was not declared ready')

    def _configure_policy(self) -> None:
        self._policy.configure(CONFIGURE_POLICY_S)

    def _configure_driver(self) -> None:
        self._driver.configure(CONFIGURE_DRIVER_S)

    def _preflight(self, execution: str) -> Report:
        """What is red at two looks is red: a busy moment must not cost a trial."""
        for _ in range(LOOKS):
            try:
                report = preflight(self._probe.look(self._policy_name, execution))
            except Exception as error:  # noqa: BLE001 (whatever fails here forbids the motion)
                report = not_observed(error)
            if report.ok or self.interrupted:
                break
        self.get_logger().info('preflight:\n' + report.table())
        return report

    def _begin(self, setting: RolloutSetting, watch: RolloutWatch, feedback) -> None:
        feedback('engaging')
        self._driver.activate(ACTIVATE_S)
        self._policy.set_parameters(
            {
                'session': setting.session,
                'prompt': setting.prompt,
                'seed': int(setting.seed),
                'execution': setting.execution,
            }
        )
        watch.begin()
        self._policy.activate(ACTIVATE_S)

    def _give_back(self, watch: RolloutWatch) -> None:
        """A safe pose, whatever happened; a node that is gone is named.

        Both at once: a policy that does not answer must not keep the arms waiting.
        """

        def deactivate(client: LifecycleClient, limit_s: float, hint: str = '') -> str:
            try:
                client.deactivate(limit_s)
            except NodeUnavailableError as error:
                return f'{error}{hint}'
            return ''

        with ThreadPoolExecutor(2) as pool:
            ends = [
                pool.submit(deactivate, self._policy, ACTIVATE_S),
                pool.submit(deactivate, self._driver, DEACTIVATE_S, self._held_hint),
            ]
        for fault in filter(None, (end.result() for end in ends)):
            watch.fault = watch.fault or fault
            self.get_logger().error(fault)

    def _explain(self, error: Exception) -> str:
        """The reason behind a refused transition is in the status of the node that refused."""
        driver, policy = self._recorder.driver[0], self._recorder.policy[0]
        if 'policy refused' in str(error) and policy is not None and policy.reason:
            return f'policy: {policy.reason}'
        if 'g1_driver refused to configure' in str(error) and (why := self._probe.obstacle()):
            return f'g1_driver: {why}'
        if 'g1_driver refused' in str(error) and driver is not None:
            said = [text for text in self._recorder.recent_events if 'refused' in text]
            return f'g1_driver: {said[-1] if said else driver.reason or error}'
        return str(error)

    # -- results ----------------------------------------------------------------------------------

    def _report(
        self, log: RolloutLog, watch: RolloutWatch, report: Report | None
    ) -> RunRollout.Result:
        verdict, reason = judge(watch.success, watch.failure, watch.fault, log.real_time_factor)
        outcome = Outcome(verdict, reason, watch.stages, watch.elapsed_s)
        self._episode.end(log.setting.session, asdict(outcome))
        setting = log.setting
        stamp = datetime.now().astimezone().strftime('%Y%m%d-%H%M%S')
        folder = self._output / f'{stamp}_{setting.task}_{setting.seed}'
        self.get_logger().info(f'{outcome}; writing {folder}')
        summary = write_report(
            folder, log, outcome, self.contract.channel_names,
            {
                'contract_sha256': self.contract.sha256,
                # Apart from the verdict: a rollout that proves nothing may still have done it.
                'predicate': watch.success,
                'preflight': None if report is None else report.to_dict(),
            },
            self._film,
        )  # fmt: skip
        if summary.get('report_error'):
            # The verdict stands; a film or plot that failed is told beside it.
            self.get_logger().error(f'report: {summary["report_error"]}')
        return RunRollout.Result(
            success=outcome.success,
            verdict=verdict,
            reason=reason,
            stages=list(watch.stages),
            stage_reached=list(watch.stages.values()),
            summary_json=json.dumps(summary),
            folder=str(folder.absolute()),
        )

    def _feedback(self, handle, watch: RolloutWatch, stage: str) -> None:
        handle.publish_feedback(
            RunRollout.Feedback(elapsed=watch.elapsed_s, chunk=watch.chunk, stage=stage)
        )


def _finish(node: RolloutNode, reason: str) -> None:
    node.interrupted = f'interrupted: {reason}'
    node.finish()


def main(argv: list[str] | None = None) -> int:
    """Run the node; an interrupted rollout is brought to a safe end first."""
    return run_node(RolloutNode, argv, finish=_finish)


if __name__ == '__main__':
    sys.exit(main())
