# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam episodes`: what an operator sees and does."""

import dataclasses
import fcntl
import json

import cv2
import pytest

from flashwam_ros.episodes import library
from flashwam_ros.episodes.command import main
from flashwam_ros.episodes.library import find_episodes, list_episodes, select
from flashwam_ros.episodes.recovery import in_use
from flashwam_ros.episodes.sidecar import (
    Sidecar,
    SidecarError,
    change_sidecar,
    load_sidecar,
    save_sidecar,
    sidecar_path,
)


@pytest.fixture
def folder(tmp_path, make_episode):
    for i in range(3):
        make_episode(f'2026010{i + 1}-120000_s{i}', 1.5)
    return tmp_path


def run(folder, *words):
    return main(['--folder', str(folder), *words])


def test_label_undo_discard_prune(folder, capsys):
    assert run(folder, 'label', 's0', 's1', 'discard') == 0
    assert run(folder, 'label', 's1', 'undo') == 0
    assert run(folder, 'label', 's2', 'success', '--by', 'ann') == 0
    entries = {entry.name[-2:]: entry for entry in list_episodes(folder)}
    assert [entries[n].sidecar.disposition for n in ('s0', 's1', 's2')] == ['discard', '', '']
    history = entries['s2'].sidecar.labels
    assert [(label.label, label.by) for label in history] == [('success', 'ann')]
    assert [label.label for label in entries['s1'].sidecar.labels] == ['discard', 'undo']
    assert len(select(list_episodes(folder))) == 2
    assert len(select(list_episodes(folder), outcomes=['success'])) == 1
    assert len(list(folder.glob('*.mcap'))) == 3, 'a discard deletes nothing'
    assert run(folder, 'prune', '--dry-run') == 0
    assert len(list(folder.glob('*.mcap'))) == 3
    assert run(folder, 'prune') == 0
    assert sorted(p.name[-7:] for p in folder.glob('*.mcap')) == ['s1.mcap', 's2.mcap']
    assert len(list(folder.glob('*.json'))) == 2
    assert run(folder, 'label', 's1', 'undo') == 1
    assert 'no label to undo' in capsys.readouterr().err


def test_an_episode_that_is_completed_while_it_is_looked_at_is_listed_once(folder, monkeypatch):
    """The recorder renames the file; this came up as a lost demonstration on a slow machine."""
    name = '20260101-120000_s0'
    whole = folder / f'{name}.mcap'
    part = whole.with_name(f'{name}.mcap.part')
    whole.rename(part)

    def completed(path):
        path.rename(whole)
        return in_use(path)

    monkeypatch.setattr(library, 'in_use', completed)
    assert [entry.path for entry in list_episodes(folder) if entry.name == name] == [whole]
    whole.rename(part)

    def pruned(path):
        path.unlink()
        return in_use(path)

    monkeypatch.setattr(library, 'in_use', pruned)
    assert name not in [entry.name for entry in list_episodes(folder)]


def test_two_that_look_do_not_take_each_other_for_a_recorder(folder):
    part = (folder / '20260101-120000_s0.mcap').rename(folder / '20260101-120000_s0.mcap.part')
    with open(part, 'rb') as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not in_use(part)
        fcntl.flock(other, fcntl.LOCK_EX)
        assert in_use(part)


def test_prune_says_what_it_really_deletes(folder, capsys):
    from flashwam_ros.episodes import schemas
    from flashwam_ros.episodes.mcap_writer import EpisodeWriter

    live = EpisodeWriter(folder / 'live.mcap', [schemas.Topic('/t', schemas.STRING_TYPE)], {},
                         min_free=0)
    save_sidecar(folder / 'live.json', Sidecar('live', 'live'))
    # a whole file whose sidecar was never completed is not being recorded
    change_sidecar(folder / '20260101-120000_s0.json',
                   lambda s: dataclasses.replace(s, state='recording'))
    assert run(folder, 'label', 's0', 'live', 'discard') == 0
    for words in (('prune', '--dry-run'), ('prune',)):
        capsys.readouterr()
        assert run(folder, *words) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[:-1] == ['20260101-120000_s0']
        assert said[-1].startswith('1 discarded episodes, ')
        assert said[-1].endswith('; 1 more still being recorded')
    assert not (folder / '20260101-120000_s0.mcap').exists()
    assert live.part.exists() and (folder / 'live.json').exists()
    live.close()


