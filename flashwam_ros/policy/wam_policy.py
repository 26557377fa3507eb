# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The local world-action model behind the policy protocol."""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from pathlib import Path

import numpy as np
import torch

from flashwam_ros.policy.protocol import HistoryError, KeyFrame, PolicyError, Prediction
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.wam.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from flashwam_ros.wam.codec import assemble_canvas, canvas_to_tensor
from flashwam_ros.wam.engine import StreamingEngine
from flashwam_ros.wam.flow import unfit_sampler_warning
from flashwam_ros.wam.history import EngineStateError
from flashwam_ros.wam.promotion import promotion_problem


def load_wam_policy(
    path: str | Path,
    video_steps: int = 0,
    action_steps: int = 0,
    sampler: str = 'own',
    loaded: dict[Path, Checkpoint] | None = None,
    sha256: str = '',
) -> WamPolicy:
    """Load a checkpoint folder as a policy that runs on one CPU thread.

    Args:
        path: checkpoint folder.
        video_steps: video sampler steps, 0 as the checkpoint says.
        action_steps: action sampler steps, 0 as the checkpoint says.
        sampler: 'own' or 'euler', see `with_sampler`.
        loaded: checkpoints by folder, taken from and added to: policies that differ in their
            steps only share their weights.
        sha256: of the model that must be in the folder, '' for any.

    Raises:
        PolicyError: the folder is missing, damaged or of another kind, or holds another model.
    """
    # Two spinning threads on a busy two-core machine are many times slower than one.
    torch.set_num_threads(1)
    folder, loaded = Path(path).resolve(), {} if loaded is None else loaded
    try:
        if folder not in loaded:
            loaded[folder] = load_checkpoint(folder)
    except CheckpointError as error:
        raise PolicyError(f'checkpoint: {error}') from error
    found = loaded[folder].sha256
    if sha256 and found != sha256:
        raise PolicyError(f'checkpoint: {folder} holds {found[:12]}, not the model that was asked '
                          f'for ({sha256[:12]}): it was replaced; put that one back')
    return WamPolicy(with_sampler(loaded[folder], sampler), video_steps, action_steps)


def with_sampler(checkpoint: Checkpoint, sampler: str) -> Checkpoint:
    """The checkpoint as it is ('own'), or with Euler steps for both modalities ('euler')."""
    if sampler == 'own':
        return checkpoint
    stored = checkpoint.sampler
    euler = dataclasses.replace(
        stored,
        video=dataclasses.replace(stored.video, sampler='euler'),
        action=dataclasses.replace(stored.action, sampler='euler'),
    )
    return dataclasses.replace(checkpoint, sampler=euler)


