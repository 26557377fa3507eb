# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""LeRobot datasets and raw XR episodes become demonstrations like the simulator's own."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'training'))
from lerobot_support import CONTRACT, synthetic, write_v21, write_v30  # noqa: E402

from flashwam_ros.episodes import import_demonstrations as importer  # noqa: E402
from flashwam_ros.episodes.raw_teleop import RawEpisodeError, read_raw_episode  # noqa: E402
from flashwam_ros.imaging import encode_jpeg, to_policy_size  # noqa: E402
from flashwam_ros.robot.description import load_description  # noqa: E402
from flashwam_ros.robot.kinematics import Kinematics  # noqa: E402
from flashwam_ros.training.codec_data import ENTITIES, load_groups, split_files  # noqa: E402
from flashwam_ros.training.episode_file import read_episode  # noqa: E402


def write_raw(folder, frames=41, stereo=True, fps=20, seed=0):
    """A raw episode as the vendor's program leaves it; returns what was commanded."""
    episode = synthetic(seed, frames, fps)
    (folder / 'colors').mkdir(parents=True)
    images = list(episode.images.values())
    colours = [images[0], images[0][:, :, ::-1], *images[1:]] if stereo else images
    records = []
    for i, row in enumerate(episode.action.astype(float)):
        parts = {'left_arm': row[:7], 'right_arm': row[7:14], 'left_ee': row[14:15],
                 'right_ee': row[15:16]}
        files = {}
        for number, pictures in enumerate(colours):
            files[f'color_{number}'] = f'colors/{i:06d}_color_{number}.jpg'
            (folder / files[f'color_{number}']).write_bytes(encode_jpeg(pictures[i]))
        values = {name: {'qpos': part.tolist(), 'qvel': [], 'torque': []}
                  for name, part in parts.items()}
        records.append({'idx': i, 'colors': files, 'depths': {}, 'actions': values, 'states': {
            name: {**value, 'qpos': [v + 0.01 for v in value['qpos']]}
            for name, value in values.items()}})
    (folder / 'data.json').write_text(json.dumps({
        'info': {'version': '1.0.0', 'image': {'width': 64, 'height': 48, 'fps': fps}},
        'text': {'goal': 'Put the pink object away.', 'desc': '', 'steps': ''}, 'data': records}))
    return episode


def run(root, out, *more):
    return importer.main(['--dataset', str(root), '--out', str(out), *more])


@pytest.mark.parametrize('stereo', [True, False])
def test_raw_episode_keeps_rows_images_and_order(tmp_path, stereo):
    made = write_raw(tmp_path / 'raw' / 'pink' / 'episode_0003', stereo=stereo)
    assert run(tmp_path / 'raw', tmp_path / 'out') == 0
    path = tmp_path / 'out' / 'put_the_pink_object_away' / 'episode_1000000.npz'
    episode = read_episode(path)
    assert episode.prompt == 'Put the pink object away.'
    np.testing.assert_allclose(episode.applied, made.action[:40], rtol=1e-6)
    assert episode.contract_hash == CONTRACT.sha256
    assert np.diff(episode.stamps_ns).tolist() == [100_000_000] * 20
    for camera, images in zip(CONTRACT.cameras, made.images.values(), strict=True):
        expected = to_policy_size(images[8], camera).astype(int)
        assert np.abs(episode.images[camera.key][4] - expected).max() < 12
    kinematics = Kinematics(load_description())
    np.testing.assert_allclose(
        episode.tcp[3, 1], kinematics.arm_point(made.action[6, :14] + 0.01, 'right_tcp'),
        atol=1e-5)


@pytest.mark.parametrize(('write', 'fps'), [(write_v21, 20), (write_v30, 30)])
def test_lerobot_segments_become_demonstrations(tmp_path, write, fps):
    made = synthetic(0, 61, fps)
    made.task = 'lift'
    root = write(tmp_path / 'set', [synthetic(1, 40, fps), made], fps)
    assert run(root, tmp_path / 'out', '--task', 'mine') == 0
    files = sorted((tmp_path / 'out' / 'mine').iterdir())
    assert [path.stem for path in files] == ['episode_1000000', 'episode_1000001']
    episode, stride = read_episode(files[1]), fps // 10
    assert episode.prompt == 'lift'
    rows = episode.applied.reshape(-1, 8, 16)
    # the row at the end of a latent frame is the command given just before its last image
    np.testing.assert_allclose(rows[:, -1], made.action[4 * stride * np.arange(1, len(rows) + 1)
                                                        - 1], rtol=1e-5)
    assert split_files(tmp_path / 'out') == ([files[1]], [files[0]])
    groups = load_groups(files, 2)
    assert groups.present[0].tolist() == [name.endswith('tcp') for name in ENTITIES]


