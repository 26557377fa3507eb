# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who may use the console: a browser with the token, or one on this machine; no foreign pages.

A web page of somebody else, open in the operator's browser, can reach 127.0.0.1 as well. So the
`Origin` that browsers send must be the console itself, and without a token the `Host` must be a
name of this machine (a foreign name that was made to lead here is refused).
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flashwam_ros.console.settings import is_loopback

COOKIE = 'flashwam_console'
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws: wss:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = [
    (b'content-security-policy', _POLICY.encode()),
    (b'x-content-type-options', b'nosniff'),
    (b'referrer-policy', b'no-referrer'),
    (b'cache-control', b'no-cache'),
]


class Access:
    """ASGI middleware around the whole application.

    Args:
        app: what is guarded.
        token: secret, '' for none.
    """

    def __init__(self, app: ASGIApp, token: str):
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope['type'] not in ('http', 'websocket'):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        why = _foreign(headers) or self._unknown(scope, headers)
        if why and scope['type'] == 'websocket':
            await receive()
            await send({'type': 'websocket.close', 'code': 1008, 'reason': why})
        elif why:
            await PlainTextResponse(why, 403)(scope, receive, send)
        elif self._token and 'token' in dict(parse_qsl(scope['query_string'].decode('latin-1'))):
            await self._welcome(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send))

    def _unknown(self, scope: Scope, headers: Headers) -> str:
        """Why the sender is not let in, '' if it is."""
        if not self._token:
            host = urlsplit(f'//{headers.get("host", "")}').hostname or ''
            return '' if is_loopback(host) else f'{host!r:.60} is not a name of this machine'
        query = dict(parse_qsl(scope['query_string'].decode('latin-1')))
        shown = [query.get('token', ''), _cookie(headers),
                 headers.get('authorization', '').removeprefix('Bearer ')]  # fmt: skip
        if any(secrets.compare_digest(part.encode(), self._token.encode()) for part in shown):
            return ''
        return 'Open the address with ?token=... that the console wrote into its log.'

    def _welcome(self, scope: Scope) -> RedirectResponse:
        """Keep the token in a cookie instead of in the address."""
        query = parse_qsl(scope['query_string'].decode('latin-1'))
        rest = urlencode([pair for pair in query if pair[0] != 'token'])
        # One slash only: '//host' would lead away.
        path = '/' + scope['path'].lstrip('/')
        response = RedirectResponse(f'{path}?{rest}' if rest else path, 303)
        response.set_cookie(COOKIE, self._token, max_age=86400, httponly=True, samesite='strict')
        return response


def _foreign(headers: Headers) -> str:
    """Why a request does not come from the console's own page, '' if it does or may."""
    origin = headers.get('origin')
    if origin is None or urlsplit(origin).netloc == headers.get('host'):
        return ''
    return f'requests from {origin!r:.80} are refused'


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get('cookie', '')).get(COOKIE)
    except CookieError:
        return ''
    return morsel.value if morsel else ''


def _with_headers(send: Send) -> Send:
    async def sending(message) -> None:
        if message['type'] == 'http.response.start':
            own = {name for name, _ in message['headers']}
            more = [pair for pair in _HEADERS if pair[0] not in own]
            message = {**message, 'headers': [*message['headers'], *more]}
        await send(message)

    return sending
