# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Study files: what is refused, what is hashed, and what becomes of one in fieldtrial."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from study_support import server_that_says, small_study, study_values

from flashwam_ros.bringup.settings import Settings
from flashwam_ros.policy.backends import PolicyChoice, read_arms
from flashwam_ros.policy.protocol import PolicyError
from flashwam_ros.training.results import manifest_sha256
from flashwam_ros.trials import compile as compilation
from flashwam_ros.trials.compile import compile_study, fieldtrial_study, task_seed
from flashwam_ros.trials.compiled import open_compiled
from flashwam_ros.trials.fieldtrial_program import fieldtrial_path
from flashwam_ros.trials.report import _tell_served
from flashwam_ros.trials.study import StudyError, find_study, read_study, study_from

try:
    fieldtrial_path()
except StudyError:
    fieldtrial_path = None
needs_fieldtrial = pytest.mark.skipif(fieldtrial_path is None, reason='no fieldtrial here')


def locked(*words):
    """What `fieldtrial lock` answers, without it."""
    values = yaml.safe_load(Path(words[1], 'study.yaml').read_text())
    codes = {arm['id']: code for arm, code in zip(values['arms'], ('K7', 'C4'), strict=False)}
    seeds = values['conditions']['factors']['seed']['values']
    return {'slots': len(codes) * len(seeds), 'blind_codes': codes, 'design_hash': 'd' * 64}


def test_the_papers_protocol():
    study = read_study(find_study('paper_g1'))
    assert list(study.tasks) == ['pot_potato', 'red_bottle', 'pink_object']
    assert study.rollouts == 10
    assert study.count == 210
    assert [(arm.checkpoint, arm.steps) for arm in study.arms] == [
        ('g1-nano-teacher', '3v/10a'), ('g1-nano-teacher', '1v/2a'), ('g1-nano-teacher', '1v/1a'),
        ('g1-nano-video-lcm', '1v/2a'), ('g1-nano-video-lcm', '1v/1a'),
        ('g1-nano-flashwam', '1v/2a'), ('g1-nano-flashwam', '1v/1a')]  # fmt: skip
    assert study.reference == 'teacher-3v10a'
    assert {arm.execution for arm in study.arms} == {'async'}


@pytest.mark.parametrize(('changes', 'said'), [
    ({'score': 'guess'}, 'score'),
    ({'reference': 'nobody'}, 'no arm'),
    ({'rollouts': 0}, 'at least one'),
    ({'scenes': {'split': 'mine', 'first': 0}}, 'unknown seed split'),
    ({'scenes': {'split': 'test', 'first': 9999}}, 'only'),
    ({'tasks': {'dance': {'a': 'b'}}}, "task 'dance'"),
    ({'tasks': {'red_bottle': {'grasped': 'x', 'reached': 'y', 'lifted': 'z'}}}, 'this order'),
    ({'non_inferiority': {'arms': ['waits'], 'margin': 0.1}}, 'not the reference'),
    ({'non_inferiority': {'arms': ['ahead'], 'margin': 1.5}}, 'margin'),
    ({'colour': 'red'}, 'colour'),
    ({'arms': [{'id': 'a', 'policy': 'expert'}]}, 'at least two'),
    ({'arms': [{'id': 'a', 'policy': 'expert'}, {'id': 'a', 'policy': 'expert'}]}, 'own id'),
    ({'arms': [{'id': 'a', 'checkpoint': 'm', 'steps': 'many'}]}, 'like 3v/10a'),
    ({'arms': [{'id': 'a', 'checkpoint': 'm', 'steps': '1v/1a', 'sampler': 'dice'}]}, 'sampler'),
    ({'arms': [{'id': 'a', 'policy': 'expert', 'execution': 'never'}]}, 'execution'),
    ({'arms': [{'id': 'a', 'steps': '1v/1a'}]}, 'give a checkpoint'),
    ({'arms': [{'id': 'a', 'server': 'host:29056'}]}, 'write ws://host:port'),
    ({'arms': [{'id': 'a', 'server': 'ws://host:29056', 'steps': '1v/1a'}]}, 'are the server\'s'),
    ({'arms': [{'id': 'a', 'server': 'ws://host:29056', 'policy': 'expert'}]}, 'none to the'),
    ({'arms': [{'id': 'a', 'checkpoint': 'm', 'steps': '1v/1a'},
               {'id': 'b', 'policy': 'expert'}]}, 'all or none'),
])  # fmt: skip
def test_refused(changes, said):
    with pytest.raises(StudyError, match=said):
        study_from(study_values(**changes))


