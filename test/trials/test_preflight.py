# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every check of the preflight, green and red, from made-up observations."""

import contextlib
import dataclasses
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from study_support import server_that_says

from flashwam_ros.resources import share_path
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings
from flashwam_ros.trials import preflight as module
from flashwam_ros.trials.check_result import CheckResult, Report
from flashwam_ros.trials.checkpoint_facts import contract_differences
from flashwam_ros.trials.machine_checks import SILENT, SILENT_IN_TWIN, latency_budget_s
from flashwam_ros.trials.observations import CameraSeen, Observations, PolicySeen, RobotSeen
from flashwam_ros.trials.preflight import CHECKS, not_observed, preflight
from flashwam_ros.trials.robot_checks import describe
from flashwam_ros.trials.wrist_identity import (
    features,
    identity_score,
    load_reference,
    make_reference,
)

CONTRACT = RobotContract.load()
HOME = np.array(load_settings().home_arm)
HANGING = HOME.copy()
HANGING[[3, 10]] = 1.5


def wrist_picture(side):
    """A table whose far edge falls to the outside, at any size; wood below, wall above."""
    y, x = np.mgrid[0:240, 0:320] / (240, 320)[0]
    edge = 0.12 + 0.1 * (x if side == 'left' else 4 / 3 - x)
    wood = (y > edge)[..., None]
    return np.where(wood, (200, 160, 110), (200, 205, 210)).astype(np.uint8)


def camera(key):
    picture = wrist_picture(key.split('_')[0]) if 'wrist' in key else wrist_picture('left')
    # The made-up slope is the mirror image of the twin's.
    picture = picture[:, ::-1] if 'wrist' in key else picture
    return CameraSeen(key, 20.0, 0.06, (320, 240), 0.0, False, np.ascontiguousarray(picture))


GREEN = Observations(
    robot=RobotSeen(
        mode_name='ai', fsm_id=501, mode_machine=15, state_rate_hz=499.0, state_age_s=0.002,
        other_writers=(), other_robots=(), second_driver='', arms_held='',
        winding_c=41.0, hottest='left_elbow_joint', motor_errors={},
        battery_percent=80.0, arm_q=HOME, gripper_q={'left': 5.3, 'right': 0.01},
        gripper_age_s={'left': 0.002, 'right': 0.002},
    ),
    cameras=tuple(camera(c.key) for c in CONTRACT.cameras),
    policy=PolicySeen('wam', 'ready', '', 0.2, (), True, 'folder'),
    clock_step_s=0.0001, state_lag_s=0.004, free_gib=100.0, execution='async',
)  # fmt: skip


def robot(**changes):
    return replace(GREEN, robot=replace(GREEN.robot, **changes))


def cameras(key, **changes):
    changed = [replace(c, **changes) if c.key == key else c for c in GREEN.cameras]
    return replace(GREEN, cameras=tuple(changed))


def policy(**changes):
    return replace(GREEN, policy=replace(GREEN.policy, **changes))


def swapped_colors():
    return tuple(replace(c, image=c.image[..., ::-1].copy()) for c in GREEN.cameras)


def swapped_wrists():
    head, left, right = GREEN.cameras
    return head, replace(left, image=right.image), replace(right, image=left.image)


