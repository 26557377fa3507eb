# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A sound dataset passes; each fault is found and its file, episode and frame named."""

import numpy as np
import pytest
from lerobot_support import (
    CAMERAS,
    CONTRACT,
    VENDOR_NAMES,
    synthetic,
    table,
    write_v21,
    write_v30,
    write_video,
)

from flashwam_ros.training import colour_check, validation
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.lerobot_meta import LeRobotError, open_set


def check(root):
    dataset = open_set(root)
    return validation.validate(dataset, CONTRACT, validation.camera_features(dataset, CONTRACT))


def the_only(findings):
    assert len(findings) == 1, [str(f) for f in findings]
    return findings[0]


@pytest.mark.parametrize('write', [write_v21, write_v30])
def test_a_sound_set_has_no_findings(tmp_path, write):
    assert check(write(tmp_path / 'set', [synthetic(i, 9) for i in range(3)],
                       names=VENDOR_NAMES)) == []


def test_rate_other_than_stated(tmp_path):
    episode = synthetic(0, 13)
    episode.stamps = np.arange(13) / 25
    finding = the_only(check(write_v21(tmp_path / 'set', [episode])))
    assert finding.check == 'fps'
    assert '25.00 Hz, info.json says 20' in str(finding)
    assert 'episode_000000.parquet, episode 0' in str(finding)


def test_gap_in_the_stamps_names_its_frame(tmp_path):
    episode = synthetic(0, 13)
    episode.stamps = np.arange(13) / 20
    episode.stamps[7:] += 0.05
    finding = the_only(check(write_v21(tmp_path / 'set', [synthetic(1, 13), episode])))
    assert (finding.check, finding.episode, finding.frame) == ('gap', 1, 7)
    assert '100.0 ms' in finding.message


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_value_that_is_not_finite(tmp_path, value):
    episode = synthetic(0, 13)
    episode.action[4, 9] = value
    findings = check(write_v21(tmp_path / 'set', [episode]))
    assert {f.check for f in findings} == {'non-finite'}
    assert {f.frame for f in findings} == {4}


def test_gripper_of_another_convention(tmp_path):
    episode = synthetic(0, 13)
    episode.action[:, 14] = np.linspace(-4.5, 0.0, 13)
    finding = the_only(check(write_v21(tmp_path / 'set', [episode])))
    assert (finding.check, finding.frame) == ('range', 0)
    assert 'left_gripper runs -4.500..0.000 rad, limits 0.000..5.400' in finding.message


def test_channels_in_another_order_are_found_by_name(tmp_path):
    """Interleaved columns are no fault; the same columns under the usual names are."""
    order = [*range(7), 14, *range(7, 14), 15]
    episode = synthetic(0, 13)
    episode.action = episode.action[:, order]
    assert check(write_v21(tmp_path / 'named', [episode],
                           names=[VENDOR_NAMES[i] for i in order])) == []
    assert {f.check for f in check(write_v21(tmp_path / 'wrong', [episode]))} == {'range'}


def test_channels_without_names(tmp_path):
    findings = check(write_v21(tmp_path / 'set', [synthetic(0, 13)], names=['m'] * 16))
    assert {f.check for f in findings} == {'channels'}
    assert 'info.json' in str(findings[0])


def test_video_shorter_than_the_rows(tmp_path):
    episode = synthetic(0, 13)
    episode.images[CAMERAS[2]] = episode.images[CAMERAS[2]][:11]
    finding = the_only(check(write_v21(tmp_path / 'set', [episode])))
    assert finding.check == 'frame count'
    assert '11 video frames for 13 rows' in finding.message
    assert CAMERAS[2] in str(finding.path)


def test_video_of_another_rate(tmp_path):
    root = write_v21(tmp_path / 'set', [synthetic(0, 13)])
    write_video(open_set(root).episodes[0].videos[CAMERAS[0]].path,
                synthetic(0, 13).images[CAMERAS[0]], 25)
    finding = the_only(check(root))
    assert (finding.check, finding.frame) == ('gap', 3)


