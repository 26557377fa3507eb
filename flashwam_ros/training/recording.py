# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Record one demonstration: the scripted expert as a chunk policy in the in-process twin."""

from __future__ import annotations

import numpy as np

from flashwam_ros.robot.chunk import ActionChunk
from flashwam_ros.training.episode_file import EpisodeData
from flashwam_ros.twin.episode import EpisodeError, InProcessRobot
from flashwam_ros.twin.expert import Expert
from flashwam_ros.twin.tasks import TASKS as TASK_SPECS

RECOVERY_SHARE = 0.3
HOLD_SHARE = 0.5
HOLD_MAX_S = 0.15
JOIN_LEAD_NS = 40_000_000
"""How long before a chunk's end the next one is submitted: the executor rounds corners over one
row, so a chunk that comes in the last half row (25 ms) starts late."""
SETTLE_CHUNKS = 1
"""Chunks that the expert stands still after it is done, so that the predicate can see the end."""


class _Recorder:
    """Collects frames with ground truth, and rows, while an episode runs."""

    def __init__(self, robot: InProcessRobot):
        self._robot = robot
        self.frames = []
        self.objects = []
        self.tcp = []
        self.names: tuple[str, ...] = ()
        self.applied = []
        self.requested = []
        self.perturbed = []

    def frame(self, frame) -> None:
        world = self._robot.world()
        self.names = tuple(sorted(world.objects))
        self.frames.append(frame)
        self.objects.append([world.objects[name][0] for name in self.names])
        self.tcp.append(world.tcp[:, :3, 3])

    def episode(self, seed: int, recovery: bool) -> EpisodeData:
        robot = self._robot
        keys = [camera.key for camera in robot.contract.cameras]
        rows = np.concatenate(self.applied)
        frames = 1 + len(rows) // 2  # frames that fall due after the last row are not history
        return EpisodeData(
            task=robot.task, prompt=TASK_SPECS[robot.task].prompt, seed=seed,
            contract_hash=robot.contract.sha256, recovery=recovery,
            images={key: np.stack([frame.images[key] for frame in self.frames[:frames]])
                    for key in keys},
            stamps_ns=np.array([frame.stamp_ns for frame in self.frames[:frames]], np.int64),
            due_ns=np.array([frame.due_ns for frame in self.frames[:frames]], np.int64),
            applied=rows, requested=np.concatenate(self.requested),
            perturbed=np.concatenate(self.perturbed), object_names=self.names,
            objects=np.array(self.objects[:frames], np.float32),
            tcp=np.array(self.tcp[:frames], np.float32))


def record_episode(robot: InProcessRobot, seed: int) -> tuple[EpisodeData | None, str]:
    """Let the expert do the task once, chunk by chunk.

    A share of the episodes is disturbed (``Expert(recovery=True)``); a share holds up to 0.15 s
    between chunks, as the ``sync`` loop does.  The episode ends with the chunk in which the task
    succeeded.

    Returns:
        The episode and 'success', or None and the reason.
    """
    rng = np.random.default_rng([seed, 72])
    recovery = bool(rng.uniform() < RECOVERY_SHARE)
    hold_s = float(rng.uniform(0, HOLD_MAX_S)) if rng.uniform() < HOLD_SHARE else 0.0
    recorder = _Recorder(robot)
    recorder.frame(robot.reset(seed))
    expert = Expert(robot.task, seed, recovery=recovery)
    measured = robot.measured()
    expert.reset(robot.world(), measured[:14], measured[14:])
    start_ns, index, settling = robot.now_ns, 0, 0
    try:
        while robot.now_ns - start_ns < TASK_SPECS[robot.task].time_limit_s * 1e9:
            _run_chunk(robot, expert, recorder, index, seed)
            index += 1
            status = robot.status()
            if status.failure:
                return None, f'failure: {status.failure}'
            if status.success:
                break
            if expert.done:
                settling += 1
                if settling > SETTLE_CHUNKS:
                    break
            _run_for(robot, recorder, hold_s)
        if not robot.status().success:
            return None, 'no success'
        # The last chunk has still to end, and its last frame may be captured after its last row.
        _run_for(robot, recorder, JOIN_LEAD_NS * 1e-9 + 0.03)
    except EpisodeError as error:
        return None, f'stopped: {error}'
    return recorder.episode(seed, recovery), 'success'


def _run_chunk(robot: InProcessRobot, expert: Expert, recorder: _Recorder, index: int,
               seed: int) -> None:
    """Execute the expert's next chunk; returns shortly before its end, so that the next joins."""
    contract = robot.contract
    first = contract.actions_per_frame if index == 0 else 0
    rows = np.asarray(expert.rows(contract.rows_per_chunk - first, robot.world()), np.float64)
    positions = np.concatenate([np.repeat(rows[:1], first, axis=0), rows])
    robot.submit(ActionChunk(
        session=f'demo-{seed}', contract_hash=contract.sha256, index=index, predecessor=index - 1,
        row_duration_s=contract.row_duration_s, positions=positions,
        channel_names=contract.channel_names, first_row=first, stamp_ns=robot.now_ns, seed=seed))
    end_ns = None
    while end_ns is None or robot.now_ns + JOIN_LEAD_NS < end_ns:
        for account in _tick(robot, recorder):
            if account.index == index:
                end_ns = account.start_ns + int(len(rows) * contract.row_duration_s * 1e9)
    recorder.requested.append(rows)
    recorder.perturbed.append(np.asarray(expert.last_perturbed, bool))


def _run_for(robot: InProcessRobot, recorder: _Recorder, duration_s: float) -> None:
    end_ns = robot.now_ns + int(duration_s * 1e9)
    while robot.now_ns < end_ns:
        _tick(robot, recorder)


def _tick(robot: InProcessRobot, recorder: _Recorder):
    events = robot.tick()
    for frame in events.frames:
        recorder.frame(frame)
    for account in events.accounts:
        if account.complete:
            recorder.applied.append(np.asarray(account.positions, np.float64))
    return events.accounts
