# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint folder, or the server of a model, says of itself; no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from flashwam_ros.policy.backends import read_arms
from flashwam_ros.policy.handshake import describe, is_server
from flashwam_ros.policy.protocol import PolicyError
from flashwam_ros.policy.remote_policy import ask_handshake
from flashwam_ros.policy.worker import UNSAID
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


def servers_of(checkpoint: str, model: str, arms: str) -> list[tuple[str, tuple]]:
    """Address and expected model (as `RemotePolicy` takes it) of every server in use.

    Of a study those of all arms, so that the answer does not depend on the arm whose turn it is.

    Args:
        checkpoint: what the policy node was given.
        model: its parameter of this name, '' where nothing is loaded.
        arms: path of a study's arms.json, '' without a study.

    Raises:
        PolicyError: there is no such arms.json.
    """
    if arms:
        found = {(arm.checkpoint, arm.model) for arm in read_arms(arms).values()}
        return sorted(entry for entry in found if is_server(entry[0]))
    return [(checkpoint, tuple(json.loads(model or '[]')))] if is_server(checkpoint) else []


def server_problems(
    servers: Iterable[tuple[str, tuple]], contract: RobotContract, silent: str, blind: bool
) -> tuple[str, tuple[str, ...]]:
    """What speaks against these servers now, '' for nothing, and how their contracts differ.

    Whoever is using them is not disturbed.

    Args:
        servers: see `servers_of`.
        contract: the robot contract in force.
        silent: the difference, without a name, of one that keeps silent about its contract.
        blind: name no server.
    """
    problems, differences = [], []
    for address, model in servers:
        try:
            said = ask_handshake(address)
        except PolicyError as error:
            problems.append(str(error))
            continue
        if said.contract is not None:
            differences += contract.differences(said.contract)
        elif silent not in differences:
            differences.append(silent)
        if said.model[: len(model)] != model:
            problems.append(f'{address} serves {describe(said.model)} by now, not what was loaded '
                            f'({describe(model)})')
    return UNSAID if blind and problems else '; '.join(problems), tuple(differences)
