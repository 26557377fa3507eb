# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import yaml

from flashwam_ros.bringup.graph import DRIVER_STOP_TIMEOUT_S, EXECUTABLES, build_graph
from flashwam_ros.bringup.settings import Settings
from flashwam_ros.robot.clock import VARIABLE, RobotClock

PROFILE = Path('/somewhere/fastdds.xml')


def graph(environment=None, **values):
    settings = Settings.parse({'policy': 'expert', **values})
    return build_graph(settings, environment or {}, PROFILE)


def names(built):
    return [process.name for process in built.processes]


def test_simulated_robot_comes_first_and_outlives_the_others():
    built = graph()
    assert names(built) == ['twin', 'g1_driver', 'camera', 'policy', 'rollout', 'recorder',
                            'console']
    assert [p.name for p in built.processes if p.outlive_others] == ['twin']


def test_everything_is_recorded_unless_told_otherwise(tmp_path):
    assert 'recorder' not in names(graph(record='false'))
    recorder = graph(episodes_dir=str(tmp_path))['recorder']
    assert dict(recorder.parameters)['episodes_dir'] == str(tmp_path)
    assert recorder.stop_timeout_s > graph()['rollout'].stop_timeout_s, 'its verdict comes first'


def test_a_model_may_look_on_beside_a_policy_or_an_operator(tmp_path):
    assert 'shadow' not in {process.name for process in graph(policy='expert').processes}
    for device in ('', 'web'):
        shadow = graph(policy='expert', device=device, shadow=str(tmp_path), seed='3')['shadow']
        parameters = dict(shadow.parameters)
        assert parameters['checkpoint'] == str(tmp_path)
        assert (parameters['seed'], parameters['execution']) == (3, 'async')


def test_slow_motion_gives_every_process_the_same_clock_and_more_time_to_stop():
    built, real_time = graph(real_time_factor='0.5'), graph()
    told = {dict(process.environment).get(VARIABLE) for process in built.processes}
    assert len(told) == 1
    assert RobotClock.of_process({VARIABLE: told.pop()}).factor == 0.5
    assert all(VARIABLE not in dict(process.environment) for process in real_time.processes)
    assert built['g1_driver'].stop_timeout_s == 2 * DRIVER_STOP_TIMEOUT_S
    assert built['policy'].shutdown_delay_s == 2 * real_time['policy'].shutdown_delay_s


def test_the_console_runs_unless_told_otherwise():
    assert 'console' not in names(graph(console='false'))
    console = graph(console_port='8123', device='web')['console']
    parameters = dict(console.parameters)
    assert (parameters['host'], parameters['port']) == ('127.0.0.1', 8123)
    assert parameters['device'] == 'web' and parameters['token'] == ''


def test_real_robot_is_the_same_graph_without_the_twin(tmp_path):
    values = {'policy': 'wam', 'checkpoint': str(tmp_path), 'network_interface': 'lo',
              'unitree_domain': '1', 'camera_host': 'robot', 'camera_rate': '20'}  # fmt: skip
    twin, real = graph(robot='twin', **values), graph(robot='real', **values)
    assert names(real) == names(twin)[1:]
    for process in real.processes:
        same = dict(twin[process.name].parameters) | {'robot': 'real'}
        assert dict(process.parameters) == same


def test_driver_has_time_to_retreat_and_is_followed_by_a_release():
    driver = graph(unitree_domain='7')['g1_driver']
    assert driver.stop_timeout_s == DRIVER_STOP_TIMEOUT_S > 12.0
    assert driver.on_crash[-6:] == (
        'release', '--if-held', '--domain', '7', '--interface', 'lo')  # fmt: skip


def test_two_stacks_share_nothing():
    one = graph(unitree_domain='1', camera_port='55555', camera_request_port='60000')
    two = graph(unitree_domain='2', camera_port='56555', camera_request_port='61000',
                namespace='second')  # fmt: skip
    for process in two.processes:
        assert process.command != one[process.name].command
    ports = [p['twin'].arguments[p['twin'].arguments.index('--camera-ports') + 1]
             for p in (one, two)]  # fmt: skip
    assert not set(ports[0].split(',')) & set(ports[1].split(','))
    assert '__ns:=/second' in two['policy'].command


@pytest.mark.parametrize(('distribution', 'profile', 'range_'), [
    ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE', ('ROS_LOCALHOST_ONLY', '1')),
    ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE', ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')),
    ('', 'FASTDDS_DEFAULT_PROFILES_FILE', ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')),
])  # fmt: skip
def test_environment_follows_the_distribution(distribution, profile, range_):
    environment = dict(graph({'ROS_DISTRO': distribution})['camera'].environment)
    assert environment[profile] == str(PROFILE)
    assert environment[range_[0]] == range_[1]


def test_environment_of_the_user_stays():
    own = {'FASTDDS_DEFAULT_PROFILES_FILE': 'mine.xml', 'OMP_NUM_THREADS': '4'}
    environment = dict(graph(own)['camera'].environment)
    assert not set(own) & set(environment)
    assert not any('PROFILES' in name for name in environment)


@pytest.mark.parametrize(('distribution', 'name', 'limit', 'open_'), [
    ('humble', 'ROS_LOCALHOST_ONLY', '1', '0'),
    ('kilted', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST', 'SUBNET'),
])
def test_a_real_robot_obeys_this_machine_only_unless_told_otherwise(
    tmp_path, distribution, name, limit, open_
):
    real = {'robot': 'real', 'policy': 'wam', 'checkpoint': str(tmp_path),
            'network_interface': 'eth0'}  # fmt: skip
    outside = {'ROS_DISTRO': distribution}
    for process in graph(outside, **real).processes:
        assert dict(process.environment)[name] == limit
    for process in graph({**outside, name: open_}, **real).processes:
        assert name not in dict(process.environment), 'what the operator has set stays'


def test_parameters_keep_their_type_on_the_command_line():
    process = graph(output_dir='/tmp/1')['policy']
    words = process.command
    texts = [words[i + 1] for i, word in enumerate(words) if word == '-p']
    read = {name: yaml.safe_load(value) for name, value in (t.split(':=', 1) for t in texts)}
    assert read == dict(process.parameters)
    assert read['checkpoint'] == ''


def test_every_process_is_a_known_executable():
    assert {p.executable for p in graph().processes} < set(EXECUTABLES)
    with pytest.raises(KeyError, match='no process'):
        graph()['nobody']
