# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The robot's request-response services (`rt/api/*`) and its battery topic, from both sides.

Only questions are asked here; nothing that changes the robot's mode is ever sent.
"""

import itertools
import json
import os
import time
from collections.abc import Callable, Mapping

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from flashwam_ros.wire.participant import open_participant
from flashwam_ros.wire.service_idl import BatteryState, Request, Response

BATTERY = 'rt/lf/bmsstate'
MOTION_SWITCHER, CHECK_MODE = 'motion_switcher', 1001
SPORT, GET_FSM_ID = 'sport', 7001
NOT_IMPLEMENTED = 3203
_POLL_S = 0.005
_DEPTH = 8
_QOS = Qos(
    Policy.Reliability.Reliable(max_blocking_time=duration(milliseconds=100)),
    Policy.Durability.Volatile,
    Policy.History.KeepLast(_DEPTH),
)
_STATE_QOS = Qos(
    Policy.Reliability.BestEffort, Policy.Durability.Volatile, Policy.History.KeepLast(1)
)


def request_topic(service: str) -> str:
    """Topic of a service's requests."""
    return f'rt/api/{service}/request'


def response_topic(service: str) -> str:
    """Topic of a service's responses."""
    return f'rt/api/{service}/response'


class _Service:
    """Writer and reader of one service."""

    def __init__(self, participant: DomainParticipant, service: str, serves: bool) -> None:
        topics = [
            Topic(participant, request_topic(service), Request),
            Topic(participant, response_topic(service), Response),
        ]
        self.reader = DataReader(participant, topics[not serves], _QOS)
        self.writer = DataWriter(participant, topics[serves], _QOS)

    def take(self) -> list:
        """What has arrived, oldest first."""
        samples = self.reader.take(_DEPTH)
        return [sample for sample in samples if isinstance(sample, (Request, Response))]


class RobotServices:
    """Asks the robot for its mode and listens for its battery.

    Args:
        domain: DDS domain id. interface: network interface.

    Raises:
        DomainError: the domain cannot be opened.
    """

    _ids = itertools.count(1)

    def __init__(self, domain: int, interface: str) -> None:
        self._participant = open_participant(domain, interface)
        self._services = {
            name: _Service(self._participant, name, serves=False)
            for name in (MOTION_SWITCHER, SPORT)
        }
        topic = Topic(self._participant, BATTERY, BatteryState)
        self._battery = DataReader(self._participant, topic, _STATE_QOS)

    def mode_name(self, limit_s: float) -> str | None:
        """Name of the built-in motion service that runs, '' for none; None without an answer."""
        answer = self._call(MOTION_SWITCHER, CHECK_MODE, limit_s)
        return None if answer is None else str(answer.get('name', ''))

    def fsm_id(self, limit_s: float) -> int | None:
        """State of the built-in motion service (500, 501: regular walking); None: no answer."""
        answer = self._call(SPORT, GET_FSM_ID, limit_s)
        return None if answer is None else int(answer.get('data', -1))

    def battery_percent(self, limit_s: float) -> int | None:
        """Charge in percent, None if nothing is published within the limit."""
        deadline = time.monotonic() + limit_s
        while True:
            for sample in self._battery.take(1):
                if isinstance(sample, BatteryState):
                    return int(sample.soc)
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Leave the domain."""
        del self._services, self._battery, self._participant

    def _call(self, name: str, api_id: int, limit_s: float) -> dict | None:
        service, deadline = self._services[name], time.monotonic() + limit_s
        request = Request()
        # Several askers share the response topic: the id must be nobody else's.
        request.header.identity.id = os.getpid() << 24 | next(self._ids) & 0xFFFFFF
        request.header.identity.api_id = api_id
        request.parameter = '{}'
        sent = False
        while time.monotonic() < deadline:
            if not sent and _is_reached(service):
                service.writer.write(request)
                sent = True
            for response in service.take():
                if response.header.identity.id == request.header.identity.id:
                    return _content(response)
            time.sleep(_POLL_S)
        return None


class ServiceServer:
    """The robot's side, as the twin plays it: polled, never blocks.

    Args:
        participant: of the twin.
        handlers: by (service, api id): gives the data of the response.
    """

    def __init__(
        self,
        participant: DomainParticipant,
        handlers: Mapping[tuple[str, int], Callable[[], dict]],
    ) -> None:
        self._handlers = dict(handlers)
        names = {name for name, _ in handlers}
        self._services = {name: _Service(participant, name, serves=True) for name in names}
        self._battery = DataWriter(participant, Topic(participant, BATTERY, BatteryState), _QOS)

    def answer(self) -> None:
        """Answer what has been asked."""
        for name, service in self._services.items():
            for request in service.take():
                response = Response()
                response.header.identity = request.header.identity
                handler = self._handlers.get((name, request.header.identity.api_id))
                if handler is None:
                    response.header.status.code = NOT_IMPLEMENTED
                else:
                    response.data = json.dumps(handler())
                service.writer.write(response)

    def publish_battery(self, percent: int) -> None:
        """Send the charge."""
        self._battery.write(BatteryState(soc=percent, soh=100))

    def close(self) -> None:
        """Leave the topics."""
        del self._services, self._battery


def _is_reached(service: _Service) -> bool:
    return bool(
        service.writer.get_matched_subscriptions() and service.reader.get_matched_publications()
    )


def _content(response: Response) -> dict | None:
    if response.header.status.code != 0:
        return None
    try:
        content = json.loads(response.data)
    except json.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None
