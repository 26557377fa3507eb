# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Replay and shadow on a recording of a whole session, made in process with a real model.

The predict-execute loop drives a world-action model of random weights on moving pictures; what the
nodes would have published is written by the recorder's writer.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from flashwam_ros.episodes import replay_command, schemas  # noqa: E402
from flashwam_ros.episodes.reader import EpisodeError, read_episode  # noqa: E402
from flashwam_ros.episodes.recording import checkpoint_hash  # noqa: E402
from flashwam_ros.episodes.replay import recorded_setting, replay  # noqa: E402
from flashwam_ros.episodes.shadow import shadow  # noqa: E402
from flashwam_ros.episodes.sidecar import change_sidecar, sidecar_path  # noqa: E402
from flashwam_ros.episodes.software import differences, software  # noqa: E402
from flashwam_ros.imaging import decode_jpeg, to_policy_size  # noqa: E402
from flashwam_ros.policy.loop import PredictExecuteLoop, run_job  # noqa: E402
from flashwam_ros.policy.protocol import Prediction  # noqa: E402
from flashwam_ros.policy.shadow import Witness  # noqa: E402
from flashwam_ros.policy.wam_policy import load_wam_policy  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.wam.checkpoint import save_checkpoint  # noqa: E402
from flashwam_ros.wam.codec import NanoCodec  # noqa: E402
from flashwam_ros.wam.config import SamplerSettings, TransformerConfig  # noqa: E402
from flashwam_ros.wam.normaliser import QuantileNormaliser  # noqa: E402
from flashwam_ros.wam.text import NanoTextEncoder  # noqa: E402
from flashwam_ros.wam.transformer import WanTransformer3DModel  # noqa: E402

CONTRACT = RobotContract.load()
HEAD = '/' + schemas.image_topic(CONTRACT.camera('head').topic)
SEED, PROMPT, SECONDS = 11, 'pick up the red bottle', 4.0


def make_checkpoint(path, seed):
    torch.manual_seed(seed)
    rows = np.random.default_rng(0).uniform(
        CONTRACT.lower, CONTRACT.upper, (200, len(CONTRACT.channels)))
    config = replace(TransformerConfig.nano(), num_layers=2)
    save_checkpoint(
        path, transformer=WanTransformer3DModel(config), codec=NanoCodec(),
        text_encoder=NanoTextEncoder(text_dim=config.text_dim),
        normaliser=QuantileNormaliser.fit(rows), contract=CONTRACT.to_dict(),
        sampler=SamplerSettings(forward_dynamics=True),
    )  # fmt: skip
    return path


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp('models') / 'random', 0)


@pytest.fixture(scope='module')
def policy(checkpoint):
    return load_wam_policy(checkpoint, 1, 1)


def chunk_message(kit, chunk):
    return kit.encoder('flashwam_ros/msg/ActionChunk')({
        'header': kit.header(chunk.stamp_ns), 'session': chunk.session,
        'contract_hash': chunk.contract_hash, 'index': chunk.index,
        'predecessor': chunk.predecessor, 'row_duration': chunk.row_duration_s,
        'rows': len(chunk.positions), 'channels': chunk.positions.shape[1],
        'channel_names': list(chunk.channel_names), 'positions': chunk.positions.ravel().tolist(),
        'first_row': chunk.first_row, 'video_steps': chunk.video_steps,
        'action_steps': chunk.action_steps, 'seed': chunk.seed,
        'latency_names': list(chunk.latency_s), 'latency': list(chunk.latency_s.values()),
        'key_frame_stamps': [kit.stamp(ns) for ns in chunk.key_frame_stamps_ns],
    })  # fmt: skip


class Live:
    """One session as the nodes run it, on the recorder's clock; what they publish is kept."""

    def __init__(self, kit, policy, execution, busy=()):
        self.kit, self.policy, self.messages, self.chunks = kit, policy, [], []
        self.loop = PredictExecuteLoop(execution, CONTRACT)
        self.driver = Witness(CONTRACT)
        self.busy = [kit.START_NS + round(seconds * 1e9) for seconds in busy]
        policy.reset(PROMPT, SEED)
        self.loop.begin('s', kit.START_NS)

    def run(self, maker):
        events = [(arrival, self.frame, (camera.key, jpeg, ns)) for camera in CONTRACT.cameras
                  for ns, arrival, jpeg in maker.frames(camera.key)]  # fmt: skip
        events += [(arrival, self.driver.commanded, (ns, position))
                   for ns, arrival, position in maker.commanded()]  # fmt: skip
        for now, take, arguments in sorted(events, key=lambda event: event[0]):
            take(*arguments)
            for account in self.driver.advance(now):
                self.publish('/applied_actions', now, self.kit.applied_actions(
                    now, account.index, account.start_ns, account.positions, account.complete))
                self.loop.applied(account)
            if not self.busy or not self.busy[0] <= now < self.busy[1]:
                self.work(now)
        return self

    def frame(self, camera, jpeg, stamp_ns):
        image = to_policy_size(decode_jpeg(jpeg), CONTRACT.camera(camera))
        self.loop.add_frame(camera, image, stamp_ns)

    def work(self, now):
        while (job := self.loop.next_job(now)) is not None:
            for chunk in self.loop.finish(job, run_job(self.policy, job)):
                self.publish('/action_chunk', now, chunk_message(self.kit, chunk))
                self.chunks.append(chunk)
                self.driver.submit(chunk, now + 30 * self.kit.MS)

    def publish(self, topic, now, data):
        self.messages.append((topic, now, now, data))


