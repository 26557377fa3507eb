# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Server and client over a real socket, each also against a peer that knows the protocol only."""

import contextlib
import dataclasses
import http.client
import re
import socket
import threading
import time

import msgpack
import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('websockets')

from key_frame_support import CONTRACT, frame, imagining, run_chunk
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from flashwam_ros.bringup.serve import handshake_of
from flashwam_ros.imaging import encode_jpeg
from flashwam_ros.policy import remote_policy
from flashwam_ros.policy import server as server_module
from flashwam_ros.policy.backends import PolicyChoice, make_policy
from flashwam_ros.policy.handshake import Handshake
from flashwam_ros.policy.loop import check_mode
from flashwam_ros.policy.protocol import HistoryError, PolicyError
from flashwam_ros.policy.remote_policy import RemotePolicy, ask_handshake
from flashwam_ros.policy.server import PolicyServer
from flashwam_ros.policy.wam_policy import load_wam_policy
from flashwam_ros.training.results import manifest_sha256

SHAPE = (len(CONTRACT.channels), CONTRACT.frames_per_chunk, CONTRACT.actions_per_frame)
CAMERAS = {camera.dataset_key: (camera.height, camera.width, 3) for camera in CONTRACT.cameras}


@contextlib.contextmanager
def running(server):
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def serving(folder, policy=None, port=0, **changes):
    policy = policy or load_wam_policy(folder, 1, 1)
    handshake = dataclasses.replace(handshake_of(folder, policy, (1, 1)), **changes)
    with running(PolicyServer(policy, handshake, port=port)) as server:
        yield server


@contextlib.contextmanager
def stock_server(answer, metadata=b'\x80'):
    """A server of the plain protocol; `answer` makes a reply of a request."""
    asked, connections = [], []

    def handle(connection):
        connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            connection.send(metadata)
            for data in connection:
                asked.append(msgpack.unpackb(data))
                connection.send(answer(asked[-1]))

    server = serve(handle, '127.0.0.1', 0, compression=None)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield 'ws://{}:{}'.format(*server.socket.getsockname()), asked
    finally:
        # Older releases of websockets leave open connections alone.
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        server.shutdown()
        thread.join(10)


def array(value):
    return {b'__ndarray__': True, b'data': value.tobytes(), b'dtype': value.dtype.str,
            b'shape': list(value.shape)}  # fmt: skip


def observation(seed=0):
    random = np.random.default_rng(seed)
    return {f'observation.images.{name}': array(random.integers(0, 256, shape, dtype=np.uint8))
            for name, shape in CAMERAS.items()}  # fmt: skip


class StockClient:
    """Speaks the protocol as a stock client does, without any code of ours."""

    def __init__(self, address):
        self.connection = connect(address, compression=None, ping_interval=None).__enter__()
        self.metadata = msgpack.unpackb(self.connection.recv(10))

    def ask(self, **request):
        self.connection.send(msgpack.packb(request))
        reply = self.connection.recv(30)
        return reply if isinstance(reply, str) else msgpack.unpackb(reply)

    def infer(self, **request):
        action = self.ask(**request)['action']
        assert (action[b'dtype'], tuple(action[b'shape'])) == ('<f4', SHAPE)
        return np.frombuffer(action[b'data'], np.float32).reshape(SHAPE)


def test_a_stock_client_runs_an_episode(folder):
    """Reset, infer, execute, ground, infer: 4 key frames after the first chunk, 8 later."""
    with serving(folder) as server:
        client = StockClient(server.address)
        reply = client.ask(reset=True, prompt='pick up the red bottle')
        assert set(reply['server_timing']) == {'infer_ms'}
        first = client.infer(obs=observation(), prompt='ignored', save_visualization=False)
        reply = client.ask(obs=[observation(i) for i in range(4)], compute_kv_cache=True,
                           imagine=False, state=array(first))  # fmt: skip
        assert set(reply['server_timing']) == {'infer_ms', 'prev_total_ms'}
        second = client.infer(obs=observation())
        client.ask(obs=[observation(i) for i in range(8)], compute_kv_cache=True,
                   state=array(second))  # fmt: skip
        third = client.infer(obs=observation())
        assert not np.allclose(first, second)
        assert not np.allclose(second, third)
        client.connection.close()


def test_health(folder):
    with serving(folder) as server:
        host, port = server.address.removeprefix('ws://').split(':')
        request = http.client.HTTPConnection(host, int(port), timeout=10)
        request.request('GET', '/healthz')
        reply = request.getresponse()
        assert (reply.status, reply.read()) == (200, b'OK\n')


def test_pictures_may_be_jpeg(folder):
    with serving(folder) as server:
        client = StockClient(server.address)
        client.ask(reset=True, prompt='x')
        grey = {f'observation.images.{name}': encode_jpeg(np.full((256, 320, 3), 90, np.uint8))
                for name in CAMERAS}  # fmt: skip
        assert np.isfinite(client.infer(obs=[grey])).all()


