# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The streaming engine against the packed training forward, which is the oracle."""

import dataclasses

import pytest
import torch

from flashwam_ros.wam.config import ModalitySampler, SamplerSettings
from flashwam_ros.wam.engine import StreamingEngine
from flashwam_ros.wam.flow import guided, shifted_sigmas, solver_step
from flashwam_ros.wam.history import EngineStateError
from flashwam_ros.wam.packed import (
    PackedInputs,
    forward_dynamics_inputs,
    pack_actions,
    packed_forward,
    unpack_actions,
)

N = 3
MASK = torch.cat([torch.zeros(10), torch.ones(20)])
SLOT0 = torch.linspace(-1, 1, 30)


def _settings(**changes):
    base = SamplerSettings(frames_per_chunk=2, actions_per_frame=N, window=72,
                           video=ModalitySampler(1, 5.0), action=ModalitySampler(1, 1.0))
    return dataclasses.replace(base, **changes)


class Oracle:
    """Samples a chunk with nothing but packed forwards over the whole episode."""

    def __init__(self, model, settings, text, negative, initial):
        self.model, self.s, self.initial = model, settings, initial
        self.text = text[None] if settings.video_guidance <= 1 else torch.stack([text, negative])
        pinned = SLOT0 * MASK if settings.frame0_action == 'physical_zero' else torch.zeros(30)
        self.slot0 = pinned.view(1, 30, 1, 1, 1)

    def _velocity(self, which, x, t, clean_v, clean_a, known=None):
        """Velocity of the last chunk; the noisy tokens of earlier chunks are junk.

        `known`: its actions, for forward dynamics.
        """
        k, rows = self.s.frames_per_chunk, len(self.text)
        frames = clean_v.shape[2]
        junk = torch.Generator().manual_seed(9)
        noisy_v = torch.randn(clean_v.shape, generator=junk)
        noisy_a = torch.randn(clean_a.shape, generator=junk)
        times = torch.full((1, frames), 500.0)
        (noisy_v if which == 0 else noisy_a)[:, :, -k:] = x
        times[:, -k:] = t
        zero = torch.zeros(1, frames)
        inputs = PackedInputs(*[y.expand(rows, -1, -1, -1, -1)
                                for y in (noisy_v, clean_v, noisy_a, clean_a)],
                              times, zero, times, zero)
        if known is not None:
            clean_a[:, :, -k:] = known
            inputs = forward_dynamics_inputs(inputs)
        out = packed_forward(self.model, inputs, self.text, k, self.s.window,
                             forward_dynamics=known is not None)[which][:, :, -k:]
        if which == 0 and rows == 2:
            return guided(out[:1], out[1:], self.s.video_guidance)
        return out[:1]

    def sample(self, noise_v, noise_a, history):
        """history: list of (latents (z,K,h,w), actions (R,30)), chunk 0 with its frame 0."""
        first = not history
        past_v = [h[0][None] for h in history]
        past_a = [pack_actions(h[1][None], N) for h in history]
        z0 = self._denoise(0, noise_v, self.s.video, first, past_v, past_a)
        n0 = self._denoise(1, noise_a, self.s.action, first, [*past_v, z0], past_a)
        return z0[0], unpack_actions(n0 * MASK.view(1, 30, 1, 1, 1))[0]

    def imagine(self, noise_v, history, rows):
        """Clean video of the chunk after `history` given its action rows (R, 30)."""
        past_v = [h[0][None] for h in history]
        past_a = [pack_actions(h[1][None], N) for h in history]
        known = pack_actions(rows[None], N)
        return self._denoise(0, noise_v, self.s.video, not history, past_v, past_a, known)[0]

    def _denoise(self, which, x, sampler, first, past_v, past_a, known=None):
        pin = self.initial[None, :, None] if which == 0 else self.slot0
        mask = MASK.view(1, 30, 1, 1, 1) if which else 1.0
        sigmas = [*shifted_sigmas(sampler.steps, sampler.shift).tolist(), 0.0]
        for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
            t = torch.full((self.s.frames_per_chunk,), 1000 * sigma)
            if first:
                x = torch.cat([pin.expand_as(x[:, :, :1]), x[:, :, 1:]], 2)
                t[0] = 0
            x = x * mask
            clean_v = torch.cat([*past_v, x] if which == 0 else past_v, 2)
            clean_a = torch.cat([*past_a, torch.zeros(1, 30, self.s.frames_per_chunk, N, 1)], 2)
            x = solver_step(x, self._velocity(which, x, t, clean_v, clean_a, known), sigma,
                            following, sampler)
        return torch.cat([pin.expand_as(x[:, :, :1]), x[:, :, 1:]], 2) if first else x