@pytest.fixture
def record(episode_kit, policy, checkpoint, tmp_path):
    """Run and record a session; (path, session as it was)."""

    def run(execution='async', busy=(), change=lambda messages: messages, **sidecar):
        maker = episode_kit.Maker(tmp_path / '20260101-120000_s.mcap', SECONDS)
        # The prompt, seed and mode of the session, and who moved.
        maker.sidecar = replace(maker.sidecar, **{
            'prompt': PROMPT, 'seed': SEED, 'policy': 'wam', 'execution': execution,
            'checkpoint': str(checkpoint), 'checkpoint_sha256': checkpoint_hash(str(checkpoint)),
            'extra': {'software': software()}, **sidecar,
        })  # fmt: skip
        live = Live(episode_kit, policy, execution, busy).run(maker)
        others = [m for m in episode_kit.Maker.messages(maker) if m[0] != '/applied_actions']
        messages = change(sorted([*others, *live.messages], key=lambda m: m[2]))
        maker.messages = lambda: messages
        return maker.write(), live

    return run


def replayed(path, policy):
    episode = read_episode(path)
    return list(replay(episode, policy, recorded_setting(episode)))


@pytest.mark.parametrize('execution', ['sync', 'async', 'async_grounded'])
def test_every_chunk_comes_out_to_the_last_bit(record, policy, execution):
    path, live = record(execution)
    chunks = replayed(path, policy)
    assert len(chunks) == len(live.chunks) >= 4
    assert [chunk.max_rad for chunk in chunks] == [0.0] * len(chunks)
    assert {(chunk.row, chunk.channel) for chunk in chunks} == {(-1, '')}


@pytest.mark.parametrize('execution', ['async', 'async_grounded'])
def test_chunks_that_came_late_do_too(record, policy, execution):
    path, live = record(execution, busy=(0.9, 2.6))
    assert any(slack.slack_s < 0 for slack in live.loop.slacks)
    assert [chunk.max_rad for chunk in replayed(path, policy)] == [0.0] * len(live.chunks)


def test_other_rows_in_the_recording_are_found_in_the_chunk_that_they_ground(
        record, policy, episode_kit):
    def spoil(messages):
        out, complete = [], 0
        for topic, ns, arrival, data in messages:
            if topic == '/applied_actions':
                complete += 1
                if complete == 2:  # chunk 0, whole
                    rows = np.full((8, len(CONTRACT.channels)), 0.3)
                    data = episode_kit.applied_actions(ns, 0, ns, rows)
            out.append((topic, ns, arrival, data))
        return out

    path, _ = record('sync', change=spoil)
    chunks = replayed(path, policy)
    assert chunks[0].max_rad == 0.0
    assert chunks[1].max_rad > 1e-3 and chunks[1].channel in CONTRACT.channel_names
    assert 0 <= chunks[1].row < CONTRACT.rows_per_chunk


@pytest.mark.parametrize(('topic', 'number', 'says'), [
    ('/action_chunk', 1, 'chunk 1 was not recorded'),
    ('/applied_actions', 1, 'what was executed of chunk 0 was not recorded'),
    (HEAD, None, "no frame of camera 'head'"),
])
def test_what_is_missing_is_named(record, policy, topic, number, says):
    def drop(messages):
        mine = [m for m in messages if m[0] == topic]
        assert mine
        gone = mine if number is None else [mine[number]]
        return [m for m in messages if not any(m is other for other in gone)]

    path, _ = record('sync', change=drop)
    with pytest.raises(EpisodeError, match=says):
        replayed(path, policy)


