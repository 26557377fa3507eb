# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The world-action model over the whole line: chunks flow, limits hold, the arms are released."""

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')
torch = pytest.importorskip('torch')

from flashwam_ros.resources import share_path  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.robot.settings import load_settings  # noqa: E402

SHIPPED = 'g1-nano-teacher'


@pytest.fixture
def checkpoint(tmp_path):
    """The shipped model, else one with random weights that stays near the start pose."""
    try:
        return str(share_path('models', SHIPPED))
    except FileNotFoundError:
        pass
    from flashwam_ros.wam.checkpoint import save_checkpoint
    from flashwam_ros.wam.codec import NanoCodec
    from flashwam_ros.wam.config import ModalitySampler, SamplerSettings, TransformerConfig
    from flashwam_ros.wam.normaliser import QuantileNormaliser
    from flashwam_ros.wam.text import NanoTextEncoder
    from flashwam_ros.wam.transformer import WanTransformer3DModel

    torch.manual_seed(0)
    config = TransformerConfig.nano()
    home = load_settings().home
    rows = home + np.random.default_rng(0).uniform(-0.02, 0.02, (100, len(home)))
    save_checkpoint(
        tmp_path / 'random',
        transformer=WanTransformer3DModel(config),
        codec=NanoCodec(),
        text_encoder=NanoTextEncoder(text_dim=config.text_dim),
        normaliser=QuantileNormaliser.fit(rows),
        contract=RobotContract.load().to_dict(),
        sampler=SamplerSettings(
            video=ModalitySampler(steps=1, shift=5.0), action=ModalitySampler(steps=1, shift=1.0)
        ),
    )
    return str(tmp_path / 'random')


@pytest.mark.parametrize('execution', ['sync', 'async'])
def test_chunks_flow_and_the_arms_are_released(rollout, checkpoint, execution):
    run = rollout(
        'task:=red_bottle', 'policy:=wam', f'checkpoint:={checkpoint}', 'seed:=1',
        f'execution:={execution}', 'time_limit:=6',
    )  # fmt: skip
    summary = run.summary
    assert summary.get('verdict') in ('success', 'failure'), run.text + run.log
    assert run.code == 0
    assert summary['chunks'] >= 3
    assert summary['chunk_latency_s']['n'] >= 4
    parts = set(summary['chunk_latency_parts_s'])
    assert parts == {'encode', 'ground', 'predict'}
    events = summary['events']
    # A chunk that was under way when the rollout ended finds the driver giving back.
    rejected = [e for e in events if e.startswith('chunk_rejected') and 'not executing' not in e]
    assert rejected == []
    assert [e for e in events if e.startswith('exit: ')] == ['exit: deactivated']
    assert summary['tracking_error_rad'] < 0.25
    assert 'ended with signal' not in run.log
