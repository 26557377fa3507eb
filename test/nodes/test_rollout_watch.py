# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What ends an episode, and what was said before it began."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from flashwam_ros.episodes.rollout_log import RolloutLog, RolloutSetting  # noqa: E402
from flashwam_ros.nodes.clock import to_msg  # noqa: E402
from flashwam_ros.nodes.rollout_watch import FIRST_CHUNK_S, RolloutWatch  # noqa: E402

NOW_NS = 1_700_000_000_000_000_000
MS = 1_000_000


class Recorder:
    """The newest statuses, as the recorder of the node keeps them."""

    def __init__(self):
        self.policy = (SimpleNamespace(state='active', session='s', reason=''), NOW_NS)
        self.at_ns = NOW_NS

    def now_ns(self):
        return self.at_ns

    def told(self, mode, stamp_ns, arrival_ns):
        status = SimpleNamespace(
            mode=mode, reason='', header=SimpleNamespace(stamp=to_msg(stamp_ns)))
        self.driver = (status, arrival_ns)


@pytest.fixture
def log():
    return RolloutLog(RolloutSetting(
        task='red_bottle', prompt='', seed=1, policy='wam', execution='async', robot='twin',
        session='s', time_limit_s=10.0))


@pytest.mark.parametrize('said_ms, fault', [(-5, ''), (5, 'driver_left: it is ENGAGE')])
def test_a_status_counts_from_when_it_was_said_not_from_when_it_was_read(log, said_ms, fault):
    recorder = Recorder()
    watch = RolloutWatch(log, recorder, None, ())
    watch.begin()
    recorder.at_ns += 30 * MS
    recorder.told('ENGAGE', NOW_NS + said_ms * MS, NOW_NS + 20 * MS)
    assert watch.over(False, '') == bool(fault)
    assert watch.fault == fault


def running(log):
    """Three seconds after the first row, the driver at work."""
    recorder = Recorder()
    watch = RolloutWatch(log, recorder, None, ())
    watch.begin()
    log.starts.append(SimpleNamespace(index=0, start_ns=NOW_NS))
    later(recorder, 3000)
    return watch, recorder


def later(recorder, ms):
    recorder.at_ns = NOW_NS + ms * MS
    recorder.policy = (recorder.policy[0], recorder.at_ns)
    recorder.told('HOLD', recorder.at_ns, recorder.at_ns)


def test_a_session_that_the_driver_has_lost_is_no_failure_of_the_policy(log):
    watch, recorder = running(log)
    log.events.append((NOW_NS + 2000 * MS, 'chunk_abandoned: chunk 1 after 13 rows (state gap)'))
    log.events.append((NOW_NS + 2000 * MS, 'session_lost: state gap'))
    assert not watch.over(False, ''), 'the driver lets go by itself if the state stays away'
    later(recorder, 4100)
    assert watch.over(False, '')
    assert (watch.fault, watch.failure) == ('session_lost: state gap', None)


@pytest.mark.parametrize('events, fault, failure', [
    ([], '', 'time_limit'),
    ([(NOW_NS, 'stop: stop service')], 'stop: stop service', None),
])
def test_arms_that_an_operator_holds_are_left_to_them_until_the_time_is_up(
    log, events, fault, failure
):
    watch, recorder = running(log)
    log.events.extend(events)
    assert not watch.over(False, ''), 'a second press gives them back'
    later(recorder, 10_001)
    assert watch.over(False, '')
    assert (watch.fault, watch.failure) == (fault, failure)


@pytest.mark.parametrize('events, why', [
    ([], ''),
    ([(NOW_NS, 'chunk_rejected: chunk 0: too far: left_elbow')],
     ', chunk_rejected: chunk 0: too far: left_elbow'),
])
def test_a_session_without_a_first_chunk_says_what_the_driver_had_against_it(log, events, why):
    recorder = Recorder()
    watch = RolloutWatch(log, recorder, None, ())
    watch.begin()
    log.events.extend(events)
    later(recorder, 1000 * FIRST_CHUNK_S + 1)
    assert watch.over(False, '')
    assert watch.fault == f'no_first_chunk: nothing to execute within {FIRST_CHUNK_S:.0f} s{why}'
