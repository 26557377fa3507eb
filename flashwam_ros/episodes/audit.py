# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Is this episode fit to be trained on and to be believed? A score with named reasons.

The same `Auditor` runs while recording and over a file afterwards, and says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flashwam_ros.episodes import messages as decode
from flashwam_ros.episodes import schemas
from flashwam_ros.episodes.audit_streams import Joints, Pictures, Timing, own_against_other
from flashwam_ros.episodes.mcap_scan import messages
from flashwam_ros.episodes.schemas import topic_key
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings

GREEN, AMBER, RED = 'green', 'amber', 'red'
ERROR, WARNING = 'error', 'warning'
PENALTY = {ERROR: 40, WARNING: 10}


@dataclass(frozen=True)
class Limits:
    """Thresholds of the audit; s, Hz, rad, deg of the named quantities.

    The warmth and swap thresholds are half of the smallest value seen in 60 demonstrations of the
    simulated robot (0.067 and 0.14).
    """

    duration_s: float = 1.0
    camera_hz: float = 14.0
    joints_hz: float = 40.0
    gap_factor: float = 2.5
    gap_error_s: float = 0.5
    command_gap_s: float = 0.1
    age_s: float = 0.15
    skew_s: float = 0.08
    repeated_share: float = 0.05
    frozen_s: float = 0.25
    black_level: float = 8.0
    black_contrast: float = 4.0
    warmth: float = 0.033
    swap: float = -0.07
    swap_looks: int = 8
    swap_travel: float = 0.5
    saturated_share: float = 0.02
    limited_share: float = 0.2
    start_drift: float = 0.1


@dataclass(frozen=True)
class Finding:
    """One reason why an episode is less than perfect.

    Attributes:
        name: named reason, for example 'gaps'.
        stream: topic or camera it is about.
        severity: 'error' or 'warning'.
        value: what was measured.
        limit: what it was compared with.
        text: one sentence.
    """

    name: str
    stream: str
    severity: str
    value: float
    limit: float
    text: str


