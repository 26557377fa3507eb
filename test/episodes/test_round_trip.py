# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One episode all the way: twin, executor, recorder's file, both exports, latents, trainer.

The rows must come out as they were executed, and the figures of ``benchmarks.alignment`` must see
a delay that is put in.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import alignment
from flashwam_ros.episodes import export_command
from flashwam_ros.episodes.reader import read_episode
from flashwam_ros.imaging import encode_jpeg
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import extract_latents, teacher, validation
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.codec_trainer import codec_hash, load_codec
from flashwam_ros.training.dataset import frame_rows
from flashwam_ros.training.lerobot_meta import open_set
from flashwam_ros.training.program import load_latents
from flashwam_ros.training.recording import record_episode
from flashwam_ros.twin.episode import Frame, InProcessRobot
from flashwam_ros.wire.teleimager import encode_stamp

CONTRACT = RobotContract.load()
TEACHER = Path(__file__).resolve().parents[2] / 'models' / 'g1-nano-teacher'
TASK, SEED = 'red_bottle', 120_002
MS = 1_000_000


class RecordedRobot(InProcessRobot):
    """The in-process robot, every message of whose episode is kept as a recorder would have it."""

    def __init__(self, kit):
        super().__init__(TASK, CONTRACT, images=False)
        self.kit, self.messages, self.ticks = kit, [], 0

    def _capture(self, due_ns):
        flat = {c.key: np.full((c.height, c.width, 3), 90, np.uint8) for c in CONTRACT.cameras}
        return Frame(flat, self.now_ns, due_ns)

    def _put(self, topic, data, now):
        self.messages.append(('/' + topic, now, now + MS, data))

    def _command(self, out):
        super()._command(out)
        self.commanded = np.concatenate([out.arm_q, out.gripper_q])

    def tick(self):
        kit, now, names = self.kit, self.kit.START_NS + self.now_ns, CONTRACT.channel_names
        if self.ticks % 5 == 0:
            self._put('joint_states', kit.joint_state(now, names, self.measured()), now)
        if self.ticks % 25 == 0:
            world = {'time_ns': now, 'task': TASK, 'seed': SEED,
                     'success': bool(self.status().success),
                     'qpos': self.simulation.data.qpos.tolist()}
            self._put('sim_state', kit.text(world), now)
        if self.ticks % 12 == 0:  # 48 ms: never on the grid for long
            for camera in CONTRACT.cameras:
                jpeg = encode_jpeg(kit.picture(camera.key, self.ticks / 250))
                data = kit.compressed(now, encode_stamp(jpeg, self.ticks, now))
                self._put(kit.schemas.image_topic(camera.topic), data, now)
        events = super().tick()
        self.ticks += 1
        if self.ticks % 5 == 1:
            data = kit.joint_state(now, (*names, 'arm_sdk_weight'), (*self.commanded, 1.0))
            self._put('joint_commands', data, now)
        for account in events.accounts:
            data = kit.applied_actions(now, account.index, kit.START_NS + account.start_ns,
                                       account.positions, account.complete)
            self._put('applied_actions', data, now)
        return events


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Folder with one recorded episode, and the demonstration that the twin made of it."""
    spec = importlib.util.spec_from_file_location(
        'episode_parts', Path(__file__).with_name('conftest.py'))
    kit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kit)
    robot = RecordedRobot(kit)
    demonstration, reason = record_episode(robot, SEED)
    assert reason == 'success'
    folder = tmp_path_factory.mktemp('recorded')
    maker = kit.Maker(folder / '20260101-120000_s.mcap', quality={'score': 90.0},
                      verdict={'verdict': 'success'})
    maker.messages = lambda: sorted(robot.messages, key=lambda entry: entry[2])
    maker.write()
    return folder, demonstration


@pytest.fixture(scope='module')
def results(made, tmp_path_factory):
    """Folder with both datasets, and the benchmark's figures of the episode."""
    out = tmp_path_factory.mktemp('sets')
    assert alignment.main([str(made[0]), '--out', str(out)]) == 0
    return out, alignment.run(made[0], out)[0]


def test_the_seed_is_one_without_holds_and_pushes(made):
    demonstration = made[1]
    assert not demonstration.recovery
    assert set(np.diff(demonstration.due_ns[1:])) == {100 * MS}


