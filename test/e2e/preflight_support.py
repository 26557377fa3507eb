# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A running graph whose preflight is asked again and again."""

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path

from std_srvs.srv import Trigger

from benchmarks._stack import Stack
from flashwam_ros.bringup.graph import Graph
from flashwam_ros.trials.check_result import Report
from flashwam_ros.wire.sim_bus import SimBus

TASK, SEED = 'red_bottle', 5
SLOW_S = 240.0
#: What a machine that is busy with something else may add.
BUSY = {f'{check}: {key}' for check in ('camera_age', 'camera_rate')
        for key in ('head', 'left_wrist', 'right_wrist')} | {
            'stamp_skew', 'state_rate', 'state_age', 'state_lag'}  # fmt: skip
#: How a node says that the middleware's end took longer than it waits.
HUNG = 'Timeout (0:'
#: Reasons of an invalid rollout that are about time alone.
BUSY_REASONS = ('preflight: camera', 'preflight: stamp_skew', 'preflight: state_',
                'preflight: gripper_alive', 'preflight: chunk_latency', 'policy: StreamError',
                'policy: HistoryError', 'policy_silent', 'driver_silent', 'no_first_chunk',
                'no_chunk', 'session_lost', 'real_time_factor')  # fmt: skip
_MACHINE = Path(__file__).with_name('machine_faults')


def red(report):
    """Names of the checks that are red."""
    return {result.name for result in report.of_level('red')}


class Rig:
    """The running graph, its preflight service, and the file that spoils the machine."""

    def __init__(self, stack, machine):
        self.stack, self.machine = stack, machine
        self.sim = SimBus(stack.place.unitree_domain, 'lo')
        node = stack.listener.node
        self._client = node.create_client(Trigger, 'rollout/preflight')
        stack.until(self._client.service_is_ready, SLOW_S, 'the preflight service')
        self.sim.reset(TASK, SEED)

    def look(self):
        """A report."""
        future = self._client.call_async(Trigger.Request())
        self.stack.until(future.done, SLOW_S, 'a report')
        response = future.result()
        report = Report.from_dict(json.loads(response.message))
        assert report.ok == response.success
        return report

    @contextlib.contextmanager
    def spoilt(self, **fault):
        """The node that looks sees a machine with this fault (see `machine_faults`)."""
        self.machine.write_text(json.dumps(fault))
        try:
            yield
        finally:
            self.machine.unlink()


@contextlib.contextmanager
def running(place, folder, **values):
    """A rig on a graph of its own; launch arguments as keywords."""
    machine = folder / 'machine.json'

    def change(graph):
        own = (('FLASHWAM_TEST_MACHINE', str(machine)),
               ('PYTHONPATH', f'{_MACHINE}:{os.environ.get("PYTHONPATH", "")}'))
        return Graph(tuple(
            replace(process, environment=(*process.environment, *own))
            if process.name == 'rollout' else process
            for process in graph.processes
        ))  # fmt: skip

    values = {'task': TASK, 'output_dir': str(folder), **values}
    with Stack(values, place, folder / 'stack.log', change) as stack:
        rig = Rig(stack, machine)
        try:
            yield rig
        finally:
            rig.sim.close()


def undisturbed(run):
    """Whether the machine was not too busy for a valid rollout."""
    return not run.summary.get('reason', '').startswith(BUSY_REASONS) and HUNG not in run.log
