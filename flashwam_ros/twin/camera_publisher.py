# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The twin's cameras in a process of their own: pictures never slow the physics.

The process draws the shared states at the camera rate and serves them as the camera server does.
After a stall it catches up from the states kept, with their true stamps; when it is further behind
than that it leaves frames out. It ends with the process that started it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from flashwam_ros.robot.contract import Camera, RobotContract
from flashwam_ros.twin import camera_faults
from flashwam_ros.twin.child import Child, die_with_parent, parent_gone
from flashwam_ros.wire.realtime import CAMERA_PRIORITY, claim_realtime
from flashwam_ros.wire.teleimager import CameraServer, StreamError, encode_stamp, stream_config

log = logging.getLogger(__name__)

_JPEG_QUALITY = 90
_WAIT_S = 0.005
_BACKLOG_NS = 300_000_000


def start(snapshot_fd: int, ports: Sequence[int], request_port: int, rate_hz: float) -> Child:
    """Start the camera process.

    Args:
        snapshot_fd: descriptor of the shared state.
        ports: PUB ports in the order of the contract's cameras.
        request_port: port of the configuration.
        rate_hz: frame rate.
    """
    arguments = (
        '--ports', ','.join(map(str, ports)),
        '--request-port', str(request_port),
        '--rate', str(rate_hz),
    )  # fmt: skip
    # The software renderer starts no threads: they would not have this process's priority.
    threads = {'LP_NUM_THREADS': '0'}
    return Child(__name__, snapshot_fd, arguments, threads)


def _serve(snapshot_fd: int, cameras: Sequence[Camera], server: CameraServer, rate_hz: float):
    # Imported here: the OpenGL route must be chosen before MuJoCo is imported.
    from flashwam_ros.twin.picture_maker import PictureMaker
    from flashwam_ros.twin.snapshot import SharedSnapshot

    shared = SharedSnapshot(snapshot_fd)
    maker = PictureMaker(cameras)
    while (snapshot := shared.read()) is None:
        if parent_gone(_WAIT_S):
            return
    maker.load(snapshot.task)
    # Real cameras do not wait for the policy's computer.
    log.info('drawing at %s', claim_realtime(CAMERA_PRIORITY))
    period_ns = int(1e9 / rate_hz)
    due_ns = shared.read().stamp_ns
    names = {camera.key: camera.wire_name for camera in cameras}
    sent = dropped = 0
    wait_s = 0.0
    while not parent_gone(wait_s):
        snapshot = shared.read_from(due_ns)
        wait_s = _WAIT_S if snapshot is None else 0.0
        if snapshot is None:
            continue
        faults = shared.camera_faults
        if not faults:
            for camera, jpeg in maker.draw(snapshot, _JPEG_QUALITY):
                server.send(camera.wire_name, encode_stamp(jpeg, sent, snapshot.stamp_ns))
        else:
            drawn = {camera.key: jpeg for camera, jpeg in maker.draw(snapshot, _JPEG_QUALITY)}
            for key, jpeg, stamp_ns in camera_faults.apply(faults, sent, drawn, snapshot.stamp_ns):
                server.send(names[key], encode_stamp(jpeg, sent, stamp_ns))
        sent += 1
        due_ns += period_ns
        late = (shared.read().stamp_ns - _BACKLOG_NS - due_ns) // period_ns
        if late > 0:
            dropped += late
            due_ns += late * period_ns
        shared.report(sent, dropped)
    maker.close()


def main(argv: list[str] | None = None) -> int:
    """Serve pictures until the parent process ends."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--snapshot-fd', type=int, required=True)
    parser.add_argument('--ports', required=True)
    parser.add_argument('--request-port', type=int, required=True)
    parser.add_argument('--rate', type=float, required=True)
    args = parser.parse_args(argv)
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format='twin cameras: %(message)s')
    logging.getLogger('OpenGL').setLevel(logging.WARNING)
    from flashwam_ros.twin.gl import NoOpenGLError, choose_gl_backend

    cameras = RobotContract.load().cameras
    ports = {c.wire_name: int(p) for c, p in zip(cameras, args.ports.split(','), strict=True)}
    size = (cameras[0].wire_height, cameras[0].wire_width)
    try:
        log.info('drawing with %s', choose_gl_backend())
        server = CameraServer(ports, stream_config(ports, *size, args.rate), args.request_port)
    except (NoOpenGLError, StreamError) as error:
        log.error('%s', error)
        return 1
    try:
        _serve(args.snapshot_fd, cameras, server, args.rate)
    finally:
        server.close()
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