@pytest.mark.parametrize(('requests', 'said'), [
    ([{'obs': observation()}], 'first request of an episode is reset'),
    ([{'reset': True, 'prompt': 3}], 'reset with prompt 3'),
    ([{'reset': True}, {'obs': {}}], 'cam_left_high: image must be'),
    ([{'reset': True}, {'obs': 'x'}], 'a map of images, not str'),
    ([{'reset': True}, {'obs': observation()},
      {'compute_kv_cache': True, 'obs': [], 'state': array(np.zeros(SHAPE, np.float32))}],
     'cannot be grounded'),
    ([{'reset': True}, {'obs': observation()},
      {'compute_kv_cache': True, 'obs': [], 'state': array(np.zeros((1, 2), np.float32))}],
     r'state has shape \(1, 2\)'),
    ([{'reset': True}, {'obs': observation()},
      {'compute_kv_cache': True, 'obs': [], 'state': array(np.full(SHAPE, np.nan))}],
     'not finite'),
])  # fmt: skip
def test_what_does_not_fit_is_told_as_text_and_ends_the_connection(folder, requests, said):
    with serving(folder) as server:
        client = StockClient(server.address)
        for request in requests:
            reply = client.ask(**request)
        assert isinstance(reply, str)
        assert re.search(said, reply)
        with pytest.raises(ConnectionClosed) as closed:
            client.connection.recv(10)
        assert closed.value.rcvd.code == 1011
        assert isinstance(StockClient(server.address).ask(reset=True, prompt=''), dict)


def test_garbage_ends_the_connection_only(folder):
    with serving(folder) as server:
        for garbage in ('text', b'\xc1'):
            client = StockClient(server.address)
            client.connection.send(garbage)
            assert isinstance(client.connection.recv(10), str)
        assert isinstance(StockClient(server.address).ask(reset=True, prompt=''), dict)


def test_one_client_holds_the_episode(folder):
    with serving(folder) as server:
        first, second = StockClient(server.address), StockClient(server.address)
        first.ask(reset=True, prompt='x')
        assert 'another client is using this server' in second.ask(reset=True, prompt='x')
        assert ask_handshake(server.address).sha256, 'whoever only asks does not disturb'
        first.infer(obs=observation())
        first.connection.close()
        third = StockClient(server.address)
        assert isinstance(third.ask(reset=True, prompt='x'), dict)


def test_a_client_that_vanished_behind_a_tunnel_loses_its_place(folder, monkeypatch):
    monkeypatch.setattr(server_module, '_TURN_S', 0.2)
    with serving(folder) as server:
        first, second = StockClient(server.address), StockClient(server.address)
        first.ask(reset=True, prompt='x')
        assert 'another client is using' in second.ask(reset=True, prompt='x')
        monkeypatch.setattr(server_module, '_SILENT_S', 0.1)
        third = StockClient(server.address)
        assert isinstance(third.ask(reset=True, prompt='x'), dict)
        with pytest.raises(ConnectionClosed):
            first.ask(obs=observation())


def test_a_long_prediction_is_not_silence(monkeypatch):
    monkeypatch.setattr(server_module, '_TURN_S', 0.1)
    monkeypatch.setattr(server_module, '_SILENT_S', 0.1)
    begun, done = threading.Event(), threading.Event()

    class Slow:
        contract = CONTRACT

        def reset(self, prompt, seed):
            begun.set()
            done.wait(10)

    with running(PolicyServer(Slow(), Handshake(contract=CONTRACT), port=0)) as server:
        first, second = StockClient(server.address), StockClient(server.address)
        first.connection.send(msgpack.packb({'reset': True}))
        assert begun.wait(10)
        time.sleep(0.3)
        assert 'another client is using' in second.ask(reset=True)
        done.set()
        assert 'server_timing' in msgpack.unpackb(first.connection.recv(10))


def test_a_web_page_cannot_take_the_server(folder):
    with serving(folder) as server:
        with pytest.raises(InvalidStatus) as refused:
            connect(server.address, compression=None, origin='http://evil.example').__enter__()
        assert refused.value.response.status_code == 403
        assert StockClient(server.address).metadata


def test_a_closed_policy_leaves_the_server_to_others(folder):
    with serving(folder) as server:
        policy = RemotePolicy(server.address, CONTRACT)
        policy.reset('x', 0)
        policy.close()
        policy.close()
        assert isinstance(StockClient(server.address).ask(reset=True, prompt='x'), dict)


