# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Preflight over the real graph: models that must not move this robot are red."""

from dataclasses import replace

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')
pytest.importorskip('torch')

from preflight_support import BUSY, red, running  # noqa: E402

from benchmarks._stack import Place  # noqa: E402
from flashwam_ros.resources import share_path  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.wam.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402

PLACE = Place(ros_domain=47, unitree_domain=48, port=21970)
SHIPPED = share_path('models', 'g1-nano-teacher')
TOO_MANY = '400'


def test_a_model_that_is_too_slow(tmp_path):
    with running(PLACE, tmp_path, policy='wam', action_steps=TOO_MANY) as rig:
        report = rig.look()
    assert red(report) - BUSY == {'chunk_latency'}, report.table()


def test_a_model_of_another_robot(tmp_path):
    """Its node refuses to load it, and the preflight says that, and which field differs."""
    checkpoint = load_checkpoint(SHIPPED)
    other = replace(RobotContract.from_dict(checkpoint.contract), row_rate_hz=30.0)
    save_checkpoint(
        tmp_path / 'other', transformer=checkpoint.transformer, codec=checkpoint.codec,
        text_encoder=checkpoint.text_encoder, normaliser=checkpoint.normaliser,
        contract=other.to_dict(), sampler=checkpoint.sampler,
    )  # fmt: skip
    with running(PLACE, tmp_path, policy='wam', checkpoint=str(tmp_path / 'other')) as rig:
        report = rig.look()
    assert red(report) - BUSY == {'contract', 'policy_warm', 'chunk_latency'}, report.table()
    measured = {result.name: str(result.measured) for result in report.results}
    assert 'row_rate_hz: 20.0 here, 30.0 there' in measured['contract']
    assert measured['policy_warm'].startswith('error PolicyError: the policy was made for another')
