# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the nodes share: quality of service, parameters, signals that end a node in good order."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSLivelinessPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)
from rclpy.signals import SignalHandlerOptions

from flashwam_ros.nodes.executor import NodeExecutor

SENSOR_QOS = QoSProfile(
    reliability=QoSReliabilityPolicy.BEST_EFFORT,
    durability=QoSDurabilityPolicy.VOLATILE,
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=10,
)
COMMAND_QOS = QoSProfile(
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.VOLATILE,
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=4,
)

STATUS_QOS = QoSProfile(
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.VOLATILE,
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=50,
)
"""Status carries events that are told once: seconds of it may wait for a busy reader."""
CHUNK_QOS = QoSProfile(
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.VOLATILE,
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=4,
    liveliness=QoSLivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=2.0),
)
"""As commands; a publisher that is gone is noticed within the lease."""

TEAR_DOWN_S = 5.0
log = logging.getLogger(__name__)
_SPIN_S = 0.05


def declare(
    node: Node,
    name: str,
    default: object,
    description: str,
    *,
    read_only: bool = True,
    bounds: tuple[float, float] | None = None,
) -> object:
    """Declare a parameter once, with description and range, and return its value.

    Args:
        node: owner.
        name: parameter name.
        default: default value; its type is the parameter's type.
        description: what it means, with its unit.
        read_only: refuse changes after start.
        bounds: lowest and highest value of a number.
    """
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if bounds is not None and isinstance(default, int):
        descriptor.integer_range = [
            IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]), step=0)
        ]
    elif bounds is not None:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(bounds[0]), to_value=float(bounds[1]), step=0.0)
        ]
    return node.declare_parameter(name, default, descriptor).value


def declare_wire(node: Node) -> tuple[int, str]:
    """Declare and return the DDS domain and network interface of the robot."""
    domain = declare(
        node,
        'unitree_domain',
        1,
        'DDS domain of the robot: 0 on the robot, 1 for the twin',
        bounds=(0, 232),
    )
    interface = declare(
        node,
        'network_interface',
        'lo',
        'network interface that leads to the robot, lo for the twin',
    )
    return domain, interface


def run_node(
    make: Callable[[], Node],
    argv: list[str] | None,
    *,
    finish: Callable[[Node, str], bool | None] | None = None,
    failed: Callable[[Node], bool] = lambda node: False,
) -> int:
    """Spin a node until SIGINT, SIGTERM or SIGHUP, then let it finish while it still spins.

    rclpy's own signal handling would tear the context down at once, in the middle of a motion. A
    terminal that was closed hangs up on the node and on whoever started it, so that nobody else
    is left to end it; what is logged from then on is lost, without an error. The first signal
    counts, later ones change nothing.

    Args:
        make: builds the node after rclpy was initialised.
        argv: command line, None for that of the process.
        finish: called with the node and the reason in a thread of its own; spinning goes on until
            it returns; False: it could not.
        failed: polled; True ends the node with exit code 1.

    Returns:
        Exit code: 0 after a signal, 1 after a failure, also one of a callback, after which the
        node still finishes.
    """
    logging.basicConfig(
        level=logging.INFO, format='[%(levelname)s] [%(name)s] %(message)s', stream=sys.stderr
    )
    rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    received: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, frame: received.append(signal.Signals(n).name))
    node = make()
    executor = NodeExecutor()
    executor.add_node(node)
    finisher: threading.Thread | None = None
    finished: list[bool | None] = []
    code = 0
    while True:
        try:
            executor.spin_once(timeout_sec=_SPIN_S)
        except Exception:
            log.exception('a callback of %s failed', node.get_name())
            code = 1
            received.append('error')
        if failed(node):
            code = 1
            break
        if received and finisher is None:
            if finish is None:
                break
            finisher = threading.Thread(
                target=lambda: finished.append(finish(node, received[0])), daemon=True
            )
            finisher.start()
        if finisher is not None and not finisher.is_alive():
            code = code if finished and finished[0] is not False else 1
            break
    executor.shutdown(timeout_sec=1.0)
    node.destroy_node()
    rclpy.try_shutdown()
    leave_at_exit(code)
    return code


def leave_at_exit(code: int) -> None:
    """End the process with this exit code as soon as the interpreter begins to shut down.

    What refers to the middleware is collected then: Fast DDS frees its shared memory (17 MB each)
    only when the last entity has gone, and what is left of it in /dev/shm stays there until the
    machine restarts. Seen on a busy machine: the middleware's tear-down waits for ever; after
    `TEAR_DOWN_S` the process ends without it, with exit code 1 and the place on stderr.
    """

    def leave() -> None:
        # Without a terminal there may be no stderr at all.
        place = sys.stderr or os.open(os.devnull, os.O_WRONLY)
        faulthandler.dump_traceback_later(TEAR_DOWN_S, exit=True, file=place)
        gc.unfreeze()
        gc.collect()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            # A closed terminal (EIO, EPIPE) must not cost the exit code.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    atexit.register(leave)