RED = {
    'debug mode': (robot(mode_name=''), ['robot_mode']),
    'damping': (robot(fsm_id=1), ['robot_mode']),
    'no answer': (robot(mode_name=None, fsm_id=None), ['robot_mode']),
    'waist locked': (robot(mode_machine=16), ['mode_machine']),
    'slow state': (robot(state_rate_hz=90.0), ['state_rate']),
    'old state': (robot(state_age_s=0.3), ['state_age']),
    'intruder': (robot(other_writers=('rt/arm_sdk (1)',)), ['second_writer']),
    'writers not told': (robot(other_writers=None), ['second_writer']),
    'another robot': (robot(other_robots=('rt/lowstate (1)', 'rt/lowstate (2)')), ['two_robots']),
    'robots not told': (robot(other_robots=None), ['two_robots']),
    'another graph': (robot(second_driver='2 nodes /g1_driver'), ['second_driver']),
    'arms left held': (robot(arms_held='flashwam release --domain 0'), ['arms_held']),
    'claim not told': (robot(arms_held=None), ['arms_held']),
    'dead gripper': (robot(gripper_age_s={'left': 3.0, 'right': 0.0}), ['gripper_alive: left']),
    'silent gripper': (robot(gripper_age_s={'left': 0.0}, gripper_q={'left': 1.0}),
                       ['gripper_alive: right', 'gripper_zeroed: right']),
    'not zeroed': (robot(gripper_q={'left': -1.2, 'right': 5.0}), ['gripper_zeroed: left']),
    'arms hang': (robot(arm_q=HANGING), ['start_pose']),
    'arms unknown': (robot(arm_q=None), ['start_pose']),
    'arm not a number': (robot(arm_q=np.full(14, np.nan)), ['start_pose']),
    'empty battery': (robot(battery_percent=12.0), ['battery']),
    'hot': (robot(winding_c=85.0), ['temperature']),
    'temperature not told': (robot(winding_c=None), ['temperature']),
    'motor error': (robot(motor_errors={'left_elbow_joint': 0x201}), ['motor_errors']),
    'errors not told': (robot(motor_errors=None), ['motor_errors']),
    'slow camera': (cameras('head', rate_hz=5.0), ['camera_rate: head']),
    'late camera': (cameras('right_wrist', age_s=0.6), ['camera_age: right_wrist']),
    'stamps of the future': (cameras('head', age_s=-0.1), ['camera_age: head']),
    'small camera': (cameras('left_wrist', size=(160, 120)), ['camera_size: left_wrist']),
    'skewed camera': (cameras('left_wrist', skew_s=0.2), ['stamp_skew']),
    'no camera': (replace(GREEN, cameras=(GREEN.cameras[0], CameraSeen('left_wrist'),
                                          GREEN.cameras[2])),
                  ['camera_rate: left_wrist', 'camera_age: left_wrist', 'camera_size: left_wrist',
                   'color_order: left_wrist', 'wrist_identity', 'stamp_skew']),
    'red is blue': (replace(GREEN, cameras=swapped_colors()),
                    ['color_order: head', 'color_order: left_wrist', 'color_order: right_wrist',
                     'wrist_identity']),
    'wrists exchanged': (replace(GREEN, cameras=swapped_wrists()), ['wrist_identity']),
    'clock jumped': (replace(GREEN, clock_step_s=-0.7), ['clock_step']),
    'other clock': (replace(GREEN, state_lag_s=-0.4), ['state_lag']),
    'no joint states': (replace(GREEN, state_lag_s=None), ['state_lag']),
    'not loaded': (policy(state='error', reason='checkpoint: no such folder'), ['policy_warm']),
    'policy silent': (policy(state=None, latency_s=None), ['policy_warm', 'chunk_latency']),
    'slow policy': (policy(latency_s=0.9), ['chunk_latency']),
    'other robot': (policy(contract_differences=('row_rate_hz: 20.0 here, 30.0 there',)),
                    ['contract']),
    'silent server': (policy(contract_differences=(SILENT,)), ['contract']),
    'silent server for another driver': (policy(contract_differences=(SILENT_IN_TWIN, 'driver')),
                                         ['contract']),
    'disk full': (replace(GREEN, free_gib=0.3), ['disk']),
}  # fmt: skip


def test_all_green():
    report = preflight(GREEN)
    assert report.ok and not report.of_level('amber'), report.table()
    assert report.reason == ''
    assert len(report.results) == len({result.name for result in report.results}) > 25
    assert 'may move' in report.table() and '->' not in report.table()


@pytest.mark.parametrize('case', RED)
def test_red(case):
    seen, names = RED[case]
    report = preflight(seen)
    assert [result.name for result in report.of_level('red')] == names
    assert not report.ok and 'MUST NOT MOVE' in report.table()
    for result in report.of_level('red'):
        assert result.name in report.reason and result.threshold and result.remedy
        assert result.remedy in report.table()


def test_every_check_has_been_seen_red():
    red = {name.split(':')[0] for _, names in RED.values() for name in names}
    names = {result.name.split(':')[0] for result in preflight(GREEN).results}
    assert names - red == {'promoted'}, 'only a warning'


@pytest.mark.parametrize(('seen', 'name'), [
    (policy(promoted=False), 'promoted'),
    (robot(battery_percent=None), 'battery'),
    (cameras('head', estimated=True), 'camera_age: head'),
    (policy(contract_differences=(SILENT_IN_TWIN,)), 'contract'),
])  # fmt: skip
def test_a_warning_does_not_forbid_the_motion(seen, name):
    report = preflight(seen)
    assert report.ok and [result.name for result in report.of_level('amber')] == [name]


def test_nothing_seen_is_red_everywhere_and_no_check_breaks():
    nothing = Observations(RobotSeen(), (), PolicySeen(backend='wam'))
    report = preflight(nothing)
    assert {r.name for r in report.results if r.ok} == set()
    assert [r for r in report.results if 'Error' in r.value] == []


