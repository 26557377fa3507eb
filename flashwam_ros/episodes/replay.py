# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a policy once more on what it was given in a recorded episode, and compares the chunks.

What decides a chunk is all in the recording: the key frames (`key_frame_stamps` of each chunk, in
the order in which the policy took them), the rows that grounded it (`applied_actions`), seed,
prompt and sampler steps. The order of the jobs follows from the execution mode alone, however late
things came: grounding waits for key frames, and they wait until what grounding allows is
predicted. So on the machine and with the software of the recording every chunk comes out the same
to the last bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flashwam_ros.episodes.reader import Episode, EpisodeError
from flashwam_ros.imaging import to_policy_size
from flashwam_ros.policy.loop import (
    LOOKAHEAD,
    Ground,
    Imagine,
    Job,
    Observe,
    Predict,
    check_mode,
    run_job,
)
from flashwam_ros.policy.protocol import KeyFrame, Policy
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk
from flashwam_ros.robot.contract import RobotContract


@dataclass(frozen=True)
class ChunkComparison:
    """One chunk, recorded and predicted again.

    Attributes:
        index: of the chunk.
        max_rad: largest |replayed - recorded| of all rows and channels; 0 where they are equal.
        mean_rad: mean of |replayed - recorded|.
        row: where it is largest, -1 where they are equal.
        channel: where it is largest, '' where they are equal.
    """

    index: int
    max_rad: float
    mean_rad: float
    row: int
    channel: str


@dataclass(frozen=True)
class Setting:
    """How the recorded session was run.

    Attributes:
        session: its name.
        execution: mode of the predict-execute loop.
        prompt: instruction.
        seed: of the noise.
        video_steps: sampler steps of the video part.
        action_steps: sampler steps of the action part.
    """

    session: str
    execution: str
    prompt: str
    seed: int
    video_steps: int
    action_steps: int


def recorded_chunks(episode: Episode) -> tuple[ActionChunk, ...]:
    """The policy's chunks of the episode's session, from the first on.

    Raises:
        EpisodeError: there is none, or one is missing in between.
    """
    session = episode.sidecar.session
    chunks = [chunk for chunk in episode.chunks if chunk.session == session]
    if not chunks:
        raise EpisodeError(f'{episode.path}: holds no chunk of its session {session!r}')
    for expected, chunk in enumerate(chunks):
        if chunk.index != expected:
            raise EpisodeError(f'{episode.path}: chunk {expected} was not recorded')
    return tuple(chunks)


def recorded_setting(episode: Episode) -> Setting:
    """How the session was run.

    Raises:
        EpisodeError: no chunks, or nothing that a policy can be asked for again.
    """
    sidecar, first = episode.sidecar, recorded_chunks(episode)[0]
    if sidecar.policy == 'expert':
        raise EpisodeError(
            f'{episode.path}: the scripted expert moved the robot. It looks at the true state of '
            'the simulator at every instant, which is not recorded: only models can be replayed'
        )
    if sidecar.execution not in LOOKAHEAD:
        raise EpisodeError(
            f'{episode.path}: its sidecar names no execution mode ({sidecar.execution!r})'
        )
    return Setting(
        session=sidecar.session,
        execution=sidecar.execution,
        prompt=sidecar.prompt,
        seed=first.seed,
        video_steps=first.video_steps,
        action_steps=first.action_steps,
    )


def recorded_jobs(
    episode: Episode, contract: RobotContract, execution: str
) -> Iterator[tuple[ActionChunk, tuple[Job, ...]]]:
    """For each chunk the jobs that the policy did for it, in their order; the last predicts it.

    Raises:
        EpisodeError: a key frame or an account of a chunk was not recorded.
    """
    chunks = recorded_chunks(episode)
    applied = {a.index: a for a in episode.applied if a.session == chunks[0].session}
    done = 0
    for chunk in chunks:
        jobs: list[Job] = [
            Observe(key_frame, chunk.index - 1)
            for key_frame in _key_frames(episode, contract, chunk)
        ]
        while done <= chunk.index - LOOKAHEAD[execution]:
            jobs.append(Ground(done, _rows(episode, applied, done)))
            done += 1
        if execution == 'async_grounded' and done:
            jobs.append(Imagine(done, chunks[done].positions))
        yield chunk, (*jobs, Predict(chunk.index))


