# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Merged passes against the plain sequential procedure: same chunks, fewer passes."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashwam_ros.wam.config import ModalitySampler, SamplerSettings, TransformerConfig
from flashwam_ros.wam.engine import StreamingEngine
from flashwam_ros.wam.fused import FusedTransformer
from flashwam_ros.wam.history import EngineStateError
from flashwam_ros.wam.sequential import SequentialEngine
from flashwam_ros.wam.transformer import WanTransformer3DModel

N = 3
MASK = torch.cat([torch.zeros(10), torch.ones(20)])
SIZE = (4, 4)
ORDERS = ('sync', 'async', 'async_grounded')
EVERY_STEP_COUNT = [(video, action) for video in (1, 2, 3, 4) for action in (1, 2, 3, 4)]


def make_settings(**changes):
    base = SamplerSettings(frames_per_chunk=2, actions_per_frame=N, window=72,
                           video=ModalitySampler(1, 5.0), action=ModalitySampler(1, 1.0),
                           forward_dynamics=True)
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope='module')
def double(tiny):
    return copy.deepcopy(tiny).double()


class Pair:
    """Both procedures on the same truth and noise; every call is compared."""

    def __init__(self, model, changes, tolerance):
        self.rng = torch.Generator().manual_seed(3)
        self.tolerance = tolerance
        self.settings = make_settings(**changes)
        text, negative = (torch.randn(5, model.config.text_dim, generator=self.rng)
                          for _ in range(2))
        self.channels = model.config.in_channels
        initial = torch.randn(self.channels, *SIZE, generator=self.rng)
        self.engines = [kind(model, self.settings, SIZE, MASK, torch.linspace(-1, 1, 30))
                        for kind in (StreamingEngine, SequentialEngine)]
        for engine in self.engines:
            engine.reset(text, negative)
            engine.set_initial(initial)

    @property
    def open(self):
        return self.engines[0].predicted - self.engines[0].grounded

    def _both(self, call):
        seed = int(torch.randint(1 << 30, (1,), generator=self.rng))
        merged, plain = (call(engine, torch.Generator().manual_seed(seed))
                         for engine in self.engines)
        for name in ('latents', 'actions'):
            torch.testing.assert_close(getattr(merged, name), getattr(plain, name),
                                       atol=self.tolerance, rtol=self.tolerance)
        assert (merged.actions[:, :10] == 0).all()
        return merged

    def predict(self, steps=(1, 1)):
        return self._both(lambda engine, noise: engine.predict(*steps, generator=noise))

    def imagine(self, steps=1):
        rows = torch.randn(self.settings.rows_per_chunk, 30, generator=self.rng)
        return self._both(lambda engine, noise: engine.imagine(rows, steps, noise))

    def ground(self):
        k = self.settings.frames_per_chunk - (self.engines[0].grounded == 0)
        latents = torch.randn(self.channels, k, *SIZE, generator=self.rng)
        rows = torch.randn(k * N, 30, generator=self.rng)
        for engine in self.engines:
            engine.ground(latents, rows)

    def rewind(self, chunk):
        for engine in self.engines:
            engine.rewind(chunk)


def run(pair, order, steps):
    """`steps`: one entry for each chunk. `order`: what happens between; async is one ahead."""
    ahead = 1 if order == 'sync' else 2
    for index, (video, action) in enumerate(steps):
        if index >= ahead:
            pair.ground()
            if order == 'async_grounded':
                pair.imagine(video)
        pair.predict((video, action))


@pytest.mark.parametrize('guidance', [1.0, 3.0])
@pytest.mark.parametrize('order', ORDERS)
def test_every_step_count_in_double_precision(double, order, guidance):
    pair = Pair(double, {'video_guidance': guidance, 'window': 5}, 1e-10)
    run(pair, order, EVERY_STEP_COUNT)


@pytest.mark.parametrize('guidance', [1.0, 3.0])
def test_every_step_count_in_the_first_chunk(double, guidance):
    pair = Pair(double, {'video_guidance': guidance}, 1e-10)
    for steps in EVERY_STEP_COUNT:
        pair.predict(steps)
        pair.rewind(0)


@pytest.mark.parametrize('changes', [
    {'window': 3},
    {'window': 3, 'video_guidance': 2.0},
    {'window': 4, 'frames_per_chunk': 1},
    {'frames_per_chunk': 4, 'frame0_action': 'physical_zero'},
    {'video': ModalitySampler(2, 5.0, 'consistency', 'lcm')},
], ids=lambda c: ','.join(c))
@pytest.mark.parametrize('order', ORDERS)
def test_beyond_the_window_in_double_precision(double, order, changes):
    """The buffer of window 3 holds 10 chunks: after 12 it has been compacted."""
    run(Pair(double, changes, 1e-10), order, [(2, 1)] * 13)


