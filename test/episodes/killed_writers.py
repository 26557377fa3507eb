# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Program: forks recorders, kills each with SIGKILL at a moment of its own, prints what they gave.

    python killed_writers.py FOLDER COUNT TOGETHER

Writes COUNT files FOLDER/<i>.mcap.part and prints a JSON list of pairs: when each of them began,
and the log time of the last message that it had handed over when it was killed (ns).
"""

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from flashwam_ros.episodes import schemas
from flashwam_ros.episodes.mcap_writer import EpisodeWriter

TOPICS = [schemas.Topic('/joint_states', schemas.JOINT_STATE_TYPE),
          *(schemas.Topic(f'/cam{i}', schemas.IMAGE_TYPE) for i in range(3))]  # fmt: skip
PERIOD_S = 0.04
GIVEN = struct.Struct('<qq')


def record(path, frame_bytes, shared, index):
    writer = EpisodeWriter(path, TOPICS, {'sidecar': ''}, min_free=0)
    frame, state = bytes(frame_bytes), bytes(1_000)
    first = time.time_ns()
    while True:
        now = time.time_ns()
        writer.put('/joint_states', now, now, state)
        for i in range(3):
            writer.put(f'/cam{i}', now, now, frame)
        GIVEN.pack_into(shared, index * GIVEN.size, first, now)
        time.sleep(PERIOD_S)


def main(folder, count, together):
    moments = random.Random(5)
    shared = mmap.mmap(-1, count * GIVEN.size)
    for first in range(0, count, together):
        kills = []
        for index in range(first, min(first + together, count)):
            # One in ten with pictures of full size: more would wait for the disk together.
            size = 60_000 if index % 10 == 0 else 4_000
            pid = os.fork()
            if pid == 0:
                try:
                    record(folder / f'{index}.mcap', size, shared, index)
                finally:
                    os._exit(1)
            kills.append((time.monotonic() + moments.uniform(0.8, 2.2), pid))
        for due, pid in sorted(kills):
            # A moment, not a condition: the point is that the moment is any.
            time.sleep(max(0.0, due - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    sys.stdout.write(json.dumps(list(GIVEN.iter_unpack(shared))))


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