def replay(episode: Episode, policy: Policy, setting: Setting) -> Iterator[ChunkComparison]:
    """Predict every recorded chunk again, each from what was recorded before it.

    The rows that were executed are taken from the recording, not from the replay: a chunk that
    differs does not carry the ones behind it away, except through the model's own forecast.

    Args:
        episode: the recording.
        policy: the model that made it, set to the recorded steps.
        setting: see `recorded_setting`.

    Raises:
        EpisodeError: something that is needed was not recorded.
        PolicyError: the policy refuses what was recorded.
    """
    check_mode(policy, setting.execution)
    policy.reset(setting.prompt, setting.seed)
    for chunk, jobs in recorded_jobs(episode, policy.contract, setting.execution):
        prediction = None
        for job in jobs:
            prediction = run_job(policy, job)
        yield compare(chunk, prediction.positions)


def compare(chunk: ActionChunk, positions: np.ndarray) -> ChunkComparison:
    """A recorded chunk against the rows (R, C) of another prediction of it, rad.

    Raises:
        EpisodeError: the shapes differ.
    """
    if positions.shape != chunk.positions.shape:
        raise EpisodeError(
            f'chunk {chunk.index} was recorded with (rows, channels) {chunk.positions.shape}, '
            f'the policy predicts {positions.shape}'
        )
    error = np.abs(positions - chunk.positions)
    row, column = np.unravel_index(error.argmax(), error.shape)
    largest = float(error[row, column])
    equal = largest == 0.0
    return ChunkComparison(
        index=chunk.index,
        max_rad=largest,
        mean_rad=float(error.mean()),
        row=-1 if equal else int(row),
        channel='' if equal else chunk.channel_names[column],
    )


def _key_frames(
    episode: Episode, contract: RobotContract, chunk: ActionChunk
) -> Iterator[KeyFrame]:
    """The key frames that the policy took between the chunk before and this one."""
    keys, stamps = [camera.key for camera in contract.cameras], chunk.key_frame_stamps_ns
    if len(stamps) % len(keys):
        raise EpisodeError(
            f'chunk {chunk.index}: {len(stamps)} stamps of key frames for {len(keys)} cameras'
        )
    for first in range(0, len(stamps), len(keys)):
        own = dict(zip(keys, stamps[first:first + len(keys)], strict=True))
        images = {key: frame(episode, contract, key, stamp) for key, stamp in own.items()}
        # When it was due is not told. The policy only wants it to grow, as the stamps do.
        yield KeyFrame(images, own, max(own.values()))


def frame(episode: Episode, contract: RobotContract, camera: str, stamp_ns: int) -> np.ndarray:
    """The frame of a camera with this very capture stamp, at policy size, uint8 RGB.

    Raises:
        EpisodeError: it was not recorded.
    """
    stream = episode.images[camera]
    index, error_ns = stream.nearest(stamp_ns)
    if error_ns:
        raise EpisodeError(
            f"{episode.path}: the frame of camera '{camera}' captured at {stamp_ns} ns, which "
            f'the policy used, was not recorded; the nearest is {error_ns / 1e6:+.1f} ms off'
        )
    return to_policy_size(stream.rgb(index), contract.camera(camera))


def _rows(episode: Episode, applied: dict[int, AppliedChunk], index: int) -> np.ndarray:
    if index not in applied:
        raise EpisodeError(
            f'{episode.path}: what was executed of chunk {index} was not recorded'
        )
    return applied[index].positions


def first_difference(
    chunks: tuple[ChunkComparison, ...], tolerance_rad: float = 0.0
) -> ChunkComparison | None:
    """The first chunk that differs by more than this, or None."""
    return next((chunk for chunk in chunks if not chunk.max_rad <= tolerance_rad), None)


def as_dict(chunk: ChunkComparison | None) -> dict | None:
    """For JSON."""
    return None if chunk is None else dataclasses.asdict(chunk)
