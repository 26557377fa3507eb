# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a person may choose when starting a task: one table for launch and command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flashwam_ros.policy.handshake import is_server
from flashwam_ros.resources import share_path
from flashwam_ros.robot.clock import SLOWEST, RobotClock

STUDY_PORT = 8765
"""Where `flashwam trials` serves fieldtrial's console, unless told otherwise."""

TASKS = ('pot_potato', 'red_bottle', 'pink_object')
DEVICES = ('web', 'joy', 'expert', 'xr')
DEFAULT_CHECKPOINT = 'g1-nano-flash'

#: What is left out means this, by robot; '' of the real one: it must be given. No default of these
#: stands in `ARGUMENTS`, as `ros2 launch` hands defaults over like choices.
REAL = {'unitree_domain': '0', 'network_interface': '', 'camera_host': '192.168.123.164',
        'checkpoint': ''}  # fmt: skip
TWIN = {'unitree_domain': '1', 'network_interface': 'lo', 'camera_host': '127.0.0.1',
        'checkpoint': DEFAULT_CHECKPOINT}  # fmt: skip


class SettingsError(ValueError):
    """A choice is impossible; the message names it and what to do."""


@dataclass(frozen=True)
class Argument:
    """One launch argument.

    Attributes:
        name: as written in `name:=value`.
        description: one line for `--show-args` and `--help`.
        default: text of the default.
        choices: the only allowed values; empty for any.
    """

    name: str
    description: str
    default: str
    choices: tuple[str, ...] = ()


