# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes become LeRobot datasets: rows exact, images at their instants, resumable."""

import dataclasses
import json

import numpy as np
import pytest

from flashwam_ros.episodes import export_command
from flashwam_ros.episodes.grid_rows import grid_rows, moving_span
from flashwam_ros.episodes.lerobot_writer import write_video
from flashwam_ros.episodes.reader import EpisodeError, read_episode
from flashwam_ros.episodes.sidecar import DISCARD, SUCCESS, Sidecar, change_sidecar, sidecar_path
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training import validation
from flashwam_ros.training.latent_files import slot_rows
from flashwam_ros.training.lerobot_meta import open_set

CONTRACT = RobotContract.load()
CAMERAS = {c.key: layout.IMAGE_PREFIX + c.dataset_key for c in CONTRACT.cameras}


def run(folder, out, *more):
    return export_command.main([str(folder), '--out', str(out), *more])


def label(path, name):
    change_sidecar(sidecar_path(path), lambda sidecar: sidecar.labelled(name))


def test_rows_of_chunks_are_kept_exactly(make_episode):
    episode = read_episode(make_episode(seconds=2.0))
    rows = grid_rows(episode, CONTRACT, CONTRACT.row_rate_hz)
    applied = np.concatenate([chunk.positions for chunk in episode.applied])
    assert len(rows.action) == len(applied) + 1  # and the outcome
    np.testing.assert_allclose(rows.action[:-1], applied, atol=1e-9)
    assert rows.stamps_ns[0] == episode.applied[0].start_ns
    assert np.diff(rows.stamps_ns).tolist() == [50_000_000] * (len(rows.stamps_ns) - 1)
    # and so they reach the trainer: slot f holds the rows between two latent frames
    slots = slot_rows(rows.action, 2 * np.arange(9), CONTRACT.actions_per_frame)
    np.testing.assert_allclose(slots[1:].reshape(16, -1), applied[:16], atol=1e-9)


def test_state_and_images_belong_to_the_rows_start(make_episode, episode_kit):
    episode = read_episode(make_episode(seconds=2.0))
    rows = grid_rows(episode, CONTRACT, 30.0)
    seconds = (rows.stamps_ns - episode_kit.START_NS) * 1e-9
    expected = np.stack([episode_kit.arm_path(s) for s in seconds])
    np.testing.assert_allclose(rows.state, expected, atol=2e-3)
    later = np.stack([episode_kit.arm_path(s + 1 / 30) for s in seconds])
    np.testing.assert_allclose(rows.action, later, atol=2e-3)
    for key, error in rows.errors_ns.items():
        assert np.abs(error).max() <= 25_000_000
        captured = episode.images[key].stamp_ns[rows.frames[key]]
        np.testing.assert_array_equal(captured - rows.stamps_ns, error)


def test_lost_images_and_states_are_named(make_episode):
    episode = read_episode(make_episode(seconds=2.0))
    stream = episode.images['left_wrist']

    def lose(first, last):
        kept = [i for i in range(len(stream)) if not first <= i < last]
        return {**episode.images, 'left_wrist': dataclasses.replace(
            stream, stamp_ns=stream.stamp_ns[kept], arrival_ns=stream.arrival_ns[kept],
            jpegs=tuple(stream.jpegs[i] for i in kept))}

    one = grid_rows(dataclasses.replace(episode, images=lose(10, 11)), CONTRACT, 20.0)
    assert np.abs(one.errors_ns['left_wrist']).max() == 50_000_000
    with pytest.raises(EpisodeError, match='camera left_wrist: the frame nearest to row'):
        grid_rows(dataclasses.replace(episode, images=lose(10, 14)), CONTRACT, 20.0)
    joints = episode.joint_states
    keep = np.r_[0:20, 30:len(joints)]
    torn = dataclasses.replace(joints, stamp_ns=joints.stamp_ns[keep],
                               position=joints.position[keep])
    with pytest.raises(EpisodeError, match=r'no joint state for 0\.22 s from 0\.38 s'):
        grid_rows(dataclasses.replace(episode, joint_states=torn), CONTRACT, 20.0)


