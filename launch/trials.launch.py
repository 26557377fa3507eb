# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""g1_task that runs the trials of a compiled study: study:=FOLDER."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration


def generate_launch_description():
    """Includes g1_task; every other argument passes through."""
    common = PythonLaunchDescriptionSource(str(Path(__file__).with_name('g1_task.launch.py')))
    study = DeclareLaunchArgument('study', description='folder of a compiled study')
    arguments = {'study': LaunchConfiguration('study')}
    return LaunchDescription(
        [study, IncludeLaunchDescription(common, launch_arguments=arguments.items())])
