# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Requests and web sockets of the console, and whom it refuses."""

import http.client
import json
import struct
import time

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flashwam_ros.console.app import checked
from flashwam_ros.console.server import Server
from flashwam_ros.console.settings import ConsoleError, ConsoleSettings, is_loopback

TOKEN = 'a-secret-word'


def ask(graph, path, method='GET', body=None, limit_s=30, **headers):
    connection = http.client.HTTPConnection('127.0.0.1', graph.server.port, timeout=limit_s)
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    if body is not None:
        headers.setdefault('content-type', 'application/json')
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer, data


def post(graph, path, values, **headers):
    answer, data = ask(graph, path, 'POST', json.dumps(values), **headers)
    kind = answer.getheader('content-type')
    return answer.status, json.loads(data) if 'json' in kind else data.decode()


def socket(graph, path, **headers):
    return connect(f'ws://127.0.0.1:{graph.server.port}{path}', additional_headers=headers)


def test_page_and_files_are_served_and_cannot_be_framed(graph):
    answer, data = ask(graph, '/')
    assert answer.status == 200 and b'/static/main.js' in data
    policy = answer.getheader('content-security-policy')
    assert "frame-ancestors 'none'" in policy and "default-src 'self'" in policy
    for name in ('main.js', 'link.js', 'drive.js', 'style.css'):
        assert ask(graph, f'/static/{name}')[0].status == 200
    assert ask(graph, '/static/../app.py')[0].status == 404


def test_about_tells_the_robot_and_the_task(graph):
    about = json.loads(ask(graph, '/api/about')[1])
    assert (about['task'], about['prompt']) == ('red_bottle', 'pick up the red bottle')
    assert about['cameras'] == ['head', 'left_wrist', 'right_wrist']
    assert len(about['channels']) == 16 and len(about['reset']['steps']) == 3
    assert about['speeds']['linear'] > 0 and about['reset']['seeded']


@pytest.mark.parametrize(('path', 'values', 'why'), [
    ('/api/do/explode', {}, 'not one of'),
    ('/api/do/reset', {}, 'exactly these values: seed'),
    ('/api/do/reset', {'seed': 'x'}, 'not of type int'),
    ('/api/do/reset', {'seed': True}, 'not of type int'),
    ('/api/do/reset', {'seed': -1}, 'not in 0..'),
    ('/api/do/stop', {'really': 1}, 'exactly these values: none'),
    ('/api/do/keep', {'operator': 'a' * 900}, 'at most'),
    ('/api/episodes/none/label', {'label': 'keep', 'operator': ''}, 'no episode'),
    ('/api/reset.jpg', {}, 'in the twin the seed makes'),
])  # fmt: skip
def test_a_wrong_request_is_refused_with_its_reason(graph, path, values, why):
    deadline = time.monotonic() + 10
    while graph.board.frame('head') is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    status, answer = post(graph, path, values)
    assert status == 400 and not answer['ok'] and why in answer['message']
    assert graph.actions == []


def test_actions_reach_the_graph_and_answers_come_back(graph, fake):
    graph.answers['engage'] = fake.Answer(False, 'not now')
    assert post(graph, '/api/do/stop', {}) == (200, {'ok': True, 'message': ''})
    assert post(graph, '/api/do/engage', {})[1] == {'ok': False, 'message': 'not now'}
    assert graph.actions == [('stop', {}), ('engage', {})]


@pytest.mark.parametrize('headers', [
    {'origin': 'http://evil.example'}, {'origin': 'null'}, {'host': 'evil.example'},
    {'content_type': 'text/plain'}, {'origin': 'http://127.0.0.1:1'},
])  # fmt: skip
def test_pages_of_others_cannot_press_anything(graph, headers):
    status, _ = post(graph, '/api/do/stop', {}, **headers)
    assert status in (400, 403) and graph.actions == []


