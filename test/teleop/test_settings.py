# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from flashwam_ros.robot.settings import load_settings
from flashwam_ros.teleop.settings import TeleopSettings


def test_the_drivers_limits_never_have_to_act(settings, contract):
    assert settings.velocity <= contract.velocity[:14].min()
    assert settings.acceleration <= contract.acceleration[:14].min()
    assert settings.hold_after_s < load_settings().no_chunk_timeout_s
    assert settings.lead_s > contract.row_duration_s / 2, 'half a row early'
    assert settings.lead_s < contract.rows_per_key_frame * contract.row_duration_s


@pytest.mark.parametrize('name', ['hold_after_s', 'velocity', 'gain', 'steps_per_row'])
def test_what_is_not_positive_is_refused(settings, name):
    for value in (0, -1.0, float('nan')):
        with pytest.raises(ValueError, match=name):
            dataclasses.replace(settings, **{name: value})


def test_hold_comes_before_release(settings):
    with pytest.raises(ValueError, match='hold_after_s'):
        dataclasses.replace(settings, hold_after_s=settings.release_after_s)


@pytest.mark.parametrize('text', ['link: {hold_after_s: 0.2}', 'link: {hold_afer_s: 0.2}'])
def test_a_file_with_other_entries_is_refused(tmp_path, text):
    file = tmp_path / 'teleop.yaml'
    file.write_text(text)
    with pytest.raises(TypeError, match='argument'):
        TeleopSettings.load(file)