class WamPolicy:
    """Streams one episode through a `StreamingEngine`; not thread-safe.

    Args:
        checkpoint: loaded model, codec, text encoder, normaliser, contract and sampler settings.
        video_steps: video sampler steps, 0 as the checkpoint says.
        action_steps: action sampler steps, 0 as the checkpoint says.

    Attributes:
        steps: denoising steps of video and action.

    Raises:
        PolicyError: the sampler's chunk shape differs from the contract's.
    """

    name = 'wam'

    def __init__(self, checkpoint: Checkpoint, video_steps: int = 0, action_steps: int = 0):
        self.contract = RobotContract.from_dict(checkpoint.contract)
        sampler = checkpoint.sampler
        ours = (self.contract.frames_per_chunk, self.contract.actions_per_frame)
        theirs = (sampler.frames_per_chunk, sampler.actions_per_frame)
        if ours != theirs:
            raise PolicyError(
                f'{checkpoint.path}: the sampler makes chunks of (frames, actions per frame) '
                f'{theirs}, its robot contract says {ours}'
            )
        self._checkpoint = checkpoint
        self._codec = checkpoint.codec
        self._normaliser = checkpoint.normaliser
        self.steps = (video_steps or sampler.video.steps, action_steps or sampler.action.steps)
        self.warnings = _warnings(checkpoint, *self.steps)
        self.mode_problems = {} if sampler.forward_dynamics else {
            'async_grounded': f'{checkpoint.path.name} was not trained with forward dynamics, so '
            "it cannot imagine the outcome of a chunk that executes: use 'async'"
        }
        still = np.zeros(len(self.contract.channels), np.float32)
        self._engine = StreamingEngine(
            checkpoint.transformer,
            sampler,
            self._codec.latent_size,
            torch.from_numpy(self._normaliser.channel_mask),
            torch.from_numpy(self._normaliser.normalise(still)),
        )
        self.reset('', 0)

    def reset(self, prompt: str, seed: int) -> None:
        """Start an episode: clear history and codec stream, encode the prompt, seed the noise."""
        encoder = self._checkpoint.text_encoder
        self._engine.reset(encoder.encode(prompt), encoder.encode(''))
        self._stream = self._codec.stream()
        self._generator = torch.Generator().manual_seed(int(seed))
        self._seed = int(seed)
        self._started = False
        self._group: list[np.ndarray] = []
        self._latents: deque[torch.Tensor] = deque()
        self._last_due_ns = None
        self._spent: defaultdict[str, float] = defaultdict(float)

    @torch.inference_mode()
    def observe(self, key_frame: KeyFrame) -> None:
        """Encode the initial frame at once, later ones when their group of four is complete."""
        if self._last_due_ns is not None and key_frame.due_ns <= self._last_due_ns:
            raise HistoryError(
                f'key frame due at {key_frame.due_ns} ns after one due at {self._last_due_ns} ns'
            )
        begun = robot_clock.monotonic()
        try:
            canvas = assemble_canvas(key_frame.images)
        except ValueError as error:
            raise HistoryError(str(error)) from error
        self._last_due_ns = key_frame.due_ns
        self._group.append(canvas)
        wanted = self.contract.key_frames_per_frame if self._started else 1
        if len(self._group) == wanted:
            latent = self._stream.push(canvas_to_tensor(np.stack(self._group))[None])[0, :, 0]
            self._group = []
            if self._started:
                self._latents.append(latent)
            else:
                self._engine.set_initial(latent)
                self._started = True
        self._spent['encode'] += robot_clock.monotonic() - begun

    def predict(self) -> Prediction:
        """Predict the next chunk in physical units.

        `latency_s` holds the seconds spent encoding, grounding, imagining and predicting since
        the last chunk. Grounding only queues: its passes share the next prediction's first one.
        """
        if not self._started:
            raise HistoryError('predict before the initial key frame was observed')
        begun = robot_clock.monotonic()
        forecast = self._engine.predict(*self.steps, self._generator)
        positions = self._normaliser.denormalise(forecast.actions.double().cpu().numpy())
        self._spent['predict'] = robot_clock.monotonic() - begun
        latency_s, self._spent = dict(self._spent), defaultdict(float)
        return Prediction(
            positions=positions,
            first_row=forecast.first_row,
            video_steps=forecast.video_steps,
            action_steps=forecast.action_steps,
            seed=self._seed,
            latency_s=latency_s,
        )

    def ground(self, applied: np.ndarray) -> None:
        """Write observed latents and executed rows of the oldest forecast into the history."""
        begun = robot_clock.monotonic()
        chunk = self._engine.grounded
        frames = self.contract.frames_per_chunk - (chunk == 0)
        if len(self._latents) < frames:
            raise HistoryError(
                f'chunk {chunk} cannot be grounded: {len(self._latents)} of its {frames} latent '
                f'frames are complete, {len(self._group)} key frames wait for their group'
            )
        latents = torch.stack([self._latents[i] for i in range(frames)], dim=1)
        try:
            actions = torch.from_numpy(self._normaliser.normalise(applied)).float()
            self._engine.ground(latents, actions)
        except (EngineStateError, ValueError) as error:
            raise HistoryError(str(error)) from error
        for _ in range(frames):
            self._latents.popleft()
        self._spent['ground'] += robot_clock.monotonic() - begun

    def imagine(self, rows: np.ndarray) -> None:
        """Replace the oldest forecast by these rows (R, C) and the video they should lead to."""
        problem = self.mode_problems.get('async_grounded')
        if problem:
            raise PolicyError(problem)
        begun = robot_clock.monotonic()
        try:
            actions = torch.from_numpy(self._normaliser.normalise(rows)).float()
            self._engine.imagine(actions, self.steps[0], self._generator)
        except (EngineStateError, ValueError) as error:
            raise HistoryError(str(error)) from error
        self._spent['imagine'] += robot_clock.monotonic() - begun

    def warm_up(self) -> float:
        """Run two chunks on grey images, so that the first real one is not the slow one.

        Returns:
            Seconds that the second one took.
        """
        images = {
            camera.key: np.full((camera.height, camera.width, 3), 128, np.uint8)
            for camera in self.contract.cameras
        }
        self.reset('', 0)
        self.observe(KeyFrame(images, dict.fromkeys(images, 0), 0))
        self.predict()
        seconds = self.predict().latency_s['predict']
        self.reset('', 0)
        return seconds


def _warnings(checkpoint: Checkpoint, video_steps: int, action_steps: int) -> tuple[str, ...]:
    """What speaks against this checkpoint, sampled with these steps."""
    sampler, found = checkpoint.sampler, []
    for name, modality, steps in (
        ('video', sampler.video, video_steps),
        ('action', sampler.action, action_steps),
    ):
        unfit = unfit_sampler_warning(dataclasses.replace(modality, steps=steps))
        if unfit:
            found.append(f'{name}: {unfit}')
    problem = promotion_problem(checkpoint.path)
    if problem:
        found.append(f'not promoted: {problem}')
    return tuple(found)