def test_nothing_is_imported_twice_and_numbers_stay(tmp_path, capsys):
    write_raw(tmp_path / 'raw' / 'a' / 'episode_0001', 17)
    assert run(tmp_path / 'raw', tmp_path / 'out') == 0
    first = next((tmp_path / 'out').rglob('*.npz'))
    before = first.stat().st_mtime_ns
    write_raw(tmp_path / 'raw' / 'a' / 'episode_0000', 17, seed=1)  # sorts before the other
    assert run(tmp_path / 'raw', tmp_path / 'out') == 0
    assert first.stat().st_mtime_ns == before
    assert sorted(path.stem for path in first.parent.iterdir()) == [
        'episode_1000000', 'episode_1000001']
    assert '1 demonstrations imported, 1 already there' in capsys.readouterr().err


def test_another_day_with_the_same_names_is_imported_too(tmp_path, capsys):
    for seed, day in enumerate(('monday', 'tuesday')):
        write_raw(tmp_path / day / 'pink' / 'episode_0000', 17, seed=seed)
        write_v21(tmp_path / f'sets-{day}' / 'set', [synthetic(seed, 17)])
        for kind in ('', 'sets-'):
            assert run(tmp_path / f'{kind}{day}', tmp_path / f'{kind}out') == 0
            said = capsys.readouterr().err
            assert '1 demonstrations imported, 0 already there' in said, (kind, day)
    for out, there in (('out', 2), ('sets-out', 2)):
        assert len(list((tmp_path / out).rglob('*.npz'))) == there
    # another instruction for the same motion is another demonstration
    path = tmp_path / 'tuesday' / 'pink' / 'episode_0000' / 'data.json'
    path.write_text(path.read_text().replace('Put the pink', 'Take the pink'))
    assert run(tmp_path / 'tuesday', tmp_path / 'out', '--task', 'mine') == 0
    assert '1 demonstrations imported' in capsys.readouterr().err
    # numbers of an earlier version, by name alone, are not mixed with these
    (tmp_path / 'out' / importer.LOG).write_text('{"pink/episode_0000": 1000000}')
    assert run(tmp_path / 'tuesday', tmp_path / 'out') == 1
    assert "'pink/episode_0000' does not tell what was imported" in capsys.readouterr().err


def test_other_options_are_refused_until_the_old_demonstration_is_gone(tmp_path, capsys):
    raw, out = tmp_path / 'raw', tmp_path / 'out'
    write_raw(raw / 'a' / 'episode_0001', 33)
    assert run(raw, out) == 0
    old = next(out.rglob('*.npz'))
    before = read_episode(old).applied
    assert run(raw, out, '--fps', '20') == 0  # what the file says, too
    assert '1 already there' in capsys.readouterr().err
    for more, fault in ((('--fps', '40'), 'was imported with fps 20.0, now it is 40.0: to '),
                        (('--task', 'mine'), 'there under put_the_pink_object_away, not mine')):
        assert run(raw, out, *more) == 1
        said = capsys.readouterr().err
        assert fault in said and str(old) in said
        assert list(out.rglob('*.npz')) == [old]
    old.unlink()
    assert run(raw, out, '--fps', '40', '--task', 'mine') == 0
    [new] = out.rglob('*.npz')
    assert new == out / 'mine' / old.name
    assert len(read_episode(new).applied) < len(before)
    assert run(raw, out, '--fps', '40', '--task', 'mine') == 0
    assert '1 already there' in capsys.readouterr().err


