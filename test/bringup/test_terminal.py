# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the programs say does not end them when nobody can read it any more."""

import errno
import io
import sys

from flashwam_ros.bringup.terminal import say


class ClosedTerminal(io.StringIO):
    def flush(self):
        raise OSError(errno.EIO, 'Input/output error')


def test_a_line_for_a_closed_terminal_is_lost_without_an_error(monkeypatch, capsys):
    say('still there')
    assert capsys.readouterr().out == 'still there\n'
    monkeypatch.setattr(sys, 'stdout', ClosedTerminal())
    say('nobody reads this')