def test_a_check_that_breaks_forbids_the_motion(monkeypatch):
    def broken(seen):
        raise KeyError('x')

    monkeypatch.setattr(module, 'CHECKS', (*CHECKS, broken))
    report = preflight(GREEN)
    assert [r.name for r in report.of_level('red')] == ['broken']
    assert "KeyError: 'x'" in report.reason


def test_what_cannot_be_observed_forbids_the_motion():
    report = not_observed(KeyError('states received'))
    assert not report.ok and report.reason.startswith("preflight: KeyError: 'states received'")


def test_numpy_values_become_json():
    seen = replace(GREEN, clock_step_s=np.float64(1e-4), free_gib=np.float32(9.0))
    assert json.loads(preflight(seen).to_json())['ok'] is True


def test_where_an_operator_steers_nothing_is_asked_of_a_policy():
    steered = replace(GREEN, policy=PolicySeen('', contract_differences=()))
    report = preflight(steered)
    asked = {result.name for result in preflight(GREEN).results}
    assert report.ok, report.table()
    assert asked - {r.name for r in report.results} == {'policy_warm', 'chunk_latency', 'promoted'}
    other = replace(steered, policy=PolicySeen('', contract_differences=('driver: contract x',)))
    assert [r.name for r in preflight(other).of_level('red')] == ['contract']
    silent = replace(steered, policy=PolicySeen(''))
    assert [r.name for r in preflight(silent).of_level('red')] == ['contract']


def test_the_expert_needs_no_promotion():
    assert preflight(policy(backend='expert', promoted=None)).of_level('amber') == ()


def test_the_budget_follows_the_execution():
    assert latency_budget_s('async') == pytest.approx(CONTRACT.chunk_duration_s - 0.075)
    assert preflight(replace(policy(latency_s=0.9), execution='sync')).ok


def test_the_rate_follows_what_the_policy_counts_on():
    assert preflight(replace(cameras('head', rate_hz=5.0), frame_period_s=0.2)).ok


def test_json_both_ways():
    report = preflight(RED['arms hang'][0])
    data = json.loads(report.to_json())
    assert data['ok'] is False and data['reason'].startswith('start_pose: blocked')
    assert {check['level'] for check in data['checks']} == {'green', 'red'}
    assert Report.from_dict(data) == report
    with pytest.raises(ValueError, match='not a preflight report'):
        Report.from_dict({'checks': [{'name': 'x'}]})


def test_a_result_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CheckResult('x', True, 1.0, '> 0').ok = False


def test_error_words_are_told_in_words():
    assert describe(0x201) == '0x201 (over-current, winding too hot)'
    assert describe(0x100000) == '0x100000 (unknown)'


# -- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(240, 320), (480, 640), (64, 64)])
def test_identity_at_any_size_and_light(size):
    import cv2

    left, right = (cv2.resize(c.image, size[::-1]) for c in GREEN.cameras[1:])
    for gain in (0.5, 1.0):
        pair = [(image * gain).astype(np.uint8) for image in (left, right)]
        assert identity_score(*pair, load_reference()) > 0.08
        assert identity_score(*pair[::-1], load_reference()) < -0.08


def test_a_grey_picture_says_nothing():
    grey = np.full((240, 320, 3), 90, np.uint8)
    assert not features(grey).any()
    assert identity_score(grey, grey, load_reference()) == 0.0


def test_a_reference_is_made_of_pairs(tmp_path):
    pair = (GREEN.cameras[1].image, GREEN.cameras[2].image)
    (tmp_path / 'r.json').write_text(json.dumps(make_reference([pair, pair])))
    reference = load_reference(str(tmp_path / 'r.json'))
    assert identity_score(*pair, reference) > 0.2
    (tmp_path / 'bad.json').write_text(json.dumps({'left_wrist': [[1]], 'right_wrist': [[1]]}))
    with pytest.raises(ValueError, match='16 x 16'):
        load_reference(str(tmp_path / 'bad.json'))


# -- checkpoints ----------------------------------------------------------------------------------


def test_the_shipped_checkpoint_fits_the_robot():
    folder = share_path('models', 'g1-nano-teacher')
    assert contract_differences(folder, CONTRACT) == ()
    other = replace(CONTRACT, row_rate_hz=30.0)
    assert contract_differences(folder, other) == ('row_rate_hz: 30.0 here, 20.0 there',)


def test_a_folder_without_a_contract(tmp_path):
    with pytest.raises(OSError):
        contract_differences(tmp_path, CONTRACT)
    (tmp_path / 'contract.json').write_text('{}')
    with pytest.raises(ValueError, match='no robot contract'):
        contract_differences(tmp_path, CONTRACT)


# -- a model behind a server ----------------------------------------------------------------------

MODEL = ('a' * 64, 1, 2, 'own')


