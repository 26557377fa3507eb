# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A rig in this process: the twin on a simulated clock. For rehearsing a study before it counts.

Latency is emulated, so slack, holds and lateness are not measured: nothing here says whether an
arm is fast enough.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flashwam_ros.policy.backends import PolicyChoice, leave, make_policy, read_arms
from flashwam_ros.policy.protocol import Policy, PolicyError
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.trials.compiled import ARMS, CompiledStudy
from flashwam_ros.trials.runner import TrialRequest
from flashwam_ros.trials.study import StudyError

LATENCY_S = 0.1
SUMMARY, LAST = 'summary.json', 'last.jpg'


class RehearsalRig:
    """Runs trials in this process; arms of one choice share one policy, all stay loaded."""

    def __init__(self, compiled: CompiledStudy):
        self._folder = compiled.folder / 'rollouts'
        self._arms = read_arms(compiled.folder / ARMS)
        self._policies: dict[PolicyChoice, Policy] = {}
        self._loaded: dict = {}
        self._robot = None

    def close(self) -> None:
        """Give up the servers of arms, and the scene."""
        for policy in self._policies.values():
            leave(policy)
        self._policies.clear()
        if self._robot is not None:
            self._robot.close()
            self._robot = None

    def run(self, request: TrialRequest, stop: Callable[[], bool]) -> Mapping[str, Any]:
        """One episode on the simulated clock; `stop` is looked at before it only."""
        from flashwam_ros.training.rollout import run_episode

        choice = self._arms[request.arm]
        robot = self._scene(request.task, images=choice.policy != 'expert')
        result = run_episode(
            robot, self._policy(choice), request.prompt, request.seed,
            execution=request.execution, latency_s=LATENCY_S, time_limit_s=request.time_limit_s,
        )  # fmt: skip
        folder = self._folder / request.trial
        folder.mkdir(parents=True, exist_ok=True)
        summary = {**_summary(request, result, robot.contract), 'folder': str(folder.absolute())}
        self._picture(folder / LAST, request.seed)
        _write(folder / SUMMARY, summary)
        return summary

    def recover(self, trial: str) -> Mapping[str, Any] | None:
        """Nothing here outlives its process but the summary."""
        return find_summary(self._folder, trial)

    def _scene(self, task: str, images: bool):
        from flashwam_ros.twin.episode import InProcessRobot

        if self._robot is None or self._robot.task != task:
            if self._robot is not None:
                self._robot.close()
            self._robot = InProcessRobot(task, RobotContract.load(), images=images)
        return self._robot

    def _policy(self, choice: PolicyChoice) -> Policy:
        if choice.policy == 'expert':
            from flashwam_ros.policy.expert_policy import ExpertPolicy

            robot = self._robot

            def joints():
                measured = robot.measured()
                return measured[:14], measured[14:]

            return ExpertPolicy(robot.task, robot.contract, robot.world, joints)
        if choice not in self._policies:
            try:
                self._policies[choice] = make_policy(
                    choice, RobotContract.load(), loaded=self._loaded)
            except PolicyError as error:
                raise StudyError(str(error)) from error
        return self._policies[choice]

    def _picture(self, path: Path, seed: int) -> None:
        """The scene as it was left, from outside."""
        from flashwam_ros.episodes.twin_view import external_view
        from flashwam_ros.imaging import encode_jpeg

        robot = self._robot
        state = robot.simulation.data.qpos.copy()
        views = external_view(robot.task, seed, iter([state]), size=(320, 240))
        path.write_bytes(encode_jpeg(next(iter(views))))


def find_summary(folder: Path, trial: str) -> dict[str, Any] | None:
    """The summary of a trial among the rollouts of a folder, None where there is none.

    The newest: what a preflight refused may have been tried before it.
    """
    paths = folder.glob(f'*/{SUMMARY}')
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            summary = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            continue
        if summary.get('trial') == trial:
            return {**summary, 'folder': str(path.parent.absolute())}
    return None


def _summary(request: TrialRequest, result, contract: RobotContract) -> dict[str, Any]:
    """In the words of `rollout_log.summarise`; what is not measured here is empty."""
    stopped = result.reason.startswith('stopped')
    verdict = 'success' if result.success else 'invalid' if stopped else 'failure'
    reason = result.reason.removeprefix('failure: ').removeprefix('stopped: ')
    return {
        'task': request.task, 'prompt': request.prompt, 'seed': request.seed,
        'policy': '', 'execution': request.execution, 'robot': 'rehearsal', 'session': '',
        'arm': request.arm, 'trial': request.trial, 'verdict': verdict,
        'success': result.success, 'predicate': result.success,
        'reason': reason.replace('time limit', 'time_limit'), 'stages': dict(result.stages),
        'elapsed_s': round(result.duration_s, 3), 'time_limit_s': request.time_limit_s,
        'first_action_s': 0.0 if result.chunks or not stopped else None,
        'chunks': result.chunks, 'chunk_latency_s': {'n': 0}, 'chunk_latency_parts_s': {},
        'slack_s': {'n': 0}, 'late_chunks': 0, 'hold_s': 0.0,
        'executed_s': round(result.chunks * contract.chunk_duration_s, 3),
        'limited_ticks': result.limited_ticks, 'arm_limited_ticks': result.arm_limited_ticks,
        'real_time_factor': None, 'events': [],
    }  # fmt: skip


def _write(path: Path, values: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + '.part')
    with part.open('w', encoding='utf-8') as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