ARGUMENTS: tuple[Argument, ...] = (
    Argument('task', 'what the robot shall do', 'red_bottle', TASKS),
    Argument('robot', 'twin: simulated G1 on this machine; real: the G1 on the network, which '
             'starts passive and moves only after an explicit activation', 'twin',
             ('twin', 'real')),
    Argument('policy', 'wam: the world-action model; expert: the script that demonstrates the '
             'task (twin only)', 'wam', ('wam', 'expert')),
    Argument('device', 'teleoperation instead of a policy: web: commands from the console; joy: a '
             'gamepad; expert: the script that demonstrates the task, as an operator (twin only); '
             'xr: the vendor\'s program moves the robot, the driver stays passive', '',
             ('', *DEVICES)),
    Argument('mapping', 'device:=joy: file that says what which axis and button does; default: '
             'config/teleop/joy.yaml', ''),
    Argument('checkpoint', 'folder of the world-action model, a name under models/, or the '
             'address of a policy server (ws://host:port, see flashwam serve); default: '
             f'{DEFAULT_CHECKPOINT} for the twin, must be given for a real robot, as that one was '
             'trained in the simulator', ''),
    Argument('study', 'folder of a compiled study (flashwam trials compile): its trials are run, '
             'all its arms stay loaded, its rollouts and episodes go there', ''),
    Argument('study_options', 'options of the runner, see flashwam trials run --help', ''),
    Argument('execution', 'sync: the robot holds while the model predicts; async: the next chunk '
             'is predicted while the current one executes; async_grounded: before that, the '
             'outcome of the current one is imagined (for models trained for it)', 'async',
             ('sync', 'async', 'async_grounded')),
    Argument('shadow', 'model (folder, or name under models/) that looks on without authority and '
             'says how far it is from what is executed', ''),
    Argument('seed', 'seed of the scene and of the model\'s noise', '0'),
    Argument('video_steps', 'sampler steps of the video part, 0: as the checkpoint says', '0'),
    Argument('action_steps', 'sampler steps of the action part, 0: as the checkpoint says', '0'),
    Argument('headless', 'false opens a window with the simulated scene', 'true',
             ('true', 'false')),
    Argument('network_interface', 'network interface of the robot\'s DDS; lo for the twin, which '
             'speaks on no other, must be given for a real robot', ''),
    Argument('unitree_domain', 'DDS domain of the robot; default: 1 for the twin, which refuses '
             '0, and 0 for a real robot', ''),
    Argument('camera_host', 'host of the camera server; default: 127.0.0.1 for the twin, '
             '192.168.123.164 for a real robot', ''),
    Argument('camera_request_port', 'port at which the camera server tells its configuration',
             '60000'),
    Argument('camera_port', 'twin: port of the head camera; the wrist cameras take the next two',
             '55555'),
    Argument('camera_rate', 'frames per second that the policy counts on, and that the simulated '
             'cameras send; default: 20; in the simulator on one or two cores, as software draws '
             'them, 10 (what a model looks at), 15 for teleoperation', ''),
    Argument('real_time_factor', 'simulator only: below 1, the simulated robot and all nodes run '
             'so much slower than real time, for a machine that cannot keep up', '1'),
    Argument('namespace', 'namespace of all nodes; with another one, and other domain and ports, '
             'two stacks run side by side', ''),
    Argument('output_dir', 'folder that receives one folder per rollout', 'rollouts'),
    Argument('film', 'false: film and plot of a rollout are not drawn, which takes longer than a '
             'short rollout; what they are drawn from stays', 'true', ('true', 'false')),
    Argument('record', 'false: rollouts and teleoperation are not recorded', 'true',
             ('true', 'false')),
    Argument('episodes_dir', 'folder that receives one MCAP file per episode', 'episodes'),
    Argument('console', 'false: no web page for the operator', 'true', ('true', 'false')),
    Argument('console_host', 'address of the web page; beyond this machine it asks for a token',
             '127.0.0.1'),
    Argument('console_port', 'TCP port of the web page', '8090'),
    Argument('console_token', 'secret of the web page; beyond this machine one is made up and '
             'logged if none is given', ''),
    Argument('study_url', 'address of the study\'s own console, linked on the web page', ''),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The choices for one graph, checked and typed.

    Attributes are named as the launch arguments; `camera_ports` are head, left and right wrist.
    With a `device` the operator moves the robot; policy and checkpoint have no meaning then.
    """

    task: str
    robot: str
    policy: str
    device: str
    mapping: str
    checkpoint: str
    study: str
    study_options: str
    execution: str
    shadow: str
    seed: int
    video_steps: int
    action_steps: int
    headless: bool
    network_interface: str
    unitree_domain: int
    camera_host: str
    camera_request_port: int
    camera_ports: tuple[int, int, int]
    camera_rate: int
    real_time_factor: float
    namespace: str
    output_dir: str
    film: bool
    record: bool
    episodes_dir: str
    console: bool
    console_host: str
    console_port: int
    console_token: str
    study_url: str

    @classmethod
    def parse(cls, values: Mapping[str, str] | None = None) -> Settings:
        """Reads `name: text` pairs; what is not given takes its default.

        Raises:
            SettingsError: unknown name, value outside the choices, not a number, out of range, or
                a combination that cannot run.
        """
        texts = _with_defaults(_with_study(values or {}))
        policy = '' if texts['device'] else texts['policy']
        if texts['robot'] == 'real' and 'expert' in (policy, texts['device']):
            raise SettingsError('the expert reads the simulator\'s state: use it with '
                                'robot:=twin only')
        if not texts['network_interface']:
            raise SettingsError('robot:=real needs network_interface:=NAME, the interface that '
                                'is wired to the robot (see `ip -br address`)')
        domain = _whole(texts, 'unitree_domain', 0, 232)
        if texts['robot'] == 'twin':
            _check_twin_wire(texts['network_interface'], domain)
        if texts['robot'] == 'real' and policy and not texts['checkpoint']:
            raise SettingsError('robot:=real needs checkpoint:=FOLDER, a model trained on this '
                                'robot\'s demonstrations: the default one has only ever seen the '
                                'simulated robot')
        checkpoint = _checkpoint(texts['checkpoint']) if policy == 'wam' else ''
        shadow = _checkpoint(texts['shadow']) if texts['shadow'] else ''
        if texts['execution'] == 'async_grounded':
            for folder in ([checkpoint] if policy else []) + ([shadow] if shadow else []):
                _check_imagination(folder)
        factor = _factor(texts['real_time_factor'])
        if factor != 1.0 and (texts['robot'] == 'real' or texts['device']):
            raise SettingsError(f'real_time_factor:={factor:g} slows a simulated robot that a '
                                'policy moves: neither a real robot nor an operator can be slowed')
        port = _whole(texts, 'camera_port', 1024, 65533)
        return cls(
            task=texts['task'],
            robot=texts['robot'],
            policy=texts['policy'],
            device=texts['device'],
            mapping=_file(texts['mapping']),
            checkpoint=checkpoint,
            study=texts['study'],
            study_options=texts['study_options'],
            execution=texts['execution'],
            shadow=shadow,
            seed=_whole(texts, 'seed', 0, 2**62),
            video_steps=_whole(texts, 'video_steps', 0, 1000),
            action_steps=_whole(texts, 'action_steps', 0, 1000),
            headless=texts['headless'] == 'true',
            network_interface=texts['network_interface'],
            unitree_domain=domain,
            camera_host=texts['camera_host'],
            camera_request_port=_whole(texts, 'camera_request_port', 1024, 65535),
            camera_ports=(port, port + 1, port + 2),
            camera_rate=_whole(texts, 'camera_rate', 5, 60),
            real_time_factor=factor,
            namespace=texts['namespace'].strip('/'),
            output_dir=str(Path(texts['output_dir']).expanduser().absolute()),
            film=texts['film'] == 'true',
            record=texts['record'] == 'true',
            episodes_dir=str(Path(texts['episodes_dir']).expanduser().absolute()),
            console=texts['console'] == 'true',
            console_host=texts['console_host'],
            console_port=_whole(texts, 'console_port', 1, 65535),
            console_token=texts['console_token'],
            study_url=texts['study_url'],
        )


def _check_twin_wire(interface: str, domain: int) -> None:
    """A simulated robot on a real one's wire would answer for it, and engages by itself.

    Raises:
        SettingsError: it is not the wire of a simulated robot.
    """
    meant = ('for the G1 on the network say robot:=real (robot:=twin, the simulated robot, is the '
             'default)')
    if interface != TWIN['network_interface']:
        raise SettingsError(
            f'robot:=twin on network_interface:={interface}: a simulated robot speaks on '
            f'{TWIN["network_interface"]} only, as elsewhere it would be taken for a real one; '
            f'{meant}, else leave network_interface out')
    if domain == int(REAL['unitree_domain']):
        raise SettingsError(
            f'robot:=twin on unitree_domain:={domain}: that is the DDS domain of a real robot; '
            f'{meant}, else leave unitree_domain out or give another number')


def check_domains(settings: Settings, environment: Mapping[str, str]) -> None:
    """ROS and the robot's wire must not share a DDS domain.

    On one number each side discovers the other's endpoints, and Cyclone DDS and the ROS middleware
    drop or misread what is not theirs.

    Raises:
        SettingsError: they do, or ROS_DOMAIN_ID is not a domain.
    """
    text = environment.get('ROS_DOMAIN_ID') or '0'
    if not text.isdecimal() or int(text) > 232:
        raise SettingsError(f'ROS_DOMAIN_ID={text} is not a whole number between 0 and 232')
    if int(text) == settings.unitree_domain:
        set_to = '' if environment.get('ROS_DOMAIN_ID') else ' (it is not set, so 0)'
        wire = f'unitree_domain:={settings.unitree_domain}, {settings.network_interface}'
        other = next(i for i in (42, 43) if i != settings.unitree_domain)
        remedy = f'export ROS_DOMAIN_ID={other} in every shell that uses ROS'
        if settings.robot == 'twin':
            remedy += ', or give the simulated robot another unitree_domain:=N'
        raise SettingsError(
            f'ROS_DOMAIN_ID={text}{set_to} is also the DDS domain of the robot ({wire}): '
            f'they would hear each other. {remedy}'
        )


def _with_study(values: Mapping[str, str]) -> dict[str, str]:
    """What a compiled study decides: its folder absolute, backend, and where things go.

    Raises:
        SettingsError: it is none.
    """
    if not values.get('study'):
        return dict(values)
    folder = Path(values['study']).expanduser().absolute()
    try:
        stated = json.loads((folder / 'study.json').read_text(encoding='utf-8'))
        first = stated['study']['arms'][0]
        checkpoint = stated['resolved'][first['id']]['checkpoint']
        texts = {'policy': first['policy'], 'task': next(iter(stated['study']['tasks']))}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SettingsError(f'study:={folder} is no compiled study ({type(error).__name__}: '
                            f'{error}): flashwam trials compile') from None
    if values.get('robot') == 'real' and stated['study'].get('score') != 'operator':
        raise SettingsError('robot:=real needs a study with score: operator, who starts every '
                            f'trial; {folder} starts them by itself, in the simulator')
    if checkpoint:
        texts['checkpoint'] = checkpoint
    texts.update(study=str(folder), output_dir=str(folder / 'rollouts'),
                 episodes_dir=str(folder / 'episodes'), device='')
    # `ros2 launch` gives every argument, the ones left out as ''.
    url = values.get('study_url') or _study_console(values.get('study_options', ''))
    return {**values, **texts, 'study_url': url}


def _study_console(words: str) -> str:
    """Where the runner's options put fieldtrial's console."""
    found = dict(re.findall(r'--(server|port)[= ](\S+)', words))
    return found.get('server') or f'http://127.0.0.1:{found.get("port", STUDY_PORT)}'


def _with_defaults(values: Mapping[str, str]) -> dict[str, str]:
    known = {argument.name: argument for argument in ARGUMENTS}
    for name in values:
        if name not in known:
            raise SettingsError(f'unknown argument {name!r}; there are: ' + ', '.join(known))
    texts = {name: values.get(name, known[name].default) for name in known}
    for name, argument in known.items():
        if argument.choices and texts[name] not in argument.choices:
            raise SettingsError(
                f'{name}:={texts[name]} is not one of ' + ', '.join(argument.choices))
    for name, default in (REAL if texts['robot'] == 'real' else TWIN).items():
        texts[name] = texts[name] or default
    texts['camera_rate'] = texts['camera_rate'] or _camera_rate(texts['robot'], texts['device'])
    return texts


def _camera_rate(robot: str, device: str) -> str:
    """Three cameras drawn 20 times a second are most of what two slow cores can do."""
    if robot != 'twin' or (os.cpu_count() or 1) > 2:
        return '20'
    return '15' if device else '10'


def _whole(texts: Mapping[str, str], name: str, lower: int, upper: int) -> int:
    try:
        value = int(texts[name])
    except ValueError:
        raise SettingsError(f'{name}:={texts[name]} is not a whole number') from None
    if not lower <= value <= upper:
        raise SettingsError(f'{name}:={value} is not between {lower} and {upper}')
    return value


def _factor(text: str) -> float:
    try:
        return RobotClock(float(text)).factor
    except ValueError:
        raise SettingsError(
            f'real_time_factor:={text} is not a number between {SLOWEST} and 1') from None


def _file(text: str) -> str:
    """Absolute path of a file that must be there; '' for none."""
    path = Path(text).expanduser().absolute()
    if text and not path.is_file():
        raise SettingsError(f'mapping:={text} is not a file')
    return str(path) if text else ''


def _checkpoint(text: str) -> str:
    """Absolute path of a checkpoint folder given as a path or as a name under models/.

    The address of a server stays what it is: whether there is one is seen when it is asked.
    """
    if is_server(text):
        return text
    path = Path(text).expanduser()
    if path.is_dir():
        return str(path.absolute())
    try:
        return str(share_path('models', text))
    except FileNotFoundError as error:
        raise SettingsError(
            f'checkpoint:={text} is neither a folder nor a model of this package ({error}). '
            'Give the folder of a trained model, or use policy:=expert.'
        ) from None


def _check_imagination(checkpoint: str) -> None:
    """Refuse `async_grounded` where the policy cannot imagine, before anything is started.

    Of a server it is not known yet; the policy node asks it.
    """
    if is_server(checkpoint):
        return
    if not checkpoint:
        raise SettingsError('execution:=async_grounded needs policy:=wam: the expert imagines '
                            'nothing')
    path = Path(checkpoint, 'flashwam.json')
    try:
        able = json.loads(path.read_text(encoding='utf-8'))['sampler'].get('forward_dynamics')
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise SettingsError(f'{path} cannot be read ({type(error).__name__}: {error})') from None
    if not able:
        raise SettingsError(f'execution:=async_grounded: {checkpoint} was not trained with '
                            'forward dynamics, so it cannot imagine outcomes; use '
                            'execution:=async')
