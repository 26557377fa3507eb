# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A policy looks at a recorded episode as it would have live, and is held against what was done.

Frames, states and commands reach it at the instants at which they reached the recorder, through
the loop that drives a policy on the robot. It predicts whole chunks, at its own times, from a
history of what was really seen and executed, whoever moved the robot: another model, an operator,
the vendor's program.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import numpy as np

from flashwam_ros.episodes.grid_rows import moving_span
from flashwam_ros.episodes.reader import Episode, JointSeries
from flashwam_ros.imaging import to_policy_size
from flashwam_ros.policy.loop import Observe, PredictExecuteLoop, check_mode, run_job
from flashwam_ros.policy.protocol import Policy, PolicyError
from flashwam_ros.policy.shadow import ChunkDistance, DistanceSummary, Witness, summarise

_FIRST_FRAMES_NS = 200_000_000
"""How long before the motion the policy begins to look, for its first set of frames."""


@dataclass(frozen=True)
class ShadowReport:
    """A policy against a recorded episode.

    Attributes:
        distances: chunk by chunk.
        summary: of all of them; None when there was no chunk.
        stopped: why it did not go on to the end, '' where it did.
    """

    distances: tuple[ChunkDistance, ...]
    summary: DistanceSummary | None
    stopped: str

    def to_dict(self) -> dict:
        """For JSON."""
        return dataclasses.asdict(self)


def shadow(
    episode: Episode,
    policy: Policy,
    *,
    prompt: str,
    seed: int = 0,
    execution: str = 'sync',
    latency_s: float = 0.1,
) -> ShadowReport:
    """Run a policy beside a recorded episode.

    Args:
        episode: any recording of this robot with its cameras.
        policy: set to its sampler steps; it is reset.
        prompt: instruction.
        seed: of its noise.
        execution: mode of the predict-execute loop.
        latency_s: emulated time from a prediction's start to the arrival of its chunk.

    Raises:
        EpisodeError: nothing was executed in this episode.
        PolicyError: the policy cannot do this execution mode.
    """
    check_mode(policy, execution)
    begin_ns, end_ns = moving_span(episode)
    begin_ns -= _FIRST_FRAMES_NS
    policy.reset(prompt, seed)
    run = _Run(episode, policy, execution, round(latency_s * 1e9))
    run.loop.begin(f'shadow of {episode.sidecar.session}', begin_ns)
    stopped = ''
    try:
        for arrival_ns, take in run.events():
            if arrival_ns > end_ns + _FIRST_FRAMES_NS:
                break
            take()
            if arrival_ns >= begin_ns:
                run.work(arrival_ns)
    except PolicyError as error:
        stopped = f'{type(error).__name__}: {error}'
    # What lies beyond the motion is the way home.
    distances = tuple(d for d in run.witness.distances
                      if d.start_ns + run.chunk_ns <= end_ns + _FIRST_FRAMES_NS)  # fmt: skip
    return ShadowReport(distances, summarise(distances), stopped)


class _Run:
    """The loop, the witness and the recorded events of one episode."""

    def __init__(self, episode: Episode, policy: Policy, execution: str, latency_ns: int):
        contract = policy.contract
        self._episode, self._policy, self._latency_ns = episode, policy, latency_ns
        self._contract = contract
        self.loop = PredictExecuteLoop(execution, contract, _frame_period_s(episode))
        self.witness = Witness(contract)
        self.chunk_ns = round(contract.chunk_duration_s * 1e9)

    def events(self) -> list:
        """(arrival, function that takes it in) in order of arrival."""
        found = []
        for camera, stream in self._episode.images.items():
            # An index stands for its picture until it is observed: most are never decoded.
            found += [
                (int(arrival), partial(self.loop.add_frame, camera, index, int(stamp)))
                for index, (arrival, stamp) in enumerate(
                    zip(stream.arrival_ns, stream.stamp_ns, strict=True))
            ]  # fmt: skip
        for series, take in ((self._episode.joint_commands, self.witness.commanded),
                             (self._episode.joint_states, self.witness.measured)):  # fmt: skip
            found += [
                (int(arrival), partial(take, int(stamp), values))
                for arrival, stamp, values in zip(
                    series.arrival_ns, series.stamp_ns, self._channels(series), strict=True)
            ]  # fmt: skip
        return sorted(found, key=lambda event: event[0])

    def _channels(self, series: JointSeries) -> np.ndarray:
        """(N, C) rad; NaN for a channel that nobody commanded."""
        values = np.full((len(series), len(self._contract.channels)), np.nan)
        for column, name in enumerate(self._contract.channel_names):
            if name in series.names:
                values[:, column] = series.columns([name])[:, 0]
        return values

    def work(self, now_ns: int) -> None:
        """Everything that is due at this instant."""
        while True:
            for account in self.witness.advance(now_ns):
                self.loop.applied(account)
            job = self.loop.next_job(now_ns)
            if job is None:
                return
            prediction = run_job(self._policy, self._decoded(job))
            for chunk in self.loop.finish(job, prediction):
                self.witness.submit(chunk, now_ns + self._latency_ns)

    def _decoded(self, job):
        if not isinstance(job, Observe):
            return job
        images = {
            key: to_policy_size(self._episode.images[key].rgb(index), self._contract.camera(key))
            for key, index in job.key_frame.images.items()
        }
        return Observe(dataclasses.replace(job.key_frame, images=images), job.chunk)


def _frame_period_s(episode: Episode) -> float:
    """Usual time between two frames of the slowest camera."""
    periods = [float(np.median(np.diff(stream.stamp_ns))) * 1e-9
               for stream in episode.images.values() if len(stream) > 1]  # fmt: skip
    return max(periods, default=0.05)
