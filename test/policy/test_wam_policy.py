# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The WAM behind the protocol, with random weights: order, shapes, seeds and its own history."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from key_frame_support import CONTRACT, frame, imagining, run_chunk  # noqa: E402

from flashwam_ros.policy.backends import PolicyChoice, make_policy  # noqa: E402
from flashwam_ros.policy.protocol import HistoryError, KeyFrame, PolicyError  # noqa: E402
from flashwam_ros.policy.wam_policy import WamPolicy, load_wam_policy  # noqa: E402
from flashwam_ros.wam.checkpoint import load_checkpoint  # noqa: E402


@pytest.fixture
def policy(folder):
    return load_wam_policy(folder, 1, 1)


def test_contract_comes_from_the_checkpoint(policy):
    assert policy.contract.sha256 == CONTRACT.sha256


def test_chunks_have_the_contract_shape_and_units(policy):
    policy.reset('pick up the red bottle', 3)
    policy.observe(frame(0))
    first = policy.predict()
    assert first.positions.shape == (CONTRACT.rows_per_chunk, len(CONTRACT.channels))
    assert first.positions.dtype == np.float64
    assert (first.first_row, first.video_steps, first.action_steps) == (8, 1, 1)
    assert set(first.latency_s) == {'encode', 'predict'}
    run_chunk(policy, 0, 4)
    policy.ground(first.positions[8:])
    second = policy.predict()
    assert second.first_row == 0
    assert set(second.latency_s) == {'encode', 'ground', 'predict'}
    run_chunk(policy, 400, 8)
    policy.ground(second.positions)


def test_same_seed_same_chunk_other_seed_another(policy):
    chunks = []
    for seed in (5, 5, 6):
        policy.reset('x', seed)
        policy.observe(frame(0))
        chunks.append(policy.predict().positions)
    np.testing.assert_array_equal(chunks[0], chunks[1])
    assert not np.array_equal(chunks[0], chunks[2])


def test_async_order_rewrites_the_forecast(policy):
    policy.reset('x', 0)
    policy.observe(frame(0))
    first, forecast = policy.predict(), policy.predict()
    run_chunk(policy, 0, 4)
    run_chunk(policy, 400, 2)  # frames of the chunk that executes now may come before grounding
    policy.ground(first.positions[8:])
    third = policy.predict()
    assert np.isfinite(third.positions).all()
    run_chunk(policy, 600, 6)
    policy.ground(forecast.positions)


def test_what_was_applied_matters(policy):
    results = []
    for shift in (0.0, 0.3):
        policy.reset('x', 0)
        policy.observe(frame(0))
        applied = policy.predict().positions[8:] + shift
        run_chunk(policy, 0, 4)
        policy.ground(applied)
        results.append(policy.predict().positions)
    assert not np.allclose(*results)


def test_history_errors(policy):
    policy.reset('x', 0)
    with pytest.raises(HistoryError, match='before the initial key frame'):
        policy.predict()
    policy.observe(frame(0))
    with pytest.raises(HistoryError, match='0 of its 1 latent frames'):
        policy.ground(np.zeros((8, 16)))
    chunk = policy.predict()
    run_chunk(policy, 0, 3)
    with pytest.raises(HistoryError, match='3 key frames wait for their group'):
        policy.ground(chunk.positions[8:])
    policy.observe(frame(400))
    with pytest.raises(HistoryError):
        policy.ground(np.full((8, 16), np.nan))
    with pytest.raises(HistoryError, match='after one due at'):
        policy.observe(frame(400))
    missing = frame(500)
    images = {key: image for key, image in missing.images.items() if key != 'head'}
    with pytest.raises(HistoryError, match='head'):
        policy.observe(KeyFrame(images, missing.stamps_ns, missing.due_ns))
    policy.ground(chunk.positions[8:])


def test_what_is_imagined_is_what_the_next_chunk_builds_on(folder):
    policy = imagining(folder)
    assert not policy.mode_problems
    results = []
    for shift in (None, 0.0, 0.3):
        policy.reset('x', 0)
        policy.observe(frame(0))
        first, forecast = policy.predict(), policy.predict()
        run_chunk(policy, 0, 4)
        policy.ground(first.positions[8:])
        if shift is not None:
            policy.imagine(forecast.positions + shift)
        third = policy.predict()
        assert ('imagine' in third.latency_s) == (shift is not None)
        results.append(third.positions)
    assert not np.allclose(results[0], results[1]), 'imagining changes the forecast'
    assert not np.allclose(results[1], results[2]), 'the rows that execute matter'


def test_imagining_is_refused_where_it_cannot_work(policy, folder):
    assert 'not trained with forward dynamics' in policy.mode_problems['async_grounded']
    with pytest.raises(PolicyError, match='not trained with forward dynamics'):
        policy.imagine(np.zeros((16, 16)))
    able = imagining(folder)
    able.observe(frame(0))
    with pytest.raises(HistoryError, match='nothing to imagine'):
        able.imagine(np.zeros((16, 16)))
    able.predict()
    with pytest.raises(HistoryError, match='actions must be'):
        able.imagine(np.zeros((5, 16)))


def test_what_speaks_against_a_checkpoint_is_a_warning(folder):
    checkpoint = load_checkpoint(folder)
    assert [w for w in WamPolicy(checkpoint).warnings if 'not promoted' in w]
    lcm = dataclasses.replace(checkpoint.sampler.video, parametrisation='lcm')
    sampler = dataclasses.replace(checkpoint.sampler, video=lcm)
    warnings = WamPolicy(dataclasses.replace(checkpoint, sampler=sampler)).warnings
    assert [w for w in warnings if w.startswith("video: sampler 'euler' does not fit")]
    mark = folder / 'promotion.json'
    mark.write_text(json.dumps({'flashwam_sha256': checkpoint.sha256}), encoding='utf-8')
    try:
        assert WamPolicy(checkpoint).warnings == ()
    finally:
        mark.unlink()


def test_warm_up_leaves_it_reset(policy):
    assert policy.warm_up() > 0
    with pytest.raises(HistoryError):
        policy.predict()


def test_a_missing_checkpoint_is_a_policy_error(tmp_path):
    with pytest.raises(PolicyError, match='is not a folder'):
        load_wam_policy(tmp_path / 'nothing')


def test_a_sampler_of_another_shape_is_refused(folder):
    checkpoint = load_checkpoint(folder)
    other = dataclasses.replace(
        checkpoint, sampler=dataclasses.replace(checkpoint.sampler, actions_per_frame=4)
    )
    with pytest.raises(PolicyError, match=r'\(2, 4\).*\(2, 8\)'):
        WamPolicy(other)


def test_a_checkpoint_that_was_replaced_is_refused(folder):
    found = load_checkpoint(folder).sha256
    choice = PolicyChoice('wam', str(folder), 1, 1, sha256=found)
    assert make_policy(choice, CONTRACT).name == 'wam'
    with pytest.raises(PolicyError, match=f'holds {found[:12]}, not the model.*000000000000'):
        make_policy(dataclasses.replace(choice, sha256='0' * 64), CONTRACT)
