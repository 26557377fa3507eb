# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The process graph of a task, declared once.

`build_graph` says which processes run, with which parameters, what dies with what, and how long a
stop may take. `launch_adapter` turns it into launch actions, `supervisor` starts the very same
processes where the ROS launch packages are absent. Nothing here starts anything or imports ROS.

How a graph stops:

* every process gets SIGINT, except those that `outlive_others` (the simulated robot: the driver
  needs its state to bring the arms back and let go), which have it blocked;
* a process that is still there after its `stop_timeout_s` gets SIGTERM, and SIGKILL
  `kill_timeout_s` later;
* when the others are gone, those that outlived them get SIGTERM;
* after any abnormal end of a process with an `on_crash` command (the driver), that command runs to
  its end before the rest is stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flashwam_ros.bringup.settings import Settings
from flashwam_ros.robot.clock import RobotClock

#: Executables in lib/flashwam_ros and the modules behind them (the same list as CMakeLists.txt).
EXECUTABLES: Mapping[str, str] = {
    'flashwam': 'flashwam_ros.cli',
    'twin': 'flashwam_ros.twin.server',
    'g1_driver': 'flashwam_ros.nodes.g1_driver',
    'camera': 'flashwam_ros.nodes.camera',
    'policy': 'flashwam_ros.nodes.policy',
    'rollout': 'flashwam_ros.nodes.rollout',
    'recorder': 'flashwam_ros.nodes.recorder',
    'teleop': 'flashwam_ros.nodes.teleop',
    'shadow': 'flashwam_ros.nodes.shadow',
    'console': 'flashwam_ros.nodes.console',
}

#: HOLD, RETREAT and the release ramp take up to about 12 s.
DRIVER_STOP_TIMEOUT_S = 20.0
#: The rollout closes its video and writes its summary.
ROLLOUT_STOP_TIMEOUT_S = 20.0
#: The runner of a study cancels the rollout in hand and writes down how it ended.
TRIALS_STOP_TIMEOUT_S = 30.0
TRIALS = 'trials'
#: The recorder waits for the rollout's verdict and completes its file.
RECORDER_STOP_TIMEOUT_S = 25.0
STOP_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 5.0
#: After the death of a process that the motion depends on, the driver's own watchdog ends the
#: motion with its own reason and the rollout writes its verdict; then the graph goes down.
VERDICT_GRACE_S = 15.0
RELEASE_TIMEOUT_S = 15.0

Value = str | int | float | bool