def test_rows_other_than_stated(tmp_path):
    root = write_v21(tmp_path / 'set', [synthetic(0, 13)])
    import pyarrow.parquet as pq
    pq.write_table(table(synthetic(0, 12), 0, 0, 20), open_set(root).episodes[0].data)
    finding = the_only(check(root))
    assert (finding.check, finding.message) == ('frame count', '12 rows, meta/ says 13')


def test_damaged_video(tmp_path):
    root = write_v21(tmp_path / 'set', [synthetic(0, 13)])
    path = open_set(root).episodes[0].videos[CAMERAS[0]].path
    path.write_bytes(path.read_bytes()[:300])
    finding = the_only(check(root))
    assert finding.check == 'frame count'
    assert finding.path == path


def test_swapped_colours_against_the_statistics(tmp_path):
    """The statistics were made before the encoder was handed the wrong order."""
    root = write_v21(tmp_path / 'set', [synthetic(0, 13), synthetic(1, 13)])
    for episode in open_set(root).episodes:
        write_video(episode.videos[CAMERAS[1]].path,
                    synthetic(0, 13).images[CAMERAS[1]][..., ::-1], 20)
    findings = check(root)
    assert [(f.check, f.episode) for f in findings] == [('colour order', 0), ('colour order', 1)]
    assert all(CAMERAS[1] in str(f.path) for f in findings)


def test_one_swapped_episode_among_others(tmp_path):
    episodes = [synthetic(i, 13) for i in range(4)]
    episodes[2].images[CAMERAS[0]] = episodes[2].images[CAMERAS[0]][..., ::-1]
    finding = the_only(check(write_v21(tmp_path / 'set', episodes, stats=False)))
    assert (finding.check, finding.episode) == ('colour order', 2)


@pytest.mark.parametrize(('measured', 'expected', 'swapped'), [
    ((0.6, 0.4, 0.2), (0.6, 0.4, 0.2), False), ((0.2, 0.4, 0.6), (0.6, 0.4, 0.2), True),
    ((0.5, 0.5, 0.5), (0.51, 0.5, 0.5), False), ((0.4, 0.4, 0.4), (0.6, 0.4, 0.2), False)])
def test_swap_rule(measured, expected, swapped):
    assert colour_check.looks_swapped(np.array(measured), np.array(expected)) is swapped


def test_accepting_findings(tmp_path):
    episode = synthetic(0, 13)
    episode.action[3, 0] = 9.0
    findings = check(write_v21(tmp_path / 'set', [episode]))
    with pytest.raises(validation.DatasetRefused, match='1 findings:\nrange: .*frame 3'):
        validation.require_valid(findings)
    assert validation.require_valid(findings, ['range']) == findings
    with pytest.raises(ValueError, match='no such check'):
        validation.require_valid(findings, ['rnge'])


def test_camera_under_another_name(tmp_path):
    dataset = open_set(write_v21(tmp_path / 'set', [synthetic(0, 13)]))
    del dataset.features[layout.IMAGE_PREFIX + 'cam_left_high']
    with pytest.raises(LeRobotError, match='--camera head=FEATURE'):
        validation.camera_features(dataset, CONTRACT)
    named = validation.camera_features(dataset, CONTRACT, {'head': CAMERAS[1]})
    assert named['head'] == CAMERAS[1]


def test_command(tmp_path, capsys):
    good = write_v21(tmp_path / 'good', [synthetic(0, 13)])
    assert validation.main(['--dataset', str(good)]) == 0
    episode = synthetic(0, 13)
    episode.action[3, 0] = 9.0
    bad = write_v21(tmp_path / 'bad', [episode])
    assert validation.main(['--dataset', str(bad)]) == 1
    assert 'left_shoulder_pitch_joint runs' in capsys.readouterr().err
    assert validation.main(['--dataset', str(bad), '--accept', 'range']) == 0
    assert validation.main(['--dataset', str(tmp_path / 'none')]) == 1