class Episode:
    """An engine and an oracle fed with the same noise and the same truth."""

    def __init__(self, model, settings, seed=3):
        self.rng = torch.Generator().manual_seed(seed)
        self.settings = settings
        text, negative = (torch.randn(5, 8, generator=self.rng) for _ in range(2))
        self.initial = torch.randn(4, 4, 4, generator=self.rng)
        self.engine = StreamingEngine(model, settings, (4, 4), MASK, SLOT0)
        self.engine.reset(text, negative)
        self.engine.set_initial(self.initial)
        self.oracle = Oracle(model, settings, text, negative, self.initial)
        self.history = []
        self.grounded = 0

    def predict(self, check=True):
        k, seed = self.settings.frames_per_chunk, int(torch.randint(1 << 30, (1,),
                                                                    generator=self.rng))
        got = self.engine.predict(generator=torch.Generator().manual_seed(seed))
        noise = torch.Generator().manual_seed(seed)
        noise_v = torch.randn(1, 4, k, 4, 4, generator=noise)
        noise_a = torch.randn(1, 30, k, N, 1, generator=noise)
        if check:
            want = self.oracle.sample(noise_v, noise_a, self.history)
            torch.testing.assert_close(got.latents, want[0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(got.actions, want[1], atol=1e-4, rtol=1e-4)
            assert (got.actions[:, :10] == 0).all()
        assert got.first_row == (N if got.index == 0 else 0)
        self.history.append((got.latents, got.actions))
        return got

    def ground(self):
        k, first = self.settings.frames_per_chunk, self.grounded == 0
        latents = torch.randn(4, k - first, 4, 4, generator=self.rng)
        actions = torch.randn((k - first) * N, 30, generator=self.rng) * MASK
        self.engine.ground(latents, actions)
        if first:
            latents = torch.cat([self.initial[:, None], latents], 1)
            slot0 = self.oracle.slot0.view(1, 30).expand(N, 30)
            actions = torch.cat([slot0, actions])
        self.history[self.grounded] = (latents, actions)
        self.grounded += 1


    def imagine(self):
        """The oldest forecast becomes the outcome of given actions."""
        k = self.settings.frames_per_chunk
        rows = torch.randn(k * N, 30, generator=self.rng) * MASK
        if self.grounded == 0:
            rows[:N] = self.oracle.slot0.view(1, 30)
        got = self.engine.imagine(rows, generator=torch.Generator().manual_seed(8))
        noise_v = torch.randn(1, 4, k, 4, 4, generator=torch.Generator().manual_seed(8))
        want = self.oracle.imagine(noise_v, self.history[:self.grounded], rows)
        torch.testing.assert_close(got.latents, want, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(got.actions, rows)
        self.history[self.grounded] = (got.latents, rows)


@pytest.mark.parametrize('changes', [
    {},
    {'frames_per_chunk': 4},
    {'frames_per_chunk': 1},
    {'video': ModalitySampler(3, 5.0), 'action': ModalitySampler(4, 1.0)},
    {'video_guidance': 3.0, 'video': ModalitySampler(2, 5.0)},
    {'frame0_action': 'physical_zero'},
    {'window': 3},
    {'video': ModalitySampler(2, 5.0, 'consistency', 'lcm')},
], ids=lambda c: ','.join(c) or 'default')
def test_synchronous_episode_equals_packed_forward(tiny, changes):
    episode = Episode(tiny, _settings(**changes))
    for _ in range(4):
        episode.predict()
        episode.ground()


@pytest.mark.parametrize('changes', [{}, {'video_guidance': 2.0}, {'window': 3}])
def test_forecasts_are_rewritten_at_grounding(tiny, changes):
    """Predict two chunks ahead; every prediction equals one made from scratch."""
    episode = Episode(tiny, _settings(**changes))
    episode.predict()
    episode.predict()
    for _ in range(4):
        episode.ground()
        episode.predict()
    episode.ground()
    episode.ground()
    episode.predict()


@pytest.mark.parametrize('changes', [
    {},
    {'video': ModalitySampler(2, 5.0)},
    {'video_guidance': 2.0, 'frame0_action': 'physical_zero'},
    {'window': 3},
])
def test_imagined_chunks_equal_packed_forward(tiny, changes):
    """With one chunk executing, its outcome is imagined; the next chunk builds on that."""
    episode = Episode(tiny, _settings(forward_dynamics=True, **changes))
    episode.predict()
    episode.imagine()
    episode.predict()
    for _ in range(3):
        episode.ground()
        episode.imagine()
        episode.predict()


def test_open_loop_forecast_equals_packed_forward(tiny):
    episode = Episode(tiny, _settings())
    for _ in range(4):
        episode.predict()


def test_grounding_changes_the_prediction(tiny):
    outcomes = []
    for truth in (0.0, 1.0):
        episode = Episode(tiny, _settings())
        episode.predict(check=False)
        episode.predict(check=False)
        episode.engine.ground(torch.full((4, 1, 4, 4), truth), torch.zeros(N, 30))
        outcomes.append(episode.predict(check=False).latents)
    assert (outcomes[0] - outcomes[1]).abs().max() > 1e-3


def test_long_episode_moves_the_buffer(tiny):
    """With window 3 the buffer holds 10 chunks; 23 chunks force it to be compacted."""
    episode = Episode(tiny, _settings(window=3, frames_per_chunk=1))
    for index in range(23):
        episode.predict(check=index > 19)
        episode.ground()


def test_too_many_open_chunks_are_refused(tiny):
    episode = Episode(tiny, _settings(window=2, frames_per_chunk=1))
    with pytest.raises(EngineStateError, match='not grounded'):
        for _ in range(20):
            episode.predict(check=False)


def test_same_seed_same_chunks_and_text_cache(tiny):
    def run(engine, text):
        engine.reset(text)
        engine.set_initial(torch.zeros(4, 4, 4))
        generator = torch.Generator().manual_seed(5)
        return [engine.predict(generator=generator).actions for _ in range(2)]

    engine = StreamingEngine(tiny, _settings(), (4, 4), MASK)
    text = torch.ones(5, 8)
    first, second = run(engine, text), run(engine, text)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    other = run(engine, -text)
    assert not torch.equal(first[1], other[1])


def test_rewind_keeps_the_history_before(tiny):
    episode = Episode(tiny, _settings())
    for _ in range(3):
        episode.predict(check=False)
        episode.ground()
    episode.engine.rewind(2)
    assert (episode.engine.predicted, episode.engine.grounded) == (2, 2)
    episode.history = episode.history[:2]
    episode.grounded = 2
    episode.predict()
    episode.ground()
    episode.engine.rewind(0)
    episode.history, episode.grounded = [], 0
    episode.predict()


def test_calls_out_of_order_and_bad_input_are_refused(tiny):
    engine = StreamingEngine(tiny, _settings(), (4, 4), MASK)
    with pytest.raises(EngineStateError, match='before reset'):
        engine.set_initial(torch.zeros(4, 4, 4))
    with pytest.raises(EngineStateError, match='before set_initial'):
        engine.predict()
    engine.reset(torch.zeros(5, 8))
    with pytest.raises(ValueError, match='initial latent'):
        engine.set_initial(torch.zeros(4, 4, 5))
    engine.set_initial(torch.zeros(4, 4, 4))
    with pytest.raises(EngineStateError, match='nothing to ground'):
        engine.ground(torch.zeros(4, 1, 4, 4), torch.zeros(N, 30))
    engine.predict()
    with pytest.raises(ValueError, match='latents must be'):
        engine.ground(torch.zeros(4, 2, 4, 4), torch.zeros(N, 30))
    with pytest.raises(ValueError, match='not finite'):
        engine.ground(torch.full((4, 1, 4, 4), float('nan')), torch.zeros(N, 30))
    assert engine.grounded == 0
    engine.ground(torch.zeros(4, 1, 4, 4), torch.zeros(2 * N, 30))
    assert engine.grounded == 1
    with pytest.raises(ValueError, match='negative|empty prompt'):
        StreamingEngine(tiny, _settings(video_guidance=2.0), (4, 4), MASK).reset(torch.ones(5, 8))
    with pytest.raises(ValueError, match='physical_zero'):
        StreamingEngine(tiny, _settings(frame0_action='physical_zero'), (4, 4), MASK)
