# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A console over a pretended graph, episodes on its shelf, a browser, and a cable to pull."""

import importlib.util
import sys
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


@pytest.fixture
def make_cable():
    from benchmarks._cable import Cable

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
