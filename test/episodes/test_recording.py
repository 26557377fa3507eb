# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder without ROS: episodes one after the other, each whole and judged."""

import json
import threading
import time

import pytest

from flashwam_ros.episodes import schemas
from flashwam_ros.episodes.audit import check_episode
from flashwam_ros.episodes.mcap_writer import EpisodeWriter, RecordingError
from flashwam_ros.episodes.reader import read_episode
from flashwam_ros.episodes.recording import EpisodeRecorder, checkpoint_hash
from flashwam_ros.episodes.recovery import recover
from flashwam_ros.episodes.sidecar import load_sidecar, sidecar_path
from flashwam_ros.robot.contract import RobotContract

CONTRACT = RobotContract.load()
NOW_NS = 1_800_000_000_000_000_000


@pytest.fixture
def recorder(tmp_path):
    """An episode recorder whose disk can be filled by setting `disk[0]`."""
    topics = [schemas.Topic('/' + topic.name.strip('/'), topic.type)
              for topic in schemas.recorded_topics(CONTRACT)]  # fmt: skip
    disk, now = [10**9], [NOW_NS]
    recorder = EpisodeRecorder(
        tmp_path / 'episodes', CONTRACT, topics, {'robot': 'twin', 'checkpoint_sha256': 'abc'},
        lambda: now[0], min_free=10**6, free=lambda folder: disk[0],
    )  # fmt: skip
    recorder.disk, recorder.now = disk, now
    return recorder


def feed(recorder, maker):
    for topic, stamp, arrival, data in maker.messages():
        recorder.put(topic, stamp, arrival, data)
        recorder.now[0] = max(recorder.now[0], arrival)


@pytest.fixture
def maker(episode_kit, tmp_path):
    return episode_kit.Maker(tmp_path / 'unused.mcap', 2.0)


def test_episode_with_everything_in_its_sidecar(recorder, maker):
    assert recorder.state().state == 'idle' and recorder.stop('nothing to stop') is None
    recorder.put('/joint_states', 1, 1, b'before the start: nobody wants it')
    path = recorder.start('rollout', 'red_bottle', 's/1', prompt='pick', seed=7)
    assert path.name.endswith('_s-1.mcap') and recorder.session == 's/1'
    started = load_sidecar(sidecar_path(path))
    assert (started.state, started.prompt, started.robot) == ('recording', 'pick', 'twin')
    feed(recorder, maker)
    verdict = {'verdict': 'success', 'reason': 'success'}
    recorder.event('mark', text='here')
    sidecar = recorder.stop('rollout ended', verdict)
    assert sidecar == load_sidecar(sidecar_path(path))
    assert (sidecar.state, sidecar.end_reason, sidecar.outcome) == (
        'closed', 'rollout ended', 'success')  # fmt: skip
    assert sidecar.contract_sha256 == CONTRACT.sha256 and sidecar.checkpoint_sha256 == 'abc'
    assert sidecar.messages['/joint_states'] == 100 and sidecar.dropped == {}
    assert sidecar.duration_s == pytest.approx(2.0, abs=0.1)
    assert sidecar.quality == json.loads(json.dumps(check_episode(path).to_dict()))
    assert sidecar.score == 100
    episode = read_episode(path)
    assert [e.text for e in episode.events if e.source == 'recorder'] == ['mark']
    assert len(episode.images['head']) == 40 and len(episode.applied) == 2
    state = recorder.state()
    assert (state.state, state.score, state.level) == ('idle', 100, 'green')
    assert json.loads(state.to_json())['episode'] == str(path)


def test_quality_is_known_while_recording(recorder, episode_kit, tmp_path):
    maker = episode_kit.Maker(tmp_path / 'unused.mcap', 4.0)
    frames = maker.frames
    maker.frames = lambda camera: () if camera == 'head' else frames(camera)
    recorder.start('manual', 'red_bottle')
    feed(recorder, maker)
    deadline = time.monotonic() + 20
    while recorder.state().score is None and time.monotonic() < deadline:
        time.sleep(0.01)
    state = recorder.state()
    assert (state.state, state.level) == ('recording', 'red')
    assert any(text.startswith('missing (head)') for text in state.findings)
    recorder.stop('stopped')


def test_a_start_ends_the_episode_before(recorder, maker):
    first = recorder.start('manual', 'red_bottle', 'one')
    feed(recorder, maker)
    second = recorder.start('manual', 'red_bottle', 'two')
    assert load_sidecar(sidecar_path(first)).end_reason == 'another episode began'
    assert first.exists() and not second.exists() and recorder.session == 'two'
    recorder.stop('stopped')
    assert second.exists()


def test_full_disk_is_refused_and_one_that_fills_ends_the_episode(recorder, maker):
    recorder.disk[0] = 1000
    with pytest.raises(RecordingError, match='disk_full'):
        recorder.start('rollout', 'red_bottle')
    assert recorder.state().state == 'error' and 'disk_full' in recorder.state().reason
    assert not list(recorder.folder.glob('*'))
    recorder.disk[0] = 10**9
    path = recorder.start('rollout', 'red_bottle')
    feed(recorder, maker)
    recorder.disk[0] = 1000
    deadline = time.monotonic() + 20
    while recorder.session and time.monotonic() < deadline:
        recorder.poll()
        time.sleep(0.01)
    sidecar = load_sidecar(sidecar_path(path))
    assert sidecar.end_reason.startswith('disk_full') and sidecar.state == 'closed'
    assert path.exists() and recorder.state().state == 'error'


