# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One closed-loop episode in the in-process twin, through the nodes' predict-execute loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from flashwam_ros.policy.loop import Predict, PredictExecuteLoop, check_mode, run_job
from flashwam_ros.policy.protocol import Policy, PolicyError
from flashwam_ros.robot.chunk import ActionChunk, ChunkRejected
from flashwam_ros.twin.episode import EpisodeError, InProcessRobot

CHECK_EVERY_S = 0.1
"""Period of the success check, s of simulated time."""


@dataclass(frozen=True)
class EpisodeResult:
    """Outcome of one closed-loop episode.

    Attributes:
        task: task name.
        seed: episode seed (objects, start pose, camera phase, model noise).
        success: the task's predicate held at a check.
        reason: 'success', 'failure: …', 'time limit' or 'stopped: …'.
        stages: stage name -> reached at any time of the episode.
        duration_s: simulated seconds.
        chunks: chunks executed.
        limited_ticks: executor ticks with a limiter intervention.
        arm_limited_ticks: those with one for a joint of an arm.
        predict_ms: mean wall time of one prediction, ms; counts what else the machine does.
        chunk_cpu_ms: the policy's CPU time per chunk (encode, ground, imagine, predict), ms; does
            not.
    """

    task: str
    seed: int
    success: bool
    reason: str
    stages: dict[str, bool]
    duration_s: float
    chunks: int
    limited_ticks: int
    arm_limited_ticks: int
    predict_ms: float
    chunk_cpu_ms: float = 0.0


@dataclass
class Timeline:
    """Chunks that wait for their emulated latency, and the time that the policy took."""

    due: list[tuple[int, ActionChunk]] = field(default_factory=list)
    predict_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0


def run_episode(robot: InProcessRobot, policy: Policy, prompt: str, seed: int, *,
                execution: str = 'sync', latency_s: float = 0.1, time_limit_s: float = 15.0,
                blank_images: bool = False) -> EpisodeResult:
    """Run one episode to success, failure or the time limit.

    Args:
        robot: the in-process robot of the task (it need not render for blanked images).
        policy: any policy backend; it is reset here.
        prompt: instruction.
        seed: episode seed.
        execution: a mode of `PredictExecuteLoop`: 'sync' (the robot holds while the policy
            predicts), 'async' (one chunk ahead) or another that it knows.
        latency_s: simulated time between a prediction's start and its chunk's arrival, s.
        time_limit_s: simulated time limit, s.
        blank_images: control: every image the policy sees is mid-grey.
    """
    check_mode(policy, execution)
    frame = robot.reset(seed)
    policy.reset(prompt, seed)
    loop = PredictExecuteLoop(execution, robot.contract)
    loop.begin(f'{robot.task}-{seed}', robot.now_ns)
    add_frame(loop, frame, blank_images)
    timeline = Timeline()
    start_ns, next_check_ns = robot.now_ns, robot.now_ns
    stages: dict[str, bool] = {}
    reason = 'time limit'
    try:
        while robot.now_ns - start_ns < time_limit_s * 1e9:
            work(loop, policy, robot, timeline, int(latency_s * 1e9))
            events = robot.tick()
            for account in events.accounts:
                loop.applied(account)
            for frame in events.frames:
                add_frame(loop, frame, blank_images)
            if robot.now_ns >= next_check_ns:
                next_check_ns = robot.now_ns + int(CHECK_EVERY_S * 1e9)
                status = robot.status()
                for name, reached in status.stages.items():
                    stages[name] = stages.get(name, False) or bool(reached)
                if status.success or status.failure:
                    reason = 'success' if status.success else f'failure: {status.failure}'
                    break
    except (EpisodeError, PolicyError, ChunkRejected) as error:
        reason = f'stopped: {error}'
    return EpisodeResult(
        task=robot.task, seed=seed, success=reason == 'success', reason=reason, stages=stages,
        duration_s=(robot.now_ns - start_ns) * 1e-9, chunks=loop.grounded,
        limited_ticks=robot.limited_ticks, arm_limited_ticks=robot.arm_limited_ticks,
        predict_ms=1e3 * float(np.mean(timeline.predict_s)) if timeline.predict_s else 0.0,
        chunk_cpu_ms=1e3 * timeline.cpu_s / max(1, len(timeline.predict_s)))


def add_frame(loop: PredictExecuteLoop, frame, blank_images: bool = False) -> None:
    """Hand one set of images to the loop."""
    for camera in loop.contract.cameras:
        image = (np.full((camera.height, camera.width, 3), 128, np.uint8) if blank_images
                 else frame.images[camera.key])
        loop.add_frame(camera.key, image, frame.stamp_ns)


def work(loop: PredictExecuteLoop, policy: Policy, robot: InProcessRobot, timeline: Timeline,
         latency_ns: int) -> list[ActionChunk]:
    """Do every job that is due; a predicted chunk is submitted after the emulated latency.

    Returns:
        The chunks that were submitted now.
    """
    while not timeline.due:
        job = loop.next_job(robot.now_ns)
        if job is None:
            break
        begin, cpu = time.perf_counter(), time.thread_time()
        prediction = run_job(policy, job)
        timeline.cpu_s += time.thread_time() - cpu
        if isinstance(job, Predict):
            timeline.predict_s.append(time.perf_counter() - begin)
        for chunk in loop.finish(job, prediction):
            timeline.due.append((robot.now_ns + latency_ns, chunk))
    submitted = []
    while timeline.due and timeline.due[0][0] <= robot.now_ns:
        submitted.append(timeline.due.pop(0)[1])
        robot.submit(submitted[-1])
    return submitted
