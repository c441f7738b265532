"""HTTP on 127.0.0.1, served by uvicorn's protocol in the caller's event loop, and answers that misbehave.

uvicorn's `Server` is left out: it takes the process's signals and looks ten times a second whether it should
stop. Its protocol class is handed to `loop.create_server` instead, so that a server starts and stops within a
millisecond. `Config`, `ServerState` and `HttpToolsProtocol` are those of uvicorn 0.54;
tests/unit/simulators/test_serving.py fails when they change.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType
from typing import Any, Final, Self, cast

import orjson
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HOST: Final = "127.0.0.1"
"""The only address that a simulator listens on."""
MAX_BODY: Final = 4 * 2**20
"""Bytes of a request's body; more is answered with 413."""
_TRANSPORT: Final = "simulator.transport"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class BodyTooLargeError(ValueError):
    """A request's body has more than `MAX_BODY` bytes."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol; a request's scope also holds its transport, so that an answer may break the
    line."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[_TRANSPORT] = self.transport


class HttpServer:
    """`async with HttpServer(app) as server: server.url`. Stopping breaks every connection at once, also
    those of requests that hang."""

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        self._app = app
        self._closing = False
        self._config = uvicorn.Config(
            self._serve,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
        )
        self._state = ServerState()
        self._port = port
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None, "not started"
        return self._port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Protocol(self._config, self._state, {}, loop), HOST, self._port, backlog=1024
        )
        self._port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._closing = True
        self._server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._closing:  # else nobody waits for an answer, and uvicorn would log it as a failure
                raise


async def body_of(request: Request) -> bytes:
    """The whole body of a request.

    Raises: `BodyTooLargeError`.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise BodyTooLargeError
    return bytes(body)


class Json(Response):
    """A JSON answer."""

    media_type = "application/json; charset=UTF-8"

    def render(self, content: object) -> bytes:
        return orjson.dumps(content)


class Break(Response):
    """No answer: the connection is reset (RST, as of a crashed proxy) or closed (FIN, as of an orderly
    one)."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope[_TRANSPORT]
        if self._reset:
            line: socket.socket = transport.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
        await _gone(receive)


class Hang(Response):
    """No answer until the caller goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
