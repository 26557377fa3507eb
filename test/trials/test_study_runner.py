# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The runner against fieldtrial's own store: order, voids, operators, and kills at any moment.

Regressions pinned: nothing finished is lost, and no trial that finished is run again, wherever a
SIGKILL falls; a trial that the operator ended is not void where the runner was stopped before its
label; a Start from before the runner moves nothing; what the store had before a kill is counted.
"""

import os
import random
import signal
import threading
import time
from collections import Counter

import pytest
from study_support import PaperRig, free_port, small_study, summary_of

from flashwam_ros.episodes import rollout_report
from flashwam_ros.trials import command, fieldtrial_program
from flashwam_ros.trials import runner as runner_module
from flashwam_ros.trials.compile import compile_study
from flashwam_ros.trials.fieldtrial_program import Server, fieldtrial_path
from flashwam_ros.trials.journal import Journal, JournalError, read_journal
from flashwam_ros.trials.runner import StudyRunner
from flashwam_ros.trials.store import Store, StoreError
from flashwam_ros.trials.study import StudyError

try:
    fieldtrial_path()
except StudyError:
    pytest.skip('no fieldtrial here', allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TASK = 'red_bottle'
KILLS = 40


class Desk:
    """One server for the module; each test compiles studies of its own below its folder."""

    def __init__(self, folder, url):
        self.folder, self.url, self._count = folder, url, 0

    def study(self, **changes):
        self._count += 1
        name = f's{self._count}'
        compiled = compile_study(small_study(name=name, **changes), self.folder / name)
        # The server finds studies in the folder that it serves.
        os.symlink(compiled.task_folder(TASK), self.folder / 'served' / name)
        return compiled, Store(self.url, name)

    def run(self, compiled, store, rig=None, stop=lambda: False, most=0):
        journal = Journal(compiled.folder)
        try:
            lines = []
            runner = StudyRunner(compiled, {TASK: store}, rig or PaperRig(compiled.folder),
                                 journal, lines.append, stop)  # fmt: skip
            return runner.run(most=most), lines
        finally:
            journal.close()


@pytest.fixture(scope='module')
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp('studies')
    (folder / 'served').mkdir()
    with Server(folder / 'served', free_port()) as server:
        yield Desk(folder, server.url)


def moved(compiled):
    """(trial -> times the arms moved to the end, began) from the rig's own log."""
    path = compiled.folder / 'moved.log'
    words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    ended = Counter(trial for what, trial, *_ in words if what == 'ended')
    began = Counter(trial for what, trial, *_ in words if what == 'began')
    return ended, began


def check_complete(compiled, store):
    """All planned trials are there once, and what finished on the rig is what the store has."""
    trials = store.trials()
    done = [trial for trial in trials if trial['status'] == 'completed']
    study = compiled.study
    pairs = Counter((t['slot']['blind_code'], t['slot']['factors']['seed']) for t in done)
    assert len(pairs) == len(study.arms) * study.rollouts
    assert set(pairs.values()) == {1}
    ended, began = moved(compiled)
    assert max(began.values()) == 1, 'the arms moved twice for one trial'
    # A kill between the two leaves a rollout whose summary is there and whose end is not noted.
    finished = {path.parent.name for path in compiled.folder.glob('rollouts/*/summary.json')}
    assert set(ended) <= finished
    assert finished == {trial['trial_id'] for trial in done}, 'a finished rollout was lost'
    assert all(trial['media'] for trial in done)
    assert store.next() is None


def test_a_study_from_end_to_end(desk):
    compiled, store = desk.study()
    count, lines = desk.run(compiled, store)
    assert count == 4
    check_complete(compiled, store)
    trial = store.trials()[0]
    outcome = trial['stage'], trial['termination'], trial['duration_s']
    assert outcome == ('lifted', 'success', 4.5)
    said = ' '.join(lines)
    assert 'ahead' not in said and 'waits' not in said
    assert desk.run(compiled, store)[0] == 0


