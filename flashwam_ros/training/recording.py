# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Record one demonstration: the scripted expert as a chunk policy in the in-process twin.

Or a correction: a trained policy acts first, and the expert takes over (``corrections``).
"""

from __future__ import annotations

import numpy as np

from flashwam_ros.policy.protocol import Policy
from flashwam_ros.robot.chunk import ActionChunk, ChunkRejected
from flashwam_ros.training.corrections import CHUNKS, act_until_takeover
from flashwam_ros.training.episode_file import EpisodeData
from flashwam_ros.twin.episode import EpisodeError, InProcessRobot, TickEvents
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


HISTORY_CHUNKS = 2
"""Chunks of the policy that a correction keeps as history."""


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

    def chunk(self, rows: np.ndarray, perturbed: np.ndarray) -> None:
        """Note the rows (n, C) that were asked for, and which of them (n,) not to imitate."""
        self.requested.append(rows)
        self.perturbed.append(np.asarray(perturbed, bool))

    def tick(self) -> TickEvents:
        """Advance the robot one tick and keep what it brings."""
        events = self._robot.tick()
        for frame in events.frames:
            self.frame(frame)
        for account in events.accounts:
            if account.complete:
                self.applied.append(np.asarray(account.positions, np.float64))
        return events

    def forget(self, chunks: int) -> None:
        """Drop the first chunks; the episode then begins with the frame at their end."""
        frames = sum(len(rows) for rows in self.applied[:chunks]) // 2
        for values in (self.applied, self.requested, self.perturbed):
            del values[:chunks]
        for values in (self.frames, self.objects, self.tcp):
            del values[:frames]

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


def record_episode(robot: InProcessRobot, seed: int,
                   policy: Policy | None = None) -> tuple[EpisodeData | None, str]:
    """Let the expert do the task once, chunk by chunk.

    A share of the episodes is disturbed (``Expert(recovery=True)``); a share holds up to 0.15 s
    between chunks, as the ``sync`` loop does.  The episode ends with the chunk in which the task
    succeeded.

    Args:
        robot: in-process robot of the task.
        seed: of the episode.
        policy: acts first; the episode then begins ``HISTORY_CHUNKS`` before the expert took over.

    Returns:
        The episode and 'success', or None and the reason.
    """
    rng = np.random.default_rng([seed, 72])
    recovery = bool(rng.uniform() < RECOVERY_SHARE)
    hold_s = float(rng.uniform(0, HOLD_MAX_S)) if rng.uniform() < HOLD_SHARE else 0.0
    recorder = _Recorder(robot)
    recorder.frame(robot.reset(seed))
    session, index, start = f'demo-{seed}', 0, robot.measured()
    try:
        if policy is not None:
            index, problem = act_until_takeover(robot, policy, recorder, session, seed,
                                                int(rng.integers(*CHUNKS)))
            if problem:
                return None, problem
            start = recorder.applied[-1][-1]
            recorder.forget(max(0, index - HISTORY_CHUNKS))
        expert = Expert(robot.task, seed, recovery=recovery)
        expert.reset(robot.world(), start[:14], start[14:])
        reason = _finish(robot, expert, recorder, session, index, hold_s)
    except (EpisodeError, ChunkRejected) as error:
        return None, f'stopped: {error}'
    return (recorder.episode(seed, recovery or policy is not None) if reason == 'success'
            else None), reason


def _finish(robot: InProcessRobot, expert: Expert, recorder: _Recorder, session: str, index: int,
            hold_s: float) -> str:
    """Let the expert act from chunk ``index`` on; 'success' or the reason why not."""
    start_ns, settling = robot.now_ns, 0
    while robot.now_ns - start_ns < TASK_SPECS[robot.task].time_limit_s * 1e9:
        _run_chunk(robot, expert, recorder, session, index)
        index += 1
        status = robot.status()
        if status.failure:
            return f'failure: {status.failure}'
        if status.success:
            break
        if expert.done:
            settling += 1
            if settling > SETTLE_CHUNKS:
                break
        _run_for(robot, recorder, hold_s)
    if not robot.status().success:
        return 'no success'
    # The last chunk has still to end, and its last frame may be captured after its last row.
    _run_for(robot, recorder, JOIN_LEAD_NS * 1e-9 + 0.03)
    return 'success'


def _run_chunk(robot: InProcessRobot, expert: Expert, recorder: _Recorder, session: str,
               index: int) -> None:
    """Execute the expert's next chunk; returns shortly before its end, so that the next joins."""
    contract = robot.contract
    first = contract.actions_per_frame if index == 0 else 0
    rows = np.asarray(expert.rows(contract.rows_per_chunk - first, robot.world()), np.float64)
    positions = np.concatenate([np.repeat(rows[:1], first, axis=0), rows])
    robot.submit(ActionChunk(
        session=session, contract_hash=contract.sha256, index=index, predecessor=index - 1,
        row_duration_s=contract.row_duration_s, positions=positions,
        channel_names=contract.channel_names, first_row=first, stamp_ns=robot.now_ns, seed=0))
    end_ns = None
    while end_ns is None or robot.now_ns + JOIN_LEAD_NS < end_ns:
        for account in recorder.tick().accounts:
            if account.index == index:
                end_ns = account.start_ns + int(len(rows) * contract.row_duration_s * 1e9)
    recorder.chunk(rows, expert.last_perturbed)


def _run_for(robot: InProcessRobot, recorder: _Recorder, duration_s: float) -> None:
    end_ns = robot.now_ns + int(duration_s * 1e9)
    while robot.now_ns < end_ns:
        recorder.tick()