def test_missing_key_is_named():
    values = study_values()
    del values['margin' if 'margin' in values else 'non_inferiority']
    with pytest.raises(StudyError, match='non_inferiority'):
        study_from(values)


def test_what_is_written_is_read_back():
    study = small_study()
    assert study_from(study.to_dict()) == study


def test_codes_and_orders_of_tasks_have_seeds_of_their_own():
    study = small_study()
    assert task_seed(study, 'red_bottle', 's') != task_seed(study, 'pink_object', 's')


def test_margin_and_limits_reach_fieldtrials_hash():
    study = small_study()
    resolved = {arm.id: {'sha256': ''} for arm in study.arms}
    values = fieldtrial_study(study, 'red_bottle', resolved, 'f' * 64, 's')
    assert {arm['policy']['study_sha256'] for arm in values['arms']} == {'f' * 64}
    assert values['design']['blinding'] == 'operator'
    assert values['analysis']['primary']['comparison'] == {
        'treatment': 'ahead', 'control': 'waits'}


@pytest.fixture
def without_fieldtrial(monkeypatch):
    monkeypatch.setattr(compilation, 'fieldtrial_json', locked)


@pytest.mark.usefixtures('without_fieldtrial')
class TestCompiled:
    def test_twice_is_once(self, tmp_path):
        first = compile_study(small_study(), tmp_path / 's')
        again = compile_study(small_study(), tmp_path / 's')
        assert first == again == open_compiled(tmp_path / 's')

    def test_another_margin_is_another_study(self, tmp_path):
        compile_study(small_study(), tmp_path / 's')
        other = small_study(non_inferiority={'arms': ['ahead'], 'margin': 0.3})
        with pytest.raises(StudyError, match='locked study is not changed'):
            compile_study(other, tmp_path / 's')

    def test_a_changed_file_is_noticed(self, tmp_path):
        compile_study(small_study(), tmp_path / 's')
        path = tmp_path / 's' / 'study.json'
        path.write_text(path.read_text().replace('"margin": 0.2', '"margin": 0.5'))
        with pytest.raises(StudyError, match='changed after it was compiled'):
            open_compiled(tmp_path / 's')

    def test_it_may_be_moved(self, tmp_path):
        compiled = compile_study(small_study(), tmp_path / 's')
        shutil.move(tmp_path / 's', tmp_path / 't')
        assert open_compiled(tmp_path / 't').sha256 == compiled.sha256

    def test_a_rehearsal_does_not_tell_the_codes_of_the_real_study(self, tmp_path):
        plans = []
        for name in ('rehearsal', 's', 's'):
            compiled = compile_study(small_study(), tmp_path / name)
            path = compiled.task_folder('red_bottle') / 'study.yaml'
            plans.append((compiled.sha256, yaml.safe_load(path.read_text())['design']['seed']))
        assert plans[0][0] != plans[1][0] and plans[0][1] != plans[1][1]
        assert plans[1] == plans[2]

    def test_arms_are_sealed(self, tmp_path):
        compiled = compile_study(small_study(), tmp_path / 's')
        for name in ('sealed.json', 'arms.json', 'study.json', 'tasks/red_bottle/study.yaml'):
            assert (compiled.folder / name).stat().st_mode & 0o077 == 0
        arms = read_arms(compiled.folder / 'arms.json')
        assert set(arms) == {'red_bottle.C4', 'red_bottle.K7'}
        assert not any('ahead' in name or 'waits' in name for name in arms)

    def test_checkpoints_that_are_missing_are_told_at_once(self, tmp_path):
        arms = [{'id': name, 'checkpoint': f'no-{name}', 'steps': '1v/1a'}
                for name in ('waits', 'ahead')]  # fmt: skip
        with pytest.raises(StudyError, match=r'(?s)no-waits.*no-ahead'):
            compile_study(small_study(arms=arms), tmp_path / 's')
        assert list(tmp_path.iterdir()) == []