def test_the_command_says_it_with_its_exit_code(record, checkpoint, tmp_path, capsys):
    path, live = record('async')
    assert replay_command.replay_main([str(path)]) == 0
    assert f'all {len(live.chunks)} chunks are the same to the last bit' in capsys.readouterr().out
    assert replay_command.replay_main([path.stem, '--folder', str(path.parent), '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['same'] and report['first_difference'] is None
    assert report['seed'] == SEED and report['other_software'] == []
    assert len(report['chunks']) == len(live.chunks)

    change_sidecar(sidecar_path(path), lambda old: replace(
        old, prompt='put the potato into the pot', extra={'software': {'torch': '0.1'}}))
    assert replay_command.replay_main([str(path)]) == 1
    out = capsys.readouterr().out
    assert 'first difference: chunk 0: differs by at most' in out
    assert 'recorded with torch 0.1, here' in out
    assert replay_command.replay_main([str(path), '--tolerance', '10']) == 0
    assert 'the same within 10 rad' in capsys.readouterr().out


def test_a_study_names_the_model_of_a_trial_by_its_arm(record, checkpoint, tmp_path, capsys):
    path, _ = record('sync', checkpoint='/of/the/first/arm', extra={'arm': 'B'})
    assert replay_command.replay_main([str(path)]) == 2
    assert 'arms.json' in capsys.readouterr().err
    arms = tmp_path / 'somewhere.json'
    arms.write_text(json.dumps({'B': {'policy': 'wam', 'checkpoint': str(checkpoint),
                                      'video_steps': 1, 'action_steps': 1}}))
    assert replay_command.replay_main([str(path), '--arms', str(arms)]) == 0


@pytest.mark.parametrize(('sidecar', 'words', 'says'), [
    ({'policy': 'expert'}, (), 'the scripted expert moved the robot'),
    ({'checkpoint': '/nowhere'}, (), 'its checkpoint /nowhere is not here'),
    ({'execution': ''}, (), 'names no execution mode'),
    ({'checkpoint_sha256': 'f' * 64}, (), 'holds another model'),
    ({'extra': {'arm': 'B'}}, ('--arms', '/nowhere.json'), 'arms: /nowhere.json'),
])
def test_what_cannot_be_replayed_is_refused_with_a_reason(record, capsys, sidecar, words, says):
    path, _ = record('sync')
    change_sidecar(sidecar_path(path), lambda old: replace(old, **sidecar))
    assert replay_command.replay_main([str(path), *words]) == 2
    assert says in capsys.readouterr().err


def test_shadow_of_the_model_that_moved_is_near_and_another_is_measured(
        record, policy, checkpoint, tmp_path, capsys):
    path, _ = record('sync')
    other = make_checkpoint(tmp_path / 'other', 5)
    assert replay_command.shadow_main([str(path), '--checkpoint', str(other), '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['prompt'] == PROMPT and report['moved_by'] == 'wam'
    assert report['stopped'] == ''
    assert report['summary']['chunks'] == len(report['distances']) >= 3
    assert report['summary']['arm_mean'] > report['summary']['still_arm_mean'] > 0.0
    assert {d['source'] for d in report['distances']} == {'commanded'}


class Oracle:
    """Predicts what will be commanded, plus an offset; `begin_ns` tells when its chunk begins."""

    name, warnings, mode_problems = 'oracle', (), {}

    def __init__(self, kit, offset, begin_ns):
        self.contract, self.kit, self.offset = CONTRACT, kit, offset
        self.grounded, self._begin_ns = [], begin_ns

    def reset(self, prompt, seed):
        self.first = True

    def observe(self, key_frame):
        self.newest = key_frame

    def predict(self):
        rows, step = CONTRACT.rows_per_chunk, CONTRACT.row_duration_s
        first = CONTRACT.actions_per_frame if self.first else 0
        self.first = False
        start_s = (self._begin_ns() - self.kit.START_NS) * 1e-9
        times = start_s + (np.arange(rows) - first + 1) * step
        return Prediction(np.stack([self.kit.arm_path(t) for t in times]) + self.offset, first)

    def ground(self, applied):
        self.grounded.append(applied)

    def imagine(self, rows):
        raise AssertionError

    def warm_up(self):
        return 0.0


@pytest.mark.parametrize('offset', [0.0, 0.05])
def test_distance_is_that_of_the_rows_in_the_same_place(make_episode, episode_kit, monkeypatch,
                                                       offset):
    """A policy that knows what will be commanded has no distance, and an offset is found."""
    now, advance = [], Witness.advance

    def watch(self, now_ns):
        now[:] = [now_ns]
        return advance(self, now_ns)

    monkeypatch.setattr(Witness, 'advance', watch)
    # In sync mode a chunk begins when it has arrived.
    oracle = Oracle(episode_kit, offset, lambda: now[0] + 100_000_000)
    found = shadow(read_episode(make_episode()), oracle, prompt='p', latency_s=0.1)
    assert found.stopped == ''
    assert found.summary.chunks >= 3 and found.summary.measured == 0
    assert found.summary.arm_mean == pytest.approx(offset, abs=2e-3)
    assert found.summary.gripper_mean == pytest.approx(offset, abs=2e-3)
    assert found.summary.still_arm_mean > 0.02
    assert len(oracle.grounded) >= 3


def test_software_tells_what_differs():
    here = software()
    assert {'python', 'processor', 'numpy'} <= set(here)
    assert differences(here, here) == ()
    assert differences({**here, 'numpy': '1.0'}, here) == (
        f'numpy 1.0, here {here["numpy"]}',)

