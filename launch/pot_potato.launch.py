# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""g1_task with the task 'pot_potato': take the lid off the pot and put the potato in the pot."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource


def generate_launch_description():
    """Includes g1_task; every other argument passes through."""
    common = PythonLaunchDescriptionSource(str(Path(__file__).with_name('g1_task.launch.py')))
    arguments = {'task': 'pot_potato'}
    return LaunchDescription(
        [IncludeLaunchDescription(common, launch_arguments=arguments.items())])