@dataclass(frozen=True)
class Quality:
    """The verdict of the audit: score 0..100, 'green', 'amber' or 'red', and why."""

    score: int
    level: str
    findings: tuple[Finding, ...]
    streams: Mapping[str, Mapping[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, as in the sidecar."""
        return {
            'score': self.score, 'level': self.level,
            'findings': [asdict(finding) for finding in self.findings],
            'streams': {name: dict(values) for name, values in self.streams.items()},
        }  # fmt: skip


class Auditor:
    """Looks at every message of an episode once.

    Args:
        contract: channels and cameras.
        limits: thresholds.
    """

    def __init__(self, contract: RobotContract, limits: Limits | None = None):
        self._contract = contract
        self._limits = limits or Limits()
        self._topics = tuple(topic.name for topic in schemas.recorded_topics(contract))
        self._keys: dict[str, str | None] = {}
        self._cameras = {schemas.image_topic(c.topic): c.key for c in contract.cameras}
        self._timing = {
            name: Timing()
            for name in (*self._cameras, schemas.JOINT_STATES, schemas.JOINT_COMMANDS)
        }
        self._pictures = {key: Pictures() for key in self._cameras.values()}
        self._measured, self._commanded = Joints(contract), Joints(contract)
        self._estimated: set[str] = set()
        self._limited: list[tuple[int, int]] = []
        self._span_ns = (0, 0)

    def add(self, topic: str, log_ns: int, data: bytes | memoryview) -> None:
        """One message as recorded: full topic name, arrival (ns), CDR bytes.

        Raises:
            ValueError: the bytes are not the message that the topic promises.
        """
        if topic not in self._keys:
            self._keys[topic] = topic_key(topic, self._topics)
        key = self._keys[topic]
        # Topics are read one after the other: a few ms, arrivals of different ones are no order.
        self._span_ns = (min(self._span_ns[0] or log_ns, log_ns), max(self._span_ns[1], log_ns))
        if key in self._cameras:
            self._add_picture(key, log_ns, memoryview(data))
        elif key in (schemas.JOINT_STATES, schemas.JOINT_COMMANDS):
            sample = decode.joints(data, schemas.JOINT_STATE_TYPE)
            self._timing[key].add(sample.stamp_ns, log_ns)
            joints = self._measured if key == schemas.JOINT_STATES else self._commanded
            joints.add(sample.stamp_ns, sample.names, sample.position)
        elif key == schemas.DRIVER_STATUS:
            state = decode.driver_state(data, 'flashwam_ros/msg/DriverStatus')
            if state.mode == 'EXECUTE':
                self._limited.append((state.stamp_ns, state.limited_ticks))
        elif key == schemas.DIAGNOSTICS:
            for entry in decode.diagnostics(data, 'diagnostic_msgs/msg/DiagnosticArray'):
                if entry.values.get('stamps estimated') == 'True':
                    self._estimated.add(entry.name.removeprefix('camera: '))

    def _add_picture(self, topic: str, log_ns: int, data: memoryview) -> None:
        stamp_ns = decode.header_stamp_ns(data)
        self._timing[topic].add(stamp_ns, log_ns)
        travel = self._measured.travel
        camera = self._cameras[topic]
        side = {'left_wrist': 0, 'right_wrist': 1}.get(camera)
        in_view = float(travel.sum() if side is None else travel[side])
        self._pictures[camera].add(stamp_ns, decode.image_jpeg(data), travel, in_view)

    def quality(self, dropped: Mapping[str, int] | None = None) -> Quality:
        """The verdict on everything so far.

        Args:
            dropped: messages that the recorder lost, by topic.
        """
        findings = tuple(self._findings(dropped or {}))
        score = max(0, 100 - sum(PENALTY[finding.severity] for finding in findings))
        severe = any(finding.severity == ERROR for finding in findings)
        level = RED if severe or score < 50 else AMBER if findings else GREEN
        return Quality(score, level, findings, self._figures())

    def _figures(self) -> dict[str, dict[str, float]]:
        figures = {}
        for name, timing in self._timing.items():
            gaps, longest_s = timing.gaps(self._limits.gap_factor)
            figures[name] = {
                'messages': timing.count, 'rate_hz': round(timing.rate_hz, 2), 'gaps': gaps,
                'longest_gap_s': round(longest_s, 4), 'age_p50_s': round(timing.age_s(50), 4),
                'age_p95_s': round(timing.age_s(95), 4),
            }  # fmt: skip
        return figures

    # -- findings ---------------------------------------------------------------------------------

    def _findings(self, dropped: Mapping[str, int]) -> Iterator[Finding]:
        limits, seconds = self._limits, (self._span_ns[1] - self._span_ns[0]) * 1e-9
        for topic, count in sorted(dropped.items()):
            yield Finding('dropped', topic, ERROR, count, 0,
                          f'the recorder lost {count} messages')  # fmt: skip
        if seconds < limits.duration_s:
            yield Finding('short', 'episode', WARNING, seconds, limits.duration_s,
                          f'only {seconds:.2f} s long')  # fmt: skip
        for topic, camera in self._cameras.items():
            yield from self._timing_findings(topic, camera, limits.camera_hz)
            yield from self._picture_findings(camera)
        for topic in (schemas.JOINT_STATES, schemas.JOINT_COMMANDS):
            yield from self._timing_findings(topic, topic, limits.joints_hz)
        yield from self._camera_set_findings()
        yield from self._joint_findings(schemas.JOINT_STATES, self._measured)
        yield from self._joint_findings(schemas.JOINT_COMMANDS, self._commanded)
        yield from self._motion_findings()

    def _timing_findings(self, topic: str, stream: str, lowest_hz: float) -> Iterator[Finding]:
        timing, limits = self._timing[topic], self._limits
        if timing.count < 2:
            severity = WARNING if topic == schemas.JOINT_COMMANDS else ERROR
            yield Finding('missing', stream, severity, timing.count, 2,
                          f'{timing.count} messages: nobody published it')  # fmt: skip
            return
        if timing.rate_hz < lowest_hz:
            yield Finding('rate', stream, WARNING, timing.rate_hz, lowest_hz,
                          f'{timing.rate_hz:.1f} Hz, should be {lowest_hz:.0f} Hz or more')
        if topic == schemas.JOINT_COMMANDS:
            # Commands may pause, and never cost more than a warning: but no row lies in a pause.
            gaps, longest_s = timing.longer(limits.command_gap_s)
            severity, limit_s = WARNING, limits.command_gap_s
        else:
            gaps, longest_s = timing.gaps(limits.gap_factor)
            limit_s = limits.gap_error_s
            severity = ERROR if longest_s > limit_s else WARNING
        if gaps:
            yield Finding('gaps', stream, severity, longest_s, limit_s,
                          f'{gaps} gaps, the longest {longest_s:.3f} s')  # fmt: skip
        if topic != schemas.JOINT_COMMANDS:
            yield from self._edge_findings(timing, stream)
        if timing.backwards:
            yield Finding('stamp_order', stream, ERROR, timing.backwards, 0,
                          f'{timing.backwards} stamps lie before the one before')
        share = timing.repeated / timing.count
        if share > limits.repeated_share:
            yield Finding('repeated', stream, WARNING, share, limits.repeated_share,
                          f'{share:.0%} of the messages tell the same instant again')
        if timing.future:
            yield Finding('stamp_future', stream, ERROR, timing.future, 0,
                          f'{timing.future} stamps lie after their arrival: clocks differ')
        age_s = timing.age_s(95)
        if age_s > limits.age_s:
            yield Finding('stamp_age', stream, WARNING, age_s, limits.age_s,
                          f'95 % arrive within {age_s:.3f} s of their stamp')  # fmt: skip

    def _edge_findings(self, timing: Timing, stream: str) -> Iterator[Finding]:
        """A stream that came late or died: neither is an interval between two of its messages."""
        limit_s = self._limits.gap_error_s
        head_s = (timing.first_arrival_ns - self._span_ns[0]) * 1e-9
        tail_s = (self._span_ns[1] - timing.last_arrival_ns) * 1e-9
        if head_s > limit_s:
            yield Finding('gaps', stream, ERROR, head_s, limit_s,
                          f'nothing in the first {head_s:.3f} s')  # fmt: skip
        if tail_s > limit_s:
            yield Finding('gaps', stream, ERROR, tail_s, limit_s,
                          f'nothing in the last {tail_s:.3f} s')  # fmt: skip

    def _picture_findings(self, camera: str) -> Iterator[Finding]:
        pictures, limits = self._pictures[camera], self._limits
        if pictures.undecodable:
            yield Finding('undecodable', camera, ERROR, pictures.undecodable, 0,
                          f'{pictures.undecodable} frames are no JPEG')  # fmt: skip
        if pictures.frozen_s > limits.frozen_s:
            yield Finding('frozen', camera, ERROR, pictures.frozen_s, limits.frozen_s,
                          f'the same picture for {pictures.frozen_s:.2f} s of motion')
        black = sum(look.brightness < limits.black_level and look.contrast < limits.black_contrast
                    for look in pictures.looks)  # fmt: skip
        if black:
            yield Finding('black', camera, ERROR, black / len(pictures.looks), 0,
                          f'{black} of {len(pictures.looks)} examined frames are black')
        if camera in self._estimated:
            yield Finding('stamp_estimated', camera, WARNING, 1, 0,
                          'capture stamps are estimated from the arrival')  # fmt: skip

    def _camera_set_findings(self) -> Iterator[Finding]:
        limits = self._limits
        ages = {camera: self._timing[topic].age_s(50) for topic, camera in self._cameras.items()
                if self._timing[topic].count}  # fmt: skip
        for camera, age_s in ages.items():
            skew_s = abs(age_s - float(np.median(list(ages.values()))))
            if skew_s > limits.skew_s:
                yield Finding('stamp_skew', camera, WARNING, skew_s, limits.skew_s,
                              f'{skew_s:.3f} s later than the other cameras')  # fmt: skip
        warmth = {key: p.warmth for key, p in self._pictures.items() if p.looks}
        warmest = max(warmth.values(), default=0.0)
        for camera, value in warmth.items():
            if value < -limits.warmth:
                sure = warmest > limits.warmth
                yield Finding(
                    'colour_order', camera, ERROR if sure else WARNING, value, -limits.warmth,
                    'bluer than a warm scene should be' + (
                        ', and the other cameras are not: red and blue are swapped' if sure else
                        ', like all cameras: is red swapped with blue?'),
                )  # fmt: skip
        yield from self._swap_findings()

    def _swap_findings(self) -> Iterator[Finding]:
        limits = self._limits
        wrists = {side: self._pictures.get(f'{side}_wrist') for side in ('left', 'right')}
        if None in wrists.values():
            return
        enough = all(len(p.changes) >= limits.swap_looks for p in wrists.values())
        if not enough or self._measured.travel.max() < limits.swap_travel:
            return
        value = own_against_other({side: p.changes for side, p in wrists.items()})
        if value < limits.swap:
            yield Finding('swapped', 'left_wrist, right_wrist', ERROR, value, limits.swap,
                          'each wrist camera moves with the other arm')  # fmt: skip

    def _joint_findings(self, stream: str, joints: Joints) -> Iterator[Finding]:
        if joints.non_finite:
            yield Finding('non_finite', stream, ERROR, joints.non_finite, 0,
                          f'{joints.non_finite} of {joints.rows} rows are not numbers')
        if joints.jumps:
            name, size = joints.worst_jump
            yield Finding('jumps', stream, ERROR, joints.jumps, 0,
                          f'{joints.jumps} jumps, the largest {size:.3f} rad of {name}')

    def _motion_findings(self) -> Iterator[Finding]:
        limits, contract = self._limits, self._contract
        arms = contract.group('left_arm', 'right_arm')
        if self._commanded.rows:
            share = self._commanded.saturated / self._commanded.rows
            channel = int(arms[share[arms].argmax()])
            if share[channel] > limits.saturated_share:
                name = contract.channel_names[channel]
                yield Finding('saturated', name, WARNING, share[channel],
                              limits.saturated_share,
                              f'{name} stands at its limit {share[channel]:.0%} of the time')
        if len(self._limited) > 1:
            (begin_ns, before), (end_ns, after) = self._limited[0], self._limited[-1]
            ticks = (end_ns - begin_ns) * 1e-9 * load_settings().tick_rate_hz
            share = max(0, after - before) / max(ticks, 1.0)
            if share > limits.limited_share:
                yield Finding('limited', schemas.JOINT_COMMANDS, WARNING, share,
                              limits.limited_share,
                              f'the limiter changed {share:.0%} of the commands')  # fmt: skip
        if self._measured.first is not None:
            away = np.abs(self._measured.first - load_settings().home)[arms]
            name = contract.channel_names[int(arms[away.argmax()])]
            if away.max() > limits.start_drift:
                yield Finding('start_pose', name, WARNING, float(away.max()), limits.start_drift,
                              f'{name} starts {away.max():.3f} rad from the start pose')


def check_episode(
    path: Path, contract: RobotContract | None = None, dropped: Mapping[str, int] | None = None
) -> Quality:
    """Audit a file.

    Args:
        path: an `.mcap` or `.mcap.part`.
        contract: default the robot's.
        dropped: messages that the recorder lost, from the sidecar.

    Raises:
        McapDamagedError: not an MCAP file, or damaged in the middle.
        ValueError: a message is not what its topic promises.
    """
    auditor = Auditor(contract or RobotContract.load())
    for message in messages(path):
        auditor.add(message.topic, message.log_ns, message.data)
    return auditor.quality(dropped)
