# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DDS participants: one domain object per domain id in a process, configured per interface."""

import socket
import threading
from xml.sax.saxutils import quoteattr

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain, DomainParticipant

LOOPBACK = 'lo'
_MAX_PARTICIPANTS = 32

_lock = threading.Lock()
_domains: dict[int, tuple[str, Domain]] = {}


class DomainError(RuntimeError):
    """A DDS domain cannot be opened as asked."""


def cyclone_config(interface: str) -> str:
    """Cyclone DDS configuration (XML) for a network interface such as `eth0`, or `lo`.

    Loopback has no multicast, so participants are found by unicast to 127.0.0.1. AllowMulticast
    stays at its default: switched off, unmodified vendor clients silently receive nothing.
    """
    if interface == LOOPBACK:
        network = f'<NetworkInterface name="{LOOPBACK}"/>'
        discovery = (
            '<Discovery><ParticipantIndex>auto</ParticipantIndex>'
            f'<MaxAutoParticipantIndex>{_MAX_PARTICIPANTS}</MaxAutoParticipantIndex>'
            '<Peers><Peer address="127.0.0.1"/></Peers></Discovery>'
        )
    else:
        name = quoteattr(interface)
        network = f'<NetworkInterface name={name} priority="default" multicast="default"/>'
        discovery = ''
    return (
        '<?xml version="1.0" encoding="UTF-8"?><CycloneDDS><Domain Id="any">'
        f'<General><Interfaces>{network}</Interfaces></General>{discovery}'
        '</Domain></CycloneDDS>'
    )


def open_participant(domain: int, interface: str) -> DomainParticipant:
    """A new participant on a domain; the domain object is made once and kept for the process.

    Args:
        domain: DDS domain id (0 on the robot, 1 by convention for simulators).
        interface: network interface name; `lo` for a twin on the same machine.

    Raises:
        DomainError: if the interface does not exist, or the domain is already open in this process
            on another interface or by other code (Cyclone allows one domain object per id).
    """
    present = [name for _, name in socket.if_nameindex()]
    if interface not in present:
        raise DomainError(
            f'no network interface {interface!r} here: there are {", ".join(present)}'
        )
    with _lock:
        if domain not in _domains:
            try:
                _domains[domain] = (interface, Domain(domain, cyclone_config(interface)))
            except DDSException as error:
                raise DomainError(
                    f'DDS domain {domain} cannot be opened on {interface}: is it already open in '
                    f'this process, for example by the vendor SDK? ({error})'
                ) from error
        opened = _domains[domain][0]
        if opened != interface:
            raise DomainError(
                f'DDS domain {domain} is open on interface {opened} in this process: '
                f'{interface} needs another process or another domain'
            )
        try:
            return DomainParticipant(domain)
        except DDSException as error:
            raise DomainError(
                f'no DDS participant on domain {domain}, interface {interface}: is the interface '
                f'up, and are there fewer than {_MAX_PARTICIPANTS} participants? ({error})'
            ) from error
