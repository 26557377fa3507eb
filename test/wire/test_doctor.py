# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Why a wire is silent: made-up discoveries, and real ones on loopback."""

import json
import threading

import numpy as np
import pytest

from flashwam_ros.wire import doctor
from flashwam_ros.wire.diagnosis import Interface, Offer, Seen, diagnose
from flashwam_ros.wire.robot_server import BodyState, RobotServerBus

WANTED = doctor.wanted_topics()
LOWSTATE = WANTED[0]
INTERFACES = (Interface('eth0', True), Interface('lo', True), Interface('wlan0', False))
FULL = tuple(Offer(w.topic, w.type_name, w.kind, 'robot') for w in WANTED)
RATES = {w.topic: 500.0 for w in WANTED if w.kind == 'writer'}
MATCHED = dict.fromkeys(RATES, True)


def find(diagnosis, subject):
    return next(f for f in diagnosis.findings if f.subject.startswith(subject))


def look(offers=FULL, rates=RATES, matched=MATCHED, interface='eth0', others=(), ros='7'):
    seen = Seen(0, interface, tuple(offers), rates, matched)
    return diagnose(WANTED, seen, others, INTERFACES, ros)


def test_everything_is_there():
    diagnosis = look()
    assert diagnosis.ok
    assert find(diagnosis, 'rt/lowstate').found == '500 Hz heard'
    assert 'writer rt/lowstate [unitree_hg::msg::dds_::LowState_] of robot' in diagnosis.text()
    assert json.loads(json.dumps(diagnosis.to_dict()))['ok'] is True


def test_nobody_on_a_cable():
    finding = find(look((), {}, {}), 'domain 0 on eth0')
    assert 'nobody at all' in finding.found and 'wlan0 (down)' in finding.found
    assert '192.168.123.161' in finding.remedy


def test_nobody_on_an_interface_that_is_down():
    assert 'wlan0 is down' in find(look((), {}, {}, 'wlan0'), 'domain 0').remedy


def test_nobody_on_loopback():
    assert 'flashwam twin' in find(look((), {}, {}, 'lo'), 'domain 0 on lo').remedy


def test_the_robot_is_on_another_domain():
    finding = find(look((), {}, {}, others=(Seen(1, 'eth0', FULL),)), 'domain 0')
    assert 'domain 1 is alive' in finding.found and 'unitree_domain:=1' in finding.remedy


def test_one_topic_is_missing_and_a_similar_one_is_offered():
    offers = [o for o in FULL if o.topic != 'rt/lowstate']
    offers.append(Offer('rt/lf/lowstate', LOWSTATE.type_name, 'writer', 'robot'))
    finding = find(look(offers), 'rt/lowstate')
    assert not finding.ok and 'rt/lf/lowstate' in finding.remedy


@pytest.mark.parametrize(('topic', 'remedy'), [
    ('rt/dex1/left/state', 'dex1_1_gripper_server'),
    ('rt/arm_sdk', 'motion service'),
    ('rt/api/motion_switcher/request', 'motion service'),
])  # fmt: skip
def test_what_to_start(topic, remedy):
    finding = find(look([o for o in FULL if o.topic != topic]), topic)
    assert not finding.ok and remedy in finding.remedy


def test_another_type():
    offers = [o for o in FULL if o.topic != 'rt/lowstate']
    offers.append(Offer('rt/lowstate', 'unitree_go::msg::dds_::LowState_', 'writer', 'robot'))
    finding = find(look(offers), 'rt/lowstate')
    assert not finding.ok and 'unitree_go' in finding.found


def test_the_same_type_name_with_another_structure():
    finding = find(look(rates={**RATES, 'rt/lowstate': 0.0},
                        matched={**MATCHED, 'rt/lowstate': False}), 'rt/lowstate')  # fmt: skip
    assert 'structure' in finding.remedy


def test_a_writer_that_says_nothing():
    finding = find(look(rates={**RATES, 'rt/lowstate': 0.0}), 'rt/lowstate')
    assert 'no sample arrives' in finding.found


def test_two_robots_on_one_wire():
    other = Offer('rt/lowstate', LOWSTATE.type_name, 'writer', 'simulator')
    finding = find(look([*FULL, other]), 'rt/lowstate')
    assert not finding.ok and 'two robots' in finding.found
    assert 'simulator' in finding.remedy.split(': ')[1]
    again = Offer('rt/lowstate', LOWSTATE.type_name, 'writer', 'robot')
    assert look([*FULL, again]).ok, 'several writers of one program'


def test_a_shared_ros_domain():
    assert not find(look(ros='0'), 'ROS_DOMAIN_ID').ok


# -- over DDS -------------------------------------------------------------------------------------


@pytest.fixture
def robot():
    bus, stop = RobotServerBus(54, 'lo'), threading.Event()

    def run():
        body = BodyState(np.zeros(29), np.zeros(29), np.zeros(29), 0)
        while not stop.wait(0.005):
            bus.publish_lowstate(body)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()
    bus.close()


def test_a_robot_without_grippers_service(robot, capsys):
    assert doctor.main(['--domain', '54', '--seconds', '1.5', '--json']) == 1
    data = json.loads(capsys.readouterr().out)
    findings = {f['subject'].split()[0]: f for f in data['findings']}
    assert findings['domain']['ok'] and findings['rt/lowstate']['ok']
    assert findings['rt/arm_sdk']['ok']
    assert findings['rt/dex1/left/state']['found'] == 'a writer, but no sample arrives'
    assert 'motion service' in findings['rt/api/sport/request']['remedy']


def test_silence(capsys):
    assert doctor.main(['--domain', '55', '--seconds', '0.2']) == 1
    assert 'domain 55 on lo: nobody' in capsys.readouterr().out


def test_no_such_interface(capsys):
    assert doctor.main(['--interface', 'eth77']) == 1
    assert "no network interface 'eth77'" in capsys.readouterr().err
