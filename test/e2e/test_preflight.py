# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Preflight over the real graph: green as it is, red for every fault that the twin can play."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(600)]
rclpy = pytest.importorskip('rclpy')
pytest.importorskip('mujoco')

from preflight_support import BUSY, BUSY_REASONS, SEED, SLOW_S, TASK, red, running  # noqa: E402

from benchmarks._stack import Place  # noqa: E402
from flashwam_ros.robot.settings import load_settings  # noqa: E402
from flashwam_ros.trials.check_result import Report  # noqa: E402
from flashwam_ros.wire.arms_claim import ArmsClaim  # noqa: E402
from flashwam_ros.wire.robot_bus import RobotBus  # noqa: E402
from flashwam_ros.wire.robot_server import RobotServerBus  # noqa: E402

PLACE = Place(ros_domain=45, unitree_domain=46, port=21960)
MOST_MB = 350.0
HOME = list(load_settings().home_arm)
HANGING = [*HOME[:3], 1.5, *HOME[4:10], 1.5, *HOME[11:]]

#: Request to the twin -> (request that undoes it, checks that must be red, further ones that may).
FAULTS = {
    'debug mode': ({'mode': ''}, {'mode': 'ai'}, {'robot_mode'}, set()),
    'damping': ({'fsm': 1}, {'fsm': 501}, {'robot_mode'}, set()),
    'other machine': ({'mode_machine': 5}, {'mode_machine': 15}, {'mode_machine'}, set()),
    'frozen state': ({'freeze_state': True}, {'freeze_state': False},
                     {'state_rate', 'state_age', 'state_lag', 'gripper_alive: left',
                      'gripper_alive: right'}, set()),
    'silent grippers': ({'no_gripper': True}, {'no_gripper': False},
                        {'gripper_alive: left', 'gripper_alive: right'}, set()),
    'grippers not zeroed': ({'gripper_offset': -6.0}, {'gripper_offset': 0.0},
                            {'gripper_zeroed: left', 'gripper_zeroed: right'}, set()),
    'arms hang': ({'arm_pose': HANGING}, {'arm_pose': HOME}, {'start_pose'},
                  {'wrist_identity', 'color_order: left_wrist', 'color_order: right_wrist'}),
    'battery': ({'battery': 7}, {'battery': 90}, {'battery'}, set()),
    'hot winding': ({'temperature': {'18': 93}}, {'temperature': {}}, {'temperature'}, set()),
    'motor error': ({'motor_error': {'16': 1}}, {'motor_error': {}}, {'motor_errors'}, set()),
    'wrists exchanged': ({'cameras': ['swap_wrists']}, {'cameras': []}, {'wrist_identity'}, set()),
    'red is blue': ({'cameras': ['swap_colors']}, {'cameras': []},
                    {'color_order: head', 'color_order: left_wrist', 'color_order: right_wrist'},
                    {'wrist_identity'}),
    'camera gone': ({'cameras': ['no_left_wrist']}, {'cameras': []},
                    {'camera_rate: left_wrist', 'camera_age: left_wrist',
                     'camera_size: left_wrist', 'color_order: left_wrist', 'wrist_identity',
                     'stamp_skew'}, set()),
    'slow cameras': ({'cameras': ['slow']}, {'cameras': []},
                     {'camera_rate: head', 'camera_rate: left_wrist', 'camera_rate: right_wrist'},
                     set()),
    'small pictures': ({'cameras': ['small']}, {'cameras': []},
                       {'camera_size: head', 'camera_size: left_wrist',
                        'camera_size: right_wrist'}, set()),
    'late stamps': ({'cameras': ['late_right_wrist']}, {'cameras': []},
                    {'camera_age: right_wrist', 'stamp_skew'}, set()),
}  # fmt: skip


TRIES = 3


@pytest.fixture(scope='module')
def rig(tmp_path_factory):
    with running(PLACE, tmp_path_factory.mktemp('preflight'), policy='expert') as rig:
        yield rig


def test_all_green(rig):
    for _ in range(TRIES):
        report = rig.look()
        if not red(report) & BUSY:
            break
    assert report.ok, report.table()
    assert report.of_level('amber') == (), report.table()