@pytest.mark.skipif(not hasattr(socket, 'TCP_USER_TIMEOUT'), reason='Linux has it')
def test_what_is_sent_has_a_limit_of_time(folder):
    with serving(folder) as server:
        policy = RemotePolicy(server.address, CONTRACT)
        option = socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT
        assert policy._connection.socket.getsockopt(*option) == 20_000


def test_a_server_that_speaks_and_leaves_is_heard():
    for _ in range(20):
        with running(PolicyServer(None, Handshake('m', contract=CONTRACT), port=0)) as server:
            assert ask_handshake(server.address).checkpoint == 'm'


def test_warming_up_sends_what_a_moving_robot_sends():
    """The key frames of a whole chunk; what they cost on the way counts."""
    late_s, chunk = 0.3, np.zeros(SHAPE, np.float32)

    def answer(request):
        if request.get('compute_kv_cache'):
            time.sleep(late_s if len(request['obs']) == 8 else 0)
        return msgpack.packb({} if 'reset' in request or 'state' in request
                             else {'action': array(chunk)})

    with stock_server(answer) as (address, asked):
        seconds = RemotePolicy(address, CONTRACT).warm_up()
    assert seconds >= late_s
    assert [len(request['obs']) for request in asked if request.get('state')] == [4, 8]
    assert asked[-1]['reset'], 'it is left reset'


def drive(policy, mode):
    """Four chunks as the predict-execute loop has them; the predicted rows."""
    policy.reset('put the lid aside', 7)
    policy.observe(frame(0))
    chunks = [policy.predict()]
    if mode != 'sync':
        chunks.append(policy.predict())
    at_ms = 0
    for index in range(3):
        run_chunk(policy, at_ms, 8 if index else 4)
        at_ms += 800
        policy.ground(chunks[index].positions[chunks[index].first_row :] + 0.01)
        if mode == 'async_grounded':
            policy.imagine(chunks[index + 1].positions)
        chunks.append(policy.predict())
    return chunks


@pytest.mark.parametrize('mode', ['sync', 'async', 'async_grounded'])
def test_remote_is_as_local(folder, mode):
    local = drive(imagining(folder), mode)
    with serving(folder, imagining(folder)) as server:
        policy = RemotePolicy(server.address, CONTRACT)
        check_mode(policy, mode)
        assert policy.contract == CONTRACT
        assert any('not promoted' in warning for warning in policy.warnings)
        assert policy.warm_up() > 0
        remote = drive(policy, mode)
    for here, there in zip(local, remote, strict=True):
        # Rows travel as float32, as the protocol has it.
        np.testing.assert_allclose(there.positions, here.positions, atol=2e-5)
        assert (there.first_row, there.video_steps, there.action_steps, there.seed) == (
            here.first_row, 1, 1, here.seed)  # fmt: skip
    assert {'predict', 'network', 'ground'} <= set(there.latency_s)


def test_the_history_is_checked_before_anything_is_sent(folder):
    with serving(folder) as server:
        policy = RemotePolicy(server.address, CONTRACT)
        policy.reset('x', 0)
        with pytest.raises(HistoryError, match='before the initial key frame'):
            policy.predict()
        with pytest.raises(HistoryError, match='no chunk to be grounded'):
            policy.ground(np.zeros((8, 16)))
        policy.observe(frame(0))
        with pytest.raises(HistoryError, match='after one due at'):
            policy.observe(frame(0))
        first = policy.predict()
        with pytest.raises(HistoryError, match='0 of its 4 key frames'):
            policy.ground(first.positions[8:])
        run_chunk(policy, 0, 4)
        with pytest.raises(HistoryError, match='rows of shape'):
            policy.ground(first.positions)
        policy.ground(first.positions[8:])
        assert policy.predict().first_row == 0


def test_a_server_that_dies_ends_the_episode_and_no_more(folder):
    with serving(folder) as server:
        policy = RemotePolicy(server.address, CONTRACT)
        policy.reset('x', 0)
        policy.observe(frame(0))
    port = int(server.address.rsplit(':', 1)[1])
    with pytest.raises(PolicyError, match='the policy server is gone'):
        policy.predict()
    with pytest.raises(PolicyError, match='the connection was lost in this episode'):
        policy.predict()
    with pytest.raises(PolicyError, match='there is no policy server at'):
        policy.reset('x', 0)
    for _ in range(2):
        with serving(folder, port=port):
            policy.reset('x', 0)
            policy.observe(frame(0))
            assert policy.predict().first_row == 8


def test_another_model_is_refused(folder):
    with serving(folder) as server:
        with pytest.raises(PolicyError, match=r'not the one that was asked for \(0000'):
            RemotePolicy(server.address, CONTRACT, ('0' * 64,))
        policy = RemotePolicy(server.address, CONTRACT)
    port = int(server.address.rsplit(':', 1)[1])
    for changed, said in (({'sha256': '1' * 64}, '111111111111 1v/1a own'),
                          ({'action_steps': 2}, '1v/2a own'), ({'sampler': 'euler'}, 'euler')):
        with (
            serving(folder, port=port, **changed),
            pytest.raises(PolicyError, match=f'{said}\\), not the one that was asked for'),
        ):
            policy.reset('x', 0)