class RigWithoutFilm(PaperRig):
    """As a graph with `film:=false`: the recording is left, to be drawn later."""

    def run(self, request, stop):
        summary = super().run(request, stop)
        (self.folder / request.trial / 'rollout.mp4').rename(
            self.folder / request.trial / 'recording.npz')
        return summary


def test_films_can_be_drawn_when_all_trials_are_over(desk, monkeypatch, capsys):
    compiled, store = desk.study()
    assert desk.run(compiled, store, RigWithoutFilm(compiled.folder))[0] == 4
    assert not any(trial['media'] for trial in store.trials())
    broken = sorted(path.parent for path in compiled.folder.glob('rollouts/*/recording.npz'))[0]

    def draw(folder):
        if folder == broken:
            return 'no picture'
        (folder / 'recording.npz').rename(folder / 'rollout.mp4')
        return ''

    monkeypatch.setattr(rollout_report, 'draw', draw)
    assert command.main(['films', str(compiled.folder)]) == 1, 'one of them failed'
    assert f'{broken.name}: no picture' in capsys.readouterr().out
    assert desk.run(compiled, store)[0] == 0
    assert [bool(trial['media']) for trial in store.trials()].count(True) == 3
    broken = None
    assert command.main(['films', str(compiled.folder)]) == 0
    desk.run(compiled, store)
    check_complete(compiled, store)


def test_the_arm_behind_a_code_gets_its_execution(desk):
    compiled, store = desk.study()
    asked = []

    def outcome(request):
        asked.append(request)
        return summary_of(request)

    desk.run(compiled, store, PaperRig(compiled.folder, outcome))
    codes = compiled.unseal()[TASK]
    for request in asked:
        arm = compiled.study.arm(codes[request.arm.split('.')[1]])
        assert (request.execution, request.time_limit_s) == (arm.execution, 10.0)
    assert len({(r.arm, r.seed) for r in asked}) == 4


@pytest.fixture
def two_tries(monkeypatch):
    monkeypatch.setattr(runner_module, 'TRIES', 2)
    monkeypatch.setattr(runner_module, 'PAUSE_S', 0.0)


@pytest.mark.usefixtures('two_tries')
def test_what_never_moved_is_tried_again_then_void_and_comes_again(desk):
    compiled, store = desk.study()
    reds = iter([True, False, True, True, False])

    def outcome(request):
        if not next(reds, False):
            return summary_of(request)
        return summary_of(request, success=False, moved=False, verdict='invalid',
                          reason='preflight: battery', preflight={'ok': False})  # fmt: skip

    assert desk.run(compiled, store, PaperRig(compiled.folder, outcome))[0] == 4
    trials = store.trials()
    assert [t['status'] for t in trials].count('invalid') == 1
    assert 'preflight: battery' in trials[1]['invalid_reason']


@pytest.mark.usefixtures('two_tries')
@pytest.mark.parametrize(('score', 'reason', 'preflight'), [
    ('predicate', 'stopped by the operator', {'ok': True}),
    ('predicate', 'stopped by the operator', None),
    ('operator', 'preflight: battery', {'ok': False}),
])  # fmt: skip
def test_nothing_moves_again_by_itself(score, reason, preflight):
    asked = []

    class Rig:
        def run(self, request, stop):
            asked.append(request)
            return {'verdict': 'invalid', 'first_action_s': None, 'reason': reason,
                    'preflight': preflight}

    runner = object.__new__(StudyRunner)
    runner._rig, runner._say, runner._by_operator = Rig(), print, score == 'operator'
    runner._first_that_starts(object(), lambda: False)
    assert len(asked) == 1


@pytest.mark.usefixtures('two_tries')
def test_three_voids_in_a_row_end_it(desk):
    compiled, store = desk.study()

    def outcome(request):
        return summary_of(request, success=False, moved=False, verdict='invalid', reason='no wire')

    with pytest.raises(StudyError, match='3 trials in a row.*no wire'):
        desk.run(compiled, store, PaperRig(compiled.folder, outcome))


