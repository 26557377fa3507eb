# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A compiled study: one folder with everything that it is run from, checked whenever it is opened.

Its files:
    study.json: the study, resolved (hashes of checkpoints and robot contract), and its own hash
    arms.json: what the policy node loads: blind code -> checkpoint, steps, sampler
    sealed.json: task -> blind code -> arm; whoever opens it is no longer blind
    tasks/TASK/: one fieldtrial study each: study.yaml, store, films, reports
    journal.jsonl: what the runner has done
    rollouts/, episodes/, report/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashwam_ros.trials.study import Study, StudyError, sha256_of, study_from

STUDY, ARMS, SEALED, TASKS = 'study.json', 'arms.json', 'sealed.json', 'tasks'


@dataclass(frozen=True)
class CompiledStudy:
    """An opened folder.

    Attributes:
        folder: of the study.
        study: as stated.
        sha256: of everything that was stated and resolved.
        resolved: arm id -> checkpoint folder (or server) and the SHA-256 of the model.
        contract_sha256: of the robot contract.
        designs: task -> fieldtrial's own hash of what it locked.
    """

    folder: Path
    study: Study
    sha256: str
    resolved: Mapping[str, Mapping[str, str]]
    contract_sha256: str
    designs: Mapping[str, str]

    def task_folder(self, task: str) -> Path:
        """The folder of a task's fieldtrial study."""
        return self.folder / TASKS / task

    def unseal(self) -> dict[str, dict[str, str]]:
        """Task -> blind code -> arm id. For the runner, and for a report after unblinding."""
        return json.loads((self.folder / SEALED).read_text(encoding='utf-8'))


def arm_name(task: str, code: str) -> str:
    """What the policy node calls an arm; codes differ between tasks, so none tells another."""
    return f'{task}.{code}'


def manifest(study: Study, resolved: Mapping[str, Mapping[str, str]],
             contract_sha256: str) -> dict[str, Any]:
    """Content of study.json without its hash. Folders are not hashed, what is in them is."""
    return {
        'study': study.to_dict(),
        'checkpoints_sha256': {name: arm['sha256'] for name, arm in resolved.items()},
        'contract_sha256': contract_sha256,
    }


def open_compiled(folder: Path) -> CompiledStudy:
    """Open a compiled study.

    Raises:
        StudyError: it is none, it was changed, or a checkpoint is not what it was.
    """
    try:
        values = json.loads((folder / STUDY).read_text(encoding='utf-8'))
        content = {name: values[name] for name in ('study', 'checkpoints_sha256',
                                                   'contract_sha256')}
        found = CompiledStudy(folder, study_from(content['study']), values['sha256'],
                              values['resolved'], content['contract_sha256'],
                              values['designs'])
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f'{folder} holds no compiled study ({type(error).__name__}: {error}): '
                         'flashwam trials compile') from error
    if sha256_of(content) != found.sha256:
        raise StudyError(f'{folder / STUDY} was changed after it was compiled: its hash differs')
    return found
