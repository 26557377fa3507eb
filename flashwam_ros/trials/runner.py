# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Brings up one trial after the other, so that a kill at any moment costs at most the one in hand.

The order of writing is what makes that true, for every trial:

1. the store starts it (the call's key follows from the slot: repeated, it is the same trial);
2. `begun` is on the disk before anything moves;
3. the rollout runs and leaves its summary under the trial's name;
4. `finished`, with the summary, is on the disk before the store hears of it;
5. the store records it, and gets its film; then `recorded` (or `voided`).

Whoever comes after a kill settles what is open in the store: finished is recorded, begun is looked
for among the rollouts, and what left nothing is voided with its reason and comes again at the end
of its block; so is what an operator started before this runner was there. The store itself refuses
a second trial of a slot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flashwam_ros.trials import journal as entries
from flashwam_ros.trials.compiled import CompiledStudy, arm_name
from flashwam_ros.trials.journal import Journal
from flashwam_ros.trials.scoring import Score, preflight_passed, score, void_reason
from flashwam_ros.trials.store import Store, StoreError
from flashwam_ros.trials.study import OPERATOR, StudyError
from flashwam_ros.trials.validity import CANCELLED, deployment
from flashwam_ros.twin.tasks import TASKS

MOST_VOIDS = 3
TRIES = 5
PAUSE_S = 5.0
RUNNING, COMPLETED, INVALID = 'running', 'completed', 'invalid'
RUNNER = 'runner'
_POLL_S = 0.5
_FILM = 'rollout.mp4'
_ENDED = (CANCELLED, 'interrupted')
_TOO_EARLY = 'started before the runner was there: press Start again'


@dataclass(frozen=True)
class TrialRequest:
    """What a rig is asked for.

    Attributes:
        trial: name under which its summary can be found again.
        task: name of the task.
        prompt: instruction.
        seed: of the scene and of the model's noise.
        time_limit_s: of the rollout.
        arm: what the policy node calls it (by blind code).
        execution: mode of that arm.
    """

    trial: str
    task: str
    prompt: str
    seed: int
    time_limit_s: float
    arm: str
    execution: str


class Rig(Protocol):
    """Where rollouts happen: a running graph, or the twin in this process."""

    def run(self, request: TrialRequest, stop: Callable[[], bool]) -> Mapping[str, Any]:
        """Preflight, reset, rollout: its summary, with `folder`. Ends early once `stop()`.

        Raises:
            StudyError: no rollout can be had at all.
        """

    def recover(self, trial: str) -> Mapping[str, Any] | None:
        """The summary of a trial that somebody else began, waiting while it runs; else None."""


class _Ending:
    """Whether a rollout shall end early, and who was the first to want that.

    Args:
        stopped: whether the runner stops.
        pressed: whether the operator has pressed Stop, as the store says.

    Attributes:
        by: `OPERATOR` or `RUNNER`, '' while nobody wants it.
    """

    def __init__(self, stopped: Callable[[], bool], pressed: Callable[[], bool]):
        self._stopped, self._pressed = stopped, pressed
        self._asked, self.by = 0.0, ''

    def __call__(self) -> bool:
        self.by = self.by or self._who()
        return bool(self.by)

    def _who(self) -> str:
        stopped = self._stopped()
        # Asked anew when the runner stops: a Stop just before it must not make the trial void.
        if stopped or time.monotonic() - self._asked > _POLL_S:
            self._asked = time.monotonic()
            try:
                if self._pressed():
                    return OPERATOR
            except StoreError:
                if not stopped:  # without the store the arms are stopped all the same
                    raise
        return RUNNER if stopped else ''


class StudyRunner:
    """Runs the trials of a study.

    Args:
        compiled: the study.
        stores: task -> its store.
        rig: where rollouts happen.
        journal: of the study's folder.
        say: receives lines for the operator; they name arms by blind code only.
        stop: true once no further trial shall begin.
        rig_name: what the store calls the rig.
    """

    def __init__(
        self,
        compiled: CompiledStudy,
        stores: Mapping[str, Store],
        rig: Rig,
        journal: Journal,
        say: Callable[[str], None],
        stop: Callable[[], bool] = lambda: False,
        rig_name: str = 'twin',
    ):
        self._compiled, self._study = compiled, compiled.study
        self._stores, self._rig, self._journal = stores, rig, journal
        self._say, self._stop, self._rig_name = say, stop, rig_name
        self._sealed = compiled.unseal()
        self._by_operator = self._study.score == OPERATOR

    def run(self, tasks: Sequence[str] = (), most: int = 0) -> int:
        """Settle what is open, then run trials until all are done or `stop()`.

        Args:
            tasks: in this order; all if empty.
            most: end after so many trials, 0 for all.

        Returns:
            Trials recorded by this call.

        Raises:
            StudyError: trial after trial is void, no rollout can be had, or the store holds
                another study.
            StoreError: the store is gone.
        """
        count = 0
        for task in tasks or self._study.tasks:
            self._check_design(task)
            count += self._settle(task)
            if self._stop() or (most and count >= most):
                break
            count += self._run_task(task, most - count if most else 0)
        return count

    def _check_design(self, task: str) -> None:
        """A server of another study may have a task of the same name."""
        found, ours = self._stores[task].status()['design_hash'], self._compiled.designs[task]
        if found != ours:
            raise StudyError(
                f'{task}: the store holds another design ({found[:12]}) than this study was '
                f'compiled to ({ours[:12]}): the server is one of another study, or its study was '
                'amended; give --server that of this one')

    # -- after a kill -----------------------------------------------------------------------------

    def _settle(self, task: str) -> int:
        """Bring store and journal together; how many trials were recorded by that."""
        store, count = self._stores[task], 0
        for trial in store.trials():
            name, running = trial['trial_id'], trial['status'] == RUNNING
            finished = self._journal.of(name, entries.FINISHED)
            if not running and (finished is None or self._last_word(name)):
                self._close(task, trial)
            elif running and self._journal.of(name, entries.BEGUN) is None:
                # In the twin it goes on as it is. An operator may stand at the robot by now.
                if self._by_operator:
                    self._void(task, trial, _TOO_EARLY)
            else:
                count += self._settle_begun(task, trial, finished)
        for session in self._open_sessions(task):
            if not any(t['status'] == RUNNING and t['session_id'] == session
                       for t in store.trials()):
                self._end_session(task, session)
        return count

    def _settle_begun(self, task: str, trial: Mapping[str, Any],
                      finished: Mapping[str, Any] | None) -> int:
        """1 for a trial that counts, 0 for a void one."""
        summary = finished['summary'] if finished else self._rig.recover(trial['trial_id'])
        if summary is None:
            self._void(task, trial, 'the runner was killed and nothing of it was found')
            return 0
        self._say(f'{task} trial {trial["slot"]["seq"]}: finished before the interruption')
        ended_by = (finished or {}).get('ended_by')
        if ended_by is None:
            # Killed before it could say why it took the goal back: was there a Stop?
            pressed = trial['ended_at'] and summary['reason'].startswith(CANCELLED)
            ended_by = OPERATOR if pressed else RUNNER
        if finished is None:
            self._note_finished(task, trial, summary, ended_by)
        return self._record(task, trial, summary, ended_by)

    def _open_sessions(self, task: str) -> list[str]:
        mine = [entry for entry in self._journal.entries
                if entry['kind'] == entries.SESSION and entry['task'] == task]
        ended = {entry['session'] for entry in mine if entry['ended']}
        return [e['session'] for e in mine if not e['ended'] and e['session'] not in ended]

    def _end_session(self, task: str, session: str) -> None:
        self._stores[task].end_session(session)
        self._journal.add(entries.SESSION, task=task, session=session, ended=True)

    # -- one task ---------------------------------------------------------------------------------

    def _run_task(self, task: str, most: int) -> int:
        store, session = self._stores[task], ''
        count = voids = 0
        while not (self._stop() or (most and count >= most)):
            trial = self._open_trial(store)
            if trial is None and self._by_operator:
                if store.next() is None:
                    break
                time.sleep(_POLL_S)  # until the operator starts one in the console
                continue
            if trial is None:
                slot = store.next()
                if slot is None:
                    break
                session = session or self._start_session(task)
                trial = store.start_trial(slot['slot_id'], session)
            recorded = self._run_trial(task, trial)
            count += recorded
            voids = 0 if recorded else voids + 1
            if voids >= MOST_VOIDS and not self._stop():
                raise StudyError(f'{voids} trials in a row could not be run; the last: '
                                 f'{self._journal.entries[-1].get("reason", "")}')
        if session:
            self._end_session(task, session)
        return count

    def _open_trial(self, store: Store) -> dict[str, Any] | None:
        """One that runs in the store and that nobody has moved for yet."""
        running = [trial for trial in store.trials() if trial['status'] == RUNNING]
        return next((trial for trial in running if trial['ended_at'] is None
                     and not self._journal.of(trial['trial_id'], entries.BEGUN)), None)

    def _start_session(self, task: str) -> str:
        session = self._stores[task].start_session('flashwam trials', self._rig_name)
        self._journal.add(entries.SESSION, task=task, session=session, ended=False)
        return session

    # -- one trial --------------------------------------------------------------------------------

    def _run_trial(self, task: str, trial: Mapping[str, Any]) -> int:
        """1 for a trial that counts, 0 for a void one."""
        slot, name = trial['slot'], trial['trial_id']
        code, seed = slot['blind_code'], int(slot['factors']['seed'])
        self._journal.add(entries.BEGUN, trial=name, task=task, slot=slot['slot_id'], code=code,
                          seed=seed)
        self._say(f'{task} trial {slot["seq"]} ({slot["total"]} planned): arm {code}, '
                  f'scene {seed}')
        request = TrialRequest(
            trial=name, task=task, prompt=TASKS[task].prompt, seed=seed,
            time_limit_s=self._study.time_limit_s(task), arm=arm_name(task, code),
            execution=self._study.arm(self._sealed[task][code]).execution,
        )  # fmt: skip
        ending = self._ending(task, name)
        summary = self._first_that_starts(request, ending)
        self._note_finished(task, trial, summary, ending.by)
        return self._record(task, trial, summary, ending.by)

    def _first_that_starts(
        self, request: TrialRequest, stop: Callable[[], bool]
    ) -> Mapping[str, Any]:
        """What a preflight of the twin refuses has not been tried: the same trial again.

        Only that, and only in the twin: after a stop, and wherever an operator stands at a robot,
        nothing may move again that nobody has started again.
        """
        for tries in range(1, TRIES + 1):
            summary = self._rig.run(request, stop)
            refused = (summary.get('preflight') or {}).get('ok') is False
            if not refused or self._by_operator or tries == TRIES or stop():
                break
            self._say(f'  not started ({tries} of {TRIES}): {summary["reason"]}')
            time.sleep(PAUSE_S)
        return summary

    def _ending(self, task: str, name: str) -> _Ending:
        """Of the rollout: the runner stops, or the operator pressed Stop."""
        store = self._stores[task]
        return _Ending(self._stop, lambda: self._by_operator
                       and store.trial(name)['ended_at'] is not None)

    def _note_finished(self, task: str, trial: Mapping[str, Any], summary: Mapping[str, Any],
                       ended_by: str) -> None:
        self._journal.add(
            entries.FINISHED, trial=trial['trial_id'], task=task,
            code=trial['slot']['blind_code'], seed=int(trial['slot']['factors']['seed']),
            summary=dict(summary),
            ended_by=ended_by if summary['reason'].startswith(_ENDED) else '',
            not_deployment=deployment(summary, self._study.validity, self._by_operator),
        )  # fmt: skip

    def _void_reason(self, summary: Mapping[str, Any], ended_by: str) -> str:
        """As `void_reason`, and by who ended it: an operator's Stop ends every trial.

        Were it void, whoever stops the runner before the label could drop failures.
        """
        ended = summary['reason'].startswith(_ENDED)
        if ended and ended_by == OPERATOR and preflight_passed(summary):
            return ''
        void = void_reason(summary)
        # Where no operator ends trials, nobody but the runner takes a goal back.
        stopped = ended_by == RUNNER or not self._by_operator
        if not void and stopped and summary['reason'].startswith(CANCELLED):
            void = 'the runner was stopped'
        return void

    def _record(self, task: str, trial: Mapping[str, Any], summary: Mapping[str, Any],
                ended_by: str) -> int:
        void = self._void_reason(summary, ended_by)
        if void:
            self._void(task, trial, void)
            return 0
        store, name = self._stores[task], trial['trial_id']
        if self._by_operator:
            self._await_label(store, name)
        else:
            outcome: Score = score(summary, list(self._study.tasks[task]))
            trial = store.trial(name)
            if trial['status'] == RUNNING:
                store.complete_trial(
                    trial, stage=outcome.stage, termination=outcome.termination,
                    notes=outcome.notes, duration_s=max(0.0, float(summary['elapsed_s'])))
        trial = store.trial(name)
        if trial['status'] == RUNNING:
            return 0  # the operator has not labelled it; it is settled next time
        self._close(task, trial)
        return int(trial['status'] == COMPLETED)

    def _close(self, task: str, trial: Mapping[str, Any]) -> None:
        """Film and journal of a trial that runs no more in the store; each once."""
        self._attach_film(self._stores[task], trial)
        name, void = trial['trial_id'], trial['status'] == INVALID
        word = entries.VOIDED if void else entries.RECORDED
        if self._last_word(name) != word:
            reason = {'reason': trial['invalid_reason'] or ''} if void else {}
            self._journal.add(word, trial=name, task=task, **reason)

    def _last_word(self, name: str) -> str:
        """What became of a trial as the journal has it, '' while it is open there."""
        return next((entry['kind'] for entry in reversed(self._journal.entries)
                     if entry.get('trial') == name
                     and entry['kind'] in (entries.RECORDED, entries.VOIDED)), '')

    def _await_label(self, store: Store, name: str) -> None:
        """Stop its clock, then wait for the operator to say in the console how it went."""
        trial = store.trial(name)
        if trial['status'] != RUNNING:
            return
        if trial['ended_at'] is None:
            store.stop_trial(trial)
        self._say('label this trial in the console')
        while store.trial(name)['status'] == RUNNING and not self._stop():
            time.sleep(_POLL_S)

    def _void(self, task: str, trial: Mapping[str, Any], reason: str) -> None:
        store, name = self._stores[task], trial['trial_id']
        trial = store.trial(name)
        if trial['status'] != INVALID:  # a label given meanwhile does not make it a trial
            store.void_trial(trial, reason[:500])
        self._journal.add(entries.VOIDED, trial=name, task=task, reason=reason)
        self._say(f'{task} trial {trial["slot"]["seq"]} is void and comes again: {reason}')

    def _attach_film(self, store: Store, trial: Mapping[str, Any]) -> None:
        """Once; a trial of somebody else's, or without a film, has none."""
        finished = self._journal.of(trial['trial_id'], entries.FINISHED)
        folder = (finished or {}).get('summary', {}).get('folder')
        if trial['media'] or not folder or trial['status'] != COMPLETED:
            return
        film = Path(folder) / _FILM
        if film.is_file():
            store.attach(trial['trial_id'], film)
