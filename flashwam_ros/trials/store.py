# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""fieldtrial's REST API (version 1), with the standard library alone.

fieldtrial's own client needs its package, which a robot's Python may be too old for, and gives
every call a new idempotency key. Here the key follows from what is written, so that a call that is
repeated after a kill finds its first result.
"""

from __future__ import annotations

import json
import mimetypes
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TIMEOUT_S = 30.0
_TRIES = 4
_AGAIN_S = 0.5
_CLIENT = 'X-Fieldtrial-Client'


class StoreError(RuntimeError):
    """The store is not there, or refuses; the message says what it said."""


class Store:
    """One study of a running `fieldtrial serve`.

    Args:
        url: of the server.
        study: folder name of the study.
        token: of a server on the local network, '' on loopback.
    """

    def __init__(self, url: str, study: str, token: str = ''):
        self._base = f'{url.rstrip("/")}/api/v1'
        self._study = f'/studies/{urllib.parse.quote(study, safe="")}'
        self._token = token

    # -- reading ----------------------------------------------------------------------------------

    def studies(self) -> list[dict[str, Any]]:
        """All studies of the server."""
        return self._call('GET', '/studies')

    def next(self) -> dict[str, Any] | None:
        """The next slot (slot_id, seq, blind_code, factors ...), None when all are done."""
        return self._call('GET', f'{self._study}/next')

    def trial(self, trial: str) -> dict[str, Any]:
        """One trial."""
        return self._call('GET', f'{self._study}/trials/{trial}')

    def trials(self) -> list[dict[str, Any]]:
        """All trials, oldest first."""
        return self._call('GET', f'{self._study}/trials?limit=10000')[::-1]

    def status(self) -> dict[str, Any]:
        """Progress; nothing per arm while blinded."""
        return self._call('GET', self._study)

    # -- writing ----------------------------------------------------------------------------------

    def start_session(self, operator: str, rig: str) -> str:
        """Begin a stretch of trials; its id."""
        body = {'operator': operator, 'rig': rig}
        found = self._call('POST', f'{self._study}/sessions', body, uuid.uuid4().hex)
        return found['session']['session_id']

    def end_session(self, session: str) -> None:
        """End it."""
        self._call('POST', f'{self._study}/sessions/{session}/end', {}, f'end-{session}')

    def start_trial(self, slot: str, session: str) -> dict[str, Any]:
        """Begin the trial of a slot."""
        body = {'slot_id': slot, 'session_id': session}
        return self._call('POST', f'{self._study}/trials', body, f'start-{slot}')

    def stop_trial(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """Stop its clock; it is to be labelled."""
        return self._write(trial, 'stop', {})

    def complete_trial(self, trial: Mapping[str, Any], *, stage: str | None, termination: str,
                       notes: str, duration_s: float) -> dict[str, Any]:
        """Record its outcome."""
        return self._write(trial, 'complete', {
            'stage': stage, 'termination': termination, 'notes': notes, 'duration_s': duration_s})

    def void_trial(self, trial: Mapping[str, Any], reason: str) -> dict[str, Any]:
        """Declare it invalid; its slot comes again at the end of its block."""
        return self._write(trial, 'invalidate', {'reason': reason})

    def attach(self, trial: str, path: Path) -> None:
        """Store a film or picture with a trial, once."""
        kind = mimetypes.guess_type(path.name)[0] or 'application/octet-stream'
        mark = uuid.uuid4().hex
        head = (f'--{mark}\r\nContent-Disposition: form-data; name="file"; '
                f'filename="{path.name}"\r\nContent-Type: {kind}\r\n\r\n').encode()
        body = head + path.read_bytes() + f'\r\n--{mark}--\r\n'.encode()
        self._send('POST', f'{self._study}/trials/{trial}/media?actor=runner', body,
                   f'multipart/form-data; boundary={mark}', f'film-{trial}')

    # -- plumbing ---------------------------------------------------------------------------------

    def _write(self, trial: Mapping[str, Any], what: str, body: dict[str, Any]) -> dict[str, Any]:
        version = trial['version']
        path = f'{self._study}/trials/{trial["trial_id"]}/{what}'
        key = f'{what}-{trial["trial_id"]}-{version}'
        return self._call('POST', path, {**body, 'expected_version': version}, key)

    def _call(self, method: str, path: str, body: Any = None, key: str = '') -> Any:
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, path, data, 'application/json', key)

    def _send(self, method: str, path: str, data: bytes | None, kind: str, key: str) -> Any:
        headers = {_CLIENT: 'flashwam', 'Accept': 'application/json'}
        if data is not None:
            headers['Content-Type'] = kind
        if key:
            headers['Idempotency-Key'] = key
        if self._token:
            headers['Authorization'] = f'Bearer {self._token}'
        for left in reversed(range(_TRIES)):
            request = urllib.request.Request(
                self._base + path, data=data, headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                    content = response.read()
                return json.loads(content) if content else None
            except urllib.error.HTTPError as error:
                raise StoreError(f'{method} {path}: {error.code}: {_detail(error)}') from None
            except (OSError, ValueError) as error:
                if not left or not (key or method == 'GET'):
                    raise StoreError(f'no answer from {self._base}: {error}') from error
                time.sleep(_AGAIN_S)
        raise AssertionError('unreachable')


def _detail(error: urllib.error.HTTPError) -> str:
    text = error.read().decode('utf-8', 'replace')
    try:
        return str(json.loads(text).get('detail', text))
    except (ValueError, AttributeError):
        return text
