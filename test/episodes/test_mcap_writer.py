# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The episode file: stock tools open it, nobody waits for the disk, a full disk ends it well."""

import threading
import time

import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from flashwam_ros.episodes import schemas
from flashwam_ros.episodes.mcap_scan import McapDamagedError, messages
from flashwam_ros.episodes.mcap_writer import EpisodeWriter, RecordingError
from flashwam_ros.episodes.recovery import recover
from flashwam_ros.robot.contract import RobotContract

TEXT = schemas.Topic('/t', schemas.STRING_TYPE)


def writer(path, **options):
    return EpisodeWriter(path, [TEXT], {}, min_free=0, **options)


def test_stock_mcap_decodes_every_message(make_episode):
    path = make_episode()
    with path.open('rb') as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        decoded = list(reader.iter_decoded_messages())
    assert summary.statistics.message_count == len(decoded) > 500
    assert {schema.encoding for schema in summary.schemas.values()} == {'ros2msg'}
    images = [d for d in decoded if d.schema.name == schemas.IMAGE_TYPE]
    assert bytes(images[0].decoded_message.data[:2]) == b'\xff\xd8'
    stamp = images[0].decoded_message.header.stamp
    assert images[0].message.publish_time == stamp.sec * 10**9 + stamp.nanosec
    assert not path.with_name(path.name + '.part').exists()


def test_rosbags_decodes_every_message(make_episode):
    rosbag2 = pytest.importorskip('rosbags.rosbag2')
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    names = [t.type for t in schemas.recorded_topics(RobotContract.load())]
    for name in filter(lambda n: n.startswith('flashwam_ros'), names):
        text = schemas.schema_text(name).split('=' * 80)[0]
        store.register(get_types_from_msg(text, name))
    with rosbag2.Reader(make_episode()) as reader:
        kinds = {c.msgtype for c, _, raw in reader.messages()
                 if store.deserialize_cdr(raw, c.msgtype) is not None}  # fmt: skip
    assert {'sensor_msgs/msg/JointState', 'flashwam_ros/msg/AppliedActions'} <= kinds


@pytest.mark.ros
def test_definitions_are_those_of_the_installed_messages():
    packages = pytest.importorskip('ament_index_python.packages')
    import pathlib

    def fields(text):
        lines = (line.split('#')[0].split() for line in text.splitlines())
        return [line for line in lines if line]

    for kind in {*schemas._FOREIGN} - {'std_msgs/msg/Header'}:
        package, _, name = kind.split('/')
        share = pathlib.Path(packages.get_package_share_directory(package))
        installed = (share / 'msg' / f'{name}.msg').read_text()
        assert fields(installed) == fields(schemas._FOREIGN[kind]), kind


def test_put_never_waits_and_counts_what_it_drops(tmp_path):
    gate, seen = threading.Event(), []

    def slow(topic, publish_ns, log_ns, data):
        gate.wait()
        seen.append(data)

    episode = writer(tmp_path / 'a.mcap', observer=slow, queue_bytes=1000)
    begin = time.monotonic()
    accepted = sum(episode.put('/t', i, i, bytes(100)) for i in range(50))
    assert time.monotonic() - begin < 0.5
    assert accepted in (10, 11), 'what fits into the queue'
    gate.set()
    written = episode.close('enough')
    assert written.messages == {'/t': accepted} and len(seen) == accepted
    assert written.dropped == {'/t': 50 - accepted}
    assert written.reason == 'enough'
    assert len(list(messages(written.path))) == accepted
    assert not episode.put('/t', 0, 0, b''), 'nothing after the end'


def test_broken_observer_costs_no_message(tmp_path):
    def broken(*_):
        raise ValueError('cannot look at it')

    episode = writer(tmp_path / 'a.mcap', observer=broken)
    episode.put('/t', 1, 1, bytes(8))
    assert episode.close().messages == {'/t': 1}


