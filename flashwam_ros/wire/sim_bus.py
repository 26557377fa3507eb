# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The experimenter's side of the twin: what the world looks like, reset, injected faults.

Not part of the robot's wire: the driver never uses it.
"""

import itertools
import json
import os
import time

from flashwam_ros.wire import endpoints, idl
from flashwam_ros.wire.participant import open_participant

_POLL_S = 0.005


class SimulatorTimeoutError(RuntimeError):
    """No twin answered on the domain in time."""


class SimBus:
    """Reads `rt/sim_state`, writes `rt/sim_state_cmd`.

    Args:
        domain: DDS domain id of the twin. interface: network interface, usually `lo`.
    """

    _counter = itertools.count(1)

    def __init__(self, domain: int, interface: str) -> None:
        self._where = f'domain {domain}, interface {interface}'
        self._participant = open_participant(domain, interface)
        self._reader = endpoints.reader(self._participant, endpoints.SIM_STATE)
        self._writer = endpoints.writer(self._participant, endpoints.SIM_STATE_CMD)
        self._state: dict | None = None

    def state(self) -> dict | None:
        """The newest world state that the twin sent, None before the first."""
        for text in endpoints.take_texts(self._reader):
            self._state = json.loads(text)
        return self._state

    def wait_state(self, timeout_s: float, key: str | None = None, value: object = None) -> dict:
        """Block until a state (with `state[key] == value`, if a key is given) is there.

        Raises:
            SimulatorTimeoutError: if none comes in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            state = self.state()
            if state is not None and (key is None or state.get(key) == value):
                return state
            if time.monotonic() > deadline:
                wanted = 'state' if key is None else f'state with {key} = {value!r}'
                raise SimulatorTimeoutError(
                    f'no {wanted} from the twin within {timeout_s} s on {self._where}; '
                    f'last: {state}'
                )
            time.sleep(_POLL_S)

    def request(self, content: dict, timeout_s: float = 10.0) -> dict:
        """Send a request and block until the twin says that it carried it out.

        Args:
            content: for example `{'reset': {'task': 'red_bottle', 'seed': 7}}`,
                `{'remote': ['B']}`, `{'motor_error': {'16': 1}}`, `{'freeze_state': True}`.
            timeout_s: how long to wait for the twin and its answer.

        Returns:
            The first world state after the request was carried out.

        Raises:
            SimulatorTimeoutError: if no twin answers. ValueError: if the twin refused the request.
        """
        deadline = time.monotonic() + timeout_s
        while not self._writer.get_matched_subscriptions():
            if time.monotonic() > deadline:
                raise SimulatorTimeoutError(
                    f'no twin listens to {endpoints.SIM_STATE_CMD} on {self._where}: '
                    'is it running?'
                )
            time.sleep(_POLL_S)
        ident = f'{os.getpid()}-{next(self._counter)}'
        self._writer.write(idl.TextType(json.dumps({**content, 'id': ident})))
        left = max(deadline - time.monotonic(), _POLL_S)
        state = self.wait_state(left, 'request', ident)
        if state.get('request_error'):
            raise ValueError(f'the twin refused {content}: {state["request_error"]}')
        return state

    def reset(self, task: str, seed: int, timeout_s: float = 20.0) -> dict:
        """Start a new episode and return its first state."""
        return self.request({'reset': {'task': task, 'seed': seed}}, timeout_s)

    def close(self) -> None:
        """Leave the domain."""
        del self._reader, self._writer, self._participant
