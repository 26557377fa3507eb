# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What exported rows are worth: their alignment with the twin's truth, and their replay.

Run: ``python -m benchmarks.alignment EPISODES --out FOLDER``

EPISODES holds recordings made in the twin.  They are exported to LeRobot v2.1 and v3.0, and then,
one by one:

- image: distance of a row's images from the row's instant, and the largest difference between the
  recorded stamps and the twin's own, which lie inside the pictures;
- state: how old the exported state is, against the joint angles of the twin's world;
- action: how much later than stated the exported commands arrived in the twin's joints.  The
  commands are replayed open loop in the twin in process, where nothing delays them, and the
  recorded motion is compared with the replayed one;
- replay: whether that replay, which sees nothing, solves the task of the recorded seed.

Every finished episode is one line of ``episodes.jsonl``; running again continues.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._stack import header, header_lines, say, table  # noqa: E402
from flashwam_ros.episodes.export_command import Selection, export, select  # noqa: E402
from flashwam_ros.episodes.reader import Episode, read_episode  # noqa: E402
from flashwam_ros.robot.chunk import ActionChunk, ChunkRejected  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.training import lerobot_layout as layout  # noqa: E402
from flashwam_ros.training.lerobot_meta import EpisodeMeta, LeRobotSet, open_set  # noqa: E402
from flashwam_ros.training.statistics import wilson  # noqa: E402
from flashwam_ros.twin.episode import EpisodeError, InProcessRobot  # noqa: E402
from flashwam_ros.wire.teleimager import decode_stamp  # noqa: E402

SETS = {layout.V21: 'lerobot-v2.1', layout.V30: 'lerobot-v3'}
COLUMNS = (
    'task', 'n', 'audit score min / median', 'image error ms mean / max', 'stamp error ms max',
    'state age ms median (range)', 'action delay ms median (range)', 'solved when recorded',
    'solved by replay', '95 % Wilson',
)  # fmt: skip
LEAD_NS = 40_000_000
"""How long before its predecessor's end a chunk is submitted."""
SAMPLE_TICKS = 5
SETTLE_S = 1.5
"""How long the replay is watched after its last row; predicates must hold for 0.5 s."""
EDGE_S = 0.1
MIN_MOTION = 0.05
"""rad/s, rms over the episode's joints: without motion no delay can be told."""


@dataclass(frozen=True)
class Replay:
    """An open-loop replay.

    Attributes:
        seconds: (M,) since the first row's beginning.
        arms: (M, 14) joint angles then, rad.
        solved: the task's predicate held.
        reason: 'success', 'no success', 'failure: ...' or 'stopped: ...'.
    """

    seconds: np.ndarray
    arms: np.ndarray
    solved: bool
    reason: str


def delay_ms(seconds: np.ndarray, late: np.ndarray, reference_seconds: np.ndarray,
             reference: np.ndarray) -> float:
    """By how much ``late`` (N, J) follows ``reference`` (M, J), ms; NaN without motion.

    Least squares of late - reference = -delay * speed + one constant per joint, which takes what
    is off at rest.
    """
    inside = (seconds > reference_seconds[0] + EDGE_S) & (seconds < reference_seconds[-1] - EDGE_S)
    if inside.sum() < 3:
        return float('nan')

    def at(columns: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(seconds[inside], reference_seconds, column)
                         for column in columns.T], axis=1)

    speed = at(np.gradient(reference, reference_seconds, axis=0))
    if np.sqrt(np.mean(speed**2)) < MIN_MOTION:
        return float('nan')
    off = late[inside] - at(reference)
    off, speed = off - off.mean(axis=0), speed - speed.mean(axis=0)
    return float(-1e3 * (off * speed).sum() / (speed**2).sum())


