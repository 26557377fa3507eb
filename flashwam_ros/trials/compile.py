# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From one file of ours to one locked, blinded, randomised fieldtrial study per task."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashwam_ros.policy.protocol import PolicyError
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training.results import manifest_sha256
from flashwam_ros.training.table_plan import find_checkpoint
from flashwam_ros.trials.checkpoint_facts import contract_differences
from flashwam_ros.trials.compiled import (
    ARMS,
    SEALED,
    SERVED,
    STUDY,
    TASKS,
    CompiledStudy,
    arm_name,
    open_compiled,
    study_sha256,
)
from flashwam_ros.trials.fieldtrial_program import fieldtrial_json
from flashwam_ros.trials.study import Study, StudyError, sha256_of
from flashwam_ros.twin.tasks import TASKS as TWIN_TASKS

_PRIVATE = 0o600
_SEED_BITS = 2**31


def compile_study(study: Study, folder: Path) -> CompiledStudy:
    """Compile into a folder; the same study again is opened, another one is refused.

    The folder appears whole or not at all.

    Raises:
        StudyError: a checkpoint is missing or made for another robot, or another study is there.
    """
    contract = RobotContract.load()
    resolved = _resolve(study, contract)
    found = open_compiled(folder) if folder.exists() else None
    stated = {'study': study.to_dict(), 'resolved': resolved, 'contract_sha256': contract.sha256,
              'salt': found.salt if found else secrets.token_hex(16)}
    sha256 = study_sha256(stated)
    if found:
        if found.sha256 != sha256:
            raise StudyError(f'{folder} holds another version of {study.name} ({found.sha256[:12]}'
                             f', this one is {sha256[:12]}): a locked study is not changed; give '
                             'the new one another name')
        return found
    part = folder.with_name(f'.{folder.name}.part-{os.getpid()}')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        locked = {task: _lock(fieldtrial_study(study, task, resolved, sha256, stated['salt']),
                              part / TASKS / task) for task in study.tasks}
        sealed = {task: codes for task, (codes, _) in locked.items()}
        designs = {task: design for task, (_, design) in locked.items()}
        _write(part / SEALED, sealed)
        _write(part / ARMS, _arms(study, sealed, resolved))
        _write(part / STUDY, {**stated, 'sha256': sha256, 'designs': designs})
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return open_compiled(folder)


def _resolve(study: Study, contract: RobotContract) -> dict[str, dict[str, Any]]:
    """Folder and hash of every arm's checkpoint; all that is wrong is told at once."""
    resolved, problems = {}, []
    for arm in study.arms:
        if arm.policy == 'expert':
            resolved[arm.id] = {'checkpoint': '', 'sha256': ''}
            continue
        if arm.server:
            problem, resolved[arm.id] = _ask_server(arm, contract)
            problems += [f'arm {arm.id}: {problem}'] if problem else []
            continue
        path = find_checkpoint(arm.checkpoint)
        if path is None:
            problems.append(f'arm {arm.id}: no checkpoint {arm.checkpoint!r} in models/ or among '
                            'what was trained here')
            continue
        differences = contract_differences(path, contract)
        problem = '; '.join(differences[:3]) or _sampler_problem(arm, path)
        if problem:
            problems.append(f'arm {arm.id}: {path}: {problem}')
        resolved[arm.id] = {'checkpoint': str(path.absolute()), 'sha256': manifest_sha256(path)}
    if problems:
        raise StudyError('\n'.join(problems))
    return resolved


def _ask_server(arm, contract: RobotContract) -> tuple[str, dict[str, Any]]:
    """What is wrong with an arm's server, '' for nothing; its address and what it serves how."""
    from flashwam_ros.policy.remote_policy import ask_handshake

    try:
        said = ask_handshake(arm.server)
    except PolicyError as error:
        return str(error), {}
    differences = contract.differences(said.contract) if said.contract is not None else []
    problem = '; '.join(differences[:3]) or said.mode_problems.get(arm.execution, '')
    return (f'{arm.server}: {problem}' if problem else '',
            {'checkpoint': arm.server, 'sha256': said.sha256, **dict(zip(SERVED, said.model[1:],
                                                                         strict=True))})


