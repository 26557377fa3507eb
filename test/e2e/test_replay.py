# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A rollout over ROS is recorded, and its chunks come out again; a shadow looks on and no more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')
pytest.importorskip('torch')

from flashwam_ros.episodes.reader import read_episode  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
MODEL, LIMIT_S = 'g1-nano-teacher', 300


def flashwam(*words):
    """Exit code and JSON of a verb, in a process of its own."""
    done = subprocess.run(
        [sys.executable, '-m', 'flashwam_ros.cli', *words, '--json'], cwd=ROOT,
        capture_output=True, text=True, timeout=LIMIT_S, check=False)  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def recorded(run):
    """The longest recording of all tries; whether the rollout was valid does not count here."""
    episodes = map(read_episode, run.folder.parents[1].glob('*/episodes/*.mcap'))
    return max(episodes, key=lambda episode: len(episode.chunks), default=None)


def told(run):
    """What the shadow has said, from first to last."""
    episode = run.folder and recorded(run)
    entries = episode.diagnostics if episode else []
    return [entry for entry in entries if entry.name == 'shadow: distance']


def compared(run):
    return any(int(entry.values.get('chunks', 0)) for entry in told(run))


def long_enough(run):
    episode = run.folder and recorded(run)
    return episode and len(episode.chunks) >= 3


def test_a_recorded_rollout_is_replayed_to_the_last_bit(rollout):
    run = rollout('task:=red_bottle', 'seed:=3', 'time_limit:=5', 'execution:=async',
                  'film:=false', enough=long_enough)
    episode = recorded(run)
    assert len(episode.chunks) >= 3, run.summary['reason']
    code, report = flashwam('replay', str(episode.path))
    assert (code, report['same'], report['max_rad']) == (0, True, 0.0), report
    assert len(report['chunks']) == len(episode.chunks)
    assert report['other_software'] == [] and report['seed'] == 3


def test_a_shadow_is_told_of_and_commands_nothing(rollout):
    run = rollout('task:=red_bottle', 'seed:=3', 'time_limit:=6', 'policy:=expert',
                  'film:=false', f'shadow:={MODEL}', enough=compared)  # fmt: skip
    episode = recorded(run)
    assert len(episode.applied) >= 3, run.summary['reason']
    assert {chunk.session for chunk in episode.chunks} == {episode.sidecar.session}
    assert {chunk.video_steps for chunk in episode.chunks} == {0}, 'all are the expert\'s'
    assert compared(run), [entry.message for entry in told(run)]
    last = max(told(run), key=lambda entry: int(entry.values.get('chunks', 0)))
    assert 0.0 < float(last.values['arm mean']) < 1.0
    assert float(last.values['still arm mean']) >= 0.0

    code, report = flashwam('shadow', str(episode.path), '--checkpoint', f'models/{MODEL}')
    assert report['moved_by'] == 'expert' and code == bool(report['stopped'])
    assert report['summary']['chunks'] >= 1
    assert 0.0 < report['summary']['arm_mean'] < 1.0
