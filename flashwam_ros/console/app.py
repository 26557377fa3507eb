# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The console as an ASGI application: one page, a few requests, three web sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from flashwam_ros.console.access import Access
from flashwam_ros.console.backend import ACTIONS, Backend
from flashwam_ros.console.board import Board
from flashwam_ros.console.live import Live
from flashwam_ros.console.reset import ResetPictures, draw_in_twin, instructions
from flashwam_ros.console.settings import ConsoleError, ConsoleSettings
from flashwam_ros.console.shelf import Shelf
from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.teleop.joy import JoyMapping
from flashwam_ros.twin.tasks import TASKS

STATIC = Path(__file__).with_name('static')
#: Age (s) beyond which the page greys a part out and says how old it is.
STALE_S = {
    'camera': 0.5, 'joints': 0.5, 'commands': 0.5, 'driver': 1.0, 'chunks': 1.0, 'policy': 1.0,
    'teleop': 1.0, 'recorder': 2.0, 'twin': 1.5, 'robot': 3.0,
}  # fmt: skip
_BODY_BYTES = 4096
_LONGEST_TEXT = 500
_MOST_SEED = 2**31


class Console:
    """Requests of the page.

    Args:
        settings: see there.
        board: what is told.
        backend: the running graph.
        contract: of the robot.
    """

    def __init__(
        self, settings: ConsoleSettings, board: Board, backend: Backend, contract: RobotContract
    ):
        self._settings, self._board, self._backend = settings, board, backend
        self._contract = contract
        self._shelf = Shelf(settings.episodes, contract)
        draw = draw_in_twin if settings.robot == 'twin' else None
        self._pictures = ResetPictures(settings.task, settings.episodes, draw)
        # An action must never wait for a picture that is being drawn.
        self._drawing = CapacityLimiter(2)

    def routes(self) -> list:
        """Everything but the access rules."""
        keys = tuple(camera.key for camera in self._contract.cameras)
        live = Live(self._board, self._backend, keys)
        return [
            Route('/', self._page),
            Route('/api/about', self._about),
            Route('/api/do/{action}', self._act, methods=['POST']),
            Route('/api/episodes', self._episodes),
            Route('/api/episodes/{name}/label', self._label, methods=['POST']),
            Route('/api/episodes/{name}/{kind}.jpg', self._picture),
            Route('/api/reset.jpg', self._reset_picture),
            Route('/api/reset.jpg', self._keep_reset_picture, methods=['POST']),
            WebSocketRoute('/ws/state', live.state),
            WebSocketRoute('/ws/video', live.video),
            WebSocketRoute('/ws/teleop', live.teleop),
            Mount('/static', StaticFiles(directory=STATIC)),
        ]

    async def _page(self, request: Request) -> Response:
        return FileResponse(STATIC / 'index.html')

    async def _about(self, request: Request) -> Response:
        """What does not change while the console runs."""
        settings = self._settings
        return JSONResponse({
            'task': settings.task,
            'prompt': TASKS[settings.task].prompt,
            'robot': settings.robot,
            'device': settings.device,
            'study_url': settings.study_url,
            'cameras': [camera.key for camera in self._contract.cameras],
            'channels': [
                {'name': channel.name, 'lower': channel.lower, 'upper': channel.upper,
                 'group': channel.group} for channel in self._contract.channels
            ],
            'stale_s': STALE_S,
            'speeds': dict(JoyMapping.load().speeds),
            'reset': {'steps': instructions(settings.task), 'seeded': self._pictures.seeded},
        })  # fmt: skip

    async def _act(self, request: Request) -> Response:
        action = request.path_params['action']
        if action not in ACTIONS:
            raise ConsoleError(f'{action!r:.40} is not one of {", ".join(ACTIONS)}')
        values = checked(await _json(request), ACTIONS[action])
        answer = await to_thread.run_sync(self._backend.act, action, values)
        return JSONResponse({'ok': answer.ok, 'message': answer.message})

    async def _episodes(self, request: Request) -> Response:
        rows = await to_thread.run_sync(self._shelf.rows, limiter=self._drawing)
        return JSONResponse(rows)

    async def _label(self, request: Request) -> Response:
        values = checked(await _json(request), {'label': str, 'operator': str})
        row = await to_thread.run_sync(
            self._shelf.label, request.path_params['name'], values['label'], values['operator']
        )
        return JSONResponse({'ok': True, 'message': '', 'episode': row})

    async def _picture(self, request: Request) -> Response:
        draw = {'thumbnail': self._shelf.thumbnail, 'sheet': self._shelf.sheet}
        kind, name = request.path_params['kind'], request.path_params['name']
        if kind not in draw:
            raise ConsoleError(f'{kind!r:.40} is not one of {", ".join(draw)}')
        jpeg = await to_thread.run_sync(draw[kind], name, limiter=self._drawing)
        return Response(jpeg, media_type='image/jpeg')

    async def _reset_picture(self, request: Request) -> Response:
        text = request.query_params.get('seed', '0')
        if not text.isdecimal() or int(text) >= _MOST_SEED:
            raise ConsoleError(f'seed {text!r:.40} is not a whole number below {_MOST_SEED}')
        jpeg = await to_thread.run_sync(self._pictures.picture, int(text), limiter=self._drawing)
        return Response(jpeg, media_type='image/jpeg')

    async def _keep_reset_picture(self, request: Request) -> Response:
        checked(await _json(request), {})
        frame = self._board.frame(self._contract.cameras[0].key)
        if frame is None:
            raise ConsoleError('the head camera has sent no picture yet')
        await to_thread.run_sync(self._pictures.keep, frame.jpeg)
        return JSONResponse({'ok': True, 'message': 'kept as the reset picture'})


async def _json(request: Request) -> Any:
    """The body; JSON by its declared type, too, which a foreign form cannot claim."""
    if request.headers.get('content-type', '').split(';')[0] != 'application/json':
        raise ConsoleError('send JSON with content-type application/json')
    body = await request.body()
    if len(body) > _BODY_BYTES:
        raise ConsoleError(f'{len(body)} bytes, at most {_BODY_BYTES} are read')
    try:
        return json.loads(body or b'{}')
    except ValueError as error:
        raise ConsoleError(f'not JSON: {error}') from None


def checked(values: Any, wanted: Mapping[str, type]) -> dict[str, Any]:
    """The values of a request, exactly the wanted ones.

    Raises:
        ConsoleError: one is missing, unknown, of the wrong type or too long.
    """
    if not isinstance(values, dict) or set(values) != set(wanted):
        raise ConsoleError(f'give exactly these values: {", ".join(wanted) or "none"}')
    for name, kind in wanted.items():
        value = values[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConsoleError(f'{name}: {value!r:.60} is not of type {kind.__name__}')
        if kind is str and len(value) > _LONGEST_TEXT:
            raise ConsoleError(f'{name}: at most {_LONGEST_TEXT} characters')
        if kind is int and not 0 <= value < _MOST_SEED:
            raise ConsoleError(f'{name}: {value} is not in 0..{_MOST_SEED - 1}')
    return values


async def _refused(request: Request, error: Exception) -> Response:
    if request.method == 'GET':
        return PlainTextResponse(str(error), 404)
    return JSONResponse({'ok': False, 'message': str(error)}, 400)


def make_app(
    settings: ConsoleSettings, board: Board, backend: Backend, contract: RobotContract
) -> Starlette:
    """The whole application, access rules included."""
    return Starlette(
        routes=Console(settings, board, backend, contract).routes(),
        middleware=[Middleware(Access, token=settings.token)],
        exception_handlers={ConsoleError: _refused},
    )