def later_start(episode, begin_ns, end_ns):
    """As if the recorder had been switched on and off in mid-stream."""
    def part(series, *names):
        kept = np.flatnonzero((series.stamp_ns >= begin_ns) & (series.stamp_ns <= end_ns))
        return dataclasses.replace(series, stamp_ns=series.stamp_ns[kept], **{
            name: getattr(series, name)[kept] for name in names})

    images = {key: dataclasses.replace(part(stream, 'arrival_ns'), jpegs=tuple(
        jpeg for jpeg, stamp in zip(stream.jpegs, stream.stamp_ns, strict=True)
        if begin_ns <= stamp <= end_ns)) for key, stream in episode.images.items()}
    joints = ('arrival_ns', 'position', 'velocity')
    return dataclasses.replace(episode, images=images,
                               joint_states=part(episode.joint_states, *joints),
                               joint_commands=part(episode.joint_commands, *joints))


def test_recording_in_mid_stream_loses_only_the_rows_at_its_ends(make_episode, episode_kit):
    episode, start = read_episode(make_episode(seconds=2.0)), episode_kit.START_NS
    whole = grid_rows(episode, CONTRACT, 20.0)
    last = int(whole.stamps_ns[-1])
    # 0.13 s late: the first frame is at 0.15 s; 0.08 s early: the last one is at 1.5 s of 1.6
    rows = grid_rows(later_start(episode, start + 130_000_000, last - 80_000_000), CONTRACT, 20.0)
    assert (whole.cut_rows, rows.cut_rows) == (0, 5)
    np.testing.assert_array_equal(rows.stamps_ns, whole.stamps_ns[3:-2])
    np.testing.assert_allclose(rows.action, whole.action[3:-2], atol=1e-9)
    np.testing.assert_allclose(rows.state, whole.state[3:-2], atol=1e-9)
    # a stream that begins too late, or dies, is no switching on or off
    for begin_ns, end_ns in ((start + 500_000_000, last), (start, last - 500_000_000)):
        with pytest.raises(EpisodeError, match='no joint state for 0'):
            grid_rows(later_start(episode, begin_ns, end_ns), CONTRACT, 20.0)
    dead = {**episode.images, 'head': later_start(
        episode, start, last - 500_000_000).images['head']}
    with pytest.raises(EpisodeError, match='camera head: the frame nearest to row'):
        grid_rows(dataclasses.replace(episode, images=dead), CONTRACT, 20.0)


def test_the_newest_frame_may_be_older_than_the_last_command(tmp_path, episode_kit, capsys):
    class Vendor(episode_kit.Maker):
        """No chunks and no driver that moves: the vendor's program wrote the commands."""

        def messages(self):
            return [entry for entry in super().messages()
                    if entry[0] not in ('/applied_actions', '/driver_status')]

        def frames(self, camera):
            yield from list(super().frames(camera))[:-3 if camera == 'left_wrist' else None]

    (tmp_path / 'recorded').mkdir()
    path = Vendor(tmp_path / 'recorded' / '20260101-120000_s.mcap', 2.0).write()
    # commands end at 1.98 s, the left wrist's frames at 1.8 s
    rows = grid_rows(read_episode(path), CONTRACT, 20.0)
    assert rows.stamps_ns[-1] == episode_kit.START_NS + 1_800_000_000
    assert rows.cut_rows == 3
    assert run(tmp_path / 'recorded', tmp_path / 'set') == 0
    assert '37 rows (3 more at the ends were not recorded' in capsys.readouterr().err
    record = json.loads((tmp_path / 'set' / 'export' / 'episode_000000.json').read_text())
    assert (record['length'], record['cut_rows']) == (37, 3)


