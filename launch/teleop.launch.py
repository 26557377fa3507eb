# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""g1_task with an operator instead of a policy: task:=... device:=web|joy|expert|xr."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from flashwam_ros.bringup.command import TELEOP_DEVICE
from flashwam_ros.bringup.settings import DEVICES


def generate_launch_description():
    """Includes g1_task; every other argument passes through."""
    common = PythonLaunchDescriptionSource(str(Path(__file__).with_name('g1_task.launch.py')))
    device = DeclareLaunchArgument(
        'device',
        default_value=TELEOP_DEVICE,
        choices=list(DEVICES),
        description='what the operator holds',
    )
    arguments = {'device': LaunchConfiguration('device')}
    return LaunchDescription(
        [device, IncludeLaunchDescription(common, launch_arguments=arguments.items())])
