# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decides when an episode is over: success, failure, time limit, or a fault with its name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flashwam_ros.episodes.rollout_log import RolloutLog
from flashwam_ros.nodes.clock import from_msg
from flashwam_ros.nodes.rollout_recorder import RolloutRecorder
from flashwam_ros.wire.sim_bus import SimBus

FIRST_CHUNK_S = 20.0
SILENT_S = 2.0
_WORKING = ('HOLD', 'EXECUTE')


class RolloutWatch:
    """Looks at the twin, the driver and the policy; call `over` every `PERIOD_S`.

    Args:
        log: receives the simulated states and the end.
        recorder: newest status of driver and policy.
        sim: the twin, None on a robot.
        stages: names of the task's stages.

    Attributes:
        success: the task's predicate held.
        failure: named failure of the policy or 'time_limit', None for none.
        fault: named fault of the system, '' for none.
        stages: name -> reached so far.
        chunk: newest executed chunk, -1 for none.
    """

    PERIOD_S = 0.05

    def __init__(
        self,
        log: RolloutLog,
        recorder: RolloutRecorder,
        sim: SimBus | None,
        stages: Sequence[str],
    ):
        self._log = log
        self._recorder = recorder
        self._sim = sim
        self.success = False
        self.failure: str | None = None
        self.fault = ''
        self.stages = dict.fromkeys(stages, False)
        self.chunk = -1

    @property
    def elapsed_s(self) -> float:
        """Time since the first executed row, 0 before, s."""
        starts = self._log.starts
        if not starts:
            return 0.0
        end_ns = self._log.ended_ns or self._recorder.now_ns()
        return max(0.0, (end_ns - starts[0].start_ns) * 1e-9)

    def begin(self) -> None:
        """The session begins now."""
        self._log.activated_ns = self._recorder.now_ns()

    def end(self) -> None:
        """The episode is over; a success that was there at the end counts."""
        self._look_at_twin()
        self._log.ended_ns = self._recorder.now_ns()

    def over(self, cancelled: bool, interrupted: str) -> bool:
        """Whether the episode is over; the reason is in `success`, `failure` or `fault`."""
        self._look_at_twin()
        with self._log.lock:
            if self._log.starts:
                self.chunk = self._log.starts[-1].index
        if self.success or self.failure:
            return True
        self.fault = interrupted or ('cancelled' if cancelled else '') or self._find_fault()
        if not self.fault and self.elapsed_s > self._log.setting.time_limit_s:
            # Held by an operator until the time was up: that is not the policy's failure.
            self.fault = self._event('stop: ', self._recorder.now_ns())
            self.failure = None if self.fault else 'time_limit'
        return bool(self.fault or self.failure)

    def _look_at_twin(self) -> None:
        state = self._sim.state() if self._sim is not None else None
        if state is None or state['seed'] != self._log.setting.seed:
            return
        log = self._log
        if not log.sim or log.sim[-1][0] < state['time_ns']:
            log.sim.append((state['time_ns'], np.array(state['qpos'])))
        log.real_time_factor = state['real_time_factor_episode']
        for name, reached in state['stages'].items():
            self.stages[name] = self.stages.get(name, False) or reached
        self.success = self.success or state['success']
        self.failure = self.failure or state['failure']

    def _find_fault(self) -> str:
        now_ns, log = self._recorder.now_ns(), self._log
        driver, driver_ns = self._recorder.driver
        policy, policy_ns = self._recorder.policy
        if (now_ns - driver_ns) * 1e-9 > SILENT_S:
            return f'driver_silent: no driver_status for {SILENT_S:.0f} s'
        # By its own stamp: a status from before the session may be read after it began.
        said_ns = from_msg(driver.header.stamp)
        if driver.mode not in _WORKING and said_ns > log.activated_ns:
            return driver.reason or f'driver_left: it is {driver.mode}'
        if (
            policy is not None
            and policy.state == 'error'
            and policy.session == log.setting.session
        ):
            return f'policy: {policy.reason}'
        if (now_ns - policy_ns) * 1e-9 > SILENT_S and (
            now_ns - log.activated_ns
        ) * 1e-9 > SILENT_S:
            return f'policy_silent: no policy_status for {SILENT_S:.0f} s'
        if not log.starts and (now_ns - log.activated_ns) * 1e-9 > FIRST_CHUNK_S:
            refused = self._event('chunk_rejected: ', now_ns)
            return f'no_first_chunk: nothing to execute within {FIRST_CHUNK_S:.0f} s' + (
                f', {refused}' if refused else ''
            )
        # It holds and takes no chunk of this session; a state that stays away it answers itself.
        return self._event('session_lost: ', now_ns - int(SILENT_S * 1e9))

    def _event(self, start: str, until_ns: int) -> str:
        """The driver's first named event until then that begins so, '' if there was none."""
        events = list(self._log.events)
        return next((text for at, text in events if text.startswith(start) and at < until_ns), '')