def test_a_fault_in_motion_counts_and_is_not_deployment_valid(desk):
    compiled, store = desk.study()

    def outcome(request):
        return summary_of(request, success=False, verdict='invalid', reason='state_lost')

    assert desk.run(compiled, store, PaperRig(compiled.folder, outcome))[0] == 4
    assert {t['termination'] for t in store.trials()} == {'robot_fault'}
    finished = [e for e in read_journal(compiled.folder) if e['kind'] == 'finished']
    assert {tuple(e['not_deployment']) for e in finished} == {('fault',)}


def test_an_arm_that_fails_to_begin_has_failed(desk):
    compiled, store = desk.study()

    def outcome(request):
        return summary_of(request, success=False, moved=False, verdict='invalid',
                          reason='policy: it could not be asked', preflight={'ok': True})

    assert desk.run(compiled, store, PaperRig(compiled.folder, outcome))[0] == 4
    assert {(t['status'], t['termination']) for t in store.trials()} == {('completed', 'other')}
    finished = [e for e in read_journal(compiled.folder) if e['kind'] == 'finished']
    assert {tuple(e['not_deployment']) for e in finished} == {('fault',)}


def test_most_and_stop(desk):
    compiled, store = desk.study()
    assert desk.run(compiled, store, most=1)[0] == 1
    assert desk.run(compiled, store, stop=lambda: True)[0] == 0
    assert desk.run(compiled, store)[0] == 3
    check_complete(compiled, store)


def test_the_store_of_another_study_is_refused_before_anything_is_written(desk):
    compiled, _ = desk.study()
    _, other = desk.study(seed=4)
    with pytest.raises(StudyError, match='the store holds another design'):
        desk.run(compiled, other)
    assert other.trials() == []
    assert moved(compiled)[1] == {}


def test_a_port_that_somebody_else_answers_at_is_refused(desk, monkeypatch):
    monkeypatch.setattr(fieldtrial_program, '_STOP_S', 0.3)
    port = int(desk.url.rsplit(':', 1)[1])
    with pytest.raises(StudyError, match=f'port {port} is taken.*--port'), \
            Server(desk.folder / 'served', port):
        pass


def test_an_answer_counts_only_while_the_server_lives(desk, monkeypatch):
    port = int(desk.url.rsplit(':', 1)[1])
    server = Server(desk.folder / 'served', port)
    server._command = ['sh', '-c', 'echo it is broken >&2; exit 3']
    monkeypatch.setattr(server, '_await_port', lambda: time.sleep(0.1))
    answers = server._answers
    monkeypatch.setattr(server, '_answers', lambda: time.sleep(0.5) or answers())
    with pytest.raises(StudyError, match='it is broken'), server:
        pass


def test_one_runner_at_a_time(desk):
    compiled, _ = desk.study()
    journal = Journal(compiled.folder)
    with pytest.raises(JournalError, match='another runner'):
        Journal(compiled.folder)
    threading.Timer(0.3, journal.close).start()
    Journal(compiled.folder, wait_s=30.0).close()


def test_a_torn_line_is_dropped_and_a_damaged_one_refused(tmp_path):
    journal = Journal(tmp_path)
    journal.add('begun', trial='a')
    journal.close()
    path = tmp_path / 'journal.jsonl'
    path.write_bytes(path.read_bytes() + b'{"kind": "fin')
    journal = Journal(tmp_path)
    journal.add('voided', trial='a')
    journal.close()
    assert [entry['kind'] for entry in read_journal(tmp_path)] == ['begun', 'voided']
    path.write_bytes(b'nonsense\n' + path.read_bytes())
    with pytest.raises(JournalError, match='line 1'):
        Journal(tmp_path)