def replay(robot: InProcessRobot, seed: int, rows: np.ndarray) -> Replay:
    """Command exported rows (N, C) one after the other from the seed's start pose."""
    contract, count = robot.contract, robot.contract.rows_per_chunk
    robot.reset(seed)
    padded = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % count, axis=0)])
    chunks = padded.reshape(-1, count, rows.shape[1])
    chunk_ns = round(count * contract.row_duration_s * 1e9)
    start_ns, end_ns, sent, ticks = None, robot.now_ns, 0, 0
    samples, reason = [], 'no success'
    try:
        while end_ns is None or robot.now_ns < end_ns + SETTLE_S * 1e9 or sent < len(chunks):
            if sent < len(chunks) and end_ns is not None and robot.now_ns + LEAD_NS >= end_ns:
                robot.submit(_chunk(contract, chunks[sent], seed, sent, robot.now_ns))
                sent, end_ns = sent + 1, None
            for account in robot.tick().accounts:
                if not account.complete:
                    start_ns = account.start_ns if start_ns is None else start_ns
                    end_ns = account.start_ns + chunk_ns
            ticks += 1
            if start_ns is not None and ticks % SAMPLE_TICKS == 0:
                samples.append(((robot.now_ns - start_ns) * 1e-9, robot.measured()[:14]))
                status = robot.status()
                if status.success or status.failure:
                    reason = 'success' if status.success else f'failure: {status.failure}'
                    break
    except (EpisodeError, ChunkRejected) as error:
        reason = f'stopped: {error}'
    seconds = np.array([sample[0] for sample in samples])
    return Replay(seconds, np.array([sample[1] for sample in samples]).reshape(-1, 14),
                  reason == 'success', reason)


def _chunk(contract: RobotContract, rows: np.ndarray, seed: int, index: int,
           now_ns: int) -> ActionChunk:
    return ActionChunk(
        session=f'replay-{seed}', contract_hash=contract.sha256, index=index,
        predecessor=index - 1, row_duration_s=contract.row_duration_s, positions=rows,
        channel_names=contract.channel_names, first_row=0, stamp_ns=now_ns, seed=seed)


def measure(episode: Episode, rows: Mapping[str, np.ndarray], robot: InProcessRobot) -> dict:
    """Figures of one episode (see the module's text).

    Args:
        episode: as recorded, with the twin's world.
        rows: exported columns of it, arms and grippers in contract order.
        robot: the twin of the episode's task.

    Raises:
        ValueError: the recording says nothing of the twin's world.
    """
    if not episode.sim:
        raise ValueError(f'{episode.path}: not recorded in the twin: no sim_state')
    start = int(rows['stamp_ns'][0])
    stamps = (rows['stamp_ns'] - start) * 1e-9
    truth = np.array([state.values['qpos'] for state in episode.sim])
    truth = truth[:, robot.simulation.twin.arm_qpos]
    truth_s = np.array([state.stamp_ns - start for state in episode.sim]) * 1e-9
    played = replay(robot, int(episode.sim[0].values['seed']), rows[layout.ACTION])
    return {
        'state_age_ms': _or_none(-delay_ms(truth_s, truth, stamps, rows[layout.STATE][:, :14])),
        'action_delay_ms': _or_none(delay_ms(truth_s, truth, played.seconds, played.arms)),
        'stamp_error_ms': _stamp_error_ms(episode),
        'replayed': played.solved,
        'replay_reason': played.reason,
    }  # fmt: skip


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 3)


def _stamp_error_ms(episode: Episode) -> float | None:
    """Recorded stamp minus the twin's own inside the picture, the largest of all cameras."""
    worst = None
    for stream in episode.images.values():
        for index, stamp in enumerate(stream.stamp_ns):
            own = decode_stamp(stream.jpeg(index))
            if own is not None:
                worst = max(worst or 0.0, abs(int(stamp) - own[1]) / 1e6)
    return worst


def exported(folder: Path, out: Path, contract: RobotContract) -> tuple[dict, list[dict]]:
    """Both datasets of the folder's episodes (version -> set), and the records of their episodes.

    Raises:
        ValueError: nothing can be exported, or the two datasets have different rows.
    """
    sets, records = {}, []
    for version, name in SETS.items():
        records = export(select(folder, Selection()), out / name, version, contract.row_rate_hz,
                         contract, say)
        sets[version] = open_set(out / name)
    for number in range(len(records)):
        old, new = (_rows(sets[version], sets[version].episodes[number]) for version in SETS)
        if any(not np.array_equal(old[column], new[column]) for column in old):
            raise ValueError(f'{out}: episode {number} has different rows in the two datasets')
    return sets, records


