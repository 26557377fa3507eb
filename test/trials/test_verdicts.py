# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Both verdicts of a rollout, from its summary."""

import pytest
from study_support import STAGES, summary_of

from flashwam_ros.trials.runner import TrialRequest
from flashwam_ros.trials.scoring import Score, score, void_reason
from flashwam_ros.trials.study import Validity
from flashwam_ros.trials.validity import deployment

REQUEST = TrialRequest('t', 'red_bottle', '', 1, 10.0, 'red_bottle.K7', 'async')
INVALID = {'success': False, 'verdict': 'invalid'}


@pytest.mark.parametrize(('changes', 'reasons'), [
    ({}, set()),
    ({'late_chunks': 1, 'slack_s': {'min': -0.04}}, {'late_chunk'}),
    ({'hold_s': 0.3}, {'hold'}),
    ({'late_chunks': 3, 'hold_s': 2.0, 'execution': 'sync'}, set()),
    ({'limited_ticks': 1100, 'arm_limited_ticks': 275}, set()),
    ({'limited_ticks': 276, 'arm_limited_ticks': 276}, {'limit_saturated'}),
    ({'real_time_factor': 0.97}, {'real_time_factor'}),
    ({**INVALID, 'real_time_factor': 0.9, 'reason': 'real_time_factor 0.900 < 0.98'},
     {'real_time_factor'}),
    ({**INVALID, 'reason': "policy: StreamError: camera 'head' is stale: newest frame 0.9 s"},
     {'stale_camera'}),
    ({**INVALID, 'reason': 'policy: HistoryError: no key frame from camera head'},
     {'stale_camera'}),
    ({**INVALID, 'reason': 'cancelled'}, {'operator_stop'}),
    ({**INVALID, 'reason': 'stop: console'}, {'operator_stop'}),
    ({'success': False, 'events': ['stop: stop service']}, {'operator_stop'}),
    ({**INVALID, 'reason': 'state_lost'}, {'fault'}),
    ({**INVALID, 'reason': 'state_lost', 'late_chunks': 2}, {'fault', 'late_chunk'}),
    ({**INVALID, 'moved': False, 'reason': 'policy: it could not be asked'}, {'fault'}),
    ({**INVALID, 'moved': False, 'reason': 'no_first_chunk: nothing'}, {'fault'}),
    ({'success': False, 'reason': 'tracking: left elbow'}, set()),
])  # fmt: skip
def test_deployment_valid(changes, reasons):
    found = deployment(summary_of(REQUEST, **changes), Validity())
    assert set(found) == reasons
    assert all(found.values())


def test_it_says_what_was_measured():
    found = deployment(summary_of(REQUEST, late_chunks=2, slack_s={'min': -0.0351}), Validity())
    assert found == {'late_chunk': '2, worst -35 ms'}


def stages(*names):
    return {name: name in names for name in STAGES}


@pytest.mark.parametrize(('changes', 'expected'), [
    ({}, Score('lifted', 'success', 'success')),
    ({'success': False}, Score('reached', 'timeout', 'time_limit')),
    ({'success': False, 'stages': stages('grasped')}, Score(None, 'timeout', 'time_limit')),
    ({'success': False, 'stages': stages('reached', 'grasped', 'lifted')},
     Score('grasped', 'timeout', 'time_limit')),
    ({'success': False, 'reason': 'it_fell'}, Score('reached', 'other', 'it_fell')),
    ({'success': False, 'reason': 'tracking'}, Score('reached', 'safety_stop', 'tracking')),
    ({**INVALID, 'reason': 'state_lost'}, Score('reached', 'robot_fault', 'state_lost')),
    ({**INVALID, 'reason': 'cancelled'}, Score('reached', 'operator_stop', 'cancelled')),
    ({**INVALID, 'reason': 'stop: console'}, Score('reached', 'operator_stop', 'stop: console')),
    ({**INVALID, 'moved': False, 'reason': 'policy: it could not be asked'},
     Score('reached', 'other', 'policy: it could not be asked')),
    ({**INVALID, 'moved': False, 'reason': 'no_first_chunk: nothing'},
     Score('reached', 'other', 'no_first_chunk: nothing')),
    ({**INVALID, 'predicate': True, 'reason': 'real_time_factor 0.9 < 0.98'},
     Score('lifted', 'success', 'real_time_factor 0.9 < 0.98')),
])  # fmt: skip
def test_score(changes, expected):
    assert score(summary_of(REQUEST, **changes), list(STAGES)) == expected


@pytest.mark.parametrize(('changes', 'void'), [
    ({}, False),
    ({'success': False}, False),
    ({**INVALID, 'reason': 'state_lost'}, False),
    ({**INVALID, 'moved': False, 'reason': 'preflight: battery'}, True),
    ({**INVALID, 'moved': False, 'reason': 'operator: the scene was not declared ready'}, True),
    ({**INVALID, 'moved': False, 'reason': 'g1_driver: refused: another writer'}, True),
    ({**INVALID, 'moved': False, 'reason': 'driver_silent: no driver_status for 2 s'}, True),
    ({**INVALID, 'moved': False, 'reason': 'cancelled'}, True),
    ({**INVALID, 'moved': False, 'reason': 'policy: it could not be asked'}, False),
    ({**INVALID, 'moved': False, 'reason': 'policy: it could not be asked',
      'preflight': {'ok': True}}, False),
    ({**INVALID, 'moved': False, 'reason': 'policy did not answer', 'preflight': {'ok': True}},
     False),
    ({**INVALID, 'moved': False, 'reason': 'policy_silent: no policy_status for 2 s'}, False),
    ({**INVALID, 'moved': False, 'reason': 'no_first_chunk: nothing to execute'}, False),
    # A server that was forgotten: the policy node cannot load, no preflight is reached.
    ({**INVALID, 'moved': False, 'reason': 'policy: no answer', 'preflight': None}, True),
    ({**INVALID, 'moved': False, 'reason': 'policy: no answer', 'preflight': {'ok': False}},
     True),
    ({**INVALID, 'reason': 'interrupted: SIGINT'}, True),
    ({**INVALID, 'reason': 'interrupted: SIGINT', 'predicate': True}, False),
])  # fmt: skip
def test_void(changes, void):
    assert bool(void_reason(summary_of(REQUEST, **changes))) is void