def test_check_stores_its_verdict_and_fails_on_red(folder, capsys, make_episode, episode_kit):
    assert run(folder, 'check') == 0
    assert all(entry.sidecar.score == 100 for entry in list_episodes(folder))
    maker = episode_kit.Maker(folder / 'bad.mcap', 1.5)
    maker.measured = lambda: ()
    maker.write()
    assert run(folder, 'check', 'bad', '--json') == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line['level'] == 'red' and line['findings'][0]['name'] == 'missing'
    assert load_sidecar(folder / 'bad.json').quality['level'] == 'red'
    assert len(select(list_episodes(folder), min_score=90)) == 3


def test_list_and_recover(folder, capsys):
    path = folder / '20260102-120000_s1.mcap'
    part = path.with_name(path.name + '.part')
    part.write_bytes(path.read_bytes()[:-3000])
    path.unlink()
    assert run(folder, 'list') == 0
    out = capsys.readouterr().out
    assert '3 episodes, 1 cut off' in out and 'red_bottle' in out
    assert run(folder, 'recover') == 0
    assert path.exists() and not part.exists()
    assert 'messages' in capsys.readouterr().out
    assert load_sidecar(sidecar_path(path)).state == 'recovered'


def test_show_draws_a_contact_sheet(folder, capsys):
    assert run(folder, 'show', 's0', '--out', str(folder / 'sheets')) == 0
    sheet = cv2.imread(str(folder / 'sheets' / '20260101-120000_s0.png'))
    assert sheet.shape == (26 + 3 * 150, 8 * 200, 3)
    assert sheet[60:140, 20:180, 2].mean() > sheet[60:140, 20:180, 0].mean() + 20, 'warm, in BGR'
    assert 'prompt: pick' in capsys.readouterr().out


def test_unknown_episode_and_damaged_sidecar(folder, capsys):
    assert run(folder, 'show', 'nothing') == 1
    assert "no episode 'nothing'" in capsys.readouterr().err
    (folder / '20260101-120000_s0.json').write_text('{"format": 9}')
    assert run(folder, 'list') == 0
    assert 'damaged' in capsys.readouterr().out
    with pytest.raises(SidecarError, match='format 1'):
        load_sidecar(folder / '20260101-120000_s0.json')


def test_a_file_that_is_being_written_is_not_recovered(folder, capsys):
    from flashwam_ros.episodes import schemas
    from flashwam_ros.episodes.mcap_writer import EpisodeWriter

    topics = [schemas.Topic('/t', schemas.STRING_TYPE)]
    writer = EpisodeWriter(folder / 'live.mcap', topics, {}, min_free=0)
    assert find_episodes(['live'], folder)[0].state == 'recording'
    assert run(folder, 'recover', 'live') == 0
    assert 'recording, nothing to recover' in capsys.readouterr().out
    writer.put('/t', 1, 1, b'12345')
    assert writer.close().messages == {'/t': 1}


def test_sidecar_survives_the_round_trip_and_keeps_what_it_does_not_know(tmp_path):
    sidecar = Sidecar('a', 's', seed=2**63, verdict={'verdict': 'failure'}).labelled('keep', 'me')
    values = json.loads(json.dumps(sidecar.to_dict()))
    assert Sidecar.from_dict(values) == sidecar and sidecar.outcome == 'failure'
    assert Sidecar.from_dict({**values, 'weather': 'fine'}).extra == {'weather': 'fine'}
    assert sidecar.labelled('success').outcome == 'success', 'the operator is right'
    with pytest.raises(SidecarError, match='not one of'):
        sidecar.labelled('good')
    with pytest.raises(SidecarError):
        change_sidecar(tmp_path / 'none.json', lambda s: s)