@pytest.mark.parametrize('guidance', [1.0, 2.0])
@pytest.mark.parametrize('order', ORDERS)
def test_single_precision(order, guidance):
    torch.manual_seed(0)
    model = WanTransformer3DModel(TransformerConfig(
        num_attention_heads=2, attention_head_dim=64, in_channels=16, out_channels=16,
        text_dim=64, freq_dim=128, ffn_dim=512, num_layers=4, rope_theta=100.0))
    pair = Pair(model.eval(), {'video_guidance': guidance, 'window': 7}, 1e-5)
    run(pair, order, [(1, 1), (3, 4), (1, 2), (1, 1), (2, 1), (1, 1)])


def test_half_precision_keeps_the_precision_changes_of_the_training_module(tiny):
    """bf16 weights: both round in the same places, so they differ by roundings, not by more."""
    full, half = copy.deepcopy(tiny), copy.deepcopy(tiny).bfloat16()
    outcomes = []
    for model, kind in ((full, StreamingEngine), (half, StreamingEngine),
                        (half, SequentialEngine)):
        engine = kind(model, make_settings(), SIZE, MASK)
        engine.reset(torch.ones(5, 8))
        engine.set_initial(torch.ones(4, *SIZE))
        noise = torch.Generator().manual_seed(0)
        outcomes.append(torch.cat([engine.predict(generator=noise).latents for _ in range(2)]))
    exact, merged, plain = outcomes
    assert merged.dtype == torch.float32
    error = (plain - exact).norm()
    assert (merged - exact).norm() < 1.5 * error
    assert (merged - plain).norm() < 1.5 * error


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(['predict', 'ground', 'imagine', 'rewind']), max_size=14),
       st.sampled_from([1.0, 2.0]))
def test_any_order_of_calls(double_model, calls, guidance):
    pair = Pair(double_model, {'window': 3, 'frames_per_chunk': 1,
                               'video_guidance': guidance}, 1e-10)
    for call in calls:
        if call == 'predict':
            pair.predict((2, 1))
        elif call == 'rewind':
            pair.rewind(pair.engines[0].predicted // 2)
        elif pair.open:
            getattr(pair, call)()
    pair.predict()


@pytest.fixture(name='double_model', scope='module')
def _double_model(double):
    return double


def count_passes(monkeypatch, kind, call):
    passes = []
    owner = FusedTransformer if kind is StreamingEngine else WanTransformer3DModel
    name = '__call__' if kind is StreamingEngine else 'forward'
    original = getattr(owner, name)

    def counted(self, parts, *args, **kwargs):
        passes.append([part.modality for part in parts])
        return original(self, parts, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, counted)
        call()
    return passes


@pytest.mark.parametrize('steps', [(1, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize('kind', [StreamingEngine, SequentialEngine])
def test_number_of_passes(tiny, monkeypatch, kind, steps):
    pair = Pair(tiny, {}, 1e-3)
    pair.engines = [engine for engine in pair.engines if type(engine) is kind] * 2
    engine = pair.engines[0]
    engine.predict(*steps)

    def chunk():
        engine.ground(torch.zeros(4, 1 if engine.grounded == 0 else 2, *SIZE),
                      torch.zeros(2 * N, 30))
        engine.predict(*steps)

    chunk()
    passes = count_passes(monkeypatch, kind, chunk)
    if kind is SequentialEngine:
        assert len(passes) == sum(steps) + 4
    else:
        assert len(passes) == sum(steps)
        assert passes[0] == ['video', 'action', 'video']
        assert passes[steps[0]] == ['video', 'action']


def test_a_grounded_cycle_is_three_passes(tiny, monkeypatch):
    pair = Pair(tiny, {}, 1e-3)
    engine = pair.engines[0]
    engine.predict()
    engine.predict()
    engine.ground(torch.zeros(4, 1, *SIZE), torch.zeros(N, 30))

    def cycle():
        engine.imagine(torch.zeros(2 * N, 30))
        engine.predict()

    assert count_passes(monkeypatch, StreamingEngine, cycle) == [
        ['video', 'action', 'action', 'video'], ['video', 'action', 'video'],
        ['video', 'action']]


def test_imagining_is_refused_in_words(tiny):
    pair = Pair(tiny, {'forward_dynamics': False}, 1e-3)
    engine = pair.engines[0]
    engine.predict()
    with pytest.raises(EngineStateError, match='not trained with forward dynamics'):
        engine.imagine(torch.zeros(2 * N, 30))
    engine = Pair(tiny, {}, 1e-3).engines[0]
    with pytest.raises(EngineStateError, match='nothing to imagine'):
        engine.imagine(torch.zeros(2 * N, 30))
    engine.predict()
    with pytest.raises(ValueError, match='actions must be'):
        engine.imagine(torch.zeros(2 * N + 1, 30))
    with pytest.raises(ValueError, match='not finite'):
        engine.imagine(torch.full((2 * N, 30), float('inf')))
    engine.imagine(torch.zeros(2 * N, 30))
