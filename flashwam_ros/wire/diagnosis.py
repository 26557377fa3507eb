# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What discovery and silence on the robot's wire mean; pure: what was seen in, sentences out."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LOOPBACK = 'lo'


@dataclass(frozen=True)
class Wanted:
    """A topic that the driver needs, its DDS type, and what the robot is: writer or reader."""

    topic: str
    type_name: str
    kind: str


@dataclass(frozen=True)
class Offer:
    """A discovered writer or reader of somebody else."""

    topic: str
    type_name: str
    kind: str
    participant: str


@dataclass(frozen=True)
class Seen:
    """What was discovered and heard on one domain.

    Attributes:
        domain: DDS domain id.
        interface: network interface.
        offers: everything discovered.
        rates: samples per second by topic that was read.
        matched: whether a writer matched our reader, by topic that was read.
    """

    domain: int
    interface: str
    offers: tuple[Offer, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    matched: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Interface:
    """A network interface of this machine."""

    name: str
    up: bool


@dataclass(frozen=True)
class Finding:
    """One topic, or the wire as a whole: in order or not, what was found, what to do."""

    subject: str
    ok: bool
    found: str
    remedy: str = ''


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and everything that was discovered."""

    findings: tuple[Finding, ...]
    offers: tuple[Offer, ...]

    @property
    def ok(self) -> bool:
        """Whether everything needed is there."""
        return all(finding.ok for finding in self.findings)

    def to_dict(self) -> dict:
        """Plain JSON types."""
        return {'ok': self.ok, **dataclasses.asdict(self)}

    def text(self) -> str:
        """For people."""
        lines = []
        for finding in self.findings:
            lines.append(f'{"ok     " if finding.ok else "MISSING"} {finding.subject}: '
                         f'{finding.found}')  # fmt: skip
            if finding.remedy:
                lines.append(f'        -> {finding.remedy}')
        lines.append(f'discovered: {len(self.offers)} endpoints of others')
        lines += sorted(
            f'  {offer.kind} {offer.topic} [{offer.type_name}] of {offer.participant}'
            for offer in self.offers
        )
        return '\n'.join(lines)


def diagnose(
    wanted: Sequence[Wanted],
    seen: Seen,
    others: Sequence[Seen],
    interfaces: Sequence[Interface],
    ros_domain: str,
) -> Diagnosis:
    """Explain what was seen.

    Args:
        wanted: what is needed.
        seen: on the domain asked for.
        others: on other domains, where the first was silent.
        interfaces: of this machine.
        ros_domain: ROS_DOMAIN_ID as text.
    """
    findings = [_wire(seen, others, interfaces)]
    if ros_domain == str(seen.domain):
        findings.append(Finding(
            'ROS_DOMAIN_ID', False, f'{ros_domain}, which is also the robot\'s DDS domain',
            'export another ROS_DOMAIN_ID in every shell that uses ROS',
        ))  # fmt: skip
    findings += [_topic(one, seen) for one in wanted]
    return Diagnosis(tuple(findings), seen.offers)


def _wire(seen: Seen, others: Sequence[Seen], interfaces: Sequence[Interface]) -> Finding:
    subject = f'domain {seen.domain} on {seen.interface}'
    if seen.offers:
        count = len({offer.participant for offer in seen.offers})
        return Finding(subject, True, f'{count} participants discovered')
    elsewhere = [other.domain for other in others if other.offers]
    if elsewhere:
        return Finding(
            subject, False, f'nobody, but domain {elsewhere[0]} is alive on this interface',
            f'use domain {elsewhere[0]}: unitree_domain:={elsewhere[0]} (0 robot, 1 simulator)',
        )  # fmt: skip
    names = ', '.join(f'{i.name}{"" if i.up else " (down)"}' for i in interfaces)
    if any(i.name == seen.interface and not i.up for i in interfaces):
        remedy = f'{seen.interface} is down: plug in the cable, `ip link set {seen.interface} up`'
    elif seen.interface == LOOPBACK:
        remedy = (
            'start the simulated robot (`flashwam twin`); for a real robot give --interface, '
            f'one of {names}'
        )
    else:
        remedy = (
            'ping 192.168.123.161 (the robot); this machine needs an address like '
            '192.168.123.99/24 on that interface, and no firewall on UDP 7400 and above'
        )
    return Finding(subject, False, f'nobody at all; interfaces here: {names}', remedy)


def _topic(wanted: Wanted, seen: Seen) -> Finding:
    offers = [o for o in seen.offers if o.topic == wanted.topic and o.kind == wanted.kind]
    subject = f'{wanted.topic} [{wanted.type_name}]'
    if not offers:
        # Where nobody is at all, the remedy for the wire comes first.
        remedy = _absent(wanted, seen) if seen.offers else ''
        return Finding(subject, False, f'no {wanted.kind}', remedy)
    types = sorted({offer.type_name for offer in offers})
    if wanted.type_name not in types:
        return Finding(
            subject, False, f'a {wanted.kind} with type {", ".join(types)}',
            'types must agree by name and structure: another firmware, or another robot',
        )  # fmt: skip
    if wanted.topic not in seen.rates:
        return Finding(subject, True, f'{len(offers)} {wanted.kind}(s)')
    sources = {offer.participant for offer in offers}
    if len(sources) > 1:
        return Finding(
            subject, False, f'two robots: {len(sources)} programs write it',
            f'end the simulator or the other robot on this wire: {", ".join(sorted(sources))}',
        )  # fmt: skip
    rate = seen.rates[wanted.topic]
    if rate > 0.0:
        return Finding(subject, True, f'{rate:.0f} Hz heard')
    if not seen.matched.get(wanted.topic):
        return Finding(
            subject, False, 'a writer of that type name that does not match our reader',
            'the type\'s structure differs (for example temperature int8 instead of uint8)',
        )  # fmt: skip
    return Finding(
        subject, False, 'a writer, but no sample arrives',
        'the writer is paused or was killed, or a firewall drops data (UDP 7401 and above)',
    )  # fmt: skip


def _absent(wanted: Wanted, seen: Seen) -> str:
    known = sorted({offer.topic for offer in seen.offers})
    near = difflib.get_close_matches(wanted.topic, known, n=3, cutoff=0.7)
    near = [topic for topic in near if topic != wanted.topic]
    hint = f'; offered are {", ".join(near)}' if near else ''
    if 'dex1' in wanted.topic:
        return f'start dex1_1_gripper_server on the robot\'s computer (option -n INTERFACE){hint}'
    if wanted.topic.endswith('arm_sdk') or '/api/' in wanted.topic:
        return f'the motion service does not run: L2+B, then L1+UP, R1+X on the remote{hint}'
    return f'switch the robot on and wait for it to boot{hint}'
