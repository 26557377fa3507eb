# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import time

import pytest

from flashwam_ros.bringup import pressure
from flashwam_ros.bringup.pressure import ProcessorWait


def kernel_says(path, microseconds):
    path.write_text(f'some avg10=1.00 avg60=2.00 avg300=3.00 total={microseconds}\n'
                    'full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n', encoding='ascii')


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pressure.time, 'monotonic', lambda: now[0])
    return now


def test_share_of_the_time_since(tmp_path, clock):
    source = tmp_path / 'cpu'
    kernel_says(source, 5_000_000)
    wait = ProcessorWait(source)
    clock[0] += 10.0
    kernel_says(source, 14_000_000)
    assert wait.share() == pytest.approx(0.9)
    assert 'for 90% of the rollout' in wait.advice() and 'camera_rate:=10' in wait.advice()
    clock[0] += 10.0
    assert wait.share() == pytest.approx(0.45)
    assert wait.advice() == ''


def test_unknown_where_the_kernel_does_not_tell(tmp_path, clock):
    wait = ProcessorWait(tmp_path / 'none')
    clock[0] += 1.0
    assert wait.share() is None and wait.advice() == ''
    (tmp_path / 'other').write_text('nothing of use\n', encoding='ascii')
    wait = ProcessorWait(tmp_path / 'other')
    clock[0] += 1.0
    assert wait.share() is None


def test_this_kernel():
    share = ProcessorWait().share()
    time.sleep(0.01)
    assert share is None or 0.0 <= share <= 1.0
