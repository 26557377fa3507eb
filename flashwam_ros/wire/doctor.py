# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`flashwam doctor`: why the robot's wire is silent.

Says for every topic that the driver needs whether somebody offers it, under which type, and
whether samples arrive, on which domain and interface; lists what else was discovered. Reads only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.core import InstanceState
from cyclonedds.domain import DomainParticipant

from flashwam_ros.wire import endpoints
from flashwam_ros.wire.diagnosis import Interface, Offer, Seen, Wanted, diagnose
from flashwam_ros.wire.participant import DomainError, open_participant
from flashwam_ros.wire.services import MOTION_SWITCHER, SPORT, request_topic

LISTEN_S = 4.0
OTHER_DOMAINS = (0, 1)
_POLL_S = 0.01
_BATCH = 64
_REQUEST_TYPE = 'unitree_api::msg::dds_::Request_'


def wanted_topics() -> tuple[Wanted, ...]:
    """What the driver and the preflight need of a robot."""
    states = (endpoints.LOWSTATE, *endpoints.GRIPPER_STATE.values())
    services = (request_topic(MOTION_SWITCHER), request_topic(SPORT))
    return (
        *(Wanted(name, endpoints.type_name(name), 'writer') for name in states),
        *(Wanted(name, endpoints.type_name(name), 'reader') for name in endpoints.COMMAND_TOPICS),
        *(Wanted(name, _REQUEST_TYPE, 'reader') for name in services),
    )


def interfaces() -> tuple[Interface, ...]:
    """The network interfaces of this machine and whether they are up."""
    found = []
    for folder in sorted(Path('/sys/class/net').iterdir()):
        try:
            state = (folder / 'operstate').read_text(encoding='utf-8').strip()
        except OSError:
            continue
        # Loopback says 'unknown'; only 'down' is known to be wrong.
        found.append(Interface(folder.name, state != 'down'))
    return tuple(found)


def listen(domain: int, interface: str, seconds: float, readers: bool = True) -> Seen:
    """Discover and count samples for a while.

    Args:
        domain: DDS domain id.
        interface: network interface.
        seconds: how long.
        readers: also read the robot's states; else only discover.

    Raises:
        DomainError: the domain cannot be opened.
    """
    participant = open_participant(domain, interface)
    names = (endpoints.LOWSTATE, *endpoints.GRIPPER_STATE.values()) if readers else ()
    sources = {name: endpoints.reader(participant, name) for name in names}
    discovery = {
        'writer': BuiltinDataReader(participant, BuiltinTopicDcpsPublication),
        'reader': BuiltinDataReader(participant, BuiltinTopicDcpsSubscription),
    }
    counts, matched = dict.fromkeys(names, 0), dict.fromkeys(names, False)
    offers: dict[object, Offer] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for kind, reader in discovery.items():
            _discover(reader, kind, participant, offers)
        for name, source in sources.items():
            counts[name] += endpoints.take_raw(source) is not None
        # A state every 2 ms: polling as often keeps the newest-only readers from missing many.
        time.sleep(_POLL_S if not readers else 0.001)
    for name, source in sources.items():
        matched[name] = bool(source.get_matched_publications())
    rates = {name: count / seconds for name, count in counts.items()}
    return Seen(domain, interface, tuple(offers.values()), rates, matched)


def _discover(
    reader: BuiltinDataReader, kind: str, own: DomainParticipant, offers: dict[object, Offer]
) -> None:
    for change in reader.take(_BATCH):
        if change.sample_info.instance_state != InstanceState.Alive:
            offers.pop(change.key, None)
        elif change.participant_key != own.guid:
            offers[change.key] = Offer(
                change.topic_name, change.type_name, kind, str(change.participant_key)
            )


def examine(domain: int, interface: str, seconds: float) -> tuple[Seen, tuple[Seen, ...]]:
    """Listen on the domain; where it is silent, also on those that robots and simulators use."""
    seen = listen(domain, interface, seconds)
    if any(seen.rates.values()):
        return seen, ()
    others = [other for other in OTHER_DOMAINS if other != domain]
    return seen, tuple(listen(other, interface, seconds / 2, False) for other in others)


def main(argv: list[str] | None = None) -> int:
    """`flashwam doctor`: 0 when everything that is needed is there, 1 otherwise."""
    parser = argparse.ArgumentParser(prog='flashwam doctor', description=__doc__.split('\n')[0])
    parser.add_argument('--domain', type=int, default=1, help='DDS domain: 0 robot, 1 twin')
    parser.add_argument('--interface', default='lo', help='network interface of the robot')
    parser.add_argument('--seconds', type=float, default=LISTEN_S, help='how long to listen')
    parser.add_argument('--json', action='store_true', help='for programs')
    args = parser.parse_args(argv)
    try:
        seen, others = examine(args.domain, args.interface, args.seconds)
    except DomainError as error:
        sys.stderr.write(f'flashwam doctor: {error}\n')
        return 1
    diagnosis = diagnose(
        wanted_topics(), seen, others, interfaces(), os.environ.get('ROS_DOMAIN_ID') or '0'
    )
    text = json.dumps(diagnosis.to_dict(), indent=1) if args.json else diagnosis.text()
    sys.stdout.write(text + '\n')
    return 0 if diagnosis.ok else 1


if __name__ == '__main__':
    raise SystemExit(main())