def served(port=0, contract=CONTRACT, model=MODEL):
    names = ('sha256', 'video_steps', 'action_steps', 'sampler')
    return server_that_says(port, contract=contract, **dict(zip(names, model, strict=True)))


@contextlib.contextmanager
def silent_server():
    """A policy server of the plain protocol: its metadata map is empty."""
    from websockets.sync.server import serve

    with serve(lambda connection: connection.send(b'\x80'), '127.0.0.1', 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'ws://127.0.0.1:{server.socket.getsockname()[1]}'


def seen_with_server(address, model=MODEL, arms='', robot='twin', **status):
    """What the probe sees of a policy node that is ready with this server."""
    probe_module = pytest.importorskip('flashwam_ros.nodes.preflight_probe')
    probe = object.__new__(probe_module.PreflightProbe)
    said = SimpleNamespace(**{'state': 'ready', 'session': '', 'reason': '',
                              'chunk_latency': 0.2, **status})
    probe._policy, probe._contract = object(), CONTRACT
    told = {'robot': SimpleNamespace(value=robot)}
    probe._node = SimpleNamespace(get_parameter=told.__getitem__)
    probe._recorder = SimpleNamespace(policy=(said, 0), now_ns=lambda: 0)
    parameters = {'checkpoint': address, 'model': json.dumps(model), 'arms': arms}
    return replace(GREEN, policy=probe._policy_seen('wam', parameters, []))


def red_of(seen):
    return [result.name for result in preflight(seen).of_level('red')]


def test_a_server_that_answers_as_it_did_is_green():
    with served() as address:
        assert red_of(seen_with_server(address)) == []


def test_a_server_that_died_is_red():
    with served() as address:
        pass
    seen = seen_with_server(address)
    assert red_of(seen) == ['policy_warm']
    assert 'there is no policy server at' in seen.policy.reason


@pytest.mark.parametrize('model', [('b' * 64, 1, 2, 'own'), ('a' * 64, 1, 1, 'own'),
                                   ('a' * 64, 1, 2, 'euler')])  # fmt: skip
def test_a_server_that_was_replaced_is_red(model):
    with served(model=model) as address:
        seen = seen_with_server(address)
    assert red_of(seen) == ['policy_warm']
    assert 'by now, not what was loaded (aaaaaaaaaaaa 1v/2a own)' in seen.policy.reason


def test_a_server_of_another_robot_by_now_is_red():
    with served(contract=replace(CONTRACT, row_rate_hz=30.0)) as address:
        seen = seen_with_server(address)
    assert red_of(seen) == ['contract']


@pytest.mark.parametrize(('robot', 'level'), [('twin', 'amber'), ('real', 'red')])
def test_a_server_that_does_not_say_its_contract_is_not_green(robot, level):
    with silent_server() as address:
        report = preflight(seen_with_server(address, ('', 0, 0, ''), robot=robot))
    (result,) = [result for result in report.results if result.name == 'contract']
    assert result.level == level and result.value.startswith(SILENT)
    assert 'flashwam serve' in result.remedy
    assert report.ok == (robot == 'twin')


@pytest.mark.parametrize('robot', ['twin', 'real'])
def test_a_server_that_says_the_same_contract_is_green_on_every_robot(robot):
    with served() as address:
        report = preflight(seen_with_server(address, robot=robot))
    (result,) = [result for result in report.results if result.name == 'contract']
    assert result.level == 'green' and result.value == 'equal'


def test_in_a_study_one_silent_server_is_not_green_and_not_named(tmp_path):
    with served() as address, silent_server() as other:
        arms = tmp_path / 'arms.json'
        arms.write_text(json.dumps({
            code: {'policy': 'wam', 'checkpoint': at} for code, at in (('t.K7', address),
                                                                       ('t.C4', other))}))
        report = preflight(seen_with_server(address, (), str(arms), robot='real'))
    assert [result.name for result in report.of_level('red')] == ['contract']
    assert 'ws://' not in report.table()


def test_in_a_study_all_servers_are_asked_and_none_is_named(tmp_path):
    with served() as address, served() as other:
        arms = tmp_path / 'arms.json'
        arms.write_text(json.dumps({
            code: {'policy': 'wam', 'checkpoint': at, 'sha256': MODEL[0], 'served': MODEL[1:]}
            for code, at in (('t.K7', address), ('t.C4', other))}))
        assert red_of(seen_with_server(address, (), str(arms))) == []
    seen = seen_with_server(address, (), str(arms))
    assert red_of(seen) == ['policy_warm']
    assert seen.policy.reason == 'the model could not be asked'
    assert 'ws://' not in preflight(seen).table()
