# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A good episode is green; each thing that can be wrong with one is found and named."""

import itertools

import numpy as np
import pytest

from flashwam_ros.episodes.audit import AMBER, GREEN, RED, Auditor, check_episode
from flashwam_ros.episodes.mcap_scan import messages
from flashwam_ros.imaging import encode_jpeg
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.wire.teleimager import encode_stamp

CONTRACT = RobotContract.load()
MS = 1_000_000


def found(quality):
    return {(finding.name, finding.stream) for finding in quality.findings}


@pytest.fixture
def audit(episode_kit, tmp_path):
    """Write an episode with some of its parts replaced, and audit it."""

    numbers = itertools.count()

    def run(seconds=4.0, **parts):
        maker = episode_kit.Maker(tmp_path / f'{next(numbers)}.mcap', seconds)
        for name, part in parts.items():
            setattr(maker, name, part(getattr(maker, name)))
        return check_episode(maker.write())

    return run


def only(camera, change):
    """Change the frames of one camera: (index, stamp, arrival, jpeg) -> frame or None."""

    def part(frames):
        def changed(key):
            for i, frame in enumerate(frames(key)):
                new = change(i, *frame) if camera in (key, 'all') else frame
                if new is not None:
                    yield new

        return changed

    return part


def repaint(episode_kit, paint):
    """A frame change that draws another picture with the same stamp."""

    def change(i, stamp, arrival, jpeg):
        return stamp, arrival, encode_stamp(encode_jpeg(paint(i * 0.05)), i, stamp)

    return change


def rows(change):
    """Change measured or commanded rows: (index, position) -> position or None."""

    def part(samples):
        def changed():
            for i, (stamp, arrival, position) in enumerate(samples()):
                new = change(i, position.copy())
                if new is not None:
                    yield stamp, arrival, new

        return changed

    return part


def test_good_episode_is_green(audit):
    quality = audit()
    assert (quality.score, quality.level, quality.findings) == (100, GREEN, ())
    assert quality.streams['head/image_raw/compressed']['rate_hz'] == 20.0
    assert quality.streams['joint_states']['rate_hz'] == 50.0


def test_live_and_afterwards_say_the_same(make_episode):
    path = make_episode(seconds=2.0)
    auditor = Auditor(CONTRACT)
    for i, message in enumerate(messages(path)):
        auditor.add(message.topic, message.log_ns, bytes(message.data))
        if i % 100 == 0:
            auditor.quality()
    assert auditor.quality() == check_episode(path)


def test_gap_and_long_gap(audit):
    quality = audit(frames=only('head', lambda i, *f: None if 20 <= i < 23 else f))
    assert found(quality) == {('gaps', 'head')} and quality.level == AMBER
    assert '1 gaps, the longest 0.200 s' in quality.findings[0].text
    quality = audit(frames=only('head', lambda i, *f: None if 20 <= i < 40 else f))
    assert ('gaps', 'head') in found(quality) and quality.level == RED


@pytest.mark.parametrize(('present', 'text'), [
    (lambda i, hz: i < 1.5 * hz, 'nothing in the last 2.'),
    (lambda i, hz: i >= 2.5 * hz, 'nothing in the first 2.'),
], ids=['died', 'late'])
def test_a_stream_that_died_or_came_late(audit, present, text):
    quality = audit(frames=only('head', lambda i, *f: f if present(i, 20) else None))
    assert ('gaps', 'head') in found(quality) and quality.level == RED
    assert [f.text.startswith(text) for f in quality.findings if f.name == 'gaps'] == [True]
    quality = audit(measured=rows(lambda i, p: p if present(i, 50) else None))
    assert ('gaps', 'joint_states') in found(quality) and quality.level == RED
    # Commands begin with the takeover of the arms and end with their release.
    quality = audit(commanded=rows(lambda i, p: p if present(i, 50) else None))
    assert (quality.score, quality.level) == (100, GREEN)


def test_a_few_frames_less_at_either_end_are_no_gap(audit):
    quality = audit(frames=only('head', lambda i, *f: f if 6 <= i < 74 else None))
    assert (quality.score, quality.level) == (100, GREEN)


def test_a_dead_camera_is_red_while_recording(episode_kit, tmp_path):
    auditor = Auditor(CONTRACT)
    maker = episode_kit.Maker(tmp_path / 'unused.mcap', 4.0)
    maker.frames = only('head', lambda i, *f: f if i < 40 else None)(maker.frames)
    levels = {}
    for topic, _, arrival, data in maker.messages():
        auditor.add(topic, arrival, data)
        seconds = (arrival - episode_kit.START_NS) * 1e-9
        if round(seconds, 3) in (1.9, 2.3, 2.6):
            levels[round(seconds, 3)] = auditor.quality().level
    assert levels == {1.9: GREEN, 2.3: GREEN, 2.6: RED}


def test_pause_of_the_commands_is_a_warning(audit):
    quality = audit(commanded=rows(lambda i, p: None if 50 <= i < 54 else p))
    assert quality.level == GREEN, '0.1 s is no pause'
    quality = audit(commanded=rows(lambda i, p: None if 50 <= i < 70 else p))
    assert found(quality) == {('gaps', 'joint_commands')} and quality.level == AMBER
    assert '1 gaps, the longest 0.420 s' in quality.findings[0].text


