# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""camera: the camera server's stream as image topics with capture stamps.

`<cam>/image_raw` is decoded; `<cam>/image_raw/compressed` is the same frame as it came off the
wire, for whoever keeps or passes on pictures: nothing is encoded a second time.
"""

from __future__ import annotations

import math
import sys
import threading
from array import array
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from flashwam_ros.episodes.schemas import image_topic
from flashwam_ros.imaging import ImageError, decode_jpeg
from flashwam_ros.nodes.clock import ros_now_ns, to_msg
from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.nodes.image_conversion import rgb_to_message
from flashwam_ros.nodes.lifecycle import SENSOR_QOS, STATUS_QOS, declare, run_node
from flashwam_ros.robot.clock import robot_clock
from flashwam_ros.robot.contract import Camera, RobotContract
from flashwam_ros.robot.description import CameraModel, load_description
from flashwam_ros.wire.teleimager import CameraClient, CameraFrame, StreamError

DIAGNOSTICS_S = 1.0
STALE_S = 0.5
_POLL_S = 0.1
_RETRY_S = 1.0


def camera_info(camera: Camera, model: CameraModel, height: int, width: int) -> CameraInfo:
    """Pinhole calibration of an ideal camera with the description's field of view.

    Args:
        camera: names the optical frame.
        model: field of view, deg.
        height: image height, pixels.
        width: image width, pixels.
    """
    fx = width / 2 / math.tan(math.radians(model.hfov_deg) / 2)
    fy = height / 2 / math.tan(math.radians(model.vfov_deg) / 2)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    info = CameraInfo(height=height, width=width, distortion_model='plumb_bob', d=[0.0] * 5)
    info.header.frame_id = camera.frame_id
    info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def camera_model(camera: Camera) -> CameraModel:
    """The description's preset that sits in the camera's frame (its optical frame's parent)."""
    frame = camera.frame_id.removesuffix('_optical_frame')
    for model in load_description().cameras:
        if frame in model.frames:
            return model
    raise KeyError(f'the description has no camera preset in the frame {frame!r}')


@dataclass
class _Stream:
    """One camera's topics and counters."""

    camera: Camera
    images: object
    compressed: object
    infos: object
    info: CameraInfo | None = None
    frames: int = 0
    dropped: int = 0
    bad: int = 0
    last_seq: int = -1
    estimated: bool = False
    arrival_ns: int = 0


class CameraNode(Node):
    """Receives JPEG frames in a thread of its own and publishes them decoded, at wire size."""

    def __init__(self):
        super().__init__('camera')
        host = declare(self, 'camera_host', '127.0.0.1', 'host of the camera server')
        port = declare(
            self,
            'camera_request_port',
            60000,
            'port at which the camera server tells its configuration',
            bounds=(1, 65535),
        )
        latency_s = declare(
            self,
            'latency',
            0.05,
            'capture to arrival (s) of a server that sends no stamps; its frames are marked',
            bounds=(0.0, 1.0),
        )
        cameras = RobotContract.load().cameras
        self._streams = {
            camera.key: _Stream(
                camera,
                self.create_publisher(Image, f'{camera.topic}/image_raw', SENSOR_QOS),
                # Reliable, for a recording shall miss none; publishing does not wait for readers.
                self.create_publisher(CompressedImage, image_topic(camera.topic), STATUS_QOS),
                self.create_publisher(CameraInfo, f'{camera.topic}/camera_info', SENSOR_QOS),
            )
            for camera in cameras
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(DIAGNOSTICS_S, self._publish_diagnostics, callback_group=QuickGroup())
        self._fault = 'the camera server has not answered yet'
        self._client = CameraClient(host, cameras, port, latency_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._receive, name='frames', daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        """Stop receiving first."""
        self._stopping.set()
        self._thread.join(2.0)
        self._client.close()
        super().destroy_node()

    def _receive(self) -> None:
        while not self._stopping.is_set():
            try:
                frames = self._client.poll(_POLL_S)
            except StreamError as error:
                if str(error) != self._fault:
                    self.get_logger().error(str(error))
                self._fault = str(error)
                self._stopping.wait(_RETRY_S)
                continue
            for frame in frames:
                self._fault = ''
                self._publish(self._streams[frame.key], frame)

    def _publish_compressed(self, stream: _Stream, frame: CameraFrame) -> None:
        if not stream.compressed.get_subscription_count():
            return
        image = CompressedImage(format='jpeg')
        image.header.stamp = to_msg(frame.stamp_ns)
        image.header.frame_id = stream.camera.frame_id
        # An array.array is taken over as it is.
        image.data = array('B', frame.jpeg)
        stream.compressed.publish(image)

    def _publish(self, stream: _Stream, frame: CameraFrame) -> None:
        self._publish_compressed(stream, frame)
        try:
            rgb = decode_jpeg(frame.jpeg)
        except ImageError as error:
            stream.bad += 1
            self.get_logger().warning(
                f"camera '{frame.key}': {error}", throttle_duration_sec=DIAGNOSTICS_S
            )
            return
        if stream.info is None:
            model = camera_model(stream.camera)
            stream.info = camera_info(stream.camera, model, rgb.shape[0], rgb.shape[1])
        if frame.seq >= 0 and stream.last_seq >= 0:
            stream.dropped += max(0, frame.seq - stream.last_seq - 1)
        stream.last_seq, stream.estimated = frame.seq, frame.estimated
        stream.frames += 1
        stream.arrival_ns = frame.arrival_ns
        image = rgb_to_message(rgb)
        image.header.stamp = stream.info.header.stamp = to_msg(frame.stamp_ns)
        image.header.frame_id = stream.camera.frame_id
        stream.images.publish(image)
        stream.infos.publish(stream.info)

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = to_msg(ros_now_ns(self))
        for key, stream in self._streams.items():
            age_ns = robot_clock.monotonic_ns() - stream.arrival_ns
            age_s = age_ns * 1e-9 if stream.frames else -1.0
            status = DiagnosticStatus(name=f'camera: {key}', hardware_id=stream.camera.wire_name)
            if not stream.frames:
                status.level = DiagnosticStatus.ERROR
                status.message = self._fault or 'no frame yet'
            elif age_s > STALE_S:
                status.level = DiagnosticStatus.STALE
                status.message = f'no frame for {age_s:.1f} s'
            elif stream.estimated:
                status.level = DiagnosticStatus.WARN
                status.message = 'capture stamps are estimated from the arrival'
            else:
                status.level, status.message = DiagnosticStatus.OK, 'frames arrive'
            values = {
                'age s': f'{age_s:.3f}',
                'frames': str(stream.frames),
                'dropped': str(stream.dropped),
                'undecodable': str(stream.bad),
                'repeated': str(self._client.repeated.get(key, 0)),
                'stamps estimated': str(stream.estimated),
            }
            status.values = [KeyValue(key=name, value=value) for name, value in values.items()]
            message.status.append(status)
        self._diagnostics.publish(message)


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(CameraNode, argv)


if __name__ == '__main__':
    sys.exit(main())