def _rows(dataset: LeRobotSet, episode: EpisodeMeta) -> dict[str, np.ndarray]:
    return dataset.table(episode, [layout.STATE, layout.ACTION, 'stamp_ns'])


def summary(results: Sequence[Mapping]) -> list[str]:
    """The table, one line per task and one for all."""
    tasks = sorted({result['task'] for result in results})
    lines = [_line(task, [r for r in results if r['task'] == task]) for task in tasks]
    return table(COLUMNS, lines + ([_line('all', results)] if len(tasks) > 1 else []))


def _line(name: str, results: Sequence[Mapping]) -> list[str]:
    scores = [result['score'] for result in results if result['score'] is not None]
    images = [error for result in results for error in result['image_error_ms'].values()]
    stamps = [r['stamp_error_ms'] for r in results if r['stamp_error_ms'] is not None]
    solved = sum(result['replayed'] for result in results)
    low, high = wilson(solved, len(results))
    return [
        name, str(len(results)),
        f'{min(scores):.0f} / {np.median(scores):.0f}' if scores else '-',
        f'{np.mean([e["mean"] for e in images]):.1f} / {max(e["max"] for e in images):.1f}',
        f'{max(stamps):.3f}' if stamps else '-',
        *(_spread([r[key] for r in results if r[key] is not None])
          for key in ('state_age_ms', 'action_delay_ms')),
        f'{sum(result["recorded"] for result in results)}', f'{solved}',
        f'{100 * low:.0f}..{100 * high:.0f} %',
    ]  # fmt: skip


def _spread(values: Sequence[float]) -> str:
    if not values:
        return '-'
    return f'{np.median(values):.1f} ({min(values):.1f}..{max(values):.1f})'


def run(folder: Path, out: Path) -> list[dict]:
    """Export and measure what is missing; all results."""
    contract = RobotContract.load()
    sets, records = exported(folder, out, contract)
    log, robots = out / 'episodes.jsonl', {}
    lines = log.read_text(encoding='utf-8').splitlines() if log.is_file() else []
    results = {line['episode']: line for line in map(json.loads, lines)}
    paths = {path.stem: (path, sidecar) for path, sidecar in select(folder, Selection())}
    for number, record in enumerate(records):
        name = record['source']
        if name in results:
            continue
        path, sidecar = paths[name]
        episode = read_episode(path, contract)
        task = sidecar.task
        if task not in robots:
            robots[task] = InProcessRobot(task, contract, images=False)
        rows = _rows(sets[layout.V21], sets[layout.V21].episodes[number])
        result = {'episode': name, 'task': task, 'score': sidecar.score,
                  'image_error_ms': record['image_error_ms'],
                  **measure(episode, rows, robots[task])}  # fmt: skip
        with open(log, 'a', encoding='utf-8') as file:
            file.write(json.dumps(result) + '\n')
        results[name] = result
        say(f'{number + 1}/{len(records)} {name}: state {result["state_age_ms"]} ms, action '
            f'{result["action_delay_ms"]} ms, replay: {result["replay_reason"]}')
    # The verdict, not the last state recorded: a recording may end before the next one comes.
    return [{**results[record['source']],
             'recorded': paths[record['source']][1].outcome == 'success'} for record in records]


def main(argv: Sequence[str] | None = None) -> int:
    """The benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('episodes', type=Path, help='folder of episodes recorded in the twin')
    parser.add_argument('--out', type=Path, required=True, help='datasets and results')
    options = parser.parse_args(argv)
    try:
        results = run(options.episodes, options.out)
    except ValueError as error:
        say(str(error))
        return 1
    chosen = len(select(options.episodes, Selection()))
    lines = header_lines(header(len(results))) + summary(results)
    lines += ['', f'{len(results)} of {chosen} episodes could be exported.']
    (options.out / 'alignment.md').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    say('\n'.join(lines))
    return 0


if __name__ == '__main__':
    sys.exit(main())
