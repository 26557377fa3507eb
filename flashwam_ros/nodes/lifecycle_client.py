# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Drive another node through its lifecycle, from a thread that may block."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python

from flashwam_ros.nodes.executor import QuickGroup
from flashwam_ros.robot.clock import robot_clock

_LABELS = {
    Transition.TRANSITION_CONFIGURE: 'configure',
    Transition.TRANSITION_ACTIVATE: 'activate',
    Transition.TRANSITION_DEACTIVATE: 'deactivate',
}
CALL_LIMIT_S = 5.0


class NodeUnavailableError(RuntimeError):
    """Another node does not answer, or refused what it was asked."""


class LifecycleClient:
    """Blocking calls to one lifecycle node; the owner's executor must run in other threads.

    Args:
        node: owner.
        name: relative name of the lifecycle node.
    """

    def __init__(self, node: Node, name: str):
        self.name = name
        group = QuickGroup()

        def client(kind, service):
            return node.create_client(kind, f'{name}/{service}', callback_group=group)

        self._change = client(ChangeState, 'change_state')
        self._get = client(GetState, 'get_state')
        self._set = client(SetParameters, 'set_parameters')
        self._read = client(GetParameters, 'get_parameters')

    def state(self, limit_s: float = CALL_LIMIT_S) -> int:
        """The primary state's id.

        Raises:
            NodeUnavailableError: no answer.
        """
        return self._call(self._get, GetState.Request(), limit_s).current_state.id

    def configure(self, limit_s: float) -> None:
        """From unconfigured to inactive; nothing to do if it is there already."""
        if self.state() == State.PRIMARY_STATE_UNCONFIGURED:
            self._transition(Transition.TRANSITION_CONFIGURE, limit_s)

    def activate(self, limit_s: float) -> None:
        """From inactive to active."""
        self._transition(Transition.TRANSITION_ACTIVATE, limit_s)

    def deactivate(self, limit_s: float) -> None:
        """From active to inactive; nothing to do if it is not active."""
        if self.state() == State.PRIMARY_STATE_ACTIVE:
            self._transition(Transition.TRANSITION_DEACTIVATE, limit_s)

    def parameters(self, *names: str) -> dict[str, object]:
        """Values of parameters, None for one that is not set.

        Raises:
            NodeUnavailableError: no answer.
        """
        request = GetParameters.Request(names=list(names))
        values = self._call(self._read, request, CALL_LIMIT_S).values
        return dict(zip(names, map(parameter_value_to_python, values), strict=True))

    def set_parameters(self, values: Mapping[str, object]) -> None:
        """Set parameters, all or an error that names the refused one."""
        request = SetParameters.Request()
        request.parameters = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        results = self._call(self._set, request, CALL_LIMIT_S).results
        for name, result in zip(values, results, strict=True):
            if not result.successful:
                raise NodeUnavailableError(f'{self.name} refused {name}: {result.reason}')

    def _transition(self, transition: int, limit_s: float) -> None:
        request = ChangeState.Request()
        request.transition.id = transition
        if not self._call(self._change, request, limit_s).success:
            raise NodeUnavailableError(f'{self.name} refused to {_LABELS[transition]}')

    def _call(self, client, request, limit_s: float):
        machine_s = robot_clock.machine_s(limit_s)
        if not client.wait_for_service(machine_s):
            raise NodeUnavailableError(f'{self.name} does not offer {client.srv_name}')
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(machine_s):
            client.remove_pending_request(future)
            raise NodeUnavailableError(
                f'{self.name} did not answer {client.srv_name} within {limit_s:.0f} s'
            )
        return future.result()
