# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Kill -9 at any moment costs less than a second, and the rest comes back."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

import flashwam_ros
from flashwam_ros.episodes.library import CUT_OFF, list_episodes
from flashwam_ros.episodes.mcap_scan import McapDamagedError, messages
from flashwam_ros.episodes.reader import read_episode
from flashwam_ros.episodes.recovery import recover
from flashwam_ros.episodes.sidecar import (
    RECORDING,
    RECOVERED,
    change_sidecar,
    load_sidecar,
    sidecar_path,
)

ROOT = pathlib.Path(flashwam_ros.__file__).parents[1]
KILLS, TOGETHER = 50, 13
LOST_S = 1.0


def test_50_of_50_killed_writers_lose_less_than_a_second(tmp_path):
    program = pathlib.Path(__file__).with_name('killed_writers.py')
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), str(KILLS), str(TOGETHER)],
        env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, check=True, timeout=100,
    )  # fmt: skip
    given_ns, lost_s = json.loads(done.stdout), []
    for index in range(KILLS):
        found = recover(tmp_path / f'{index}.mcap.part')
        assert found.path == tmp_path / f'{index}.mcap'
        with found.path.open('rb') as file:
            logs = [m.log_time for _, _, m in make_reader(file).iter_messages()]
        assert len(logs) == sum(found.messages.values())
        began_ns, last_ns = given_ns[index]
        back_ns = max(logs, default=began_ns)
        assert found.last_ns == (back_ns if logs else 0)
        counts = sorted(found.messages.values()) or [0]
        assert counts[-1] - counts[0] <= 1, 'only the end is missing'
        lost_s.append((last_ns - back_ns) * 1e-9)
        assert load_sidecar(sidecar_path(found.path)).state == RECOVERED
    assert len(lost_s) == KILLS
    assert max(lost_s) < LOST_S, sorted(lost_s)[-5:]


@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(share=st.floats(0.0, 1.0))
def test_file_cut_anywhere_gives_its_whole_chunks(share, make_episode, whole, tmp_path):
    data, contents = whole
    part = tmp_path / 'cut.mcap.part'
    part.write_bytes(data[: int(share * len(data))])
    part.with_name('cut.mcap').unlink(missing_ok=True)
    if share * len(data) < 8:
        with pytest.raises(McapDamagedError):
            recover(part)
        return
    found = recover(part)
    back = [(m.topic, m.log_ns, bytes(m.data)) for m in messages(found.path)]
    assert back == contents[: len(back)]
    assert len(back) > (share * len(data) - 1.2e6) / 40_100, 'whole chunks are kept'
    if share == 1.0:
        assert len(back) == len(contents)
    with found.path.open('rb') as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_summary().statistics.message_count == len(back)
        assert len(list(reader.iter_messages())) == len(back)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Bytes and messages of a file with several chunks."""
    from flashwam_ros.episodes import schemas
    from flashwam_ros.episodes.mcap_writer import EpisodeWriter

    path = tmp_path_factory.mktemp('whole') / 'a.mcap'
    topics = [schemas.Topic(name, schemas.STRING_TYPE) for name in ('/a', '/b')]
    writer = EpisodeWriter(path, topics, {}, min_free=0)
    for i in range(120):
        writer.put('/a' if i % 3 else '/b', i + 1, i + 1, bytes([i]) * 40_000)
    writer.close()
    contents = [(m.topic, m.log_ns, bytes(m.data)) for m in messages(path)]
    assert len(contents) == 120
    return path.read_bytes(), contents


def test_sidecar_comes_back_from_the_file_itself(make_episode):
    path = make_episode(seconds=1.0)
    part = path.with_name(path.name + '.part')
    path.rename(part)
    sidecar_path(path).unlink()
    assert recover(part).path == path
    sidecar = load_sidecar(sidecar_path(path))
    assert (sidecar.task, sidecar.seed, sidecar.state) == ('red_bottle', 7, RECOVERED)
    assert sidecar.ended_ns == max(m.log_ns for m in messages(path))
    assert len(read_episode(path).joint_states) == 50


class Ended:
    """Mixin of a maker: the rollout's end is recorded, and that of another one."""

    def messages(self):
        base, kit = super().messages(), self.kit
        stamp = base[-1][2]
        ends = [{'event': 'end', 'source': 'rollout', 'session': session, 'stamp_ns': stamp,
                 'verdict': {'verdict': verdict, 'reason': 'lifted', 'elapsed_s': 2.5}}
                for session, verdict in (('s', 'success'), ('another', 'failure'))]
        return base + [('/episode_event', stamp, stamp, kit.text(end)) for end in ends]


@pytest.fixture
def killed_before_its_sidecar(tmp_path, episode_kit):
    """A whole file, renamed, whose recorder was killed before it completed the sidecar."""
    kind = type('Maker', (Ended, episode_kit.Maker), {'kit': episode_kit})
    path = kind(tmp_path / '20260101-120000_s.mcap', 1.0).write()
    change_sidecar(sidecar_path(path), lambda s: dataclasses.replace(
        s, state=RECORDING, ended_ns=0))
    return path


def test_file_without_a_completed_sidecar_comes_back_with_its_verdict(killed_before_its_sidecar):
    path = killed_before_its_sidecar
    assert list_episodes(path.parent)[0].state == CUT_OFF
    with pytest.raises(McapDamagedError, match='less than 10 s ago'):
        recover(path)
    long_ago = path.stat().st_mtime - 60
    os.utime(path, (long_ago, long_ago))
    before = [bytes(m.data) for m in messages(path)]
    found = recover(path)
    assert found.path == path and sum(found.messages.values()) == len(before)
    with path.open('rb') as file:
        again = [m.data for _, _, m in make_reader(file, validate_crcs=True).iter_messages(
            log_time_order=False)]
    assert again == before
    sidecar = load_sidecar(sidecar_path(path))
    assert (sidecar.state, sidecar.end_reason, sidecar.outcome) == (RECOVERED, 'killed', 'success')
    assert sidecar.verdict['elapsed_s'] == 2.5
    assert sidecar.ended_ns == max(m.log_ns for m in messages(path))
    with pytest.raises(McapDamagedError, match="neither .* nor an .mcap file whose sidecar says"):
        recover(path)


def test_recover_killed_before_the_rename_can_be_run_again(
        killed_before_its_sidecar, monkeypatch):
    path = killed_before_its_sidecar
    part = path.with_name(path.name + '.part')
    path.rename(part)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, 'rename', killed)
        with pytest.raises(KeyboardInterrupt):
            recover(part)
    [entry] = list_episodes(path.parent)
    assert (entry.state, entry.sidecar.state) == (CUT_OFF, RECOVERED)
    assert recover(part).path == path
    [entry] = list_episodes(path.parent)
    assert (entry.state, entry.sidecar.outcome) == (RECOVERED, 'success')


def test_what_is_no_recording_is_refused(tmp_path):
    for name, content in (('a.mcap.part', b'hello'), ('b.mcap.part', b''), ('c.txt', b'')):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(McapDamagedError):
            recover(path)
        assert path.read_bytes() == content
