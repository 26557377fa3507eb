# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The camera node against a real camera server: pixels, stamps, calibration, silence."""

import socket
import threading
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402

from flashwam_ros.imaging import encode_jpeg  # noqa: E402
from flashwam_ros.nodes.camera import camera_info, camera_model  # noqa: E402
from flashwam_ros.nodes.clock import from_msg  # noqa: E402
from flashwam_ros.nodes.image_conversion import message_to_rgb  # noqa: E402
from flashwam_ros.nodes.lifecycle import SENSOR_QOS, STATUS_QOS  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.wire.teleimager import (  # noqa: E402
    CameraServer,
    decode_stamp,
    encode_stamp,
    stream_config,
)

CAMERAS = RobotContract.load().cameras
COLORS = {'head': (200, 30, 30), 'left_wrist': (30, 200, 30), 'right_wrist': (30, 30, 200)}


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def numbered(jpeg, number):
    """The same picture in other bytes, as any camera gives; the number is not our stamp."""
    return jpeg[:2] + b'\xff\xfe\x00\x06' + number.to_bytes(4, 'big') + jpeg[2:]


class Source:
    """A camera server with one colour per camera, with or without our stamps."""

    def __init__(self, stamped):
        self.stamped = stamped
        self.stamps = []
        ports = {camera.wire_name: 0 for camera in CAMERAS}
        config = stream_config(ports, 240, 320, 20.0)
        self.server = CameraServer(ports, config, free_port())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for seq in range(100_000):
            if self._stop.wait(0.05):
                return
            stamp = time.time_ns() - 20_000_000
            self.stamps.append(stamp)
            for camera in CAMERAS:
                image = np.full((240, 320, 3), COLORS[camera.key], np.uint8)
                jpeg = encode_jpeg(image)
                self.server.send(
                    camera.wire_name,
                    encode_stamp(jpeg, seq, stamp) if self.stamped else numbered(jpeg, seq),
                )

    def pause(self):
        self._stop.set()
        self._thread.join()

    def close(self):
        self.pause()
        self.server.close()


@pytest.fixture(params=[True, False], ids=['stamped', 'stock server'])
def source(request):
    source = Source(request.param)
    yield source
    source.close()


def test_stream(source, processes, listener, until):
    topics = {key: listener.listen(Image, f'{key}/image_raw', SENSOR_QOS) for key in COLORS}
    infos = listener.listen(CameraInfo, 'head/camera_info', SENSOR_QOS)
    wire = listener.listen(CompressedImage, 'head/image_raw/compressed', STATUS_QOS)
    diagnostics = listener.listen(DiagnosticArray, '/diagnostics', 10)
    processes.node('camera', f'camera_request_port:={source.server.request_port}', 'latency:=0.03')
    until(lambda: infos and all(len(images) > 10 for images in topics.values()), what='frames')
    for camera in CAMERAS:
        image = topics[camera.key][-1]
        assert image.header.frame_id == camera.frame_id
        rgb = message_to_rgb(image)
        assert rgb.shape == (240, 320, 3)
        np.testing.assert_allclose(rgb[120, 160], COLORS[camera.key], atol=6)
    stamps = [from_msg(image.header.stamp) for image in topics['head']]
    if source.stamped:
        assert set(stamps) <= set(source.stamps), 'the capture stamp, to the nanosecond'
    else:
        assert all(0 < time.time_ns() - stamp < 60e9 for stamp in stamps)
    until(lambda: len(wire) > 5, what='frames as they came off the wire')
    assert wire[-1].format == 'jpeg' and wire[-1].header.frame_id == CAMERAS[0].frame_id
    jpeg, stamp = bytes(wire[-1].data), from_msg(wire[-1].header.stamp)
    if source.stamped:
        assert decode_stamp(jpeg)[1] == stamp, 'the very bytes, with the stamp inside'
        assert stamp in source.stamps
    assert jpeg.endswith(encode_jpeg(np.full((240, 320, 3), COLORS['head'], np.uint8))[2:])
    assert infos[-1].width == 320 and infos[-1].k[0] > 50
    levels = {
        status.name: status.level
        for status in until(lambda: diagnostics and diagnostics[-1], what='diagnostics').status
    }
    assert set(levels) == {'camera: head', 'camera: left_wrist', 'camera: right_wrist'}
    fine = DiagnosticStatus.OK if source.stamped else DiagnosticStatus.WARN
    until(lambda: diagnostics[-1].status[0].level == fine, what='frames arrive')
    source.pause()
    until(
        lambda: all(s.level == DiagnosticStatus.STALE for s in diagnostics[-1].status),
        what='silence is noticed',
    )
    assert processes.end('camera') == 0


def test_calibration_has_the_descriptions_field_of_view():
    head = camera_info(CAMERAS[0], camera_model(CAMERAS[0]), 240, 320)
    width_deg = 2 * np.degrees(np.arctan(160 / head.k[0]))
    assert width_deg == pytest.approx(105.5)
    assert head.header.frame_id == 'head_camera_optical_frame'