def test_a_study_is_held_against_model_steps_and_sampler(folder):
    choice = PolicyChoice('wam', sha256=manifest_sha256(folder), served=(1, 1, 'own'))
    with serving(folder) as server:
        choice = dataclasses.replace(choice, checkpoint=server.address)
        assert make_policy(choice, CONTRACT).model == choice.model
        for served in ((1, 2, 'own'), (2, 1, 'own'), (1, 1, 'euler')):
            with pytest.raises(PolicyError, match='not the one that was asked for'):
                make_policy(dataclasses.replace(choice, served=served), CONTRACT)
        with pytest.raises(PolicyError, match='give them to flashwam serve'):
            make_policy(dataclasses.replace(choice, video_steps=1), CONTRACT)


def test_the_contract_it_was_trained_for_is_told(folder):
    other = dataclasses.replace(CONTRACT, row_rate_hz=30.0)
    with serving(folder, contract=other) as server:
        told = RemotePolicy(server.address, CONTRACT).contract
    assert CONTRACT.differences(told) == ['row_rate_hz: 20.0 here, 30.0 there']


def test_our_client_with_a_stock_server():
    chunk = np.linspace(0, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)

    def answer(request):
        reply = {'server_timing': {'infer_ms': 1.0}}
        if not request.get('reset') and not request.get('compute_kv_cache'):
            reply['action'] = array(chunk)
        return msgpack.packb(reply)

    with stock_server(answer) as (address, asked):
        policy = RemotePolicy(address, CONTRACT)
        assert 'does not say for which robot' in policy.warnings[0]
        for mode in ('async', 'async_grounded'):
            with pytest.raises(PolicyError, match="one chunk at a time: use 'sync'"):
                check_mode(policy, mode)
        check_mode(policy, 'sync')
        chunks = drive(policy, 'sync')
    np.testing.assert_array_equal(chunks[0].positions[9], chunk[:, 1, 1])
    updates = [request for request in asked if request.get('compute_kv_cache')]
    assert [len(update['obs']) for update in updates] == [4, 8, 8]
    assert set(updates[0]['obs'][0]) == {f'observation.images.{name}' for name in CAMERAS}
    state = updates[0]['state']
    sent = np.frombuffer(state[b'data'], state[b'dtype']).reshape(state[b'shape'])
    np.testing.assert_array_equal(sent[:, 0], chunk[:, 0], 'not executed: as they came')
    np.testing.assert_allclose(sent[:, 1], chunk[:, 1] + 0.01, atol=1e-6)


@pytest.mark.parametrize(('reply', 'said'), [
    ('Traceback\n  File\nKeyError: obs', 'KeyError: obs'),
    (b'\xc1', 'not a msgpack message'),
    (msgpack.packb([1]), 'answered with list'),
    (msgpack.packb({'action': array(np.zeros((30, 2, 8), np.float32))}), r'shape \(30, 2, 8\)'),
    (msgpack.packb({}), 'action has shape NoneType'),
])  # fmt: skip
def test_answers_that_are_none(reply, said):
    with stock_server(lambda request: b'\x80' if request.get('reset') else reply) as (address, _):
        policy = RemotePolicy(address, CONTRACT)
        policy.reset('x', 0)
        policy.observe(frame(0))
        with pytest.raises(PolicyError, match=said):
            policy.predict()


def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(remote_policy, 'ANSWER_S', 0.2)
    silent = threading.Event()
    with stock_server(lambda request: silent.wait(5) or b'\x80') as (address, _):
        policy = RemotePolicy(address, CONTRACT)
        with pytest.raises(PolicyError, match='no answer within'):
            policy.reset('x', 0)
        silent.set()


def test_nobody_there():
    with pytest.raises(PolicyError, match='no policy server at ws://127.0.0.1:9'):
        ask_handshake('ws://127.0.0.1:9')
    for metadata, said in (
        ([], 'not with a map'),
        ({'flashwam': {'contract': {}}}, 'handshake cannot be understood'),
    ):
        packed = msgpack.packb(metadata)
        with (
            stock_server(lambda request: b'', packed) as (address, _),
            pytest.raises(PolicyError, match=said),
        ):
            ask_handshake(address)


def test_a_handshake_comes_back_as_it_was():
    handshake = Handshake('m', 'a' * 64, CONTRACT, 1, 2, 'own', ('w',), {'async_grounded': 'no'})
    packed = msgpack.unpackb(msgpack.packb(handshake.to_metadata()))
    assert Handshake.from_metadata(packed) == handshake
