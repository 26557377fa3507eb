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
of its block. The store itself refuses a second trial of a slot.
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
from flashwam_ros.trials.scoring import Score, score, void_reason
from flashwam_ros.trials.store import Store
from flashwam_ros.trials.study import OPERATOR, StudyError
from flashwam_ros.trials.validity import CANCELLED, deployment
from flashwam_ros.twin.tasks import TASKS

MOST_VOIDS = 3
TRIES = 5
PAUSE_S = 5.0
RUNNING = 'running'
_POLL_S = 0.5
_FILM = 'rollout.mp4'


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
            name = trial['trial_id']
            if trial['status'] != RUNNING:
                self._attach_film(store, trial)
                continue
            finished = self._journal.of(name, entries.FINISHED)
            begun = self._journal.of(name, entries.BEGUN)
            if begun is None:
                continue  # nothing moved for it: it goes on as it is
            summary = finished['summary'] if finished else self._rig.recover(name)
            if summary is None:
                self._void(task, trial, 'the runner was killed and nothing of it was found')
                continue
            self._say(f'{task} trial {trial["slot"]["seq"]}: finished before the interruption')
            if finished is None:
                self._note_finished(task, trial, summary)
            count += self._record(task, trial, summary)
        for session in self._open_sessions(task):
            if not any(t['status'] == RUNNING and t['session_id'] == session
                       for t in store.trials()):
                self._end_session(task, session)
        return count

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
        summary = self._first_that_starts(request, self._stopper(task, name))
        self._note_finished(task, trial, summary)
        return self._record(task, trial, summary)

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

    def _stopper(self, task: str, name: str) -> Callable[[], bool]:
        """Whether the rollout shall end early: the runner stops, or the operator pressed Stop."""
        if not self._by_operator:
            return self._stop
        store, asked = self._stores[task], [0.0, False]

        def stop() -> bool:
            if not asked[1] and time.monotonic() - asked[0] > _POLL_S:
                trial = store.trial(name)
                asked[:] = time.monotonic(), trial['ended_at'] is not None
            return bool(asked[1]) or self._stop()

        return stop

    def _note_finished(self, task: str, trial: Mapping[str, Any],
                       summary: Mapping[str, Any]) -> None:
        self._journal.add(
            entries.FINISHED, trial=trial['trial_id'], task=task,
            code=trial['slot']['blind_code'], seed=int(trial['slot']['factors']['seed']),
            summary=dict(summary),
            not_deployment=deployment(summary, self._study.validity, self._by_operator),
        )  # fmt: skip

    def _record(self, task: str, trial: Mapping[str, Any], summary: Mapping[str, Any]) -> int:
        void = void_reason(summary)
        # Where no operator ends trials, nobody but the runner takes a goal back; it may have died
        # since.
        stopped = self._stop() or not self._by_operator
        if not void and stopped and summary['reason'].startswith(CANCELLED):
            void = 'the runner was stopped'
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
        self._attach_film(store, trial)
        self._journal.add(entries.RECORDED, trial=name, task=task)
        return int(trial['status'] == 'completed')

    def _await_label(self, store: Store, name: str) -> None:
        """Stop its clock, then wait for the operator to say in the console how it went."""
        trial = store.trial(name)
        if trial['status'] == RUNNING and trial['ended_at'] is None:
            store.stop_trial(trial)
        self._say('label this trial in the console')
        while store.trial(name)['status'] == RUNNING and not self._stop():
            time.sleep(_POLL_S)

    def _void(self, task: str, trial: Mapping[str, Any], reason: str) -> None:
        store, name = self._stores[task], trial['trial_id']
        trial = store.trial(name)
        if trial['status'] == RUNNING:
            store.void_trial(trial, reason[:500])
        self._journal.add(entries.VOIDED, trial=name, task=task, reason=reason)
        self._say(f'{task} trial {trial["slot"]["seq"]} is void and comes again: {reason}')

    def _attach_film(self, store: Store, trial: Mapping[str, Any]) -> None:
        """Once; a trial of somebody else's, or without a film, has none."""
        finished = self._journal.of(trial['trial_id'], entries.FINISHED)
        folder = (finished or {}).get('summary', {}).get('folder')
        if trial['media'] or not folder or trial['status'] != 'completed':
            return
        film = Path(folder) / _FILM
        if film.is_file():
            store.attach(trial['trial_id'], film)