def _sampler_problem(arm, path: Path) -> str:
    stored = json.loads((path / 'flashwam.json').read_text(encoding='utf-8'))['sampler']
    if arm.execution == 'async_grounded' and not stored.get('forward_dynamics'):
        return 'not trained with forward dynamics, which async_grounded needs'
    kinds = {stored[part].get('sampler', 'euler') for part in ('video', 'action')}
    if arm.sampler == 'euler' and kinds == {'euler'}:
        return 'its own sampler is Euler already: leave sampler at own'
    return ''


def task_seed(study: Study, task: str, salt: str) -> int:
    """Of order and blind codes: another one for each task and each compilation.

    So that neither the codes of another task nor those of a rehearsal tell anything.
    """
    stated = {'seed': study.seed, 'task': task, 'salt': salt}
    return int(sha256_of(stated)[:12], 16) % _SEED_BITS


def fieldtrial_study(study: Study, task: str, resolved, sha256: str,
                     salt: str) -> dict[str, Any]:
    """Content of fieldtrial's study.yaml. Its design hash covers ours, and so the margin."""
    stages = study.tasks[task]
    first = study.non_inferiority.arms[0]
    return {
        'fieldtrial': 1,
        'name': f'{study.name}-{task}',
        'title': f'{study.title}: {task}',
        'task': {'instruction': TWIN_TASKS[task].prompt},
        'rubric': {
            'stages': [{'id': name, 'label': label} for name, label in stages.items()],
            'success': list(stages)[-1],
        },
        'limits': {'timeout_s': study.time_limit_s(task)},
        'arms': [_fieldtrial_arm(arm, resolved[arm.id]['sha256'], sha256) for arm in study.arms],
        'conditions': {'factors': {'seed': {'values': study.task_seeds(task)}}},
        'design': {'type': 'randomized_block', 'order': 'random', 'blinding': 'operator',
                   'seed': task_seed(study, task, salt)},
        'analysis': {
            'primary': {'comparison': {'treatment': first, 'control': study.reference},
                        'alpha': 0.05},
            'multiplicity': 'holm',
            'secondary': ['stage_reached', 'time_to_success'],
        },
    }  # fmt: skip


def _fieldtrial_arm(arm, checkpoint_sha256: str, sha256: str) -> dict[str, Any]:
    return {
        'id': arm.id,
        'runner': 'manual',  # the running graph switches; fieldtrial starts nothing
        'policy': {'backend': arm.policy, 'checkpoint': arm.checkpoint or arm.server,
                   'checkpoint_sha256': checkpoint_sha256, 'study_sha256': sha256},
        'serving': {'steps': arm.steps, 'sampler': arm.sampler, 'execution': arm.execution},
    }  # fmt: skip


def _lock(values: Mapping[str, Any], folder: Path) -> tuple[dict[str, str], str]:
    """Write and lock one task; blind code -> arm, and fieldtrial's hash of the design."""
    import yaml

    folder.mkdir(parents=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    (folder / 'study.yaml').write_text(text, encoding='utf-8')
    locked = fieldtrial_json('lock', str(folder), '--json')
    planned = len(values['arms']) * len(values['conditions']['factors']['seed']['values'])
    if locked['slots'] != planned:
        raise StudyError(f'{folder.name}: fieldtrial planned {locked["slots"]} trials')
    for path in filter(Path.is_file, folder.iterdir()):
        path.chmod(_PRIVATE)  # the seed of the codes, and in the store the codes themselves
    codes = sorted(locked['blind_codes'].items(), key=lambda pair: pair[1])
    return {code: arm for arm, code in codes}, locked['design_hash']


def _arms(study: Study, sealed, resolved) -> dict[str, dict[str, Any]]:
    """What the policy node loads, in the order of the codes."""
    found = {}
    for task, codes in sealed.items():
        for code, name in codes.items():
            arm = study.arm(name)
            video, action = arm.step_counts
            found[arm_name(task, code)] = {
                'policy': arm.policy, 'checkpoint': resolved[name]['checkpoint'],
                'video_steps': video, 'action_steps': action, 'sampler': arm.sampler,
                'sha256': resolved[name]['sha256'],
                'served': [resolved[name][key] for key in SERVED] if arm.server else [],
            }  # fmt: skip
    return found


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8')
    path.chmod(_PRIVATE)
