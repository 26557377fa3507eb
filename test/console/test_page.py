# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser over a pretended graph: shown, pressed, lost and found again."""

import asyncio
import json
import threading
import time

import pytest

from benchmarks._browser import LAPTOP, PHONE
from flashwam_ros.console import app, live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def page(graph, browser):
    """The page, open, with its first pictures."""
    browser.resize(LAPTOP, False)
    browser.open(graph.address)
    browser.until('window.console_page?.cameras.views.every((view) => view.frames > 2)')
    yield browser
    browser.hold([])
    browser.open('about:blank#left')


@pytest.fixture
def episode(maker, tmp_path):
    return maker(tmp_path / '20261121-120000_a.mcap', 1.0).write()


@pytest.fixture
def sheet(episode, page):
    """A page with the contact sheet of an episode open."""
    page.until('document.querySelector(".episode > button img")?.naturalWidth === 336')
    page.click('.episode > button')
    page.until('document.querySelector("#sheet img").naturalWidth > 800')
    yield page
    page.resize(LAPTOP, False)


def until(condition, limit_s=15.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def command(graph):
    return json.loads(graph.texts[-1]) if graph.texts else None


def drive(page, graph):
    page.click('#driving')
    until(lambda: graph.texts)


def right(graph):
    return command(graph)['arms']['right']


def test_everything_live_is_shown_as_live(page, graph):
    assert page.run('document.querySelectorAll("figure").length') == 3
    page.until('document.querySelectorAll(".stale").length === 0')
    assert page.run('document.querySelectorAll(".bar").length') == 16
    page.until('document.querySelector("figcaption").textContent.includes("ms old")')
    page.until('document.getElementById("mode").textContent === "HOLD"')
    page.until('document.getElementById("connection").textContent === "simulated robot"')
    red = page.run('(() => { const c = document.querySelector("figure canvas");'
                   ' const d = c.getContext("2d").getImageData(0, 120, c.width, 1).data;'
                   ' let n = 0; for (let i = 0; i < d.length; i += 4)'
                   ' n += d[i] > 150 && d[i + 1] < 90; return n; })()')  # fmt: skip
    assert red > 20, 'the picture is drawn'


@pytest.mark.parametrize(('quiet', 'selector'), [
    ('left_wrist', 'figure[data-camera=left_wrist]'), ('driver', '#driver'),
    ('joints', '#joints'), ('chunks', '#chunks'), ('recorder', '#recorder'),
])  # fmt: skip
def test_what_falls_silent_greys_out_with_its_age_and_comes_back(page, graph, quiet, selector):
    page.until(f'!document.querySelector("{selector}").classList.contains("stale")')
    graph.quiet = {quiet}
    page.until(f'document.querySelector("{selector}").classList.contains("stale")')
    page.until('/ s old|no new picture for/.test('
               f'document.querySelector("{selector}").textContent)')  # fmt: skip
    page.until('document.querySelectorAll(".stale").length === 1')
    graph.quiet = set()
    page.until(f'!document.querySelector("{selector}").classList.contains("stale")')


def test_a_pulled_cable_greys_everything_and_the_page_comes_back(graph, browser, make_cable):
    cable = make_cable(graph.server.port)
    browser.resize(LAPTOP, False)
    browser.open(f'http://127.0.0.1:{cable.port}/')
    browser.until('window.console_page?.cameras.views.every((view) => view.frames > 2)')
    cable.pull()
    browser.until('document.querySelectorAll("figure.stale").length === 3')
    browser.until('["driver", "joints", "chunks", "recorder"].every((id) =>'
                  ' document.getElementById(id).classList.contains("stale"))')  # fmt: skip
    browser.until('document.getElementById("banner").textContent.startsWith("No connection")')
    browser.click('#stop')
    browser.until('document.getElementById("banner").checkVisibility()')
    assert graph.actions == []
    cable.plug()
    browser.until('document.querySelectorAll(".stale").length === 0'
                  ' && document.getElementById("banner").hidden')  # fmt: skip
    assert browser.text('#connection') == 'simulated robot'


def test_what_was_stuck_on_the_way_is_as_old_as_it_is(page):
    """The quickest message of late counts as one that took no time."""
    age = page.run("""(async () => {
        const { Transit } = await import('/static/link.js');
        const transit = new Transit();
        const now = performance.now();
        for (const late of [30, 5, 12, 2000]) transit.note(now - late);
        return transit.age(now - 2000, 0.1);
    })()""")
    assert 2.09 < age < 2.3


def test_a_held_clutch_ends_with_the_connection_and_must_be_pressed_anew(
    graph, browser, make_cable
):
    cable = make_cable(graph.server.port)
    browser.open(f'http://127.0.0.1:{cable.port}/')
    browser.until('window.console_page?.drive')
    drive(browser, graph)
    browser.hold(['Space', 'KeyW'])
    until(lambda: graph.held() == [False, True])
    until(lambda: str(graph.link()) == 'live')
    cable.pull()
    until(lambda: str(graph.link()) == 'stale')
    heard = len(graph.texts)
    browser.until('document.getElementById("banner").textContent.startsWith("No connection")')
    assert len(graph.texts) == heard
    cable.plug()
    # What waited in the cable comes first; a quarter of a second of it may still count as live.
    until(lambda: str(graph.link()) == 'live' and graph.held() == [False, False])
    heard = len(graph.texts)
    until(lambda: len(graph.texts) > heard + 10 and str(graph.link()) == 'live')
    assert graph.held() == [False, False], 'what is still held down does not count any more'
    browser.hold([])
    browser.hold(['Space'])
    until(lambda: graph.held() == [False, True])
    browser.hold([])
    until(lambda: graph.held() == [False, False])
    clients = {json.loads(text)['client'] for text in graph.texts}
    assert len(clients) == 1, 'a new name would make a connection that is slow by now the new zero'


def test_a_page_whose_connection_is_slow_drives_nothing(make_graph, browser, monkeypatch):
    """A connection that was slow from the first command on: only the way back shows it."""
    state, trip_s = live.Live.state, [0.7]

    async def slow(self, socket):
        receive = socket.receive_text

        async def later():
            text = await receive()
            await asyncio.sleep(trip_s[0])
            return text

        socket.receive_text = later
        await state(self, socket)

    monkeypatch.setattr(live.Live, 'state', slow)
    graph = make_graph()
    browser.open(graph.address)
    browser.until('window.console_page?.drive.slow')
    drive(browser, graph)
    browser.until('document.getElementById("banner").textContent.includes("there and back")')
    browser.hold(['Space', 'KeyW'])
    said = len(graph.texts)
    until(lambda: len(graph.texts) > said + 10)
    trip_s[0] = 0.0
    browser.until('!window.console_page.drive.slow')
    said = len(graph.texts)
    until(lambda: len(graph.texts) > said + 10)
    held = [json.loads(text)['arms']['right']['clutch'] for text in graph.texts]
    assert not any(held), 'what was held while nothing counted must be let go first'
    browser.hold([])
    browser.hold(['Space'])
    until(lambda: right(graph)['clutch'])
    browser.hold([])
    browser.open('about:blank#left')


def test_a_computer_that_slept_starts_anew(page, graph):
    """Its monotonic clock stood still, the wall clock did not."""
    drive(page, graph)
    page.hold(['Space'])
    until(lambda: right(graph)['clutch'])
    before = command(graph)['client']
    page.run('((now) => { Date.now = () => now() + 60000; })(Date.now)')
    until(lambda: command(graph)['client'] != before)
    assert not right(graph)['clutch']


def test_keys_become_commands_only_while_driving(page, graph):
    page.hold(['Space', 'KeyW'])
    page.hold([])
    assert graph.texts == []
    drive(page, graph)
    page.hold(['KeyW', 'KeyA', 'KeyF', 'KeyJ'])
    until(lambda: right(graph)['twist'] == [0.2, 0.2, -0.2, 0, 0, 0.8])
    assert not right(graph)['clutch'], 'motion keys alone hold no clutch'
    page.hold(['Space', 'ShiftLeft', 'KeyW'])
    until(lambda: right(graph)['clutch'])
    until(lambda: right(graph)['twist'][0] == pytest.approx(0.06))
    page.hold(['Space', 'KeyN'])
    until(lambda: right(graph)['opening_rate'] == -0.8)
    page.hold([])
    until(lambda: not right(graph)['clutch'])
    page.hold(['Digit1'])
    until(lambda: set(command(graph)['arms']) == {'left'})
    page.hold(['KeyH'])
    until(lambda: command(graph)['home'] and not command(graph)['arms']['left']['clutch'])
    page.click('#driving')
    page.hold([])
    said = len(graph.texts)
    page.until('(() => { const now = performance.now(); return new Promise((done) =>'
               ' setTimeout(() => done(performance.now() - now > 150), 200)); })()')  # fmt: skip
    assert len(graph.texts) <= said + 2, 'silent when not driving'


def test_no_key_counts_while_a_text_is_typed_or_the_page_is_left(page, graph):
    drive(page, graph)
    page.hold(['Space', 'KeyW'])
    until(lambda: right(graph)['clutch'])
    page.run('window.dispatchEvent(new Event("blur"))')
    until(lambda: not right(graph)['clutch'])
    page.hold([])
    said = len(graph.texts)
    page.click('#operator')
    page.hold(['Space', 'KeyW'])
    page.hold([])
    until(lambda: len(graph.texts) > said + 5)
    assert not any(json.loads(t)['arms']['right']['clutch'] for t in graph.texts[said:])


def test_pads_follow_the_mouse_and_let_go_with_it(page, graph):
    drive(page, graph)
    x, y = page.place('.pad[data-y=x]')
    page.mouse('mousePressed', x, y)
    page.mouse('mouseMoved', x - 60, y - 60)
    until(lambda: right(graph)['clutch'] and right(graph)['twist'][0] > 0.1)
    assert right(graph)['twist'][1] > 0.1, 'left is positive'
    page.mouse('mouseReleased', x - 60, y - 60)
    until(lambda: not right(graph)['clutch'] and right(graph)['twist'][0] == 0)


def test_two_thumbs_on_a_phone(graph, browser):
    browser.resize(PHONE, True)
    browser.open(graph.address)
    browser.until('window.console_page?.drive')
    drive(browser, graph)
    browser.until('document.body.classList.contains("driving")')
    browser.place('.pad[data-y=x]')
    (x, y), (u, v) = browser.place('.pad[data-y=x]'), browser.place('.pad[data-y=z]')
    browser.touch('touchStart', (x, y), (u, v))
    browser.touch('touchMove', (x, y - 50), (u, v + 50))
    until(lambda: right(graph)['clutch'] and right(graph)['twist'][0] > 0.1)
    until(lambda: right(graph)['twist'][2] < -0.1)
    browser.touch('touchEnd')
    until(lambda: not right(graph)['clutch'])
    stop = browser.run('(() => { const box = document.getElementById("stop").'
                       'getBoundingClientRect(); return [box.width, box.height,'
                       ' innerHeight - box.bottom]; })()')  # fmt: skip
    assert stop[0] > 0.9 * PHONE[0] and stop[1] > 60 and 0 <= stop[2] < 20
    assert browser.run('document.documentElement.scrollWidth') <= PHONE[0]
    browser.open('about:blank#left')


def test_a_gamepad_holds_its_own_clutch(page, graph):
    drive(page, graph)
    page.run('window.fake_pad = { connected: true, mapping: "standard", axes: [0, -1, 0, 0],'
             ' buttons: Array.from({ length: 17 }, () => ({ pressed: false })) };'
             ' navigator.getGamepads = () => [window.fake_pad]; 0')  # fmt: skip
    until(lambda: right(graph)['twist'][0] == 0.2)
    assert not right(graph)['clutch']
    page.run('for (const i of [0, 5]) window.fake_pad.buttons[i].pressed = true')
    until(lambda: right(graph)['clutch'] and right(graph)['opening_rate'] == -0.8)
    page.run('window.dispatchEvent(new Event("blur"))')
    until(lambda: not right(graph)['clutch'])
    page.run('window.fake_pad.buttons[5].pressed = false')
    page.until('!window.console_page.drive.anew')
    page.run('window.fake_pad.buttons[5].pressed = true')
    until(lambda: right(graph)['clutch'])


def test_stop_holds_at_once_and_a_second_press_lets_go(page, graph):
    drive(page, graph)
    page.hold(['Space', 'KeyW'])
    until(lambda: right(graph)['clutch'])
    page.click('#stop')
    until(lambda: graph.actions == [('stop', {})])
    until(lambda: not right(graph)['clutch'])
    page.until('document.getElementById("reason").textContent.includes("STOP was pressed")')
    assert page.text('#stop small') == 'press again: let go of the arms'
    page.until('performance.now() > 0 && new Promise((done) => setTimeout(() => done(1), 400))')
    page.hold(['Escape'])
    until(lambda: graph.actions == [('stop', {})] * 2)
    page.until('document.getElementById("mode").textContent === "RETREAT"')


@pytest.mark.parametrize('size', [LAPTOP, PHONE])
def test_stop_works_with_a_contact_sheet_open(sheet, graph, size):
    sheet.resize(size, False)
    sheet.run('document.getElementById("sheet").style.cssText ='
              ' "inset: 0; min-width: 100vw; min-height: 100vh"')  # fmt: skip
    sheet.click('#stop')
    until(lambda: graph.actions == [('stop', {})])
    assert sheet.run('document.getElementById("sheet").open')
    sheet.until('new Promise((done) => setTimeout(() => done(1), 400))')
    sheet.hold(['Escape'])
    until(lambda: graph.actions == [('stop', {})] * 2)
    sheet.until('!document.getElementById("sheet").open')


def test_nothing_is_driven_while_a_contact_sheet_is_open(sheet, graph):
    sheet.run('document.getElementById("driving").click()')
    until(lambda: graph.texts)
    sheet.hold(['Space', 'KeyW'])
    until(lambda: len(graph.texts) > 10)
    sheet.click('#sheet button')
    sheet.until('!document.getElementById("sheet").open')
    said = len(graph.texts)
    until(lambda: len(graph.texts) > said + 10)
    assert not any(json.loads(text)['arms']['right']['clutch'] for text in graph.texts)
    sheet.hold([])
    sheet.hold(['Space'])
    until(lambda: right(graph)['clutch'])


def test_stop_works_before_the_console_has_answered(make_graph, browser, monkeypatch):
    about, answers = app.Console._about, threading.Event()

    async def held_back(self, request):
        while not answers.is_set():
            await asyncio.sleep(0.01)
        return await about(self, request)

    monkeypatch.setattr(app.Console, '_about', held_back)
    graph = make_graph()
    browser.resize(LAPTOP, False)
    browser.open(graph.address)
    browser.click('#stop')
    until(lambda: graph.actions == [('stop', {})])
    browser.until('document.getElementById("banner").textContent.includes("has not answered")')
    browser.hold(['Escape'])
    until(lambda: graph.actions == [('stop', {})] * 2)
    browser.hold([])
    answers.set()
    browser.until('window.console_page && document.getElementById("banner").hidden')
    browser.open('about:blank#left')


def test_a_page_that_does_not_get_ready_says_so_and_still_stops(
    make_graph, browser, monkeypatch, fake
):
    monkeypatch.setattr(app, 'instructions', lambda task: None)
    graph = make_graph()
    graph.answers['stop'] = fake.Answer(False, 'nobody offers g1_driver/stop')
    browser.resize(LAPTOP, False)
    browser.open(graph.address)
    browser.until('document.getElementById("banner").textContent.includes("did not get ready")')
    assert browser.run('document.getElementById("banner").checkVisibility()')
    assert not browser.run('document.getElementById("drive").checkVisibility()')
    browser.click('#stop')
    until(lambda: graph.actions == [('stop', {})])
    browser.until('document.getElementById("banner").textContent.startsWith("STOP DID NOT GET")')
    browser.open('about:blank#left')


def test_a_browser_that_keeps_no_data_shows_the_page_all_the_same(graph, browser):
    refuse = ("Object.defineProperty(window, 'localStorage',"
              " { get() { throw new DOMException('Access is denied'); } })")  # fmt: skip
    blocked = browser.call('Page.addScriptToEvaluateOnNewDocument', source=refuse)
    try:
        browser.resize(LAPTOP, False)
        browser.open(graph.address)
        browser.until('window.console_page?.drive')
        browser.type('#operator', 'ann')
        assert browser.run('document.getElementById("banner").hidden')
    finally:
        browser.call('Page.removeScriptToEvaluateOnNewDocument', **blocked)
        browser.open('about:blank#left')


def test_a_double_press_is_one_press(page, graph):
    page.run('document.getElementById("stop").click(); document.getElementById("stop").click()')
    until(lambda: graph.actions)
    page.until('new Promise((done) => setTimeout(() => done(1), 100))')
    assert graph.actions == [('stop', {})]


def test_a_stop_that_does_not_get_through_is_said_loudly(page, graph, fake):
    graph.answers['stop'] = fake.Answer(False, 'nobody offers g1_driver/stop')
    page.click('#stop')
    page.until('document.getElementById("banner").textContent.startsWith("STOP DID NOT GET")')


def test_recording_and_labels(page, graph, maker, tmp_path):
    page.type('#operator', 'ann')
    page.type('#prompt', 'pick it <b>up</b>')
    page.click('#record')
    until(lambda: graph.actions)
    assert graph.actions[0] == ('record', {'prompt': 'pick it <b>up</b>', 'operator': 'ann'})
    episode = maker(tmp_path / '20261121-120000_a.mcap', 1.0).write()
    running = {'state': 'recording', 'episode': str(episode), 'kind': 'manual', 'seconds': 1.0,
               'score': 90, 'level': 'amber', 'findings': ['gaps: <i>0.3 s</i>']}  # fmt: skip
    graph.recorder = {**graph.recorder, **running}
    page.until('document.getElementById("rec-state").textContent === "recording"')
    assert page.text('#findings li') == 'gaps: <i>0.3 s</i>'
    page.click('#recorder [data-label=keep]')
    until(lambda: ('keep', {'operator': 'ann'}) in graph.actions)
    graph.recorder = {**graph.recorder, 'state': 'closing'}
    page.until('document.getElementById("rec-state").textContent === "closing"')
    page.until('[...document.querySelectorAll("#record, #end, #recorder [data-label]")]'
               '.every((button) => button.disabled)')
    graph.recorder = {**graph.recorder, 'state': 'idle'}
    page.until('!document.querySelector("#recorder [data-label=success]").disabled')
    page.click('#recorder [data-label=success]')
    card = '[data-episode="20261121-120000_a"]'
    page.until(f'document.querySelectorAll(`{card} .chip`)[1]?.textContent === "success"')
    page.until(f'document.querySelector(`{card} img`).naturalWidth === 336')
    page.run(f'document.querySelector(`{card} img`).src = "/a-picture-that-does-not-come"')
    page.until(f'document.querySelector(`{card} img`).hidden')
    page.click(f'{card} .row button:nth-child(2)')
    page.until(f'document.querySelector(`{card}`).classList.contains("discard")')
    page.until(f'document.querySelector(`{card} img`).naturalWidth === 336')
    page.click(f'{card} .row button:nth-child(5)')
    page.until(f'!document.querySelector(`{card}`).classList.contains("discard")')
    page.click(f'{card} > button')
    page.until('document.querySelector("#sheet img").naturalWidth > 800')
    assert [label.by for label in graph_labels(episode)] == ['ann'] * 3


def graph_labels(episode):
    from flashwam_ros.episodes.sidecar import load_sidecar, sidecar_path

    return load_sidecar(sidecar_path(episode)).labels


def test_reset_steps_and_the_picture_over_the_camera(make_graph, browser, fake, monkeypatch):
    monkeypatch.setattr(app, 'draw_in_twin', lambda task, seed: fake.picture((0, 0, 9), seed))
    graph = make_graph()
    browser.resize(LAPTOP, False)
    browser.open(graph.address)
    browser.until('window.console_page')
    assert 'Red and yellow bottle' in browser.text('#steps')
    browser.run('document.getElementById("seed").value = 3')
    browser.click('#overlay')
    browser.until('document.querySelector("img.overlay").naturalWidth === 320')
    assert browser.run('document.querySelector("img.overlay").src').endswith('seed=3')
    assert browser.run('document.querySelector("img.overlay").style.opacity') == '0.5'
    browser.click('#next-seed')
    browser.click('#reset-scene')
    until(lambda: graph.actions == [('reset', {'seed': 4})])
    browser.click('#overlay')
    assert browser.run('document.querySelector("img.overlay").hidden')
    browser.open('about:blank#left')


def test_a_policy_leaves_no_way_to_drive_and_a_study_is_one_click_away(make_graph, browser):
    graph = make_graph(device='', robot='real', study_url='http://127.0.0.1:9/console?a=1')
    browser.resize(LAPTOP, False)
    browser.open(graph.address)
    browser.until('window.console_page')
    assert not browser.run('document.getElementById("drive").checkVisibility()')
    assert browser.run('document.getElementById("study").href') == graph.settings.study_url
    browser.until('window.console_page.cameras.views.every((view) => view.frames > 2)')
    browser.click('#keep-picture')
    browser.click('#overlay')
    browser.until('document.querySelector("img.overlay").naturalWidth === 320')
    browser.click('#ready')
    until(lambda: graph.actions == [('ready', {})])
    browser.open('about:blank#left')


def test_the_page_reports_no_error(graph, browser):
    browser.call('Log.enable')
    browser.open(graph.address)
    browser.until('window.console_page?.cameras.views.every((view) => view.frames > 2)')
    said = browser.run('performance.getEntriesByType("resource").filter((one) =>'
                       ' one.responseStatus >= 400).map((one) => one.name)')  # fmt: skip
    assert said == []
