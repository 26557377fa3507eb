# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pure core of the driver: one tick turns chunks and measurements into a command.

Nothing here knows of threads, ROS or the wire. All calls come from one thread; requests take
effect at the next tick. Whatever comes in, the command keeps the limits (``limits.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashwam_ros.robot.authority import Authority, Mode
from flashwam_ros.robot.chunk import ActionChunk, AppliedChunk, ChunkRejected
from flashwam_ros.robot.clearance import PathCheck, PathChecker, RetreatPath, plan_retreat
from flashwam_ros.robot.contract import GRIPPER_GROUPS, RobotContract
from flashwam_ros.robot.kinematics import Kinematics
from flashwam_ros.robot.limits import LONGEST_STEP_S, Limiter, LimiterState, LimitReport
from flashwam_ros.robot.safety import ExecutorInput, SafetyMonitor
from flashwam_ros.robot.settings import DriverSettings, load_settings
from flashwam_ros.robot.timeline import ChunkTimeline

AGAIN_S = 30.0
"""After a longer silence of the robot nothing is commanded that nobody has asked for."""

__all__ = ['Executor', 'ExecutorInput', 'Mode', 'TickOutput']


@dataclass(frozen=True)
class TickOutput:
    """What to write, and what happened.

    Attributes:
        arm_q: (14,) rad.
        arm_dq: (14,) rad/s, velocity of the command.
        arm_tau: (14,) N.m, gravity feed-forward.
        kp: (C,) position gains.
        kd: (C,) velocity gains.
        gripper_q: (2,) motor rad, within the torque window.
        weight: Hand-over weight, 0..1.
        mode: Mode of this tick.
        reason: Why the arms are or were given back, or not taken over; '' while they are held.
        applied_started: Account of a chunk that started in this tick.
        applied_done: Account of a chunk that ended in this tick.
        write: Whether to write at all.
        command: (C,) the command in force, before the grippers' torque window.
        limited: Whether the limiter intervened.
        tracking_error: Largest |command - measured| of the arms (rad).
        session: Session of the last chunk.
        chunk_index: Chunk in execution, -1 for none.
        events: Named events of this tick, ``name: detail``.
        unheard: Whether the last release ended while the robot was not heard, so that it may not
            have heard us either: the release is repeated when it is back.
    """

    arm_q: np.ndarray
    arm_dq: np.ndarray
    arm_tau: np.ndarray
    kp: np.ndarray
    kd: np.ndarray
    gripper_q: np.ndarray
    weight: float
    mode: Mode
    reason: str
    applied_started: AppliedChunk | None
    applied_done: AppliedChunk | None
    write: bool
    command: np.ndarray
    limited: bool
    tracking_error: float
    session: str
    chunk_index: int
    events: tuple[str, ...]
    unheard: bool = False


class Executor:
    """Executes chunks within limits and hands the arms over and back."""

    def __init__(
        self,
        contract: RobotContract,
        kinematics: Kinematics,
        retreat_pose: np.ndarray | None,
        now_ns: int,
        settings: DriverSettings | None = None,
        path_is_free: PathCheck | None = None,
        remedy: str = 'flashwam release',
    ) -> None:
        """Start passive.

        Args:
            contract: Channels and limits.
            kinematics: For the gravity feed-forward and the default path check.
            retreat_pose: (14,) rad, the built-in controller's arm pose; None: the arms' pose when
                they are taken over.
            now_ns: Time on the clock of all later calls (ns).
            settings: Timing and thresholds; None: the installed ones.
            path_is_free: Says whether a straight path between two arm poses, (14,) rad, is free;
                None: :class:`PathChecker`.
            remedy: The command by which a person gives the arms back, for messages.
        """
        self._contract, self._kinematics = contract, kinematics
        self._settings = load_settings() if settings is None else settings
        self._path_is_free = path_is_free or PathChecker(kinematics, self._settings)
        self._retreat_pose = None if retreat_pose is None else np.array(retreat_pose, dtype=float)
        self._grippers = contract.group(*GRIPPER_GROUPS)
        self._arms = np.setdiff1d(np.arange(len(contract.channels)), self._grippers)
        joints = [kinematics.description.joint(contract.channels[i].name) for i in self._arms]
        self._effort = np.array([j.effort for j in joints])
        self._limiter = Limiter(contract, self._settings)
        self._timeline = ChunkTimeline(contract, self._settings)
        self._safety = SafetyMonitor(self._settings, self._arms)
        self._authority = Authority(self._settings)
        self._state = self._limiter.seed(
            np.clip(0.0 * contract.lower, contract.lower, contract.upper)
        )
        self._measured = np.full(len(contract.channels), np.nan)
        self._path: RetreatPath | None = None
        self._path_s = 0.0
        self._home = self._retreat_pose
        self._now_ns = now_ns
        self._fresh = False
        self._grips_fresh = np.ones(len(self._grippers), dtype=bool)
        self._stopped = False
        self._unheard, self._released_ns, self._remedy = False, now_ns, remedy
        self._barred = ''
        self._activate = False
        self._exits: list[str] = []
        self._events: list[str] = []

    # ---- requests ----------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """Mode after the last tick."""
        return self._authority.mode

    def activate(self, now_ns: int) -> None:
        """Take the arms over at the next tick: ENGAGE from the measured pose.

        Refused (event ``activation_refused``) while a fault stands, the state is stale or a
        channel was never measured, and once after a :meth:`stop`. Without effect unless PASSIVE.
        """
        del now_ns
        self._activate = True

    def deactivate(self, reason: str = 'deactivate') -> None:
        """Give the arms back: HOLD, RETREAT, RELEASE. The first reason stays."""
        self._exits.append(reason or 'error')

    def stop(self, reason: str = 'stop') -> None:
        """Operator's stop: HOLD at once; again: give the arms back; once more: without retreat.

        While PASSIVE it refuses the next take-over: whoever presses it during a preflight means
        the motion that is about to begin.
        """
        authority = self._authority
        if authority.mode is Mode.PASSIVE:
            self._barred = reason or 'stop'
            self._events.append(f'barred: {self._barred}: the next take-over is refused')
        elif authority.exiting:
            authority.hurry()
        elif self._stopped or authority.mode is Mode.ENGAGE:
            self._exits.append(reason or 'stop')
        else:
            self._stopped = True
            self._halt('stop')
            self._events.append(f'stop: {reason}')

    def begin(self, session: str) -> None:
        """Expect the chunks of this session only and end an operator's stop; '' ends the session.

        Without it, the first chunk of a new session is taken when no other is at work.
        """
        self._stopped = False
        self._halt('new session')
        self._timeline.begin(session)

    def submit(self, chunk: ActionChunk, now_ns: int) -> None:
        """Queue a chunk.

        Args:
            chunk: Its stamp on the executor's clock.
            now_ns: Arrival time (ns).

        Raises:
            ChunkRejected: Saying why; nothing has changed then.
        """
        if self._stopped:
            raise ChunkRejected('stopped by the operator')
        if not self._authority.ready or self._exits:
            raise ChunkRejected(f'not executing: the driver is in mode {self.mode.value}')
        if not self._fresh:
            raise ChunkRejected('not executing: the joint state is stale')
        late = self._timeline.submit(chunk, now_ns, self._state.position)
        if late:
            self._events.append(late)

    # ---- the tick ----------------------------------------------------------------------------

    def tick(self, inp: ExecutorInput) -> TickOutput:
        """One step of the clock; any rate, any jitter."""
        dt = min(max((inp.now_ns - self._now_ns) * 1e-9, 0.0), LONGEST_STEP_S)
        before = (self._now_ns, self._state.position)
        self._now_ns = max(inp.now_ns, self._now_ns)
        self._look(inp)
        if self.mode is Mode.PASSIVE:
            # A request to give back that came after the one to take over wins.
            self._activate = self._activate and not self._exits
            self._exits.clear()
            if not self._release_again(inp):
                self._try_activation(inp)
            return self._output(None, None, False)
        self._activate = False
        for reason in self._faults(inp, dt):
            self._exit(reason)
        self._authority.advance(
            dt,
            self._fresh,
            self._timeline.executing(self._now_ns),
            self._plan,
            self._path is not None and self._path_s >= self._path.duration_s,
        )
        if self.mode is Mode.PASSIVE:
            self._unheard, self._released_ns = not self._fresh, self._now_ns
        if self._path is not None and self.mode is not Mode.RETREAT:
            self._path = None
            self._halt('retreat over')
        report = self._move(dt)
        started, done = self._timeline.record(
            before, (self._now_ns, self._state.position), report
        )
        return self._output(started, done, report.limited)

    def _look(self, inp: ExecutorInput) -> None:
        """Keep the last finite measurement of every channel; notice the end of a gap.

        What may be another robot's is not kept.
        """
        good = np.isfinite(inp.measured_q) & (not inp.two_robots)
        self._measured = np.where(good, inp.measured_q, self._measured)
        self._look_at_grippers(inp)
        was, self._fresh = self._fresh, self._safety.fresh(inp)
        if self._authority.exiting or self.mode is Mode.PASSIVE or was == self._fresh:
            return
        if self._fresh:
            # The arms may be elsewhere now: the command goes where they are, not they to it.
            hold = np.where(np.isfinite(self._measured), self._measured, self._state.position)
            hold[self._grippers] = self._state.position[self._grippers]
            self._reset_timeline(np.clip(hold, self._contract.lower, self._contract.upper), '')
            self._events.append('state_back: the command follows the measured pose')
        else:
            self._halt('state gap')
            self._events.append('state_gap: the joint state is stale, holding')
            if self._timeline.closed and not self._stopped:
                self._events.append(f'session_lost: {self._timeline.closed}')

    def _look_at_grippers(self, inp: ExecutorInput) -> None:
        """A gripper whose service was away goes on from where it is, at its own speed.

        Its command went on without it: chasing that through the torque window would be a slam.
        """
        was, self._grips_fresh = self._grips_fresh, self._safety.grippers_fresh(inp)
        back = self._grippers[self._grips_fresh & ~was]
        if len(back) and self.mode is not Mode.PASSIVE:
            position, velocity = self._state.position.copy(), self._state.velocity.copy()
            position[back], velocity[back] = self._measured[back], 0.0
            self._state = LimiterState(position, velocity)
            self._events.append('gripper_back: the command follows the measured position')

    def _release_again(self, inp: ExecutorInput) -> bool:
        """After a release that nobody may have heard: once more, from the measured pose.

        A link that was cut may have kept every message of the ramp from the robot, which then
        holds the last target at full weight. Whoever else commands the arms by now has taken them,
        and a robot that was away for long may have been started anew: that is a person's matter.
        """
        if inp.other_writer:
            self._unheard = False
        away_s = (self._now_ns - self._released_ns) * 1e-9
        if not (self._unheard and self._fresh) or away_s > AGAIN_S or self._safety.standing(inp):
            return False
        self._unheard = self._activate = False
        self._state = self._limiter.seed(self._measured)
        self._reset_timeline(self._measured, '')
        self._safety.reset()
        self._authority.release_again()
        self._events.append('released_again: the robot is heard again, the weight goes down anew')
        return True

    def _try_activation(self, inp: ExecutorInput) -> None:
        if not self._activate:
            return
        self._activate = False
        barred, self._barred = self._barred, ''
        why = f'{barred}: STOP came first; ask once more' if barred else self._safety.standing(inp)
        unseen = ~np.isfinite(self._measured)
        if not why and unseen.any():
            names = [n for n, u in zip(self._contract.channel_names, unseen, strict=True) if u]
            why = f'never measured: {", ".join(names)}'
        if not why and not self._fresh:
            why = 'the joint state is stale'
        if not why and not self._grips_fresh.all():
            why = 'the state of a gripper is stale: is its service running?'
        if not why and self._unheard:
            why = f'the last release was not heard: {self._remedy}, then start the driver anew'
        if why:
            self._authority.refuse(why)
            self._events.append(f'activation_refused: {why}')
            return
        self._state = self._limiter.seed(self._measured)
        self._timeline.begin('')
        self._reset_timeline(self._measured, '')
        self._home = (
            self._measured[self._arms] if self._retreat_pose is None else self._retreat_pose
        )
        self._safety.reset()
        self._stopped = False
        self._authority.engage()

    def _faults(self, inp: ExecutorInput, dt: float) -> list[str]:
        reasons, self._exits = self._exits, []
        fault = self._safety.check(inp, self._state.position, dt)
        if fault:
            reasons.append(fault)
        idle = self._timeline.idle_since_ns(self._now_ns)
        patience_ns = self._settings.no_chunk_timeout_s * 1e9
        if idle is not None and not self._stopped and self._now_ns - idle > patience_ns:
            reasons.append('no_chunk')
        return reasons

    def _exit(self, reason: str) -> None:
        if self._authority.exit(reason):
            self._halt(reason)
            self._events.append(f'exit: {reason}')

    def _halt(self, why: str) -> None:
        """Brake and stay."""
        self._reset_timeline(self._limiter.stopping_point(self._state), why)

    def _reset_timeline(self, hold: np.ndarray, why: str) -> None:
        lost = self._timeline.reset(hold, self._now_ns, why)
        if lost:
            self._events.append(lost)

    def _plan(self) -> bool:
        low, high = self._contract.lower[self._arms], self._contract.upper[self._arms]
        self._path_s = 0.0
        self._path = plan_retreat(
            self._state.position[self._arms],
            np.clip(self._home, low, high),
            self._path_is_free,
            self._settings.retreat_velocity,
            (low, high),
        )
        if self._path is None:
            self._events.append('no_retreat: no free path to the built-in arm pose')
        return self._path is not None

    def _move(self, dt: float) -> LimitReport:
        target, velocity = self._timeline.sample(self._now_ns)
        if self._path is not None:
            self._path_s += dt
            target, velocity = target.copy(), velocity.copy()
            target[self._arms], velocity[self._arms] = self._path.sample(self._path_s)
        seen = self._measured if self._fresh else np.full_like(self._measured, np.nan)
        self._state, report = self._limiter.step(self._state, target, velocity, seen, dt)
        return report

    def _output(
        self, started: AppliedChunk | None, done: AppliedChunk | None, limited: bool
    ) -> TickOutput:
        active = self.mode is not Mode.PASSIVE
        state = self._state if active else self._resting()
        arms = state.position[self._arms]
        tau = np.clip(self._kinematics.gravity_torque(arms), -self._effort, self._effort)
        command, measured = state.position[self._grippers], self._measured[self._grippers]
        events, self._events = tuple(self._events), []
        return TickOutput(
            arm_q=arms,
            arm_dq=state.velocity[self._arms],
            arm_tau=tau,
            kp=self._contract.kp,
            kd=self._contract.kd,
            gripper_q=self._limiter.gripper_write(command, measured) if active else command,
            weight=self._authority.weight,
            mode=self.mode,
            reason=self._authority.reason,
            applied_started=started,
            applied_done=done,
            write=active,
            command=state.position,
            limited=limited,
            tracking_error=self._safety.tracking_error,
            session=self._timeline.session,
            chunk_index=self._timeline.index,
            events=events,
            unheard=self._unheard,
        )

    def _resting(self) -> LimiterState:
        seen = np.where(np.isfinite(self._measured), self._measured, self._state.position)
        return LimiterState(seen, np.zeros_like(seen))
