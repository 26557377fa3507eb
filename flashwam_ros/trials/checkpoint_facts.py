# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint folder says of itself, read without loading the model."""

from __future__ import annotations

import json
from pathlib import Path

from flashwam_ros.robot.contract import RobotContract


def contract_differences(folder: Path, contract: RobotContract) -> tuple[str, ...]:
    """Field-by-field differences between the contract in force and the checkpoint's.

    Raises:
        OSError: there is no `contract.json`. ValueError: it is no contract.
    """
    data = json.loads((folder / 'contract.json').read_text(encoding='utf-8'))
    if not isinstance(data, dict) or 'robot' not in data:
        raise ValueError(f'{folder / "contract.json"} holds no robot contract')
    return tuple(contract.differences(RobotContract.from_dict(data['robot'])))
