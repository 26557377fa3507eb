# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What recording costs: CPU, lost messages, and the 250 Hz tick with and without it.

Run: ``python benchmarks/recorder_cost.py --minutes 30`` (5 minutes without, 30 with the recorder)

Three streams of pre-rendered 640x480 JPEGs at 30 Hz are replayed on the camera wire to the camera
node, while the driver holds the simulated robot's arms. First nothing is recorded, then the
recorder writes one episode, which is deleted when it has been counted: about 0.3 GB a minute.
Pictures are counted by the number that each carries, so that none is lost unseen on its way.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._stack import (  # noqa: E402
    Place,
    Stack,
    StackError,
    end_on_sigterm,
    header,
    header_lines,
    say,
    table,
)
from benchmarks.soak import read_usage  # noqa: E402
from flashwam_ros.bringup.graph import Graph  # noqa: E402
from flashwam_ros.episodes.mcap_scan import messages  # noqa: E402
from flashwam_ros.episodes.messages import diagnostics, image_jpeg  # noqa: E402
from flashwam_ros.episodes.schemas import DIAGNOSTICS, EPISODE_EVENT, IMAGE_TYPE  # noqa: E402
from flashwam_ros.episodes.sidecar import load_sidecar  # noqa: E402
from flashwam_ros.imaging import decode_jpeg, encode_jpeg  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.wire.teleimager import (  # noqa: E402
    CameraServer,
    decode_stamp,
    encode_stamp,
    stream_config,
)

SIZE, RATE_HZ, QUALITY = (640, 480), 30.0, 85
PICTURES = 30
START_S, SETTLE_S, CLOSE_S = 60.0, 3.0, 60.0
PICTURE = Path(__file__).resolve().parents[1] / 'docs' / 'images' / 'red_bottle.jpg'
PROCESSES = ('g1_driver', 'camera', 'recorder')
RECORDING = 'recording'


class Replay:
    """A camera server that sends the same pictures over and over, with true stamps.

    Args:
        request_port: of its configuration.
    """

    def __init__(self, request_port: int):
        names = [camera.wire_name for camera in RobotContract.load().cameras]
        config = stream_config(dict.fromkeys(names, 0), SIZE[1], SIZE[0], RATE_HZ)
        self._server = CameraServer(dict.fromkeys(names, 0), config, request_port)
        self._names, self._pictures = names, _pictures()
        self.jpeg_kb = float(np.mean([len(picture) for picture in self._pictures])) / 1e3
        self.sent = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due, sequence = time.monotonic(), 0
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due += 1.0 / RATE_HZ
            jpeg = self._pictures[sequence % PICTURES]
            for name in self._names:
                self._server.send(name, encode_stamp(jpeg, sequence, time.time_ns()))
            sequence += 1
            self.sent = sequence

    def close(self) -> None:
        """Stop sending."""
        self._stopping.set()
        self._thread.join()
        self._server.close()


def _pictures() -> list[bytes]:
    picture = cv2.resize(decode_jpeg(PICTURE.read_bytes()), SIZE)
    return [encode_jpeg(np.roll(picture, 7 * i, axis=1), QUALITY) for i in range(PICTURES)]


def _parts(graph: Graph) -> Graph:
    """Twin without cameras, driver, camera node, and the recorder if there is one."""
    chosen = [process for process in graph.processes if process.name in ('twin', *PROCESSES)]
    words = list(chosen[0].arguments)
    words[words.index('--camera-ports') + 1] = ''
    return Graph((replace(chosen[0], arguments=tuple(words)), *chosen[1:]))


@dataclass(frozen=True)
class Part:
    """One part of the measurement.

    Attributes:
        name: in the report.
        seconds: how long.
        record: whether the recorder runs.
    """

    name: str
    seconds: float
    record: bool


