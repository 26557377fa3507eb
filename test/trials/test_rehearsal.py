# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A study rehearsed in this process."""

import pytest
from study_support import server_that_says, small_study

from flashwam_ros.policy.backends import read_arms
from flashwam_ros.trials.compile import compile_study
from flashwam_ros.trials.compiled import ARMS
from flashwam_ros.trials.rehearsal import RehearsalRig
from flashwam_ros.trials.study import StudyError


def test_the_servers_of_its_arms_are_free_again_when_it_is_over(tmp_path):
    with server_that_says() as address:
        arms = [{'id': name, 'server': address, 'execution': mode}
                for name, mode in (('waits', 'sync'), ('ahead', 'async'))]
        try:
            compiled = compile_study(small_study(arms=arms), tmp_path / 's')
        except StudyError as error:
            if 'fieldtrial' in str(error):
                pytest.skip('no fieldtrial here')
            raise
        choice = next(iter(read_arms(compiled.folder / ARMS).values()))
        for _ in range(2):  # a server has one client: the second would be refused
            rig = RehearsalRig(compiled)
            rig._policy(choice)
            rig.close()
