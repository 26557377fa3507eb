# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A console over a pretended graph, episodes on its shelf, a browser, and a cable to pull."""

import contextlib
import importlib.util
import socket
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip('starlette')
pytest.importorskip('uvicorn')
pytest.importorskip('mcap')

HERE = Path(__file__).parent


def load(name, path):
    """A module of the tests by its file: the folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def fake():
    return load('console_fake_graph', HERE / 'fake_graph.py')


@pytest.fixture(scope='session')
def maker():
    return load('console_episode_kit', HERE.parent / 'episodes' / 'conftest.py').Maker


@pytest.fixture
def make_graph(fake, tmp_path):
    """Start a console over a pretended graph."""
    graphs = []

    def make(**values):
        graphs.append(fake.FakeGraph(tmp_path, **values))
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.close()


@pytest.fixture
def graph(make_graph):
    return make_graph()


class Cable:
    """TCP connections through us that can be pulled: nothing moves then, and nothing is closed."""

    def __init__(self, port):
        self._target = ('127.0.0.1', port)
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        self._plugged = threading.Event()
        self._plugged.set()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def pull(self):
        self._plugged.clear()

    def plug(self):
        self._plugged.set()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._plugged.wait()
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._plugged.set()
        for one in self._sockets:
            one.close()


@pytest.fixture
def make_cable():
    cables = []

    def make(port):
        cables.append(Cable(port))
        return cables[-1]

    yield make
    for cable in cables:
        cable.close()


@pytest.fixture(scope='module')
def browser():
    from benchmarks._browser import Browser, chromium

    if chromium() is None:
        pytest.skip('no Chromium here: apt install chromium')
    with Browser() as browser:
        yield browser
