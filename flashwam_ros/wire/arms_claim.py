# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A file that says that a driver holds the arms, for whoever finds the driver dead.

A robot whose driver died holds the last command at full weight. The next driver would begin its
ramp at weight 0, which lets go of the arms at once, so it refuses while another's claim is there.
And without a claim a driver that died while it held nothing would be followed by a release, which
takes the arms at full weight for a moment: a motion that nobody asked for.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path


class ArmsClaim:
    """The file of one robot's wire, in the user's state folder: it outlives logout and restart.

    Args:
        domain: DDS domain of the robot.
        interface: network interface.

    Attributes:
        path: the file.
        remedy: the command that gives the arms back and ends the claim, whoever made it.
    """

    def __init__(self, domain: int, interface: str):
        folder = Path(os.environ.get('XDG_STATE_HOME') or Path.home() / '.local' / 'state')
        self.path = folder / 'flashwam' / f'arms_held_{domain}_{interface}'
        self.remedy = f'flashwam release --domain {domain} --interface {interface}'
        # A process id alone comes back after a restart, in a container always.
        self._token = f'{os.getpid()} {uuid.uuid4().hex}\n'.encode()

    def take(self) -> None:
        """Before the first command.

        Raises:
            OSError: another holds it, or it cannot be written; then nothing may be commanded.
        """
        if self._mine:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = self.path.open('xb')
        except FileExistsError as error:
            raise OSError(self.foreign or f'{self.path} is there already') from error
        try:
            with file:
                file.write(self._token)
                file.flush()
                # A robot goes on holding while its PC loses power: so must this.
                os.fsync(file.fileno())
            _sync(self.path.parent)
        except OSError:
            self.clear()
            raise

    def drop(self) -> None:
        """After the last command; what another has written stays."""
        if self._mine:
            self.clear()

    def clear(self) -> None:
        """Whoever made it: the arms have been given back."""
        self.path.unlink(missing_ok=True)

    @property
    def taken(self) -> bool:
        """Whether arms are, or were left, held."""
        return self.path.exists()

    @property
    def held(self) -> str:
        """What to do about a claim, whoever made it; '' where there is none."""
        if not self.taken:
            return ''
        return f'the arms may still be held: {self.remedy} (claimed in {self.path})'

    @property
    def foreign(self) -> str:
        """The same about that of another process, dead or alive."""
        return '' if self._mine else self.held

    @property
    def _mine(self) -> bool:
        try:
            return self.path.read_bytes() == self._token
        except OSError:
            return False


def held_hint(domain: int, interface: str) -> str:
    """What to add to the message that a driver did not give the arms back."""
    return f': the arms may still be held: {ArmsClaim(domain, interface).remedy}'


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
