"""The only middleware: request ids, body limits, metrics, traces, load shedding and the last-resort 500."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.shared.http.callers import Callers
from services.shared.http.draining import Draining
from services.shared.http.guard import BODY_CAME
from services.shared.http.metrics import HttpMetrics, route_template
from services.shared.http.problem import ALWAYS_SENT, content_too_large, internal_error, overloaded, render
from services.shared.ids import new_id
from services.shared.observability import tracing
from services.shared.observability.correlation import (
    RequestContext,
    continued,
    current_context,
    enter,
    new_traceparent,
    valid,
    working_for,
)
from services.shared.observability.logs import explain

__all__ = ["ContextMiddleware", "RequestContext", "current_context", "enter", "working_for"]

_log = structlog.get_logger("sangathan.http")
_access = logging.getLogger("sangathan.http")  # tells whether DEBUG is on; the standard library caches that

_REQUEST_ID = re.compile(
    rb"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Z]{25}"
)
"""Ids that proxies make: a UUID, with hyphens or without, or a ULID. Other text may be a name or a number."""
_NEVER_SHED = frozenset({"/livez", "/readyz", "/metrics"})
CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that closed the connection; only our metrics show it."""


class BrokenAnswer(RuntimeError):
    """The handler failed after the answer had begun; makes the server cut the connection."""


class ContextMiddleware:
    """Request ids, traces, metrics, load shedding, body limits and the last-resort 500 in one layer.

    `body_limits` are limits in bytes that override `max_body` for exact paths (imports that stream).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: HttpMetrics,
        draining: Draining,
        callers: Callers,
        max_in_flight: int,
        max_body: int,
        body_limits: Mapping[str, int],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._draining = draining
        self._callers = callers
        self._max_in_flight = max_in_flight
        self._max_body = max_body
        self._body_limits = body_limits
        self._in_flight = 0
        metrics.watch_in_flight(lambda: self._in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        exchange = _Exchange(scope, receive, send, self._draining)
        enter(exchange.context)
        self._in_flight += 1
        try:
            await self._answer(exchange)
        except ClientDisconnect:
            exchange.status = CLIENT_CLOSED_REQUEST
        except Exception as error:
            await _fail(exchange, error)
        else:
            _access_log(scope, exchange.status)
        finally:
            self._in_flight -= 1
            self._callers.leave(scope)
            status = exchange.status or CLIENT_CLOSED_REQUEST  # cancelled before an answer
            self._metrics.observe(scope, status, perf_counter() - started)
            if exchange.span:
                tracing.end_request(exchange.span, scope["method"], route_template(scope), status)

    async def _answer(self, exchange: _Exchange) -> None:
        scope = exchange.scope
        if self._in_flight > self._max_in_flight and scope["path"] not in _NEVER_SHED:
            self._metrics.shed()
            await render(overloaded(), scope)(scope, exchange.receive, exchange.send)
            return
        limit = self._body_limits.get(scope["path"], self._max_body)
        if exchange.content_length > limit:
            await render(content_too_large(limit), scope)(scope, exchange.receive, exchange.send)
            return
        receive = exchange.receive
        # The server enforces the Content-Length; only a body without one must be counted.
        if exchange.chunked or (exchange.content_length and BODY_CAME not in scope):
            receive = self._incoming(scope, receive, limit)
        await self._app(scope, receive, exchange.send)

    def _incoming(self, scope: Scope, receive: Receive, limit: int) -> Receive:
        """Receive a body of at most `limit` bytes. While a piece of it has not come, the request is not in
        progress, but one of its caller's unfinished bodies."""
        total = 0
        complete = False

        async def incoming() -> Message:
            nonlocal total, complete
            if complete:
                return await receive()
            self._callers.await_body(scope)
            self._in_flight -= 1
            try:
                message = await receive()
            finally:
                self._in_flight += 1
                self._callers.body_came(scope)
            complete = not message.get("more_body")
            total += len(message.get("body", b""))
            if total > limit:
                raise content_too_large(limit)
            if self._in_flight > self._max_in_flight:
                self._metrics.shed()
                raise overloaded()
            return message

        return incoming


class _Exchange:
    """One request and its answer: reads the headers once, notes the status, adds the request id to the
    answer."""

    __slots__ = (
        "_draining",
        "_send",
        "chunked",
        "content_length",
        "context",
        "receive",
        "scope",
        "span",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, draining: Draining) -> None:
        self._draining = draining
        self.scope = scope
        self.receive = receive
        self._send = send
        self.status = 0
        self.content_length = 0
        self.chunked = False
        request_id = caller = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = value.decode() if _REQUEST_ID.fullmatch(value) else None
            elif name == b"traceparent":
                caller = valid(value.decode("latin-1"))
            elif name == b"content-length" and value.isdigit() and len(value) < 20:
                self.content_length = int(value)
            elif name == b"transfer-encoding":
                self.chunked = True
        self.span = None if scope["path"] in _NEVER_SHED else tracing.begin_request(caller)
        if self.span:
            traceparent = self.span.traceparent
        else:
            traceparent = continued(caller) if caller else new_traceparent()
        self.context = RequestContext(request_id or new_id(), traceparent)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                *ALWAYS_SENT,
                (b"x-request-id", self.context.request_id.encode()),
            ]
            if self._draining.begun:  # so that the client's next request goes to another process
                message["headers"].append((b"connection", b"close"))
        await self._send(message)


async def _fail(exchange: _Exchange, error: Exception) -> None:
    """Answer 500 and log the traceback without messages, which may quote the request."""
    _log.error(
        "request failed",
        method=exchange.scope["method"],
        route=route_template(exchange.scope),
        error=type(error).__qualname__,
        raised=explain(error, messages=False),
    )
    if exchange.status:
        exchange.status = 500
        raise BrokenAnswer("the answer had begun") from None
    await render(internal_error(), exchange.scope)(exchange.scope, exchange.receive, exchange.send)


def _access_log(scope: Scope, status: int) -> None:
    """Only for debugging: what goes wrong has a line of its own where it does, and all are counted."""
    if _access.isEnabledFor(logging.DEBUG):
        _log.debug("request answered", method=scope["method"], route=route_template(scope), status=status)