def test_too_little_disk_is_refused_before_the_start(tmp_path):
    with pytest.raises(RecordingError, match='disk_full: 0.50 GB free'):
        EpisodeWriter(tmp_path / 'a.mcap', [TEXT], {}, min_free=10**9, free=lambda _: 5 * 10**8)
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_ends_the_episode_with_a_reason(tmp_path):
    free = [10**9]
    episode = EpisodeWriter(
        tmp_path / 'a.mcap', [TEXT], {}, min_free=10**8, free=lambda _: free[0]
    )
    assert episode.put('/t', 1, 1, bytes(8))
    free[0] = 10**7
    deadline = time.monotonic() + 10
    while not episode.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not episode.put('/t', 2, 2, bytes(8))
    written = episode.close('stopped')
    assert written.reason.startswith('disk_full: 10 MB free')
    assert [m.log_ns for m in messages(written.path)] == [1]


def test_write_error_keeps_what_was_flushed(tmp_path):
    """/dev/full's error, without a full disk: the file takes no more after the first flush."""
    episode = writer(tmp_path / 'a.mcap')
    episode.put('/t', 1, 1, bytes(8))
    deadline = time.monotonic() + 10
    while not list(_readable(episode.part)) and time.monotonic() < deadline:
        time.sleep(0.01)

    class Full:
        def __getattr__(self, name):
            return getattr(file, name)

        def write(self, data):
            raise OSError(28, 'No space left on device')

    file = episode._file
    episode._writer._Writer__stream = Full()
    episode.put('/t', 2, 2, bytes(8))
    written = episode.close()
    assert written.reason.startswith('disk_error') and 'No space left' in written.reason
    assert [m.log_ns for m in messages(written.path)] == [1]


def written_one(path):
    """A writer whose first message is in the file, in a chunk of its own."""
    episode = writer(path)
    episode.put('/t', 1, 1, bytes(8))
    wait_for(lambda: list(_readable(episode.part)))
    return episode


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_disk_error_that_passes_leaves_a_readable_file(tmp_path):
    episode = written_one(tmp_path / 'a.mcap')
    file = episode._file

    class FullOnce:
        full = True

        def __getattr__(self, name):
            return getattr(file, name)

        def write(self, data):
            if not self.full:
                return file.write(data)
            self.full = False
            file.write(data[:len(data) // 2])
            raise OSError(28, 'No space left on device')

    episode._writer._Writer__stream = FullOnce()
    episode.put('/t', 2, 2, bytes(8))
    wait_for(lambda: episode.ended)
    written = episode.close()
    assert written.reason.startswith('disk_error')
    assert [m.log_ns for m in messages(written.path)] == [1]
    with written.path.open('rb') as opened:
        assert [m.log_time for _, _, m in make_reader(opened).iter_messages()] == [1]
    assert (written.messages, written.dropped) == ({'/t': 1}, {'/t': 1})


def test_writer_that_fails_ends_the_episode_with_a_reason(tmp_path, monkeypatch):
    episode = written_one(tmp_path / 'a.mcap')
    add, gate = episode._writer.add_message, threading.Event()

    def failing(*values):
        add(*values)
        gate.wait()
        raise RuntimeError('not foreseen')

    monkeypatch.setattr(episode._writer, 'add_message', failing)
    for stamp in (2, 3, 4):
        assert episode.put('/t', stamp, stamp, bytes(8))
    gate.set()
    wait_for(lambda: episode.ended)
    assert not episode.put('/t', 5, 5, bytes(8))
    written = episode.close('stopped')
    assert written.reason == 'writer_error: RuntimeError: not foreseen'
    assert [m.log_ns for m in messages(written.path)] == [1]
    assert written.messages == {'/t': 1}
    assert written.dropped == {'/t': 3}, 'what failed, and what waited in the queue'


def test_stamps_that_the_format_cannot_hold_end_nothing(tmp_path):
    episode = writer(tmp_path / 'a.mcap')
    for publish_ns, log_ns in ((-1, 5), (2**64, -7), (3, 4)):
        assert episode.put('/t', publish_ns, log_ns, bytes(8))
    written = episode.close('stopped')
    assert (written.reason, written.messages) == ('stopped', {'/t': 3})
    stamps = [(m.publish_ns, m.log_ns) for m in messages(written.path)]
    assert stamps == [(0, 5), (2**64 - 1, 0), (3, 4)]


def _readable(path):
    try:
        yield from messages(path)
    except McapDamagedError:
        return


def test_existing_files_are_not_overwritten(make_episode):
    path = make_episode()
    with pytest.raises(RecordingError, match='exists already'):
        writer(path)
    part = path.with_name(path.name + '.part')
    part.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(McapDamagedError, match='exists already'):
        recover(part)