def test_missing_and_slow_streams(audit):
    assert ('missing', 'left_wrist') in found(audit(frames=only('left_wrist', lambda *_: None)))
    slow = audit(frames=only('all', lambda i, *f: None if i % 2 else f))
    assert {('rate', camera.key) for camera in CONTRACT.cameras} <= found(slow)
    quality = audit(measured=rows(lambda i, position: None), commanded=rows(lambda i, p: None))
    assert ('missing', 'joint_states') in found(quality)


def test_frozen_camera_only_counts_while_its_arm_moves(audit, episode_kit):
    still = [encode_jpeg(episode_kit.picture('left_wrist', 0.5))]

    def freeze(i, stamp, arrival, jpeg):
        # 0.5 .. 1.5 s: the left arm swings from 0 to 2 s. Stamps in the comment still differ.
        frozen = 10 <= i < 30
        return stamp, arrival, encode_stamp(still[0], i, stamp) if frozen else jpeg

    quality = audit(frames=only('left_wrist', freeze))
    assert found(quality) == {('frozen', 'left_wrist')} and quality.level == RED
    assert 0.5 < quality.findings[0].value <= 1.01


def test_black_and_undecodable_frames(audit, episode_kit):
    dark = repaint(episode_kit, lambda t: np.full((72, 96, 3), 3, np.uint8))
    quality = audit(frames=only('head', lambda i, *f: dark(i, *f) if 20 < i < 40 else f))
    assert ('black', 'head') in found(quality) and quality.level == RED
    quality = audit(frames=only('head', lambda i, s, a, j: (s, a, b'\xff\xd8' + bytes(90))))
    assert ('undecodable', 'head') in found(quality)


@pytest.mark.parametrize('camera', ['left_wrist', 'head'])
def test_one_camera_with_red_and_blue_swapped(audit, episode_kit, camera):
    wrong = repaint(episode_kit, lambda t: episode_kit.picture(camera, t)[:, :, ::-1])
    quality = audit(frames=only(camera, wrong))
    assert found(quality) == {('colour_order', camera)} and quality.level == RED


def test_all_cameras_with_red_and_blue_swapped_is_a_warning(audit, episode_kit):
    def part(frames):
        def changed(key):
            wrong = repaint(episode_kit, lambda t: episode_kit.picture(key, t)[:, :, ::-1])
            return (wrong(i, *frame) for i, frame in enumerate(frames(key)))

        return changed

    quality = audit(frames=part)
    assert found(quality) == {('colour_order', camera.key) for camera in CONTRACT.cameras}
    assert quality.level == AMBER


def test_swapped_wrist_cameras(audit):
    def part(frames):
        other = {'left_wrist': 'right_wrist', 'right_wrist': 'left_wrist'}
        return lambda key: frames(other.get(key, key))

    quality = audit(frames=part)
    assert ('swapped', 'left_wrist, right_wrist') in found(quality) and quality.level == RED


def test_stamps(audit):
    late = only('head', lambda i, s, a, j: (s, a + 200 * MS, j))
    assert {('stamp_age', 'head'), ('stamp_skew', 'head')} <= found(audit(frames=late))
    early = only('head', lambda i, s, a, j: (s + 30 * MS, a, j))
    assert ('stamp_future', 'head') in found(audit(frames=early))
    back = only('head', lambda i, s, a, j: (s - (60 * MS if i == 9 else 0), a, j))
    assert ('stamp_order', 'head') in found(audit(frames=back))
    twice = only('head', lambda i, s, a, j: (s - (50 * MS if i % 10 == 9 else 0), a, j))
    assert {('repeated', 'head')} <= found(audit(frames=twice)) - {('stamp_order', 'head')}


def test_joints_that_are_no_numbers_or_jump(audit):
    def spoil(i, position):
        position[3] = np.nan if i in (50, 51) else position[3]
        return position

    quality = audit(measured=rows(spoil))
    assert found(quality) == {('non_finite', 'joint_states')}

    def jump(i, position):
        position[2] += 0.4 * (i >= 100)
        return position

    quality = audit(commanded=rows(jump))
    assert found(quality) == {('jumps', 'joint_commands')}
    assert '0.400 rad of left_shoulder_yaw_joint' in quality.findings[0].text


def test_saturation_and_start_pose(audit):
    def at_limit(i, position):
        position[5] = CONTRACT.upper[5]
        return position

    name = CONTRACT.channel_names[5]
    assert found(audit(commanded=rows(at_limit))) == {('saturated', name)}
    quality = audit(measured=rows(at_limit))
    assert found(quality) == {('start_pose', name)} and quality.level == AMBER


def test_what_the_recorder_dropped_is_red(make_episode):
    quality = check_episode(make_episode(seconds=2.0), dropped={'/joint_states': 3})
    assert found(quality) == {('dropped', '/joint_states')}
    assert (quality.score, quality.level) == (60, RED)


def test_short_episode(make_episode):
    assert ('short', 'episode') in found(check_episode(make_episode(seconds=0.6)))
