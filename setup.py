# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Installs the rooms that need no ROS, and the `flashwam` command, with pip.

colcon does not use this file: CMakeLists.txt builds the messages and installs everything for ROS.
Both declare the same commands; test/test_package.py compares them.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def data_files():
    """Pairs (folder below the prefix, files) for everything that `resources.share_path` finds."""
    pairs = []
    for name in ('config', 'launch', 'models', 'msg', 'urdf'):
        for folder in sorted({path.parent for path in (ROOT / name).rglob('*') if path.is_file()}):
            files = [str(p.relative_to(ROOT)) for p in sorted(folder.iterdir()) if p.is_file()]
            pairs.append((f'share/flashwam_ros/{folder.relative_to(ROOT)}', files))
    return pairs


setup(
    name='flashwam_ros',
    version='0.1.0',
    description='World-action models on a Unitree G1: demonstrations in, a scored trial out.',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['flashwam_ros', 'flashwam_ros.*']),
    package_data={'flashwam_ros.console': ['static/*']},
    data_files=data_files(),
    install_requires=['numpy>=1.21', 'PyYAML>=5.4'],
    extras_require={
        'console': ['starlette>=0.45,<2', 'uvicorn>=0.35,<1', 'websockets>=15,<18', 'mcap>=1.6',
                    'mcap-ros2-support>=0.5', 'opencv-python>=4.5'],
        'episodes': ['mcap>=1.6', 'mcap-ros2-support>=0.5', 'opencv-python>=4.5', 'av>=10',
                     'pyarrow>=14', 'matplotlib>=3.5'],
        'remote': ['websockets>=15,<18', 'msgpack>=1,<2', 'opencv-python>=4.5'],
        'teleop': ['mink>=1,<2', 'daqp>=0.7', 'mujoco>=3.2,<4'],
        'training': ['torch>=2.4', 'safetensors>=0.4', 'av>=10', 'pyarrow>=14',
                     'matplotlib>=3.5', 'opencv-python>=4.5'],
        'trials': ['fieldtrial==0.3.0; python_version >= "3.11"'],
        'wam': ['torch>=2.4', 'safetensors>=0.4'],
        'twin': ['mujoco>=3.2,<4', 'opencv-python>=4.5', 'Pillow>=9'],
        'wan': ['diffusers>=0.35', 'transformers>=4.51'],
        'wire': ['unitree-sdk2py-dimos==1.0.3', 'cyclonedds>=0.10.2', 'pyzmq>=24'],
    },
    entry_points={
        'console_scripts': [
            'flashwam=flashwam_ros.cli:main',
        ],
    },
)