def test_a_label_given_while_the_episode_ends_stays(recorder, maker, monkeypatch):
    from flashwam_ros.episodes import recording
    from flashwam_ros.episodes.sidecar import change_sidecar

    path = recorder.start('manual', 'red_bottle')
    feed(recorder, maker)
    whole = recording.change_sidecar

    def between(target, change):
        thread = threading.Thread(
            target=change_sidecar, args=(target, lambda s: s.labelled('keep', 'me')))
        thread.start()
        thread.join()
        return whole(target, change)

    monkeypatch.setattr(recording, 'change_sidecar', between)
    recorder.stop('stopped')
    sidecar = load_sidecar(sidecar_path(path))
    assert sidecar.disposition == 'keep' and sidecar.quality is not None


@pytest.fixture
def slow_close(monkeypatch):
    """The disk takes its time: closing a file waits for this event."""
    whole, go_on = EpisodeWriter.close, threading.Event()

    def close(writer, reason='stopped'):
        assert go_on.wait(30)
        return whole(writer, reason)

    monkeypatch.setattr(EpisodeWriter, 'close', close)
    yield go_on
    go_on.set()


def stopping(recorder, *arguments):
    """A thread that ends the episode; returns when it has begun to."""
    thread = threading.Thread(target=recorder.stop, args=arguments)
    thread.start()
    deadline = time.monotonic() + 20
    while recorder.session and time.monotonic() < deadline:
        time.sleep(0.001)
    return thread


def test_an_episode_that_is_being_closed_is_the_last_one(recorder, maker, slow_close):
    slow_close.set()
    recorder.start('manual', 'red_bottle', 'good')
    recorder.stop('stopped')
    slow_close.clear()
    path = recorder.start('manual', 'red_bottle', 'bad')
    feed(recorder, maker)
    thread = stopping(recorder, 'stopped by the operator')
    state = recorder.state()
    assert (state.state, state.episode, state.session) == ('closing', str(path), 'bad')
    assert state.reason == 'stopped by the operator' and state.free > 0
    assert not recorder.wait(0.01)
    slow_close.set()
    thread.join()
    assert recorder.wait(0.01)
    assert (recorder.state().state, recorder.state().episode) == ('idle', str(path))


def test_the_next_episode_stays_the_last_one_when_the_one_before_gets_whole(recorder, slow_close):
    first = recorder.start('rollout', 'red_bottle', 'one')
    thread = stopping(recorder, 'rollout ended')
    recorder.disk[0] = 1000
    with pytest.raises(RecordingError, match='disk_full'):
        recorder.start('rollout', 'red_bottle', 'two')
    slow_close.set()
    thread.join()
    assert first.exists() and recorder.state().session == 'two'


def test_a_late_end_does_not_end_the_next_episode(recorder):
    recorder.start('rollout', 'red_bottle', 'one')
    recorder.start('rollout', 'red_bottle', 'two')
    assert recorder.stop('rollout ended', {'verdict': 'success'}, 'one') is None
    assert (recorder.state().state, recorder.session) == ('recording', 'two')
    sidecar = recorder.stop('rollout ended', {'verdict': 'failure'}, 'two')
    assert (sidecar.session, sidecar.outcome) == ('two', 'failure')


def test_full_disk_under_the_sidecar_is_an_error_of_that_episode(recorder, maker, monkeypatch):
    from flashwam_ros.episodes import sidecar as module

    recorder.start('manual', 'red_bottle', 'good')
    recorder.stop('stopped')
    path = recorder.start('manual', 'red_bottle', 'bad')
    feed(recorder, maker)

    def full(*_):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(module, 'save_sidecar', full)
        assert recorder.stop('stopped') is None
    state = recorder.state()
    assert (state.state, state.episode, state.session) == ('error', str(path), 'bad')
    assert 'No space left' in state.reason and 'flashwam episodes recover' in state.reason
    assert recorder.start('manual', 'red_bottle', 'next') and recorder.stop('stopped')


def test_damaged_sidecar_is_an_error_and_the_episode_comes_back(recorder, maker):
    path = recorder.start('manual', 'red_bottle', 'bad')
    feed(recorder, maker)
    sidecar_path(path).write_text('{"format": 1')
    assert recorder.stop('stopped') is None
    state = recorder.state()
    assert (state.state, state.episode) == ('error', str(path))
    # As the reason says.
    part = path.rename(path.with_name(f'{path.name}.part'))
    assert f'`mv {path} {part}` and `flashwam episodes recover {part}`' in state.reason
    recover(part)
    assert load_sidecar(sidecar_path(path)).session == 'bad'


def test_a_file_that_cannot_be_completed_is_an_error_of_that_episode(
        recorder, maker, monkeypatch):
    path = recorder.start('manual', 'red_bottle', 'bad')
    feed(recorder, maker)

    def fail(_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(EpisodeWriter, '_finish', fail)
    assert recorder.stop('stopped') is None
    state = recorder.state()
    assert (state.state, state.episode) == ('error', f'{path}.part') and state.messages > 100
    assert 'No space left' in state.reason


def test_checkpoint_hash_is_that_of_the_manifest(tmp_path):
    import hashlib

    assert checkpoint_hash('') == checkpoint_hash(str(tmp_path)) == ''
    (tmp_path / 'flashwam.json').write_bytes(b'{}')
    assert checkpoint_hash(str(tmp_path)) == hashlib.sha256(b'{}').hexdigest()