def test_a_store_that_is_gone_is_named(desk):
    with pytest.raises(StoreError, match='no answer'):
        Store(f'http://127.0.0.1:{free_port()}', 's').next()


# -- the operator scores --------------------------------------------------------------------------


class Operator:
    """Starts, sees and labels trials as a person does in fieldtrial's console."""

    def __init__(self, store):
        self.store = store
        self.session = store.start_session('ana', 'rig')

    def start(self):
        slot = self.store.next()
        return slot and self.store.start_trial(slot['slot_id'], self.session)

    def label(self, _seconds=0):
        for trial in self.store.trials():
            if trial['status'] == 'running' and trial['ended_at']:
                self.store.complete_trial(trial, stage='grasped', termination='stuck', notes='',
                                          duration_s=3.0)  # fmt: skip
        if not any(trial['status'] == 'running' for trial in self.store.trials()):
            self.start()


def test_an_operator_starts_and_labels(desk, monkeypatch):
    compiled, store = desk.study(score='operator')
    operator = Operator(store)
    monkeypatch.setattr(runner_module.time, 'sleep', operator.label)
    assert desk.run(compiled, store)[0] == 4
    check_complete(compiled, store)
    assert {t['stage'] for t in store.trials()} == {'grasped'}


def test_an_operators_stop_ends_the_rollout_and_counts(desk, monkeypatch):
    compiled, store = desk.study(score='operator')
    operator = Operator(store)
    monkeypatch.setattr(runner_module.time, 'sleep', operator.label)
    monkeypatch.setattr(runner_module, '_POLL_S', 0.0)

    class Stopped(PaperRig):
        def run(self, request, stop):
            store.stop_trial(store.trial(request.trial))
            assert stop()
            return super().run(request, stop)

    def outcome(request):
        return summary_of(request, success=False, verdict='invalid', reason='cancelled')

    assert desk.run(compiled, store, Stopped(compiled.folder, outcome))[0] == 4
    finished = [e for e in read_journal(compiled.folder) if e['kind'] == 'finished']
    assert {tuple(e['not_deployment']) for e in finished} == {()}, 'it ends every trial'


@pytest.fixture
def session(desk, monkeypatch):
    """(study, its store, the operator, who stops the runner) with `score: operator`."""
    compiled, store = desk.study(score='operator')
    operator = Operator(store)
    monkeypatch.setattr(runner_module.time, 'sleep', operator.label)
    return compiled, store, operator, threading.Event()


class CancelledRig(PaperRig):
    """A rollout in which something happens before the runner takes its goal back.

    Args:
        folder: of the study.
        before: called with the trial's name before the goal is taken back.
        after: likewise, while plot and film are drawn.
        stopped: the runner is asked to stop once `before` is over.
    """

    def __init__(self, folder, stopped, before=lambda name: None, after=lambda name: None):
        super().__init__(folder, lambda request: summary_of(
            request, success=False, verdict='invalid', reason='cancelled'))
        self.stopped, self.before, self.after = stopped, before, after

    def run(self, request, stop):
        assert not stop()
        self.before(request.trial)
        self.stopped.set()
        assert stop()
        summary = super().run(request, stop)
        self.after(request.trial)
        return summary


def test_an_operators_stop_counts_when_the_runner_is_stopped_before_the_label(desk, session):
    compiled, store, operator, stopped = session
    rig = CancelledRig(compiled.folder, stopped,
                       before=lambda name: store.stop_trial(store.trial(name)))
    assert desk.run(compiled, store, rig, stopped.is_set)[0] == 0
    (trial,) = store.trials()
    assert trial['status'] == 'running' and trial['ended_at']
    (finished,) = [e for e in read_journal(compiled.folder) if e['kind'] == 'finished']
    assert finished['ended_by'] == 'operator'
    count, lines = desk.run(compiled, store, most=1)
    assert count == 1 and 'label this trial in the console' in lines
    assert store.trial(trial['trial_id'])['status'] == 'completed'
    assert list(moved(compiled)[1].values()) == [1], 'the scene was run again'