@dataclass(frozen=True)
class Process:
    """One process of the graph.

    Attributes:
        name: node name, and prefix of its log lines.
        executable: key of `EXECUTABLES`.
        is_node: a ROS node that takes parameters and remappings, else a plain program.
        arguments: command-line arguments of a plain program.
        parameters: ROS parameters, in order.
        remappings: pairs (from, to) of ROS names.
        namespace: ROS namespace, empty for none.
        environment: variables set on top of the inherited ones.
        shutdown_delay_s: seconds between the end of this process and the stop of the whole graph.
        on_crash: command (`python3` first) that runs after an abnormal end, None for none.
        outlive_others: has SIGINT blocked and is stopped after everything else.
        stop_timeout_s: seconds from SIGINT until SIGTERM.
        kill_timeout_s: seconds from SIGTERM until SIGKILL.
    """

    name: str
    executable: str
    is_node: bool = True
    arguments: tuple[str, ...] = ()
    parameters: tuple[tuple[str, Value], ...] = ()
    remappings: tuple[tuple[str, str], ...] = ()
    namespace: str = ''
    environment: tuple[tuple[str, str], ...] = ()
    shutdown_delay_s: float = 0.0
    on_crash: tuple[str, ...] | None = None
    outlive_others: bool = False
    stop_timeout_s: float = STOP_TIMEOUT_S
    kill_timeout_s: float = KILL_TIMEOUT_S

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command put before the program.

        If whoever started the graph is killed outright, the kernel sends the process a signal, so
        that no driver goes on moving a robot on its own. A blocked SIGINT stays blocked whatever
        handlers the program installs. For the others SIGINT gets its default action back: a
        launcher that was started in the background of a script has it ignored, and so would they.
        """
        if self.outlive_others:
            return ('env', '--block-signal=INT', 'setpriv', '--pdeathsig', 'TERM', '--')
        return ('env', '--default-signal=INT', 'setpriv', '--pdeathsig', 'INT', '--')

    @property
    def command(self) -> tuple[str, ...]:
        """The program with everything on its command line, `python3` first, without the prefix."""
        command = ('python3', '-m', EXECUTABLES[self.executable], *self.arguments)
        if not self.is_node:
            return command
        command += ('--ros-args', '-r', f'__node:={self.name}')
        if self.namespace:
            command += ('-r', f'__ns:=/{self.namespace.strip("/")}')
        for source, target in self.remappings:
            command += ('-r', f'{source}:={target}')
        for name, value in self.parameters:
            # A JSON scalar is a YAML scalar of the same type, which is what ROS parses here.
            command += ('-p', f'{name}:={json.dumps(value)}')
        return command


@dataclass(frozen=True)
class Graph:
    """The processes of one task, in the order in which they start."""

    processes: tuple[Process, ...]

    def __getitem__(self, name: str) -> Process:
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(f'no process {name!r}; there are {[p.name for p in self.processes]}')


def _environment(settings: Settings, outside: Mapping[str, str], profile: Path) -> dict[str, str]:
    """Variables for every process; what the user has set stays as it is."""
    wanted = {
        # Two spinning OpenMP threads on two busy cores are slower than one thread.
        'OMP_NUM_THREADS': '1',
        'OMP_WAIT_POLICY': 'PASSIVE',
        'PYTHONUNBUFFERED': '1',
        'RCUTILS_LOGGING_BUFFERED_STREAM': '0',
    }
    distribution = outside.get('ROS_DISTRO', '')
    # The default shared memory segment of Fast DDS is smaller than one camera image.
    names = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
    if not any(outside.get(name) for name in names):
        wanted[names[distribution in ('humble', 'jazzy')]] = str(profile)
    # Whoever is heard here moves the robot: a graph on another machine of the lab would be too.
    if distribution == 'humble':
        wanted['ROS_LOCALHOST_ONLY'] = '1'
    else:
        wanted['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    clock = RobotClock.starting_now(settings.real_time_factor)
    kept = {name: value for name, value in wanted.items() if not outside.get(name)}
    return {**kept, **clock.environment}


def _twin(settings: Settings) -> Process:
    arguments = (
        '--task', settings.task,
        '--seed', str(settings.seed),
        '--domain', str(settings.unitree_domain),
        '--interface', settings.network_interface,
        '--camera-ports', ','.join(map(str, settings.camera_ports)),
        '--request-port', str(settings.camera_request_port),
        '--camera-rate', str(settings.camera_rate),
    )
    if not settings.headless:
        arguments += ('--viewer',)
    return Process(
        name='twin', executable='twin', is_node=False, arguments=arguments, outlive_others=True
    )


def release_command(settings: Settings) -> tuple[str, ...]:
    """`flashwam release`: ramps the weight down from the measured pose, if the arms were held."""
    return (
        'python3', '-m', 'flashwam_ros.cli', 'release', '--if-held',
        '--domain', str(settings.unitree_domain),
        '--interface', settings.network_interface,
    )  # fmt: skip


def _wire(settings: Settings) -> tuple[tuple[str, Value], ...]:
    return (
        ('unitree_domain', settings.unitree_domain),
        ('network_interface', settings.network_interface),
    )


def _common(settings: Settings) -> tuple[tuple[str, Value], ...]:
    return (('task', settings.task), ('robot', settings.robot))


def _frame_period(settings: Settings) -> tuple[str, Value]:
    return 'frame_period', 1.0 / settings.camera_rate


def _robot_nodes(settings: Settings) -> tuple[Process, ...]:
    wire, common = _wire(settings), _common(settings)
    return (
        Process(
            name='g1_driver',
            executable='g1_driver',
            parameters=(*common, *wire),
            on_crash=release_command(settings),
            stop_timeout_s=DRIVER_STOP_TIMEOUT_S,
        ),
        Process(
            name='camera',
            executable='camera',
            parameters=(
                *common,
                ('camera_host', settings.camera_host),
                ('camera_request_port', settings.camera_request_port),
            ),
            shutdown_delay_s=VERDICT_GRACE_S,
        ),
    )


def _policy_nodes(settings: Settings) -> tuple[Process, ...]:
    wire, common = _wire(settings), _common(settings)
    return (
        Process(
            name='policy',
            executable='policy',
            parameters=(
                *common,
                *wire,  # the scripted expert reads the simulator's state from the wire
                ('policy', settings.policy),
                ('checkpoint', settings.checkpoint),
                ('execution', settings.execution),
                ('seed', settings.seed),
                ('video_steps', settings.video_steps),
                ('action_steps', settings.action_steps),
                ('arms', f'{settings.study}/arms.json' if settings.study else ''),
                _frame_period(settings),
            ),
            shutdown_delay_s=VERDICT_GRACE_S,
        ),
        Process(
            name='rollout',
            executable='rollout',
            parameters=(
                *common,
                *wire,
                ('policy', settings.policy),
                ('execution', settings.execution),
                ('seed', settings.seed),
                ('output_dir', settings.output_dir),
                ('film', settings.film),
            ),
            stop_timeout_s=ROLLOUT_STOP_TIMEOUT_S,
        ),
    )


def _teleop(settings: Settings) -> Process:
    return Process(
        name='teleop',
        executable='teleop',
        parameters=(
            *_common(settings),
            *_wire(settings),
            ('device', settings.device),
            ('mapping', settings.mapping),
            ('seed', settings.seed),
            # A real robot is taken over only when somebody asks for it; the expert for an episode.
            ('auto_engage', settings.robot == 'twin' and settings.device in ('web', 'joy')),
            ('episodes_dir', settings.episodes_dir),
            _frame_period(settings),
        ),
    )


def _shadow(settings: Settings) -> Process:
    return Process(
        name='shadow',
        executable='shadow',
        parameters=(
            ('task', settings.task),
            ('checkpoint', settings.shadow),
            ('execution', settings.execution),
            ('seed', settings.seed),
            _frame_period(settings),
        ),
        shutdown_delay_s=VERDICT_GRACE_S,
    )


def _recorder(settings: Settings) -> Process:
    return Process(
        name='recorder',
        executable='recorder',
        parameters=(
            ('robot', settings.robot),
            ('unitree_domain', settings.unitree_domain),
            ('network_interface', settings.network_interface),
            ('task', settings.task),
            ('checkpoint', settings.checkpoint),
            ('episodes_dir', settings.episodes_dir),
        ),
        shutdown_delay_s=VERDICT_GRACE_S,
        stop_timeout_s=RECORDER_STOP_TIMEOUT_S,
    )


def _console(settings: Settings) -> Process:
    return Process(
        name='console',
        executable='console',
        parameters=(
            *_common(settings),
            *_wire(settings),
            ('device', settings.device),
            ('episodes_dir', settings.episodes_dir),
            ('host', settings.console_host),
            ('port', settings.console_port),
            ('token', settings.console_token),
            ('study_url', settings.study_url),
        ),
        shutdown_delay_s=VERDICT_GRACE_S,
    )


def _trials(settings: Settings) -> Process:
    arguments = ('trials', 'attend', settings.study, *settings.study_options.split())
    if settings.namespace:
        arguments += ('--namespace', settings.namespace)
    return Process(
        name=TRIALS,
        executable='flashwam',
        is_node=False,
        arguments=arguments,
        stop_timeout_s=TRIALS_STOP_TIMEOUT_S,
    )


def build_graph(settings: Settings, environment: Mapping[str, str], profile: Path) -> Graph:
    """Declares the processes of one task.

    Args:
        settings: what to run, checked.
        environment: the variables of the starting process; ones that the user has set stay.
        profile: Fast DDS profile file for large images (`config/fastdds.xml`).

    Returns:
        Simulated robot first (none for `robot='real'`), then driver, camera, policy and rollout
        (or teleop, with a `device`), recorder, console, and the runner of a study.
    """
    extra = tuple(_environment(settings, environment, profile).items())
    steering = (_teleop(settings),) if settings.device else _policy_nodes(settings)
    processes = (*_robot_nodes(settings), *steering)
    if settings.shadow:
        processes = (*processes, _shadow(settings))
    if settings.record:
        processes = (*processes, _recorder(settings))
    if settings.console:
        processes = (*processes, _console(settings))
    if settings.study:
        processes = (*processes, _trials(settings))
    if settings.robot == 'twin':
        processes = (_twin(settings), *processes)
    return Graph(
        tuple(
            replace(
                process,
                environment=extra,
                shutdown_delay_s=process.shutdown_delay_s / settings.real_time_factor,
                stop_timeout_s=process.stop_timeout_s / settings.real_time_factor,
                namespace=settings.namespace if process.is_node else '',
            )
            for process in processes
        )
    )
