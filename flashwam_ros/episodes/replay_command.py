# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam replay` and `flashwam shadow`: a policy once more, or another one, on a recording."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from flashwam_ros.episodes.library import find_episodes
from flashwam_ros.episodes.reader import Episode, EpisodeError, read_episode
from flashwam_ros.episodes.recording import checkpoint_hash
from flashwam_ros.episodes.replay import (
    ChunkComparison,
    as_dict,
    first_difference,
    recorded_setting,
    replay,
)
from flashwam_ros.episodes.shadow import shadow
from flashwam_ros.episodes.sidecar import SidecarError
from flashwam_ros.episodes.software import differences, software
from flashwam_ros.imaging import ImageError
from flashwam_ros.policy.backends import PolicyChoice, make_policy, read_arms
from flashwam_ros.policy.loop import LOOKAHEAD
from flashwam_ros.policy.protocol import PolicyError
from flashwam_ros.robot.contract import RobotContract

DEFAULT_FOLDER = Path('episodes')
ARMS = 'arms.json'
_FAILURES = (OSError, EpisodeError, SidecarError, ImageError, PolicyError)


def _say(text: str) -> None:
    sys.stdout.write(f'{text}\n')


def _one_episode(text: str, folder: Path) -> Episode:
    entries = find_episodes([text], folder)
    if len(entries) != 1:
        raise EpisodeError(f'{text!r} fits {len(entries)} episodes: name one')
    return read_episode(entries[0].path)


def _choice(episode: Episode, options: argparse.Namespace, steps: tuple[int, int]) -> PolicyChoice:
    """The model that made the recording.

    Raises:
        EpisodeError: it is not there, or the folder holds another one by now.
    """
    sidecar, code = episode.sidecar, episode.sidecar.extra.get('arm', '')
    if code:
        # Episodes of a study lie in its folder; the sidecar names what the graph began with.
        path = options.arms or episode.path.absolute().parent.parent / ARMS
        arms = read_arms(path)
        if code not in arms:
            raise EpisodeError(f'{episode.path}: its arm {code!r} is not in {path}')
        return arms[code]
    folder = str(options.checkpoint or sidecar.checkpoint)
    if not Path(folder, 'flashwam.json').is_file():
        raise EpisodeError(
            f'{episode.path}: its checkpoint {folder or "(not recorded)"} is not here: say where '
            'it is with --checkpoint FOLDER'
        )
    found = checkpoint_hash(folder)
    if sidecar.checkpoint_sha256 and sidecar.checkpoint_sha256 != found:
        raise EpisodeError(
            f'{folder} holds another model ({found[:12]}) than the one that was recorded '
            f'({sidecar.checkpoint_sha256[:12]}). Give that one with --checkpoint, or hold this '
            'one against the recording with `flashwam shadow`'
        )
    return PolicyChoice('wam', folder, *steps)


# -- replay ---------------------------------------------------------------------------------------


def _replay_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='flashwam replay',
        description='Feed a recorded episode through the policy that made it, with the recorded '
                    'seed and steps, and say which chunk differs first. Exit code: 0 where every '
                    'chunk is the same, 1 where one differs, 2 where it cannot be replayed.',
    )  # fmt: skip
    parser.add_argument('episode', help='file, or part of an episode\'s name')
    parser.add_argument('--folder', type=Path, default=DEFAULT_FOLDER,
                        help='where episodes lie (default: %(default)s)')  # fmt: skip
    parser.add_argument('--checkpoint', type=Path, help='where the model is now')
    parser.add_argument('--arms', type=Path, help='arms.json of the study that it is a trial of '
                        '(default: that in the folder above)')  # fmt: skip
    parser.add_argument('--tolerance', type=float, default=0.0, metavar='RAD',
                        help='what still counts as the same (default: %(default)s)')  # fmt: skip
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    return parser


def replay_main(argv: Sequence[str] | None = None) -> int:
    """`flashwam replay`; returns the exit code."""
    options = _replay_parser().parse_args(argv)
    try:
        episode = _one_episode(options.episode, options.folder)
        setting = recorded_setting(episode)
        choice = _choice(episode, options, (setting.video_steps, setting.action_steps))
        policy = make_policy(choice, RobotContract.load())
        chunks = []
        for chunk in replay(episode, policy, setting):
            chunks.append(chunk)
            if not options.json:
                _say(_line(chunk))
    except _FAILURES as error:
        sys.stderr.write(f'flashwam replay: {error}\n')
        return 2
    first = first_difference(tuple(chunks), options.tolerance)
    report = {
        'episode': str(episode.path), 'session': setting.session, 'task': episode.sidecar.task,
        'prompt': setting.prompt, 'seed': setting.seed, 'execution': setting.execution,
        'video_steps': setting.video_steps, 'action_steps': setting.action_steps,
        'checkpoint': choice.checkpoint, 'checkpoint_sha256': checkpoint_hash(choice.checkpoint),
        'same': first is None, 'tolerance_rad': options.tolerance,
        'first_difference': as_dict(first),
        'max_rad': max(chunk.max_rad for chunk in chunks),
        'other_software': differences(episode.sidecar.extra.get('software', {}), software()),
        'chunks': [as_dict(chunk) for chunk in chunks],
    }  # fmt: skip
    _say(json.dumps(report) if options.json else _verdict(report, first))
    return 0 if first is None else 1