def test_pages_of_others_cannot_drive(graph):
    for origin in ('http://evil.example', 'null', 'file://'):
        with pytest.raises(InvalidStatus):
            socket(graph, '/ws/teleop', Origin=origin)
    own = f'http://127.0.0.1:{graph.server.port}'
    with socket(graph, '/ws/state', Origin=own) as live:
        live.send('next')
        assert 'parts' in json.loads(live.recv(10))


def test_a_snapshot_is_the_newest_and_comes_only_when_asked_for(graph):
    with socket(graph, '/ws/state') as live:
        with pytest.raises(TimeoutError):
            live.recv(0.3)
        live.send('next')
        first = json.loads(live.recv(10))
        assert graph.board.pages == 1
        live.send('next')
        assert json.loads(live.recv(10))['t_ms'] > first['t_ms']


def test_each_camera_is_asked_for_by_itself(graph):
    with socket(graph, '/ws/video') as live:
        live.send('left_wrist')
        data = live.recv(10)
        number, at_ms, age_s = struct.unpack_from('<Bxxxxxxxdd', data)
        assert number == 1 and at_ms > 0 and 0.0 < age_s < 5.0
        assert data[24:26] == b'\xff\xd8'
        live.send('nonsense')
        with pytest.raises(TimeoutError):
            live.recv(0.3)


def test_commands_are_passed_on_untouched_and_long_ones_are_not(graph):
    text = json.dumps({'v': 1, 'client': 'c', 'seq': 0, 'sent_ms': 1.0})
    with socket(graph, '/ws/teleop') as live:
        live.send('x' * 5000)
        live.send(text)
        with socket(graph, '/ws/state') as other:
            other.send('next')
            other.recv(10)
        live.close()
    assert graph.texts == [text]


def test_beyond_this_machine_a_token_is_needed(make_graph):
    graph = make_graph(token=TOKEN)
    assert ask(graph, '/')[0].status == 403
    assert ask(graph, '/', authorization='Bearer wrong-secret')[0].status == 403
    assert ask(graph, '/', authorization=f'Bearer {TOKEN}', host='robot.lab')[0].status == 200
    with pytest.raises(InvalidStatus):
        socket(graph, '/ws/teleop')
    answer, _ = ask(graph, f'//evil.example/?token={TOKEN}&seed=1')
    assert answer.status == 303 and answer.getheader('location') == '/evil.example/?seed=1'
    cookie = answer.getheader('set-cookie')
    assert 'HttpOnly' in cookie and 'SameSite=strict' in cookie
    assert ask(graph, '/', cookie=cookie.split(';')[0])[0].status == 200
    with socket(graph, '/ws/state', Cookie=cookie.split(';')[0]) as live:
        live.send('next')
        assert live.recv(10)


def test_settings(tmp_path):
    def settings(**values):
        return ConsoleSettings('red_bottle', 'twin', 'web', tmp_path, **values)

    assert settings().token == '' and settings().address(1) == 'http://127.0.0.1:1/'
    open_one = settings(host='0.0.0.0')
    assert len(open_one.token) >= 12 and open_one.token in open_one.address(8090)
    assert settings(host='::1').address(2) == 'http://[::1]:2/'
    for wrong in ({'token': 'short'}, {'study_url': 'javascript:alert(1)'}, {'study_url': 'x'}):
        with pytest.raises(ConsoleError):
            settings(**wrong)
    assert [is_loopback(h) for h in ('127.1.2.3', 'localhost', '::1', '10.0.0.1', 'a.b', '')] == [
        True, True, True, False, False, False]  # fmt: skip


def test_a_taken_port_is_said_with_its_remedy(graph):
    with pytest.raises(ConsoleError, match='console_port'):
        Server(None, '127.0.0.1', graph.server.port)


def test_values_are_exactly_the_wanted_ones():
    assert checked({'a': 1, 'b': 'x'}, {'a': int, 'b': str}) == {'a': 1, 'b': 'x'}
    for wrong in ([], None, {}, {'a': 1}, {'a': 1, 'b': 'x', 'c': 0}, {'a': 1.0, 'b': 'x'}):
        with pytest.raises(ConsoleError):
            checked(wrong, {'a': int, 'b': str})