@pytest.mark.parametrize('labelled', [False, True])
def test_what_the_runner_cut_short_is_void_whatever_the_operator_does_then(desk, session,
                                                                           labelled):
    compiled, store, operator, stopped = session

    def after(name):
        if labelled:
            store.stop_trial(store.trial(name))
            operator.label()

    rig = CancelledRig(compiled.folder, stopped, after=after)
    assert desk.run(compiled, store, rig, stopped.is_set)[0] == 0
    trial = store.trials()[0]
    assert (trial['status'], trial['invalid_reason']) == ('invalid', 'the runner was stopped')


@pytest.mark.parametrize('labelled', [False, True])
def test_what_the_runner_cut_short_is_void_after_a_kill_too(desk, session, labelled):
    compiled, store, operator, stopped = session
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Store, 'void_trial', killed)
        desk.run(compiled, store, CancelledRig(compiled.folder, stopped), stopped.is_set)
    (trial,) = store.trials()
    assert trial['status'] == 'running'
    if labelled:
        store.stop_trial(trial)
        operator.label()
    desk.run(compiled, store, most=1)
    trial = store.trial(trial['trial_id'])
    assert (trial['status'], trial['invalid_reason']) == ('invalid', 'the runner was stopped')


@pytest.mark.parametrize(('pressed', 'status'), [(True, 'completed'), (False, 'invalid')])
def test_a_runner_killed_before_it_could_say_who_ended_it(desk, session, pressed, status):
    compiled, store, operator, stopped = session

    def before(name):
        if pressed:
            store.stop_trial(store.trial(name))

    with pytest.raises(Killed):
        desk.run(compiled, store, CancelledRig(compiled.folder, stopped, before, killed),
                 stopped.is_set)
    (trial,) = store.trials()
    desk.run(compiled, store, most=1)
    assert store.trial(trial['trial_id'])['status'] == status


def test_a_stop_of_the_runner_ends_the_rollout_without_the_store_too():
    def gone():
        raise StoreError('no answer')

    ending = runner_module._Ending(lambda: True, gone)
    assert ending() and ending.by == 'runner'
    with pytest.raises(StoreError):
        runner_module._Ending(lambda: False, gone)()


def test_a_start_from_before_the_runner_moves_nothing(desk, session):
    compiled, store, operator, _ = session
    early = operator.start()['trial_id']
    count, lines = desk.run(compiled, store)
    assert count == 4
    trial = store.trial(early)
    assert trial['status'] == 'invalid'
    assert trial['invalid_reason'] == 'started before the runner was there: press Start again'
    assert early not in moved(compiled)[1]
    assert any('press Start again' in line for line in lines)
    check_complete(compiled, store)


def test_in_the_twin_a_trial_that_nothing_moved_for_goes_on(desk):
    compiled, store = desk.study()
    early = store.start_trial(store.next()['slot_id'], store.start_session('a', 'twin'))
    assert desk.run(compiled, store)[0] == 4
    assert store.trial(early['trial_id'])['status'] == 'completed'


def test_a_cancelled_trial_of_a_runner_that_died_is_void_not_a_failure(desk):
    compiled, store = desk.study()

    class Stopped(PaperRig):
        def run(self, request, stop):
            super().run(request, stop)
            raise Killed

    def outcome(request):
        return summary_of(request, success=False, verdict='invalid', reason='cancelled')

    with pytest.raises(Killed):
        desk.run(compiled, store, Stopped(compiled.folder, outcome))
    assert desk.run(compiled, store, most=1)[0] == 1
    trials = store.trials()
    assert [t['status'] for t in trials] == ['invalid', 'completed']
    assert trials[0]['invalid_reason'] == 'the runner was stopped'


# -- kills ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the runner may catch it."""


def killed(*_, **__):
    raise Killed