def measure(place: Place, part: Part, folder: Path) -> dict:
    """One part; CPU in cores, messages, tick lateness (ms).

    Raises:
        StackError: the stack did not come up, or the recorder did not close its episode.
    """
    from flashwam_ros.nodes.episode_events import EpisodeEvents
    from flashwam_ros.nodes.lifecycle_client import LifecycleClient

    values = {'robot': 'twin', 'policy': 'expert', 'record': str(part.record).lower(),
              'episodes_dir': str(folder / 'episodes')}  # fmt: skip
    replay = Replay(place.port + 3)
    try:
        log = folder / f'{part.name.replace(" ", "_")}.log'
        with Stack(values, place, log, _parts) as stack:
            node = stack.listener.node
            driver, events = LifecycleClient(node, 'g1_driver'), EpisodeEvents(node, 'rollout')
            _take_over(driver)
            if part.record:
                stack.until(lambda: node.count_subscribers(EPISODE_EVENT), START_S, 'the recorder')
                events.begin('cost', 'red_bottle', {'policy': 'replay'})
            time.sleep(SETTLE_S)
            found = _sample(stack, replay, part)
            if part.record:
                events.end('cost', {'verdict': 'success', 'reason': 'measured'})
                found.update(_episode(stack, folder / 'episodes'))
            driver.deactivate(START_S)
            return {**found, 'jpeg_kb': round(replay.jpeg_kb, 1)}
    finally:
        replay.close()


def _take_over(driver) -> None:
    """Let the driver hold the arms; the twin may still be starting."""
    from flashwam_ros.nodes.lifecycle_client import NodeUnavailableError

    driver.state(START_S)
    deadline = time.monotonic() + START_S
    while True:
        try:
            driver.configure(START_S)
            break
        except NodeUnavailableError:
            if time.monotonic() > deadline:
                raise
    driver.activate(START_S)


def _sample(stack: Stack, replay: Replay, part: Part) -> dict:
    names = [name for name in PROCESSES if part.record or name != 'recorder']
    pids = {name: stack.supervisor.pid(name) for name in names}
    before = {name: read_usage(pid) for name, pid in pids.items()}
    begin, sent = time.monotonic(), replay.sent
    stack.until(lambda: time.monotonic() > begin + part.seconds, part.seconds + START_S, 'the end')
    elapsed = time.monotonic() - begin
    after = {name: read_usage(pid) for name, pid in pids.items()}
    told = [heard.msg for heard in stack.listener.driver if heard.at_ns > begin * 1e9]
    if not told or told[-1].mode != 'HOLD':
        raise StackError(f'{part.name}: the driver did not hold the arms to the end')
    return {
        'seconds': round(elapsed, 1),
        'camera_hz': round((replay.sent - sent) / elapsed, 2),
        'cpu_cores': {name: round((after[name][0] - before[name][0]) / elapsed, 4)
                      for name in pids},
        'memory_mb': {name: round(after[name][1], 1) for name in pids},
        # The driver tells percentiles of its last ticks, so there is one of each ten times a
        # second; its maximum is that since it took the arms over.
        'tick_lateness_ms': {
            'p50': round(float(np.median([m.tick_lateness_p50 for m in told])) * 1e3, 3),
            'p99': round(float(np.median([m.tick_lateness_p99 for m in told])) * 1e3, 3),
            'worst p99': round(max(m.tick_lateness_p99 for m in told) * 1e3, 3),
            'max': round(told[-1].tick_lateness_max * 1e3, 3),
        },
    }  # fmt: skip


def _episode(stack: Stack, folder: Path) -> dict:
    """What is in the recorded file, which is deleted."""
    def closed():
        sidecars = [load_sidecar(path) for path in folder.glob('*.json')]
        return [sidecar for sidecar in sidecars if sidecar.state == 'closed']

    stack.until(closed, CLOSE_S, 'the episode is whole')
    sidecar = closed()[-1]
    path = folder / f'{sidecar.episode}.mcap'
    pictures, lost, on_wire = _pictures_in(path)
    found = {
        'dropped': sum(sidecar.dropped.values()),
        'pictures': pictures,
        'lost_pictures': lost,
        'lost_before_the_camera_node': on_wire,
        'messages': sum(sidecar.messages.values()),
        'gaps': {name: values['gaps'] for name, values in sidecar.quality['streams'].items()},
        'mb_per_s': round(path.stat().st_size / 1e6 / sidecar.duration_s, 2),
    }
    path.unlink()
    path.with_suffix('.json').unlink()
    return found


