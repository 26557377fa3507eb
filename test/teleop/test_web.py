# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A text is refused as a whole or taken as a whole; one sender at a time has control."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flashwam_ros.teleop import web
from flashwam_ros.teleop.command import CommandError, OperatorCommand
from flashwam_ros.teleop.web import WebDevice, decode

S = 1_000_000_000
MS = 1_000_000
BASE = {'v': 1, 'client': 'page', 'seq': 0, 'sent_ms': 5000.0}

numbers = st.floats(-3.0, 3.0)
poses = st.builds(
    lambda p, s: {'position': list(p), 'quaternion': [s, 0.0, 0.0, 0.0]},
    st.tuples(numbers, numbers, numbers), st.sampled_from([1.0, -1.0]),
)  # fmt: skip
movements = st.one_of(
    st.just({}),
    st.fixed_dictionaries({'twist': st.lists(numbers, min_size=6, max_size=6)}),
    st.fixed_dictionaries({'pose': poses}),
)
arms = st.builds(
    lambda a, b: {**a, **b},
    st.fixed_dictionaries(
        {}, optional={'clutch': st.booleans(), 'opening': st.floats(0.0, 1.0),
                      'opening_rate': numbers}),
    movements,
)  # fmt: skip
messages = st.fixed_dictionaries(
    {'v': st.just(1), 'client': st.text(min_size=1, max_size=30), 'seq': st.integers(0, 2**53),
     'sent_ms': st.floats(0.0, 1e12)},
    optional={'home': st.booleans(), 'pause': st.booleans(),
              'arms': st.fixed_dictionaries({}, optional={'left': arms, 'right': arms})},
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(messages)
def test_every_sensible_message_is_taken_whole(message):
    text = json.dumps(message)
    if len(text) > web.LONGEST:
        return
    decoded = decode(text)
    command = decoded.command
    assert (decoded.client, decoded.seq) == (message['client'], message['seq'])
    assert decoded.sent_ns == pytest.approx(message['sent_ms'] * 1e6, abs=1.0)
    assert command.home == message.get('home', False)
    assert command.pause == message.get('pause', False)
    for arm, side in zip(command.arms, ('left', 'right'), strict=True):
        sent = message.get('arms', {}).get(side, {})
        assert arm.clutch == sent.get('clutch', False)
        assert arm.opening == sent.get('opening')
        assert arm.opening_rate == sent.get('opening_rate', 0.0)
        assert arm.twist == (tuple(sent['twist']) if 'twist' in sent else None)
        assert (arm.pose is None) == ('pose' not in sent)


@given(st.text(max_size=200))
@example('')
@example('null')
@example('[' * 3000)
@example('9' * 4000)
@example('{"v": NaN}')
@example('\ufeff{}')
@example(json.dumps(BASE)[:-1] + ', "pause": true, "pause": false}')
@example(json.dumps({**BASE, 'client': 'x' * 5000}))
def test_any_other_text_is_refused(text):
    with pytest.raises(CommandError):
        decode(text)


@given(messages, st.data())
def test_one_spoilt_part_refuses_the_whole(message, data):
    """Any value put in place of any part is refused, or is one that belongs there."""
    paths = list(_paths(message))
    path = data.draw(st.sampled_from(paths))
    changed = json.loads(json.dumps(message))
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = data.draw(values)
    try:
        command = decode(json.dumps(changed)).command
    except CommandError:
        return
    for arm in command.arms:
        told = [*(arm.twist or ()), arm.opening_rate, *(arm.pose.position if arm.pose else ())]
        assert all(type(v) in (float, int) and math.isfinite(v) for v in told)
        assert type(arm.clutch) is bool
    assert type(command.home) is bool and type(command.pause) is bool


def _paths(part, before=()):
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for name, value in items:
        yield (*before, name)
        if isinstance(value, (dict, list)):
            yield from _paths(value, (*before, name))


@pytest.mark.parametrize(('change', 'words'), [
    ({'v': 2}, 'version 1'), ({'seq': -1}, 'seq'), ({'seq': 1.5}, 'seq'),
    ({'client': ''}, 'client'),
    ({'clutch': True}, "unknown 'clutch'"), ({'arms': {'rigth': {}}}, "unknown 'rigth'"),
    ({'arms': {'left': {'cluch': True}}}, "arms.left: unknown 'cluch'"),
    ({'arms': {'left': {'clutch': 1}}}, 'arms.left.clutch'),
    ({'arms': {'left': {'press': 7}}}, "unknown 'press'"),
    ({'arms': {'right': {'opening': 2.0}}}, 'arms.right: opening'),
    ({'arms': {'right': {'twist': [0] * 5}}}, 'arms.right: twist'),
    ({'arms': {'right': {'twist': ['0'] * 6}}}, 'arms.right: twist'),
    ({'arms': {'left': {'pose': {'position': [0, 0, 0]}}}}, "'quaternion' is missing"),
    ({'sent_ms': 1e300}, 'sent_ms'), ({'home': 'yes'}, 'home'),
])  # fmt: skip
def test_the_refusal_names_the_part(change, words):
    with pytest.raises(CommandError) as error:
        decode(json.dumps({**BASE, **change}))
    assert words in str(error.value)


# ---- the device ----


class Page:
    """Sends to a device, its clock off by a constant."""

    def __init__(self, device, client, off_ns=77 * S):
        self.device, self.client, self.off_ns, self.seq = device, client, off_ns, 0

    def send(self, at_ns, transit_ns=0, clutch=False, **more):
        self.seq += 1
        sent_ms = (at_ns + self.off_ns) / 1e6
        text = {'v': 1, 'client': self.client, 'seq': self.seq, 'sent_ms': sent_ms,
                'arms': {'right': {'clutch': clutch, 'twist': [0.1, 0, 0, 0, 0, 0]}}, **more}
        self.device.feed(json.dumps(text), at_ns + transit_ns)
        return self.device.command(at_ns)


@pytest.fixture
def device(settings):
    return WebDevice(settings)


def test_stamps_are_those_of_sending_on_our_clock(device):
    page = Page(device, 'a')
    page.send(10 * S, 2 * MS)
    # A message that took longer is older than one that came at once; MS // 20: the clocks' drift.
    late = page.send(10 * S + 40 * MS, 302 * MS).stamp_ns - 10 * S
    assert 42 * MS <= late < 42 * MS + MS // 20
    assert page.send(10 * S + 80 * MS, 2 * MS).stamp_ns == 10 * S + 82 * MS


def test_a_page_that_comes_back_over_a_slow_connection_stays_late(device):
    page = Page(device, 'a')
    page.send(10 * S, 2 * MS)
    for at in range(30 * S, 60 * S, 40 * MS):
        assert page.send(at, 3 * S).stamp_ns < at + S // 100


def test_a_refused_text_changes_nothing(device):
    page = Page(device, 'a')
    before = page.send(S, clutch=True)
    for text in ('{', json.dumps({**BASE, 'client': 'a', 'seq': 1, 'sent_ms': 1.0})):
        with pytest.raises(CommandError):
            device.feed(text, S + MS)
        assert device.command(S + MS) is before


def test_overtaken_messages_are_refused(device):
    page = Page(device, 'a')
    page.send(S)
    page.send(S + 40 * MS)
    page.seq = 0
    with pytest.raises(CommandError, match='seq'):
        page.send(S + 80 * MS)


def test_a_second_sender_waits_until_the_first_is_silent_and_starts_let_go(device, settings):
    first, second = Page(device, 'a'), Page(device, 'b', off_ns=-S // 2)
    first.send(S - 40 * MS)
    first.send(S, clutch=True)
    with pytest.raises(CommandError, match="'a' has control"):
        second.send(S + 100 * MS, clutch=True)
    assert device.command(S).arms[1].clutch
    later = S + round((settings.hold_after_s + 0.1) * S)
    assert not second.send(later, clutch=True).arms[1].clutch, 'held when it took over'
    assert not second.send(later + 40 * MS, clutch=True, home=True).home
    second.send(later + 80 * MS)
    assert second.send(later + 120 * MS, clutch=True).arms[1].clutch


def test_presses_between_two_looks_are_counted(device):
    page = Page(device, 'a')
    page.send(S)
    first = page.send(S + 40 * MS, clutch=True).arms[1].press
    assert page.send(S + 80 * MS, clutch=True).arms[1].press == first
    page.send(S + 120 * MS)
    command = page.send(S + 160 * MS, clutch=True)
    assert command.arms[1].press == first + 1 and command.arms[0].press == 0


def test_nothing_was_said_yet(device):
    assert device.command(S) is None
    assert OperatorCommand(0).arms[0].clutch is False
