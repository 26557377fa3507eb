# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The console over the running graph: a browser drives the simulated robot, loses it, stops it."""

import json
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip('rclpy')
pytest.importorskip('mujoco')
pytest.importorskip('uvicorn')

from benchmarks._browser import Browser, BrowserError, chromium  # noqa: E402
from benchmarks._cable import Cable  # noqa: E402
from benchmarks._stack import Place, Stack  # noqa: E402
from benchmarks.browser_demonstrations import Recording  # noqa: E402
from flashwam_ros.episodes.library import list_episodes  # noqa: E402
from flashwam_ros.wire.sim_bus import SimBus  # noqa: E402

PLACE, PORT = Place(ros_domain=47, unitree_domain=48, port=22060), 22070
TASK, SEED, TRIES = 'red_bottle', 300, 3
RIGHT = 1
SLOW_S = 90.0
STILL_M = 0.002
PRESS_S = 3.0


class Rig:
    """The graph, the page at the end of a cable, and the twin's own view of the hand."""

    def __init__(self, stack, browser, folder):
        self.stack, self.browser, self.folder = stack, browser, folder
        stack.until(lambda: stack.said('console: http://127.0.0.1:'), SLOW_S, 'the console')
        self.cable = Cable(PORT)
        self.sim = SimBus(PLACE.unitree_domain, 'lo')
        self.sim.wait_state(SLOW_S)
        self.recording = Recording(browser, self.sim, TASK, f'http://127.0.0.1:{self.cable.port}/')

    def hand(self):
        """Where the right hand is (m)."""
        before = self.sim.state()['time_ns']
        self.stack.until(lambda: self.sim.state()['time_ns'] > before, SLOW_S, 'a newer state')
        return np.array(self.sim.state()['tcp']['right'])[:3, 3]

    def moved(self, start, by_m):
        return np.linalg.norm(self.hand() - start) > by_m

    def stands_still(self):
        """Whether the hand stays for half a second."""
        start, end = self.hand(), time.monotonic() + 0.5
        while time.monotonic() < end:
            if self.moved(start, STILL_M):
                return False
        return True

    def until(self, condition, what):
        self.stack.until(condition, SLOW_S, what)

    def push(self, keys, by_m):
        """Hold keys until the hand has moved; they are still held then.

        A busy machine may end a motion for good reasons: then the clutch wants a new press.
        """
        start, deadline = self.hand(), time.monotonic() + SLOW_S
        while time.monotonic() < deadline:
            self.browser.hold(keys)
            end = time.monotonic() + PRESS_S
            while time.monotonic() < end:
                if self.moved(start, by_m):
                    return
            self.browser.hold([])
            self.until(self.stands_still, 'the hand stands')
        pytest.fail(f'{keys} did not move the hand')

    def page(self, script):
        return self.browser.run(script)

    def fresh(self):
        """The arms held, at the start pose, nothing pressed."""
        self.browser.hold([])
        self.cable.plug()
        self.browser.until('document.getElementById("banner").hidden', SLOW_S)
        self.browser.type('#seed', str(SEED))
        self.browser.click('#reset-scene')
        self.browser.until('!document.querySelector("#reset-scene.busy")', SLOW_S)
        self.recording.engage()
        self.browser.hold(['Digit2'])
        self.browser.hold([])

    def close(self):
        self.cable.close()
        self.sim.close()


@pytest.fixture(scope='module')
def rig(tmp_path_factory, real_time):
    if chromium() is None:
        pytest.skip('no Chromium here: apt install chromium')
    folder = tmp_path_factory.mktemp('console')
    values = {'task': TASK, 'device': 'web', 'record': 'true', 'console': 'true',
              'console_port': str(PORT), 'seed': str(SEED), 'camera_rate': '5',
              'episodes_dir': str(folder / 'episodes')}  # fmt: skip
    with Stack(values, PLACE, folder / 'stack.log') as stack, Browser() as browser:
        rig = Rig(stack, browser, folder)
        yield rig
        rig.close()


def test_keys_move_the_hand_only_while_the_clutch_is_held(rig):
    rig.fresh()
    start = rig.hand()
    rig.browser.hold(['KeyR'])
    assert rig.stands_still()
    rig.browser.hold([])
    rig.push(['Space', 'KeyR'], 0.04)
    rig.browser.hold([])
    rig.until(rig.stands_still, 'the hand stands')
    assert rig.hand()[2] > start[2] + 0.03


def test_a_pulled_cable_holds_the_arms_and_they_wait_for_a_new_press(rig):
    rig.fresh()
    rig.push(['Space', 'KeyR'], 0.02)
    at_cut = rig.hand()
    rig.cable.pull()
    rig.until(rig.stands_still, 'the hand stands')
    there = rig.hand()
    assert np.linalg.norm(there - at_cut) < 0.2
    assert rig.stack.listener.mode() in ('HOLD', 'EXECUTE'), 'held, not given back'
    rig.browser.until('document.getElementById("banner").textContent.startsWith("No connection")')
    rig.cable.plug()
    rig.browser.until('document.getElementById("banner").hidden', SLOW_S)
    rig.browser.until('console_page.value("teleop").link === "live"', SLOW_S)
    assert rig.stands_still(), 'the keys are still down, but they do not count'
    rig.browser.hold([])
    rig.push(['Space', 'KeyF'], 0.02)
    rig.browser.hold([])


def test_stop_holds_and_a_second_press_lets_go(rig):
    rig.fresh()
    rig.push(['Space', 'KeyR'], 0.02)
    rig.browser.hold(['Escape', 'Space', 'KeyR'])
    rig.browser.until('document.getElementById("reason").textContent.includes("STOP was")', SLOW_S)
    rig.until(rig.stands_still, 'the hand stands')
    rig.browser.hold([])
    rig.browser.click('#stop')
    rig.browser.until('console_page.value("driver").mode === "PASSIVE"', SLOW_S)
    rig.recording.engage()


def test_a_demonstration_is_recorded_kept_and_labelled_on_the_page(rig):
    for attempt in range(TRIES):
        rig.fresh()
        try:
            done = rig.recording.demonstrate(SEED + attempt)
        except BrowserError:
            if attempt == TRIES - 1:
                raise
            continue
        if done.success:
            break
    assert done.success, f'{done}'
    entry = next(e for e in list_episodes(rig.folder / 'episodes') if e.name == done.name)
    assert entry.state == 'closed'
    assert (entry.sidecar.disposition, entry.sidecar.outcome) == ('keep', 'success')
    assert {label.by for label in entry.sidecar.labels} == {'keyboard'}
    assert entry.sidecar.prompt == 'pick up the red bottle'
    assert json.dumps(entry.sidecar.quality)
    # The page fetches the picture by itself, and only when it is about to be seen.
    card = f'document.querySelector(\'[data-episode="{done.name}"]\')'
    rig.page(f'{card}.scrollIntoView()')
    rig.browser.until(f'{card}.querySelector("img").naturalWidth === 336', SLOW_S)