def _line(chunk: ChunkComparison) -> str:
    if not chunk.channel:
        return f'chunk {chunk.index}: the same'
    return (f'chunk {chunk.index}: differs by at most {chunk.max_rad:.3g} rad (row {chunk.row}, '
            f'{chunk.channel}), mean {chunk.mean_rad:.3g} rad')  # fmt: skip


def _verdict(report: dict, first: ChunkComparison | None) -> str:
    count, how = len(report['chunks']), f'{report["video_steps"]}v/{report["action_steps"]}a'
    about = f'{report["episode"]}: seed {report["seed"]}, {report["execution"]}, {how}'
    if first is None:
        limit = report['tolerance_rad']
        same = f'within {limit:g} rad' if limit else 'to the last bit'
        return f'{about}\nall {count} chunks are the same {same}'
    lines = [about, f'first difference: {_line(first)}; {count} chunks, largest difference '
                    f'{report["max_rad"]:.3g} rad']  # fmt: skip
    lines += [f'recorded with {text}' for text in report['other_software']]
    return '\n'.join(lines)


# -- shadow ---------------------------------------------------------------------------------------


def _shadow_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='flashwam shadow',
        description='Run a model beside a recorded episode, whoever moved the robot, and say how '
                    'far its chunks are from what was executed in their place.',
    )  # fmt: skip
    parser.add_argument('episode', help='file, or part of an episode\'s name')
    parser.add_argument('--checkpoint', type=Path, required=True, help='folder of the model')
    parser.add_argument('--folder', type=Path, default=DEFAULT_FOLDER,
                        help='where episodes lie (default: %(default)s)')  # fmt: skip
    parser.add_argument('--video-steps', type=int, default=0, help='0: as the checkpoint says')
    parser.add_argument('--action-steps', type=int, default=0, help='0: as the checkpoint says')
    parser.add_argument('--execution', choices=tuple(LOOKAHEAD), default='sync')
    parser.add_argument('--prompt', help='instruction (default: the recorded one)')
    parser.add_argument('--seed', type=int, default=0, help='of the model\'s noise')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    return parser


def shadow_main(argv: Sequence[str] | None = None) -> int:
    """`flashwam shadow`; 0, or 1 where the model could not go on, 2 where nothing can be said."""
    options = _shadow_parser().parse_args(argv)
    try:
        episode = _one_episode(options.episode, options.folder)
        prompt = options.prompt or episode.sidecar.prompt
        if not prompt:
            raise EpisodeError(f'{episode.path}: no prompt was recorded: give --prompt TEXT')
        choice = PolicyChoice(
            'wam', str(options.checkpoint), options.video_steps, options.action_steps
        )
        policy = make_policy(choice, RobotContract.load())
        found = shadow(episode, policy, prompt=prompt, seed=options.seed,
                       execution=options.execution)  # fmt: skip
        if found.summary is None:
            raise EpisodeError(f'{episode.path}: no chunk could be compared. {found.stopped}')
    except _FAILURES as error:
        sys.stderr.write(f'flashwam shadow: {error}\n')
        return 2
    report = {
        'episode': str(episode.path), 'checkpoint': choice.checkpoint,
        'checkpoint_sha256': checkpoint_hash(choice.checkpoint), 'prompt': prompt,
        'seed': options.seed, 'execution': options.execution, 'moved_by': episode.sidecar.policy,
        **found.to_dict(),
    }  # fmt: skip
    if options.json:
        _say(json.dumps(report))
    else:
        for distance in found.distances:
            _say(f'chunk {distance.index}: arms {distance.arm_mean:.4f} rad (max '
                 f'{distance.arm_max:.4f} at {distance.arm_channel}; standing still '
                 f'{distance.still_arm_mean:.4f}), grippers {distance.gripper_mean:.3f} rad, '
                 f'{distance.source}')  # fmt: skip
        _say(found.summary.text())
    if found.stopped:
        sys.stderr.write(f'flashwam shadow: stopped: {found.stopped}\n')
    return 1 if found.stopped else 0
