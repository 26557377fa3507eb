# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Mapping files are checked whole; a reading becomes one command or none."""

import copy
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.resources import share_path
from flashwam_ros.teleop.command import CommandError
from flashwam_ros.teleop.joy import BUTTONS, DIRECTIONS, JoyDevice, JoyMapping

MAPPING = JoyMapping.load()
RAW = yaml.safe_load(share_path('config', 'teleop', 'joy.yaml').read_text())
AXES, KEYS = 8, 11
S = 1_000_000_000


def reading(*down, **moved):
    """Axes and buttons with some buttons pressed and some directions deflected."""
    axes, buttons = [0.0] * AXES, [0] * KEYS
    for name in down:
        buttons[MAPPING.buttons[name]] = 1
    for name, value in moved.items():
        index, sign = MAPPING.axes[name]
        axes[index] = sign * value
    return axes, buttons


@pytest.fixture
def device():
    return JoyDevice(MAPPING)


def feed(device, *down, at=S, **moved):
    device.feed(*reading(*down, **moved), at)
    return device.command(at)


# ---- mapping ----


def test_the_installed_mapping_names_everything():
    assert set(MAPPING.axes) == set(DIRECTIONS) and set(MAPPING.buttons) == set(BUTTONS)


WRONG = {
    'no section': (lambda raw: raw.pop('axes'), 'give exactly'),
    'another section': (lambda raw: raw.update(extra=1), 'give exactly'),
    'no axis': (lambda raw: raw['axes'].pop('roll'), 'axes'),
    'another axis': (lambda raw: raw['axes'].update(w=[0, 1]), 'axes'),
    'axis without a sign': (lambda raw: raw['axes'].update(x=[0]), 'axes, x'),
    'axis is a number': (lambda raw: raw['axes'].update(x=3), 'axes, x'),
    'sign is a speed': (lambda raw: raw['axes'].update(x=[0, 2]), 'axes, x'),
    'negative axis': (lambda raw: raw['axes'].update(x=[-1, 1]), 'axes, x'),
    'negative button': (lambda raw: raw['buttons'].update(home=-1), 'buttons, home'),
    'button is a text': (lambda raw: raw['buttons'].update(home='Y'), 'buttons, home'),
    'button twice': (lambda raw: raw['buttons'].update(home=7), 'two things'),
    'no clutch': (lambda raw: raw['buttons'].pop('clutch'), 'buttons'),
    'speed backwards': (lambda raw: raw['speeds'].update(linear=-0.2), 'speeds, linear'),
    'speed not finite': (lambda raw: raw['speeds'].update(slow=math.nan), 'speeds, slow'),
    'speed is a text': (lambda raw: raw['speeds'].update(slow='fast'), 'speeds, slow'),
    'deadzone': (lambda raw: raw.update(deadzone=1.0), 'deadzone'),
    'deadzone is a text': (lambda raw: raw.update(deadzone='none'), 'deadzone'),
    'third arm': (lambda raw: raw.update(start='middle'), 'start'),
    'table is a list': (lambda raw: raw.update(buttons=[1, 2]), 'buttons'),
}


@pytest.mark.parametrize('case', WRONG)
def test_a_wrong_mapping_is_refused_with_its_name(tmp_path, case):
    change, words = WRONG[case]
    raw = copy.deepcopy(RAW)
    change(raw)
    file = tmp_path / 'pad.yaml'
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(CommandError, match=words) as error:
        JoyMapping.load(str(file))
    assert 'pad.yaml' in str(error.value)


@pytest.mark.parametrize('text', ['', '[1, 2]', 'axes: {', '\x00'])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    file = tmp_path / 'pad.yaml'
    file.write_text(text)
    with pytest.raises(CommandError, match='pad.yaml'):
        JoyMapping.load(str(file))
    with pytest.raises(CommandError, match='missing.yaml'):
        JoyMapping.load(str(tmp_path / 'missing.yaml'))


# ---- readings ----


@given(st.sampled_from(DIRECTIONS), st.floats(-1.0, 1.0))
def test_a_deflection_moves_its_direction_only(name, value):
    twist = feed(JoyDevice(MAPPING), 'clutch', **{name: value}).arms[1].twist
    i = DIRECTIONS.index(name)
    assert all(v == 0.0 for k, v in enumerate(twist) if k != i)
    full = MAPPING.speeds['linear' if i < 3 else 'angular']
    assert abs(twist[i]) <= full + 1e-12
    if abs(value) <= MAPPING.deadzone:
        assert twist[i] == 0.0
    elif abs(value) > MAPPING.deadzone + 1e-6:
        assert twist[i] * value > 0.0, 'no dead direction, no turned sign'
    if abs(value) == 1.0:
        assert abs(twist[i]) == pytest.approx(full)


def test_slow_and_grippers(device):
    twist = feed(device, 'clutch', 'slow', x=1.0).arms[1].twist
    assert twist[0] == pytest.approx(MAPPING.speeds['slow'] * MAPPING.speeds['linear'])
    assert feed(device, 'close').arms[1].opening_rate == -MAPPING.speeds['opening']
    assert feed(device, 'open').arms[1].opening_rate == MAPPING.speeds['opening']
    assert feed(device, 'open', 'close').arms[1].opening_rate == 0.0


def test_arms_are_selected_in_turn_but_not_while_one_moves(device):
    feed(device)
    assert device.selected == 'right'
    feed(device, 'clutch')
    feed(device, 'clutch', 'select')
    assert device.selected == 'right'
    turns = (('both', (True, True)), ('left', (True, False)), ('right', (False, True)))
    for selected, moved in turns:
        feed(device)
        feed(device, 'select')
        feed(device, 'select')
        assert device.selected == selected
        command = feed(device, 'clutch')
        assert tuple(arm.clutch for arm in command.arms) == moved


def test_pause_toggles_and_home_is_held(device):
    feed(device)
    assert feed(device, 'pause').pause and feed(device, 'pause').pause
    assert feed(device).pause and not feed(device, 'pause').pause
    assert feed(device, 'home').home and not feed(device).home


def test_what_is_down_at_the_start_toggles_nothing(device):
    assert not feed(device, 'pause', 'select').pause
    assert device.selected == 'right'


def test_presses_are_counted(device):
    feed(device)
    first = feed(device, 'clutch').arms[1].press
    assert feed(device, 'clutch').arms[1].press == first
    feed(device)
    assert feed(device, 'clutch').arms[1].press == first + 1


@pytest.mark.parametrize('axes', [[0.0] * 3, [math.nan] * AXES, ['x'] * AXES])
def test_a_reading_that_is_refused_changes_nothing(device, axes):
    feed(device)
    before = device.command(S)
    with pytest.raises((CommandError, ValueError)):
        device.feed(axes, reading('pause', 'select')[1], 2 * S)
    assert device.command(S) is before and device.selected == 'right'
    assert feed(device, 'pause').pause, 'the press was not swallowed'
    with pytest.raises(CommandError, match='layout'):
        device.feed([0.0] * AXES, [0, 0], 2 * S)