@pytest.mark.parametrize('name', sorted(export_command.FORMATS))
def test_exported_rows_are_the_executed_ones(made, results, name):
    root, applied = results[0] / name, made[1].applied.astype(np.float32)
    assert validation.main(['--dataset', str(root)]) == 0
    dataset = open_set(root)
    meta = dataset.episodes[0]
    assert meta.length == len(applied) + 1
    table = dataset.table(meta, [layout.ACTION, 'stamp_ns'])
    np.testing.assert_allclose(table[layout.ACTION][:len(applied)], applied, atol=1e-6)
    assert set(np.diff(table['stamp_ns'])) == {50 * MS}


def test_aligned_with_the_truth_and_replayed_with_success(results):
    found = results[1]
    assert abs(found['state_age_ms']) < 2
    assert abs(found['action_delay_ms']) < 2
    assert found['stamp_error_ms'] == 0
    assert all(error['max'] <= 24 + 1e-6 for error in found['image_error_ms'].values())
    assert (found['recorded'], found['replayed'], found['score']) == (True, True, 90.0)
    report = (results[0] / 'alignment.md').read_text()
    assert '| red_bottle | 1 | 90 / 90 |' in report
    assert '1 of 1 episodes could be exported' in report


def test_measured_episodes_are_not_measured_again(made, results, monkeypatch):
    monkeypatch.setattr(alignment, 'measure', None)
    assert alignment.run(made[0], results[0]) == [results[1]]


def test_a_delay_that_is_put_in_is_found(made, results):
    dataset = open_set(results[0] / 'lerobot-v2.1')
    rows = dataset.table(dataset.episodes[0], [layout.STATE, layout.ACTION, 'stamp_ns'])
    late = {**rows, layout.STATE: np.roll(rows[layout.STATE], 1, axis=0),
            layout.ACTION: np.roll(rows[layout.ACTION], -1, axis=0)}
    late[layout.STATE][0], late[layout.ACTION][-1] = rows['observation.state'][0], \
        rows['action'][-1]
    robot = InProcessRobot(TASK, CONTRACT, images=False)
    episode = read_episode(next(made[0].glob('*.mcap')))
    found = alignment.measure(episode, late, robot)
    assert found['state_age_ms'] == pytest.approx(50, abs=5)
    assert found['action_delay_ms'] == pytest.approx(50, abs=5)


def test_delay_of_curves_is_told_and_that_of_rest_is_not():
    seconds, coarse = np.arange(0, 6, 0.02), np.arange(0.3, 5.5, 0.1)

    def curve(at):
        return np.stack([np.sin(1.5 * at), 0.4 * np.cos(at)], axis=1)

    off = np.array([0.02, -0.01])
    assert alignment.delay_ms(coarse, curve(coarse - 0.03) + off, seconds, curve(seconds)) == \
        pytest.approx(30, abs=0.5)
    still = np.zeros((len(seconds), 2))
    assert np.isnan(alignment.delay_ms(coarse, np.zeros((len(coarse), 2)), seconds, still))


@pytest.mark.parametrize('name', sorted(export_command.FORMATS))
def test_latents_reach_the_trainer_and_the_shipped_teacher_is_fine_tuned(
        made, results, tmp_path, name):
    out = tmp_path / 'latents'
    assert extract_latents.main(['--dataset', str(results[0] / name), '--checkpoint',
                                 str(TEACHER), '--out', str(out)]) == 0
    [episode] = load_latents(out, [codec_hash(load_codec(TEACHER))])
    slots = frame_rows(made[1])
    np.testing.assert_allclose(episode.rows, slots, atol=1e-6)
    assert episode.prompt == 'pick'
    assert len(episode.latents) == len(episode.rows)
    with pytest.raises(ValueError, match='extract them again'):
        load_latents(out, ['0' * 64])
    if name == 'lerobot-v3':
        assert teacher.main(['--init', str(TEACHER), '--latents', str(out), '--out',
                             str(tmp_path / 'run'), '--steps', '2']) == 0
        about = json.loads((tmp_path / 'run' / 'export' / 'flashwam.json').read_text())
        assert about['training']['steps'] == 2
        assert about['training']['parent']['name'].endswith('g1-nano-teacher')
