# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium that is driven like a person drives it: keys, mouse, fingers, looking.

Speaks the DevTools protocol; the browser is the system's own (Debian: `apt install chromium`).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import connect

LAPTOP, PHONE = (1366, 768), (390, 844)
_NAMES = ('chromium', 'chromium-browser', 'google-chrome')
_START_S, _ANSWER_S, _UNTIL_S = 60.0, 30.0, 30.0
_POLL_S = 0.02
_LARGEST = 64 * 2**20
_CODES = {'Space': (' ', 32), 'ShiftLeft': ('Shift', 16), 'Escape': ('Escape', 27)}
_SHIFT = 8


class BrowserError(RuntimeError):
    """The browser did not do what was asked; the message says what."""


def chromium() -> str | None:
    """Path of the system's browser, None where none is installed."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """One page in a browser of its own; use as a context manager.

    Args:
        size: (width, height) of the window in CSS pixels.
        touch: behave as a phone: touch screen, two device pixels per CSS pixel.

    Raises:
        BrowserError: no browser is installed, or it does not start.
    """

    def __init__(self, size: tuple[int, int] = LAPTOP, touch: bool = False):
        program = chromium()
        if program is None:
            raise BrowserError('no Chromium here: apt install chromium')
        self._folder = tempfile.TemporaryDirectory(prefix='browser-', ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [program, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
             '--no-first-run', '--disable-extensions', '--disable-background-networking',
             '--disable-component-update', '--disable-sync', '--mute-audio', '--hide-scrollbars',
             '--remote-debugging-port=0', f'--user-data-dir={self._folder.name}', 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._numbers = itertools.count(1)
        self._held: set[str] = set()
        self._open = contextlib.ExitStack()
        try:
            socket = connect(self._page_address(), max_size=_LARGEST)
            self._socket = self._open.enter_context(socket)
            for domain in ('Page', 'Runtime'):
                self.call(f'{domain}.enable')
            self.resize(size, touch)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and all of its processes."""
        self._open.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10.0)
        self._folder.cleanup()

    def _page_address(self) -> str:
        told = Path(self._folder.name, 'DevToolsActivePort')
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BrowserError(f'the browser ended with code {self._process.returncode}')
            if told.is_file() and len(told.read_text().splitlines()) == 2:
                port = told.read_text().splitlines()[0]
                with urlopen(f'http://127.0.0.1:{port}/json', timeout=_ANSWER_S) as answer:
                    pages = [p for p in json.load(answer) if p['type'] == 'page']
                if pages:
                    return pages[0]['webSocketDebuggerUrl']
            time.sleep(_POLL_S)
        raise BrowserError(f'the browser did not start within {_START_S:.0f} s')

    # -- protocol ---------------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict:
        """One command of the DevTools protocol.

        Raises:
            BrowserError: the browser refuses it.
        """
        number = next(self._numbers)
        message = {'id': number, 'method': method, 'params': parameters}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(_ANSWER_S))
            if answer.get('id') == number:
                break
        if 'error' in answer:
            raise BrowserError(f'{method}: {answer["error"]["message"]}')
        return answer['result']

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page; promises are awaited.

        Raises:
            BrowserError: it throws.
        """
        result = self.call('Runtime.evaluate', expression=script, returnByValue=True,
                           awaitPromise=True)  # fmt: skip
        if 'exceptionDetails' in result:
            details = result['exceptionDetails']
            text = details.get('exception', {}).get('description', details.get('text'))
            raise BrowserError(f'{script[:200]}: {text}')
        return result['result'].get('value')

    # -- looking ----------------------------------------------------------------------------------

    def resize(self, size: tuple[int, int], touch: bool) -> None:
        """Another screen."""
        self.call('Emulation.setDeviceMetricsOverride', width=size[0], height=size[1],
                  deviceScaleFactor=2 if touch else 1, mobile=touch)  # fmt: skip
        self.call('Emulation.setTouchEmulationEnabled', enabled=touch)

    def open(self, address: str) -> None:
        """Load a page and wait for it."""
        self.call('Page.navigate', url=address)
        self.until('document.readyState === "complete" && location.href !== "about:blank"')

    def until(self, script: str, limit_s: float = _UNTIL_S) -> Any:
        """Wait until an expression is true; its value.

        Raises:
            BrowserError: it did not become true in time.
        """
        deadline = time.monotonic() + limit_s
        while True:
            value = self.run(script)
            if value:
                return value
            if time.monotonic() > deadline:
                raise BrowserError(f'not true within {limit_s:.0f} s: {script}')
            time.sleep(_POLL_S)

    def text(self, selector: str) -> str:
        """What an element says."""
        return self.run(f'document.querySelector({json.dumps(selector)}).textContent')

    def screenshot(self, path: Path, whole: bool = False, quality: int | None = None) -> None:
        """Picture of the window, or of the whole page; JPEG where a quality is given, else PNG."""
        kind = {'format': 'png'} if quality is None else {'format': 'jpeg', 'quality': quality}
        if whole:
            size = self.call('Page.getLayoutMetrics')['cssContentSize']
            kind['clip'] = {'x': 0, 'y': 0, 'width': size['width'], 'height': size['height'],
                            'scale': 1}  # fmt: skip
        answer = self.call('Page.captureScreenshot', captureBeyondViewport=whole, **kind)
        path.write_bytes(base64.b64decode(answer['data']))

    # -- hands ------------------------------------------------------------------------------------

    def place(self, selector: str) -> tuple[float, float]:
        """Where the middle of an element is, after scrolling to it (CSS pixels).

        Raises:
            BrowserError: there is none, or something else lies over it.
        """
        found = self.run(f"""(() => {{
            const one = document.querySelector({json.dumps(selector)});
            if (!one) return null;
            one.scrollIntoView({{block: 'center', behavior: 'instant'}});
            const box = one.getBoundingClientRect();
            const at = [box.left + box.width / 2, box.top + box.height / 2];
            const hit = document.elementFromPoint(...at);
            return one.contains(hit) || hit?.contains(one) ? at : `under ${{hit?.outerHTML.slice(0, 80)}}`;
        }})()""")  # noqa: E501
        if not isinstance(found, list):
            raise BrowserError(f'{selector} cannot be pressed: {found or "it is not there"}')
        return found[0], found[1]

    def click(self, selector: str) -> None:
        """Press an element with the mouse."""
        x, y = self.place(selector)
        for kind in ('mousePressed', 'mouseReleased'):
            self.mouse(kind, x, y)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """'mousePressed', 'mouseMoved' or 'mouseReleased' at a place, left button."""
        self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', buttons=1,
                  clickCount=1)  # fmt: skip

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """'touchStart', 'touchMove' or 'touchEnd' with the fingers at these places."""
        self.call('Input.dispatchTouchEvent', type=kind,
                  touchPoints=[{'x': x, 'y': y} for x, y in points])  # fmt: skip

    def key(self, code: str, down: bool) -> None:
        """Press or release a key, named as in `KeyboardEvent.code`."""
        name, number = _CODES.get(code) or (code[-1].lower(), ord(code[-1]))
        (self._held.add if down else self._held.discard)(code)
        modifiers = _SHIFT if 'ShiftLeft' in self._held else 0
        self.call('Input.dispatchKeyEvent', type='rawKeyDown' if down else 'keyUp', code=code,
                  key=name, windowsVirtualKeyCode=number, modifiers=modifiers)  # fmt: skip

    def hold(self, codes: Sequence[str]) -> None:
        """Hold exactly these keys from now on."""
        for code in sorted(self._held - set(codes)):
            self.key(code, False)
        for code in sorted(set(codes) - self._held):
            self.key(code, True)

    def type(self, selector: str, text: str) -> None:
        """Put a text into a field."""
        self.click(selector)
        self.run(f'document.querySelector({json.dumps(selector)}).select()')
        self.call('Input.insertText', text=text)
        self.run('document.activeElement.blur()')
