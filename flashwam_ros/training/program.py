# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the training programs share: processes, and the record that a checkpoint carries."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training.codec_trainer import codec_hash
from flashwam_ros.training.dataset import LatentEpisode, load_folder
from flashwam_ros.training.distributed import Peers, connect, disconnect, spawn
from flashwam_ros.training.latent_files import load_latent_set
from flashwam_ros.training.lerobot_layout import INFO
from flashwam_ros.training.trainer import DivergedError
from flashwam_ros.wam.checkpoint import CheckpointError
from flashwam_ros.wam.codec import NanoCodec

INTERRUPTED = 130


def add_process_options(parser: argparse.ArgumentParser, port: int) -> None:
    """``--processes`` and what it needs; under torchrun none of them is used."""
    parser.add_argument('--processes', type=int, default=1,
                        help='started here, one core or GPU each (torchrun does the same)')
    parser.add_argument('--port', type=int, default=port, help='loopback port of the processes')
    parser.add_argument('--rank', type=int, default=None, help=argparse.SUPPRESS)


def run_processes(options: argparse.Namespace, argv: Sequence[str], module: str, sharding: str,
                  body: Callable[[Peers], int]) -> int:
    """Run ``body`` in this process, or in one child per rank; returns an exit code."""
    if options.rank is not None:
        os.environ.update(RANK=str(options.rank), WORLD_SIZE=str(options.processes),
                          LOCAL_RANK=str(options.rank), MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=str(options.port))
    if options.processes > 1 and 'RANK' not in os.environ:
        return spawn(module, argv, options.processes, options.port)
    torch.set_num_threads(1)
    peers = connect(sharding)
    try:
        return body(peers)
    except (ValueError, FileNotFoundError, CheckpointError, DivergedError) as error:
        sys.stderr.write(f'{module.rsplit(".", 1)[-1]}: {error}\n')
        return 1
    finally:
        disconnect()


def codec_marks(codec: NanoCodec, training: Mapping) -> list[str]:
    """Hashes of the codec that latents may name: the original's first, then this one's own.

    A checkpoint stores its codec in half precision; the original is in its training record.
    """
    own = codec_hash(codec)
    return [training.get('codec', own), own]


def load_latents(folder: Path, marks: Sequence[str]) -> list[LatentEpisode]:
    """Episodes whose latents were made by one of the codecs ``marks`` (`codec_marks`).

    The folder holds pre-encoded demonstrations, or LeRobot sets of ``flashwam extract-latents``.

    Raises:
        ValueError: another codec made them.
    """
    for mark in marks[:-1]:
        try:
            return _load(folder, mark)
        except ValueError:
            continue
    return _load(folder, marks[-1])


def _load(folder: Path, mark: str) -> list[LatentEpisode]:
    if any(folder.rglob(INFO)):
        return list(load_latent_set(folder, RobotContract.load(), mark).episodes)
    return load_folder(folder, mark)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def machine(processes: int, device: torch.device) -> str:
    """This machine in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        models = [line.split(':', 1)[1].strip() for line in cpuinfo.read_text().splitlines()
                  if line.startswith('model name')]
        name = models[0] if models else name
    ending = '' if processes == 1 else 'es'
    words = f'{os.cpu_count()} cores of {name}, {processes} process{ending}'
    if device.type == 'cuda':
        words += f', {torch.cuda.get_device_name(device)}'
    return words


def plain_path(path: Path) -> str:
    """A path as another machine may read it: below this folder, below ~, or its name alone."""
    path = path.resolve()
    for base, prefix in ((Path.cwd(), ''), (Path.home(), '~/')):
        if path.is_relative_to(base):
            return prefix + str(path.relative_to(base))
    return path.name


def command_line(verb: str, **options: object) -> str:
    """The command that repeats a run; options that are None are left out."""
    words = ['flashwam', verb]
    for name, value in options.items():
        if value is not None:
            words += [f'--{name.replace("_", "-")}',
                      plain_path(value) if isinstance(value, Path) else str(value)]
    return ' '.join(word if word.startswith('~/') else shlex.quote(word) for word in words)