def test_no_rows_are_made_up_in_a_pause_of_the_commands(make_episode):
    episode = dataclasses.replace(read_episode(make_episode(seconds=2.0)), applied=())
    commands = episode.joint_commands

    def pause(first, last):
        keep = np.r_[0:first, last:len(commands)]
        return dataclasses.replace(episode, joint_commands=dataclasses.replace(
            commands, stamp_ns=commands.stamp_ns[keep], position=commands.position[keep]))

    rows = grid_rows(pause(50, 54), CONTRACT, 20.0)  # 0.1 s: a line across it is fine
    np.testing.assert_allclose(rows.action, grid_rows(episode, CONTRACT, 20.0).action, atol=3e-3)
    with pytest.raises(EpisodeError, match=r'no command for 0\.52 s from 0\.98 s after the start'):
        grid_rows(pause(50, 75), CONTRACT, 20.0)
    nothing = dataclasses.replace(episode, joint_commands=dataclasses.replace(
        commands, stamp_ns=commands.stamp_ns[:0], position=commands.position[:0]))
    with pytest.raises(EpisodeError, match='no commands were recorded'):
        grid_rows(nothing, CONTRACT, 20.0)


def test_span_without_chunks(make_episode, episode_kit):
    episode = dataclasses.replace(read_episode(make_episode(seconds=2.0)), applied=())
    start = episode_kit.START_NS
    assert moving_span(episode) == (start, start + 1_900_000_000)  # as long as the driver moved
    modes = ['HOLD'] * 5 + ['EXECUTE'] * 5 + ['HOLD'] * 2 + ['EXECUTE'] * 3 + ['RETREAT'] * 5
    driver = tuple(dataclasses.replace(state, mode=mode)
                   for state, mode in zip(episode.driver, modes, strict=True))
    assert moving_span(dataclasses.replace(episode, driver=driver)) == (
        start + 500_000_000, start + 1_400_000_000)
    passive = tuple(dataclasses.replace(state, mode='PASSIVE') for state in episode.driver)
    assert moving_span(dataclasses.replace(episode, driver=passive)) == (
        start, start + 1_980_000_000)