@pytest.mark.parametrize(('write', 'done'), [
    ('complete_trial', '4 of 4 done, 0 void'), ('void_trial', '4 of 4 done, 1 void'),
])  # fmt: skip
def test_status_knows_what_the_store_had_before_the_kill(desk, write, done):
    compiled, store = desk.study()
    moves = iter([True, True, True, write != 'void_trial'])

    def outcome(request):
        return summary_of(request) if next(moves, True) else summary_of(
            request, success=False, moved=False, verdict='invalid', reason='no wire')

    original, calls = getattr(Store, write), []

    def then_killed(self, *args, **kwargs):
        original(self, *args, **kwargs)
        calls.append(args)
        if write == 'void_trial' or len(calls) == 4:
            raise Killed

    rig = PaperRig(compiled.folder, outcome)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Store, write, then_killed)
        desk.run(compiled, store, rig)
    assert '3 of 4 done, 0 void' in command.progress(compiled)
    desk.run(compiled, store, rig)
    assert done in command.progress(compiled)
    desk.run(compiled, store, rig)
    words = [e['trial'] for e in read_journal(compiled.folder)
             if e['kind'] in ('recorded', 'voided')]
    assert sorted(words) == sorted(t['trial_id'] for t in store.trials()), 'each once'


def test_status_knows_what_was_voided_in_the_console_later(desk):
    compiled, store = desk.study()
    desk.run(compiled, store)
    store.void_trial(store.trials()[0], 'the wrong bottle')
    desk.run(compiled, store, stop=lambda: True)
    assert '3 of 4 done, 1 void' in command.progress(compiled)
    desk.run(compiled, store)
    assert '4 of 4 done, 1 void' in command.progress(compiled)


def interrupt(monkeypatch, at):
    """Die at the `at`-th moment: before and after everything that leaves a trace."""
    count = [0]

    def passing(original):
        def call(self, *args, **kwargs):
            for after in (False, True):
                count[0] += 1
                if count[0] - 1 == at:
                    raise Killed
                if not after:
                    result = original(self, *args, **kwargs)
            return result

        return call

    for owner, names in ((Journal, ('add',)), (PaperRig, ('run',)), (Store, (
            'start_session', 'start_trial', 'complete_trial', 'void_trial', 'attach',
            'end_session'))):  # fmt: skip
        for name in names:
            monkeypatch.setattr(owner, name, passing(getattr(owner, name)))


def test_killed_before_and_after_every_single_write(desk):
    """One study, and one death further on in each of its runs."""
    compiled, store = desk.study(rollouts=3)
    deaths = 0
    for at in [*range(16), 1, 3, 5, 7, 9, 11]:
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, at)
            try:
                desk.run(compiled, store)
            except Killed:
                deaths += 1
    desk.run(compiled, store)
    assert deaths >= 12
    check_complete_but_for_voids(compiled, store)


def check_complete_but_for_voids(compiled, store):
    """As `check_complete`; what never came to its end may be void."""
    check_complete(compiled, store)
    for trial in store.trials():
        assert trial['status'] in ('completed', 'invalid')


def a_moment():
    time.sleep(random.Random(os.getpid()).uniform(0.0, 0.03))


def test_sigkill_at_random_moments(desk):
    """40 times a process of its own is killed; what its rig finished is never lost or repeated."""
    compiled, store = desk.study(rollouts=24)
    draw, kills = random.Random(4), 0
    while store.next() is not None or any(t['status'] == 'running' for t in store.trials()):
        child = os.fork()
        if child == 0:
            try:
                desk.run(compiled, store, PaperRig(compiled.folder, pause=a_moment))
            finally:
                os._exit(0)
        if kills < KILLS:
            time.sleep(draw.uniform(0.0, 0.35))
            os.kill(child, signal.SIGKILL)
            kills += 1
        os.waitpid(child, 0)
    desk.run(compiled, store)
    assert kills >= KILLS // 2, 'the study was over before it was killed often enough'
    check_complete_but_for_voids(compiled, store)