@pytest.mark.parametrize('fault', FAULTS)
def test_red(rig, fault):
    request, undo, wanted, allowed = FAULTS[fault]
    rig.sim.request(request)
    try:
        report = rig.look()
    finally:
        rig.sim.request(undo)
    assert wanted <= red(report) <= wanted | allowed | BUSY, report.table()


@pytest.mark.parametrize(('fault', 'check'), [
    ({'clock_step_s': 0.1}, 'clock_step'),
    ({'free_gib': 0.5}, 'disk'),
])
def test_red_for_a_machine_that_is_not_fit(rig, fault, check):
    with rig.spoilt(**fault):
        report = rig.look()
    assert red(report) - BUSY == {check}, report.table()


def test_a_second_writer(rig):
    intruder = RobotBus(PLACE.unitree_domain, 'lo')
    try:
        report = rig.look()
    finally:
        intruder.close()
    assert red(report) - BUSY == {'second_writer'}, report.table()


def test_a_second_robot(rig):
    other = RobotServerBus(PLACE.unitree_domain, 'lo')
    try:
        report = rig.look()
    finally:
        other.close()
    assert red(report) - BUSY == {'two_robots'}, report.table()


def test_a_second_driver(rig):
    other = rclpy.create_node('g1_driver', context=rig.stack.listener.node.context)
    try:
        report = rig.look()
    finally:
        other.destroy_node()
    assert red(report) - BUSY == {'second_driver'}, report.table()


def test_arms_that_another_process_may_hold(rig):
    claim = ArmsClaim(PLACE.unitree_domain, 'lo')
    claim.take()
    try:
        report = rig.look()
    finally:
        claim.drop()
    assert red(report) - BUSY == {'arms_held'}, report.table()
    assert 'flashwam release --domain' in report.table()


def test_the_command_says_the_same(rig):
    rig.sim.request({'battery': 7})
    try:
        done = subprocess.run(
            [sys.executable, '-m', 'flashwam_ros.cli', 'preflight', '--json', 'policy:=expert',
             f'unitree_domain:={PLACE.unitree_domain}'],
            capture_output=True, text=True, timeout=SLOW_S, check=False,
            cwd=Path(__file__).resolve().parents[2],
        )  # fmt: skip
    finally:
        rig.sim.request({'battery': 90})
    assert done.returncode == 1, done.stderr
    assert red(Report.from_dict(json.loads(done.stdout))) - BUSY == {'battery'}


def test_a_rollout_is_refused_on_red_and_nothing_moves(rig):
    rig.sim.request({'mode': ''})
    try:
        result = rig.stack.run_goal(
            SLOW_S, task=TASK, prompt='', seed=SEED, time_limit=0.0, execution='async')
    finally:
        rig.sim.request({'mode': 'ai'})
    assert result.verdict == 'invalid'
    assert result.reason.startswith('preflight: robot_mode: no motion service (debug mode)')
    summary = json.loads(result.summary_json)
    assert red(Report.from_dict(summary['preflight'])) - BUSY == {'robot_mode'}
    assert summary['chunks'] == 0
    assert rig.stack.listener.mode() in ('PASSIVE', '')
    assert {h.msg.mode for h in rig.stack.listener.driver} <= {'PASSIVE'}


def test_on_green_it_runs_and_the_node_stays_small(rig):
    for _ in range(TRIES):
        result = rig.stack.run_goal(
            SLOW_S, task=TASK, prompt='', seed=SEED, time_limit=0.0, execution='async')
        if not result.reason.startswith(BUSY_REASONS):
            break
    summary = json.loads(result.summary_json)
    assert summary['preflight']['ok'] and summary['chunks'] > 0, result.reason
    assert 'report_error' not in summary
    files = {path.name for path in Path(result.folder).iterdir()}
    assert files == {'summary.json', 'plot.png', 'rollout.mp4'}
    pid = rig.stack.supervisor.pid('rollout')
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    assert pages * 4096 / 2**20 < MOST_MB
    assert np.isfinite(summary['tracking_error_rad'])