@pytest.mark.parametrize('version', ['lerobot-v2.1', 'lerobot-v3'])
def test_dataset_reads_back_and_passes_the_checks(tmp_path, make_episode, version):
    folder = tmp_path / 'recorded'
    folder.mkdir()
    paths = [make_episode(f'2026010{i}-120000_s', 1.7, folder) for i in (1, 2)]
    assert run(folder, tmp_path / 'set', '--format', version) == 0
    dataset = open_set(tmp_path / 'set')
    assert dataset.version == export_command.FORMATS[version]
    assert dataset.names(layout.ACTION) == CONTRACT.channel_names
    assert validation.validate(dataset, CONTRACT, CAMERAS) == []
    episode = read_episode(paths[1])
    rows = grid_rows(episode, CONTRACT, 20.0)
    meta = dataset.episodes[1]
    assert (meta.task, meta.length) == ('pick', len(rows.action))
    table = dataset.table(meta, ['action', 'index', 'stamp_ns', 'capture_ns.head'])
    np.testing.assert_array_equal(table['action'], rows.action.astype(np.float32))
    np.testing.assert_array_equal(table['index'], meta.length + np.arange(meta.length))
    np.testing.assert_array_equal(table['stamp_ns'], rows.stamps_ns)
    np.testing.assert_array_equal(table['capture_ns.head'] - rows.stamps_ns,
                                  rows.errors_ns['head'])
    image = dataset.frames(meta, CAMERAS['head'], [17])[0]
    original = episode.images['head'].rgb(int(rows.frames['head'][17]))
    assert np.abs(image.astype(int) - original).mean() < 4
    stats = json.loads((tmp_path / 'set' / layout.STATS).read_text())
    both = np.concatenate([dataset.table(m, ['action'])['action'] for m in dataset.episodes])
    np.testing.assert_allclose(stats['action']['mean'], both.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(stats['action']['std'], both.std(axis=0), atol=1e-5)
    assert np.shape(stats[CAMERAS['head']]['mean']) == (3, 1, 1)


def test_twice_is_the_same_and_a_kill_costs_one_episode(tmp_path, make_episode, monkeypatch):
    folder = tmp_path / 'recorded'
    folder.mkdir()
    for i in (1, 2):
        make_episode(f'2026010{i}-120000_s', 1.0, folder)
    assert run(folder, tmp_path / 'whole') == 0
    writer, killed = export_command.LeRobotWriter, []

    class Killed(writer):
        def write(self, index, *rest):
            if index == 1 and not killed:
                killed.append(index)
                video = self._path(layout.VIDEO_PATH, 1, CAMERAS['head'])
                video.parent.mkdir(parents=True, exist_ok=True)
                video.write_bytes(b'torn')
                raise KeyboardInterrupt
            return super().write(index, *rest)

    monkeypatch.setattr(export_command, 'LeRobotWriter', Killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / 'torn')
    assert not (tmp_path / 'torn' / layout.INFO).exists()
    kept = (tmp_path / 'torn' / 'data/chunk-000/file-000.parquet').stat().st_mtime_ns
    assert run(folder, tmp_path / 'torn') == 0
    assert (tmp_path / 'torn' / 'data/chunk-000/file-000.parquet').stat().st_mtime_ns == kept
    files = [p.relative_to(tmp_path / 'whole')
             for p in sorted((tmp_path / 'whole').rglob('*')) if p.is_file()]
    assert len(files) == 2 + 2 * 3 + 2 + 1 + 4  # data, videos, records, settings, meta
    for name in files:
        assert (tmp_path / 'torn' / name).read_bytes() == (
            tmp_path / 'whole' / name).read_bytes(), name


def test_the_same_frames_give_the_same_bytes(tmp_path):
    """x264 on its own does not: see `_VIDEO`. Memory of other sizes between runs brings it out."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 255, (30, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = [np.roll(still, 2 * i, 1) // 2 + rng.integers(0, 8, still.shape, np.uint8)
              for i in range(20)]
    found = set()
    for i in range(16):
        path = tmp_path / f'{i}.mp4'
        write_video(path, iter(frames), len(frames), 20.0, 'test')
        found.add(path.read_bytes())
        _ = [rng.bytes(size) for size in rng.integers(1, 3_000_000, 5)]
    assert len(found) == 1


def test_later_episodes_are_added_and_removed_ones_refused(tmp_path, make_episode, capsys):
    folder = tmp_path / 'recorded'
    folder.mkdir()
    first = make_episode('20260102-120000_s', 1.0, folder)
    assert run(folder, tmp_path / 'set') == 0
    make_episode('20260101-120000_s', 1.0, folder)  # sorts before the first
    assert run(folder, tmp_path / 'set') == 0
    records = [json.loads(p.read_text()) for p in
               sorted((tmp_path / 'set' / 'export').glob('episode_*.json'))]
    assert [r['source'] for r in records] == ['20260102-120000_s', '20260101-120000_s']
    assert run(folder, tmp_path / 'set', '--fps', '30') == 1
    assert 'another fps' in capsys.readouterr().err
    label(first, DISCARD)
    assert run(folder, tmp_path / 'set') == 1
    assert '20260102-120000_s for one: choose another --out' in capsys.readouterr().err


def test_selection():
    def sidecar(**values):
        return Sidecar('e', 's', **values)

    good = sidecar(task='a', quality={'score': 80.0}, verdict={'verdict': SUCCESS})
    assert export_command.Selection().takes(good)
    assert not export_command.Selection().takes(good.labelled(DISCARD))
    assert export_command.Selection(('a',), (SUCCESS,), 80.0).takes(good)
    assert not export_command.Selection(('b',)).takes(good)
    assert not export_command.Selection((), ('failure',)).takes(good)
    assert not export_command.Selection(min_quality=81.0).takes(good)
    assert not export_command.Selection(min_quality=1.0).takes(sidecar(task='a'))


def test_test_scenes_of_the_twin_are_left_out_unless_asked_for(tmp_path, make_episode, capsys):
    folder = tmp_path / 'recorded'
    folder.mkdir()

    def record(name, **values):
        change_sidecar(sidecar_path(make_episode(f'20260101-12000{name}', 1.0, folder)),
                       lambda sidecar: dataclasses.replace(sidecar, **values))

    def sources(out):
        return [json.loads(path.read_text())['source'][-1]
                for path in sorted((out / 'export').glob('episode_*.json'))]

    record('1_a', seed=10_000)
    record('2_b', seed=50_000)
    assert run(folder, tmp_path / 'none') == 1
    said = capsys.readouterr().err
    assert 'but 2 recorded in scenes of test or selection seeds' in said
    assert '_a.mcap (red_bottle, seed 10000) for one' in said
    assert not (tmp_path / 'none').exists()
    record('3_c', seed=100_000)
    record('4_d', seed=10_000, robot='real')  # a robot's scene does not come from a seed
    record('5_e', seed=10_000, task='pot_potato')  # another task's test seed
    assert run(folder, tmp_path / 'set') == 0
    assert 'left out: 2 recorded in scenes of test' in capsys.readouterr().err
    assert sources(tmp_path / 'set') == ['c', 'd', 'e']
    assert run(folder, tmp_path / 'all', '--with-test-seeds') == 0
    assert 'left out' not in capsys.readouterr().err
    assert sources(tmp_path / 'all') == ['a', 'b', 'c', 'd', 'e']


def test_test_scenes_are_known_without_their_sidecar(tmp_path, episode_kit, capsys):
    kit, folder = episode_kit, tmp_path / 'recorded'
    folder.mkdir()

    class TestScene(kit.Maker):
        def messages(self):
            world = kit.text({'time_ns': kit.START_NS, 'task': 'red_bottle', 'seed': 10_003})
            return [(topic, ns, arrival, world if topic == '/sim_state' else data)
                    for topic, ns, arrival, data in super().messages()]

    path = TestScene(folder / '20260101-120000_a.mcap', 1.0).write()
    sidecar_path(path).unlink()
    assert run(folder, tmp_path / 'set') == 1
    said = capsys.readouterr().err
    assert '_a.mcap: shows a test scene (red_bottle, seed 10003)' in said
    assert 'no episode is left to export' in said
    assert run(folder, tmp_path / 'all', '--with-test-seeds') == 0


def test_other_image_sizes_leave_an_episode_out_by_name(tmp_path, episode_kit, capsys):
    kit, folder = episode_kit, tmp_path / 'recorded'
    folder.mkdir()

    class Larger(kit.Maker):
        first = 0

        def frames(self, camera):
            for i, (stamp, arrival, jpeg) in enumerate(super().frames(camera)):
                if camera == 'left_wrist' and i >= self.first:
                    jpeg = kit.encode_jpeg(kit.picture(camera, i * 0.05, (128, 96)))
                yield stamp, arrival, jpeg

    kit.Maker(folder / '20260101-120000_a.mcap', 1.0).write()
    Larger(folder / '20260102-120000_b.mcap', 1.0).write()
    maker = Larger(folder / '20260103-120000_c.mcap', 1.0)
    maker.first = 5
    maker.write()
    kit.Maker(folder / '20260104-120000_d.mcap', 1.0).write()
    assert run(folder, tmp_path / 'set') == 0
    said = capsys.readouterr().err
    assert '_b.mcap: camera left_wrist: images of [96, 128], but those of' in said
    assert '_c: camera left_wrist: frame 5 is (96, 128), the first one (72, 96)' in said
    assert '2 episodes, ' in said
    dataset = open_set(tmp_path / 'set')
    assert validation.validate(dataset, CONTRACT, CAMERAS) == []
    assert run(folder, tmp_path / 'set') == 0  # and again, with records from the disk


def test_unusable_episodes_are_left_out_by_name(tmp_path, make_episode, capsys):
    folder = tmp_path / 'recorded'
    folder.mkdir()
    other = make_episode('20260101-120000_s', 1.0, folder)
    change_sidecar(sidecar_path(other),
                   lambda s: dataclasses.replace(s, contract_sha256='f' * 64))
    assert run(folder, tmp_path / 'set') == 1
    said = capsys.readouterr().err
    assert 'left out: ' in said
    assert 'recorded for contract ffffffffffff' in said
    assert 'no episode is left to export' in said
    assert run(tmp_path / 'nothing', tmp_path / 'set') == 1
