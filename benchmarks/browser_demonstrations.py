# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations recorded in the browser console with the keyboard, by a real headless browser.

usage: python benchmarks/browser_demonstrations.py [--task red_bottle] [--episodes 5] [--seed 300]
           [--episodes-dir episodes] [--pictures FOLDER]

Starts `teleop.launch.py device:=web`, opens the page, and for each seed: resets the scene,
records, drives the hand with keys (see `_operator`), keeps the episode and labels it by what the
twin says. Everything is pressed on the page. One line per episode, and a table at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._browser import LAPTOP, PHONE, Browser, BrowserError  # noqa: E402
from benchmarks._operator import TASKS, Operator, Press  # noqa: E402
from benchmarks._stack import (  # noqa: E402
    Place,
    Stack,
    end_on_sigterm,
    header,
    header_lines,
    say,
    table,
)
from flashwam_ros.teleop.joy import JoyMapping  # noqa: E402
from flashwam_ros.twin.tasks import WorldState  # noqa: E402
from flashwam_ros.twin.world_json import world_from_dict  # noqa: E402
from flashwam_ros.wire.sim_bus import SimBus  # noqa: E402

PLACE, CONSOLE_PORT = Place(ros_domain=57, unitree_domain=58, port=22160), 22170
READY_S, CHANGE_S, GRACE_S, TRIES = 120.0, 40.0, 6.0, 6
_LOOK_S = 0.02
_JPEG = 82


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode: seed, what the twin and the page say, how long it took (s)."""

    seed: int
    name: str
    success: bool
    failure: str
    quality: str
    seconds: float


class Recording:
    """The page in a browser, the twin to look at, and what is pressed.

    Args:
        browser: a browser.
        sim: the twin's own account of its world.
        task: one of `_operator.TASKS`.
        address: of the console.
    """

    def __init__(self, browser: Browser, sim: SimBus, task: str, address: str):
        self.browser, self.sim, self.task = browser, sim, task
        deadline = time.monotonic() + READY_S
        while True:
            try:
                browser.open(address)
                browser.until('window.console_page?.value("driver")', 20.0)
                break
            except BrowserError:
                if time.monotonic() > deadline:
                    raise
        browser.until('console_page.cameras.views.every((view) => view.frames > 2)', READY_S)
        browser.type('#operator', 'keyboard')
        self.engage()
        browser.click('#driving')

    def demonstrate(
        self, seed: int, midway: Callable[[], None] = lambda: None
    ) -> Demonstration:
        """Reset, record, drive, keep, label; `midway` is called once while the hand moves."""
        browser = self.browser
        browser.type('#seed', str(seed))
        browser.click('#reset-scene')
        browser.until(f'console_page.value("twin")?.seed === {seed}', CHANGE_S)
        browser.until('!document.querySelector("#reset-scene.busy")', READY_S)
        self.engage()
        browser.click('#record')
        browser.until('console_page.value("recorder").state === "recording"', CHANGE_S)
        begun = time.monotonic()
        speeds = JoyMapping.load().speeds
        for number, press in enumerate(Operator(self.task, self.look, speeds).play()):
            self.press(press)
            if number == 8:
                midway()
        seconds = time.monotonic() - begun
        state = self.sim.state()
        browser.click('#recorder [data-label=keep]')
        browser.until('console_page.value("recorder").state === "idle"', CHANGE_S)
        label = 'success' if state['success'] else 'failure'
        browser.until(f'!document.querySelector("#recorder [data-label={label}]").disabled')
        browser.click(f'#recorder [data-label={label}]')
        path = browser.run('console_page.value("recorder").episode')
        name = Path(path).name.removesuffix('.mcap')
        card = f'document.querySelector(`[data-episode="{name}"]`)'
        browser.until(f'{card}?.querySelectorAll(".chip")[1].textContent === "{label}"', CHANGE_S)
        quality = browser.run(f'{card}.querySelector(".chip").textContent')
        failure = state['failure'] or ''
        return Demonstration(seed, name, state['success'], failure, quality, seconds)

    def engage(self) -> None:
        """Have the arms taken over; a preflight that is red on a busy machine is asked again."""
        said = ''
        for _ in range(TRIES):
            try:
                self.browser.until('console_page.value("driver").mode === "HOLD"', GRACE_S)
                return
            except BrowserError:
                self.browser.click('#engage')
                self.browser.until('!document.querySelector("#engage.busy")', READY_S)
                said = self.browser.text('#banner') or said
        raise BrowserError(f'the arms were not taken over: {said}')

    def look(self) -> WorldState:
        """The scene now."""
        return world_from_dict(self.sim.state())

    def press(self, press: Press) -> None:
        """Hold exactly these keys for their time."""
        self.browser.hold(sorted(press.keys))
        end = time.monotonic() + press.seconds
        while (left := end - time.monotonic()) > 0:
            self.sim.state()
            time.sleep(min(left, _LOOK_S))


def pictures(browser: Browser, address: str, folder: Path, name: str) -> None:
    """What laptop and phone show, then the laptop again."""
    browser.run('scrollTo(0, 0)')
    browser.screenshot(folder / f'{name}_laptop.jpg', quality=_JPEG)
    browser.resize(PHONE, True)
    browser.open(address)
    browser.until('window.console_page?.cameras.views.every((view) => view.frames > 2)')
    browser.screenshot(folder / f'{name}_phone.jpg', quality=_JPEG)
    browser.resize(LAPTOP, False)


def record(arguments: argparse.Namespace) -> list[Demonstration]:
    """All episodes."""
    values = {'task': arguments.task, 'device': 'web', 'record': 'true', 'console': 'true',
              'console_port': str(CONSOLE_PORT),
              'episodes_dir': str(arguments.episodes_dir.absolute())}  # fmt: skip
    address = f'http://127.0.0.1:{CONSOLE_PORT}/'
    log = arguments.episodes_dir / 'browser_demonstrations.log'
    done = []
    with Stack(values, PLACE, log) as stack, Browser() as browser:
        stack.until(lambda: stack.said(f'console: {address}'), READY_S, 'the console')
        sim = SimBus(PLACE.unitree_domain, 'lo')
        sim.wait_state(READY_S)
        try:
            session = Recording(browser, sim, arguments.task, address)

            def picture() -> None:
                if arguments.pictures is not None and not done:
                    browser.run('scrollTo(0, 0)')
                    browser.screenshot(arguments.pictures / 'console_driving.jpg', quality=_JPEG)

            for seed in range(arguments.seed, arguments.seed + arguments.episodes):
                done.append(session.demonstrate(seed, picture))
                say(f'{done[-1]}')
            if arguments.pictures is not None:
                pictures(browser, address, arguments.pictures, 'console')
        finally:
            sim.close()
    return done


def main() -> int:
    """Record and tell."""
    end_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--task', choices=TASKS, default='red_bottle')
    parser.add_argument('--episodes', type=int, default=5)
    parser.add_argument('--seed', type=int, default=300, help='of the first scene')
    parser.add_argument('--episodes-dir', type=Path, default=Path('episodes'))
    parser.add_argument('--pictures', type=Path, help='folder that receives pictures of the page')
    arguments = parser.parse_args()
    head = header(arguments.episodes)
    done = record(arguments)
    rows = [(d.seed, d.name, 'yes' if d.success else f'no {d.failure}', d.quality,
             f'{d.seconds:.1f}') for d in done]  # fmt: skip
    lines = header_lines(head) + table(('seed', 'episode', 'solved', 'quality', 'seconds'), rows)
    say('\n'.join(lines))
    return 0 if len(done) == arguments.episodes else 1


if __name__ == '__main__':
    sys.exit(main())
