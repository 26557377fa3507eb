# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What ends an episode, and what was said before it began."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from flashwam_ros.episodes.rollout_log import RolloutLog, RolloutSetting  # noqa: E402
from flashwam_ros.nodes.clock import to_msg  # noqa: E402
from flashwam_ros.nodes.rollout_watch import RolloutWatch  # noqa: E402

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


@pytest.mark.parametrize('said_ms, fault', [(-5, ''), (5, 'driver_left: it is ENGAGE')])
def test_a_status_counts_from_when_it_was_said_not_from_when_it_was_read(said_ms, fault):
    log = RolloutLog(RolloutSetting(
        task='red_bottle', prompt='', seed=1, policy='wam', execution='async', robot='twin',
        session='s', time_limit_s=10.0))
    recorder = Recorder()
    watch = RolloutWatch(log, recorder, None, ())
    watch.begin()
    recorder.at_ns += 30 * MS
    recorder.told('ENGAGE', NOW_NS + said_ms * MS, NOW_NS + 20 * MS)
    assert watch.over(False, '') == bool(fault)
    assert watch.fault == fault
