# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam serve`: a world-action model for a robot on another machine."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence

from flashwam_ros.policy.handshake import Handshake
from flashwam_ros.policy.protocol import PolicyError
from flashwam_ros.policy.server import PORT, PolicyServer
from flashwam_ros.policy.wam_policy import load_wam_policy
from flashwam_ros.training.results import SAMPLERS, checkpoint_name, manifest_sha256, parse_steps
from flashwam_ros.training.table_plan import find_checkpoint

log = logging.getLogger(__name__)


def handshake_of(path, policy, steps: tuple[int, int], sampler: str = 'own') -> Handshake:
    """What is said of a checkpoint folder that was loaded as a policy.

    Args:
        path: checkpoint folder.
        policy: the policy made of it.
        steps: denoising steps of video and action that it runs with.
        sampler: 'own' or 'euler', as it was loaded.
    """
    return Handshake(
        checkpoint=checkpoint_name(path), sha256=manifest_sha256(path), contract=policy.contract,
        video_steps=steps[0], action_steps=steps[1], sampler=sampler, warnings=policy.warnings,
        mode_problems=policy.mode_problems,
    )  # fmt: skip


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='flashwam serve', description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='folder of the model, or a name under models/')
    parser.add_argument('--steps', type=parse_steps, default=(0, 0),
                        help='like 1v/2a; default: as the checkpoint says')
    parser.add_argument('--sampler', choices=SAMPLERS, default='own',
                        help='euler replaces what the checkpoint stores')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen at; there is no password: keep to this machine '
                        'and an SSH tunnel, or to a network of your own (default %(default)s)')
    parser.add_argument('--port', type=int, default=PORT, help='default %(default)s')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    options = _parse(argv)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', datefmt='%H:%M:%S')
    logging.getLogger('websockets').setLevel(logging.ERROR)
    path = find_checkpoint(options.checkpoint)
    if path is None:
        sys.stderr.write(f'flashwam serve: no checkpoint {options.checkpoint!r} in models/ or '
                         'among what was trained here\n')
        return 2
    try:
        policy = load_wam_policy(path, *options.steps, sampler=options.sampler)
        for warning in policy.warnings:
            log.warning(warning)
        warm_ms = 1e3 * policy.warm_up()
        handshake = handshake_of(path, policy, policy.steps, options.sampler)
        server = PolicyServer(policy, handshake, options.host, options.port)
    except PolicyError as error:
        sys.stderr.write(f'flashwam serve: {error}\n')
        return 2
    for name in (signal.SIGINT, signal.SIGTERM):
        # Not in this thread: it is the one that serves.
        signal.signal(name, lambda *_: threading.Thread(target=server.close).start())
    log.info('%s at %dv/%da, a warm chunk takes %.0f ms; serving at %s (checkpoint:=%s)',
             path.name, *policy.steps, warm_ms, server.address, server.address)
    server.run()
    return 0


if __name__ == '__main__':
    sys.exit(main())