def study_with_server(address, execution):
    arms = [{'id': 'waits', 'checkpoint': 'g1-nano-flash', 'steps': '1v/2a', 'execution': 'sync'},
            {'id': 'ahead', 'server': address, 'execution': execution}]  # fmt: skip
    return small_study(arms=arms)


@pytest.mark.usefixtures('without_fieldtrial')
def test_an_arm_may_be_a_server_and_stays_what_it_was(tmp_path):
    with server_that_says() as address:
        compiled = compile_study(study_with_server(address, 'async'), tmp_path / 's')
    assert compiled.resolved['ahead'] == {
        'checkpoint': address, 'sha256': 'a' * 64, 'video_steps': 1, 'action_steps': 2,
        'sampler': 'own'}
    chosen = {arm.checkpoint: arm for arm in read_arms(compiled.folder / 'arms.json').values()}
    assert chosen.pop(address) == PolicyChoice('wam', address, sha256='a' * 64,
                                               served=(1, 2, 'own'))
    (folder,), (local,) = chosen, chosen.values()
    assert local.sha256 == manifest_sha256(Path(folder))
    settings = Settings.parse({'study': str(compiled.folder)})
    assert settings.policy == 'wam'


@pytest.mark.usefixtures('without_fieldtrial')
@pytest.mark.parametrize('changed', [{'action_steps': 1}, {'sampler': 'euler'}])
def test_a_server_that_was_started_otherwise_is_another_study(tmp_path, changed):
    with server_that_says() as address:
        compile_study(study_with_server(address, 'async'), tmp_path / 's')
    port = int(address.rsplit(':', 1)[1])
    with (
        server_that_says(port=port, **changed) as address,
        pytest.raises(StudyError, match='locked study is not changed'),
    ):
        compile_study(study_with_server(address, 'async'), tmp_path / 's')


@pytest.mark.usefixtures('without_fieldtrial')
def test_the_report_tells_what_a_server_decided(tmp_path):
    with server_that_says() as address:
        compiled = compile_study(study_with_server(address, 'async'), tmp_path / 's')
    arms = [asdict(arm) for arm in compiled.study.arms]
    _tell_served(arms, compiled)
    assert [(arm['steps'], arm['sampler']) for arm in arms] == [('1v/2a', 'own')] * 2


@pytest.mark.usefixtures('without_fieldtrial')
def test_a_server_that_does_not_fit_is_refused_when_compiling(tmp_path):
    with (
        server_that_says(mode_problems={'async': 'one at a time'}) as address,
        pytest.raises(StudyError, match=r'arm ahead: ws://.*: one at a time'),
    ):
        compile_study(study_with_server(address, 'async'), tmp_path / 's')
    with pytest.raises(StudyError, match='arm ahead: there is no policy server at'):
        compile_study(study_with_server(address, 'sync'), tmp_path / 's')
    assert list(tmp_path.iterdir()) == []


def test_arms_file_that_is_none(tmp_path):
    with pytest.raises(PolicyError, match='compile the study again'):
        read_arms(tmp_path / 'arms.json')
    (tmp_path / 'arms.json').write_text(json.dumps({'K7': {'wings': 2}}))
    with pytest.raises(PolicyError, match='wings'):
        read_arms(tmp_path / 'arms.json')


@needs_fieldtrial
def test_fieldtrial_locks_it(tmp_path):
    compiled = compile_study(small_study(), tmp_path / 's')
    codes = compiled.unseal()['red_bottle']
    assert sorted(codes.values()) == ['ahead', 'waits']
    assert (compiled.task_folder('red_bottle') / 'fieldtrial.db').is_file()