def test_other_cameras_are_refused(tmp_path, capsys):
    root = write_v21(tmp_path / 'set', [synthetic(0, 41)])
    swapped = [f'{one}_wrist=observation.images.cam_{other}_wrist'
               for one, other in (('left', 'right'), ('right', 'left'))]
    swapped = [word for choice in swapped for word in ('--camera', choice)]
    assert run(root, tmp_path / 'out') == 0
    assert run(root, tmp_path / 'out', *swapped) == 1
    assert 'was imported with cameras {' in capsys.readouterr().err
    assert run(root, tmp_path / 'other', *swapped) == 0


def test_numbers_of_the_version_before_are_kept(tmp_path, capsys):
    write_raw(tmp_path / 'raw' / 'a' / 'episode_0001', 17)
    assert run(tmp_path / 'raw', tmp_path / 'out') == 0
    log = tmp_path / 'out' / importer.LOG
    noted = {key: entry['number'] for key, entry in json.loads(log.read_text()).items()}
    log.write_text(json.dumps(noted))  # as that version wrote it
    write_raw(tmp_path / 'raw' / 'a' / 'episode_0000', 17, seed=1)
    assert run(tmp_path / 'raw', tmp_path / 'out') == 0
    assert '1 demonstrations imported, 1 already there' in capsys.readouterr().err
    assert len(list((tmp_path / 'out').rglob('*.npz'))) == 2


def test_damaged_folders_are_left_out_by_name_and_the_rest_is_imported(tmp_path, capsys):
    folders = [tmp_path / 'raw' / 'a' / f'episode_{i:04d}' for i in range(4)]
    for seed, folder in enumerate(folders):
        write_raw(folder, 17, seed=seed)
    (folders[0] / 'data.json').write_text('{"info": ')
    (folders[1] / 'colors' / '000009_color_3.jpg').unlink()
    (folders[2] / 'colors' / '000008_color_0.jpg').write_bytes(b'no picture')
    assert run(tmp_path / 'raw', tmp_path / 'out') == 1
    said = capsys.readouterr().err
    assert said.count('left out: ') == 3
    for fault in ('episode_0000/data.json: not a finished', 'record 9: image color_3',
                  'episode_0002/colors/000008_color_0.jpg: '):
        assert fault in said
    assert '1 demonstrations imported, 0 already there, 0 too short, 3 damaged' in said
    assert len(list((tmp_path / 'out').rglob('*.npz'))) == 1


def test_short_episodes_are_left_out_by_name(tmp_path, capsys):
    write_raw(tmp_path / 'raw' / 'a' / 'episode_0001', 8)
    assert run(tmp_path / 'raw', tmp_path / 'out') == 0
    assert 'left out: a/episode_0001: 8 frames are too short' in capsys.readouterr().err


def test_faults_are_named(tmp_path, capsys):
    folder = tmp_path / 'raw' / 'a' / 'episode_0001'
    write_raw(folder, 17)
    whole = (folder / 'data.json').read_text()
    values = json.loads(whole)
    values['data'][5]['actions']['left_ee']['qpos'] = [-3.0]
    (folder / 'data.json').write_text(json.dumps(values))
    assert run(tmp_path / 'raw', tmp_path / 'out') == 1
    assert 'frame 5: left_gripper runs -3.000' in capsys.readouterr().err
    assert run(tmp_path / 'raw', tmp_path / 'out', '--accept', 'range') == 0
    values['data'][7]['states']['right_arm']['qpos'][2] = float('nan')
    (folder / 'data.json').write_text(json.dumps(values))
    with pytest.raises(RawEpisodeError, match=r'record 7: states\.right_arm'):
        read_raw_episode(folder, CONTRACT)
    (folder / 'data.json').write_text(whole[:-30])
    with pytest.raises(RawEpisodeError, match='not a finished raw episode'):
        read_raw_episode(folder, CONTRACT)
    (folder / 'data.json').write_text(whole)
    (folder / 'colors' / '000009_color_3.jpg').unlink()
    with pytest.raises(RawEpisodeError, match='record 9: image color_3'):
        read_raw_episode(folder, CONTRACT)


def test_folder_without_episodes(tmp_path, capsys):
    assert run(tmp_path, tmp_path / 'out') == 1
    assert 'neither a LeRobot dataset nor raw episodes' in capsys.readouterr().err
