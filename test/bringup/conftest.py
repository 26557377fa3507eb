# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the launch packages and a process that records its signals."""

import importlib
import importlib.util
import sys
import textwrap
import types
from dataclasses import dataclass, field

import pytest


@dataclass(eq=False)
class Recorded:
    """One constructed launch object: its class name and arguments."""

    kind: str
    args: tuple
    kwargs: dict
    entities: list = field(default_factory=list)

    def perform(self, context):
        """LaunchConfiguration: the value in a context, which here is a plain dict."""
        return context[self.args[0]]


def _class(name):
    def construct(*args, **kwargs):
        return Recorded(name, args, kwargs)

    return construct


#: The documented classes that the launch files and the adapter use, by module.
LAUNCH_CLASSES = {
    'launch': ('LaunchDescription',),
    'launch.actions': (
        'DeclareLaunchArgument', 'EmitEvent', 'ExecuteProcess', 'IncludeLaunchDescription',
        'LogInfo', 'OpaqueFunction', 'RegisterEventHandler', 'Shutdown', 'TimerAction',
    ),
    'launch.event_handlers': ('OnProcessExit',),
    'launch.events': ('matches_action',),
    'launch.events.process': ('SignalProcess',),
    'launch.substitutions': ('LaunchConfiguration',),
    'launch.launch_description_sources': ('PythonLaunchDescriptionSource',),
    'launch_ros': (),
    'launch_ros.actions': ('Node',),
}  # fmt: skip


@pytest.fixture
def recording_launch(monkeypatch):
    """Recording stand-ins in the place of launch and launch_ros; returns the adapter module."""
    for module_name, classes in LAUNCH_CLASSES.items():
        module = types.ModuleType(module_name)
        module.__path__ = []
        for name in classes:
            setattr(module, name, _class(name))
        monkeypatch.setitem(sys.modules, module_name, module)
    monkeypatch.delitem(sys.modules, 'flashwam_ros.bringup.launch_adapter', raising=False)
    adapter = importlib.import_module('flashwam_ros.bringup.launch_adapter')
    yield adapter
    sys.modules.pop('flashwam_ros.bringup.launch_adapter', None)


STUB = '''
    import os, signal, sys, time
    from pathlib import Path

    name, mode, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

    def note(text):
        with open(folder / 'events', 'a') as stream:
            stream.write(f'{name} {text}\\n')

    def handle(number, frame):
        note(signal.Signals(number).name)
        if mode != 'stubborn':
            time.sleep(0.3 if mode == 'slow' else 0.0)
            note('end')
            sys.exit(0)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    note('start')
    print(f'hello from {name}', flush=True)
    if mode == 'release':
        note('end')
        sys.exit(0)
    if mode == 'orphaning' and os.fork() == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        (folder / 'orphan').write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
'''


@pytest.fixture
def stub_folder(tmp_path, monkeypatch):
    """Folder with the module `stub_process`, on the path of child processes."""
    (tmp_path / 'stub_process.py').write_text(textwrap.dedent(STUB))
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
    return tmp_path
