# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.settings import load_settings


@pytest.fixture(scope='session')
def contract():
    return RobotContract.load()


@pytest.fixture(scope='session')
def settings():
    pytest.importorskip('mink')
    from flashwam_ros.teleop.settings import TeleopSettings

    return TeleopSettings.load()


@pytest.fixture(scope='session')
def home():
    return load_settings().home


@pytest.fixture(scope='session')
def ik(contract, settings):
    from flashwam_ros.teleop.ik import ArmIk

    return ArmIk(contract, settings)
