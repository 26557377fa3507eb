# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A compiled study: one folder with everything that it is run from, checked whenever it is opened.

Its files:
    study.json: the study, resolved (hashes of checkpoints and robot contract; steps and sampler of
        servers), the salt of its blind codes, and its own hash
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
SERVED = ('video_steps', 'action_steps', 'sampler')
"""What a study is locked to at a server besides its model; the end of `Handshake.model`."""


@dataclass(frozen=True)
class CompiledStudy:
    """An opened folder.

    Attributes:
        folder: of the study.
        study: as stated.
        sha256: of everything that was stated and resolved.
        resolved: arm id -> `checkpoint` (folder or server) and `sha256` of the model; of a server
            also its `video_steps`, `action_steps` and `sampler`.
        contract_sha256: of the robot contract.
        salt: drawn when it was compiled: without it nobody can foretell the blind codes.
        designs: task -> fieldtrial's own hash of what it locked.
    """

    folder: Path
    study: Study
    sha256: str
    resolved: Mapping[str, Mapping[str, Any]]
    contract_sha256: str
    salt: str
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


def study_sha256(stated: Mapping[str, Any]) -> str:
    """Of what study.json states. Folders are not hashed, what is in them is.

    Args:
        stated: `study` (plain data), `resolved`, `contract_sha256` and `salt`.
    """
    models = {name: {key: value for key, value in arm.items() if key != 'checkpoint'}
              for name, arm in stated['resolved'].items()}
    return sha256_of({'study': stated['study'], 'models': models,
                      'contract_sha256': stated['contract_sha256'], 'salt': stated['salt']})


def open_compiled(folder: Path) -> CompiledStudy:
    """Open a compiled study. Its checkpoints and servers are held against it when they are loaded.

    Raises:
        StudyError: it is none, or what it states was changed.
    """
    try:
        values = json.loads((folder / STUDY).read_text(encoding='utf-8'))
        found = CompiledStudy(folder, study_from(values['study']), values['sha256'],
                              values['resolved'], values['contract_sha256'], values['salt'],
                              values['designs'])
        sha256 = study_sha256(values)
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f'{folder} holds no compiled study ({type(error).__name__}: {error}): '
                         'flashwam trials compile') from error
    if sha256 != found.sha256:
        raise StudyError(f'{folder / STUDY} was changed after it was compiled: its hash differs')
    return found