def _pictures_in(path: Path) -> tuple[int, int, int]:
    """Pictures in a file, those missing in between, and how many the camera node missed."""
    numbers: dict[str, list[int]] = {}
    missed: dict[str, list[int]] = {}
    for message in messages(path):
        if message.type == IMAGE_TYPE:
            jpeg = bytes(image_jpeg(message.data))
            numbers.setdefault(message.topic, []).append(decode_stamp(jpeg)[0])
        elif message.topic == DIAGNOSTICS:
            for entry in diagnostics(message.data, message.type):
                if entry.name.startswith('camera: '):
                    missed.setdefault(entry.name, []).append(int(entry.values['dropped']))
    there = sum(map(len, numbers.values()))
    sent = sum(max(own) - min(own) + 1 for own in numbers.values())
    return there, sent - there, sum(own[-1] - own[0] for own in missed.values())


def report(found: Mapping[str, Mapping], head: Mapping) -> str:
    """The page: without and with the recorder, one row each."""
    rows = []
    for name, part in found.items():
        cores, late = part['cpu_cores'], part['tick_lateness_ms']
        rows.append([
            name, part['seconds'], *(f'{cores[key]:.3f}' if key in cores else '-'
                                     for key in PROCESSES),
            ' / '.join(f'{late[key]:.2f}' for key in ('p50', 'p99', 'worst p99', 'max')),
        ])  # fmt: skip
    columns = ('', 's', *(f'{name}, cores' for name in PROCESSES),
               'tick lateness ms: p50 / p99 / worst p99 / max')
    lines = ['# Cost of recording', '', *header_lines(head), *table(columns, rows)]
    recorded = found[RECORDING]
    lines += [
        '',
        f'Pictures of {recorded["jpeg_kb"]} KB, three streams at {recorded["camera_hz"]} Hz sent; '
        f'{recorded["messages"]} messages recorded, {recorded["mb_per_s"]} MB/s. Dropped by the '
        f'recorder: {recorded["dropped"]}. Of {recorded["pictures"] + recorded["lost_pictures"]} '
        f'pictures lost on their way: {recorded["lost_pictures"]}, of these before the camera '
        f'node: {recorded["lost_before_the_camera_node"]}. Gaps found by the audit: '
        + ', '.join(f'{name} {count}' for name, count in recorded['gaps'].items()) + '.',
    ]  # fmt: skip
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both parts and write `cost.json` and `cost.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=30.0, help='of recording')
    parser.add_argument('--without', type=float, default=5.0, help='minutes without the recorder')
    parser.add_argument('--out', type=Path, default=Path.home() / '.cache/flashwam/recorder_cost')
    parser.add_argument('--ros-domain', type=int, default=73)
    parser.add_argument('--unitree-domain', type=int, default=53)
    parser.add_argument('--port', type=int, default=58400)
    options = parser.parse_args(argv)
    end_on_sigterm()
    place = Place(options.ros_domain, options.unitree_domain, options.port)
    options.out.mkdir(parents=True, exist_ok=True)
    head, found = header(1), {}
    try:
        for part in (Part('not recording', options.without * 60.0, False),
                     Part(RECORDING, options.minutes * 60.0, True)):  # fmt: skip
            found[part.name] = measure(place, part, options.out)
            say(f'{part.name}: {json.dumps(found[part.name])}')
    except StackError as error:
        sys.stderr.write(f'recorder_cost: {error}\n')
        return 1
    (options.out / 'cost.json').write_text(json.dumps({**head, **found}, indent=1) + '\n')
    (options.out / 'cost.md').write_text(report(found, head))
    say(str(options.out / 'cost.md'))
    return 0


if __name__ == '__main__':
    sys.exit(main())
