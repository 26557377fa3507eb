# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera stream: our server, a stock-like one, and decoders that know nothing of the stamp."""

import io
import itertools
import json
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.wire.teleimager import (
    CameraClient,
    CameraFrame,
    CameraServer,
    StreamError,
    decode_stamp,
    encode_stamp,
    stream_config,
)

CAMERAS = (
    SimpleNamespace(key='head', wire_name='head_camera'),
    SimpleNamespace(key='left_wrist', wire_name='left_wrist_camera'),
)
ANY_PORTS = {'head_camera': 0, 'left_wrist_camera': 0}
DEADLINE_S = 10.0


def picture(shade: int = 90) -> bytes:
    image = np.full((24, 32, 3), shade, np.uint8)
    image[:, 16:] = (10, 200, 30)
    return cv2.imencode('.jpg', image)[1].tobytes()


def collect(client: CameraClient, wanted: int, send: object) -> list[CameraFrame]:
    frames: list[CameraFrame] = []
    end = time.monotonic() + DEADLINE_S
    while len({frame.key for frame in frames}) < wanted:
        assert time.monotonic() < end, f'only {frames}'
        send()
        frames += client.poll(0.02)
    return frames


@given(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1))
def test_stamp_round_trip(seq: int, stamp_ns: int) -> None:
    assert decode_stamp(encode_stamp(picture(), seq, stamp_ns)) == (seq, stamp_ns)


def test_other_decoders_see_the_same_picture() -> None:
    plain = picture()
    stamped = encode_stamp(plain, 7, 1_700_000_000_000_000_000)
    expected = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_COLOR)
    seen = cv2.imdecode(np.frombuffer(stamped, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(seen, expected)
    pillow = pytest.importorskip('PIL.Image')
    np.testing.assert_array_equal(
        np.asarray(pillow.open(io.BytesIO(stamped))), np.asarray(pillow.open(io.BytesIO(plain)))
    )


@given(st.binary(max_size=200))
def test_garbage_has_no_stamp(content: bytes) -> None:
    assert decode_stamp(content) is None
    assert decode_stamp(b'\xff\xd8' + content) is None


def test_foreign_comment_is_not_a_stamp() -> None:
    jpeg = picture()
    assert decode_stamp(jpeg[:2] + b'\xff\xfe\x00\x06abcd' + jpeg[2:]) is None
    assert decode_stamp(jpeg[:40]) is None
    with pytest.raises(StreamError, match='not a JPEG'):
        encode_stamp(b'PNG', 0, 0)


def test_frames_arrive_with_stamp_and_sequence() -> None:
    server = CameraServer(ANY_PORTS, stream_config(ANY_PORTS, 24, 32, 20.0), request_port=0)
    client = CameraClient('127.0.0.1', CAMERAS, server.request_port)
    counter = itertools.count(5)

    def send() -> None:
        seq = next(counter)
        for name in ANY_PORTS:
            server.send(name, encode_stamp(picture(), seq, 1_000_000 + seq))

    before = time.monotonic_ns()
    frames = collect(client, 2, send)
    client.close()
    server.close()
    for frame in frames:
        assert frame.stamp_ns == 1_000_000 + frame.seq
        assert not frame.estimated
        assert before < frame.arrival_ns <= time.monotonic_ns()
    assert client.config['head_camera']['image_shape'] == [24, 32]
    assert client.config['head_camera']['zmq_port'] == server.ports['head_camera']


def burst(jpegs: list[bytes]) -> list:
    """What a client makes of frames that all arrived while it was busy."""
    server = CameraServer(ANY_PORTS, stream_config(ANY_PORTS, 24, 32, 20.0), request_port=0)
    client = CameraClient('127.0.0.1', CAMERAS[:1], server.request_port)
    collect(client, 1, lambda: server.send('head_camera', encode_stamp(picture(), 0, 0)))
    for jpeg in jpegs:
        server.send('head_camera', jpeg)
    frames, deadline = [], time.monotonic() + 5.0
    while len(frames) < len(jpegs) and time.monotonic() < deadline:
        time.sleep(0.1)  # busy elsewhere: the frames wait at the socket
        got = client.poll(0.0)
        if not got and frames:
            break
        frames += got
    client.close()
    server.close()
    return frames


def test_every_stamped_frame_of_a_burst_counts() -> None:
    frames = burst([encode_stamp(picture(), seq, 1000 + seq) for seq in range(1, 6)])
    assert [frame.seq for frame in frames if frame.seq] == [1, 2, 3, 4, 5]
    assert [frame.stamp_ns for frame in frames if frame.seq] == [1001, 1002, 1003, 1004, 1005]


def test_of_a_burst_without_stamps_the_newest_counts() -> None:
    frames = burst([picture()] * 5)
    assert 1 <= len(frames) < 5
    assert all(frame.estimated for frame in frames)


def test_a_frozen_camera_behind_a_stock_server_gives_one_frame() -> None:
    """The vendor's server goes on sending the last picture that it has when a camera hangs."""
    context = zmq.Context()
    reply = json.dumps(stream_config({'head_camera': 12345}, 480, 640, 30)).encode()
    request_port, publisher, thread = stock_server(context, reply)
    client = CameraClient('127.0.0.1', CAMERAS[:1], request_port)
    collect(client, 1, lambda: publisher.send(picture(1)))
    time.sleep(0.2)
    client.poll(0.0)  # what was sent before the client was heard
    before = client.repeated['head']
    sent = [picture(2)] * 20 + [picture(3)] + [picture(2)]
    frames = []
    for jpeg in sent:
        publisher.send(jpeg)
        frames += client.poll(1.0)
    client.close()
    thread.join()
    context.destroy(linger=0)
    assert [frame.jpeg for frame in frames] == [picture(2), picture(3), picture(2)]
    assert client.repeated == {'head': before + 19}


def test_a_stamped_frame_may_repeat_its_picture() -> None:
    frames = burst([encode_stamp(picture(), 7, stamp_ns) for stamp_ns in range(3)])
    assert [frame.stamp_ns for frame in frames if frame.seq] == [0, 1, 2]


def test_a_message_of_several_parts_is_an_error() -> None:
    context = zmq.Context()
    reply = json.dumps(stream_config({'head_camera': 12345}, 480, 640, 30)).encode()
    request_port, publisher, thread = stock_server(context, reply)
    client = CameraClient('127.0.0.1', CAMERAS[:1], request_port)
    with pytest.raises(StreamError, match='camera head: a message of 2 parts'):
        collect(client, 1, lambda: publisher.send_multipart([picture(1), picture(2)]))
    client.close()
    thread.join()
    context.destroy(linger=0)


def test_client_started_first_finds_the_server() -> None:
    probe = CameraServer(ANY_PORTS, stream_config(ANY_PORTS, 24, 32, 20.0), request_port=0)
    ports, request_port = probe.ports, probe.request_port
    probe.close()
    client = CameraClient('127.0.0.1', CAMERAS, request_port)
    assert client.poll(0.05) == []
    assert client.config is None
    server = CameraServer(ports, stream_config(ports, 24, 32, 20.0), request_port)
    frames = collect(
        client, 2, lambda: [server.send(name, encode_stamp(picture(), 1, 2)) for name in ports]
    )
    client.close()
    server.close()
    assert frames[0].seq == 1


def stock_server(context: zmq.Context, reply: bytes) -> tuple[int, zmq.Socket, threading.Thread]:
    """A server as the vendor's: bare JPEGs, one reply to a configuration request."""
    publisher = context.socket(zmq.PUB)
    port = publisher.bind_to_random_port('tcp://127.0.0.1')
    replier = context.socket(zmq.REP)
    request_port = replier.bind_to_random_port('tcp://127.0.0.1')

    def answer() -> None:
        replier.recv()
        replier.send(reply.replace(b'12345', str(port).encode()))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return request_port, publisher, thread


def test_stock_frames_get_an_estimated_stamp() -> None:
    context = zmq.Context()
    reply = json.dumps(stream_config({'head_camera': 12345}, 480, 640, 30)).encode()
    request_port, publisher, thread = stock_server(context, reply)
    client = CameraClient('127.0.0.1', CAMERAS[:1], request_port, latency_s=0.25)
    before = time.time_ns()
    frame = collect(client, 1, lambda: publisher.send(picture()))[0]
    after = time.time_ns()
    client.close()
    thread.join()
    context.destroy(linger=0)
    assert frame.estimated
    assert frame.seq == -1
    assert before <= frame.stamp_ns + 250_000_000 <= after
    assert cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ('reply', 'message'),
    [
        (b'not json', 'not JSON'),
        (b'{"other": {}}', 'no head_camera'),
        (b'{"head_camera": {"enable_zmq": false}}', 'over ZMQ'),
    ],
)
def test_unusable_configuration_is_an_error(reply: bytes, message: str) -> None:
    context = zmq.Context()
    request_port, _, thread = stock_server(context, reply)
    client = CameraClient('127.0.0.1', CAMERAS[:1], request_port)
    with pytest.raises(StreamError, match=message):
        collect(client, 1, lambda: None)
    client.close()
    thread.join()
    context.destroy(linger=0)


def test_taken_port_is_an_error() -> None:
    server = CameraServer(ANY_PORTS, stream_config(ANY_PORTS, 24, 32, 20.0), request_port=0)
    with pytest.raises(StreamError, match='cannot bind'):
        CameraServer(server.ports, stream_config(server.ports, 24, 32, 20.0), request_port=0)
    server.close()
