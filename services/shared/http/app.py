"""The HTTP application of every service: wires routes, errors, authentication, limits and health."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute
from starlette.types import Lifespan

from services import __version__
from services.shared.http.auth import Authenticator
from services.shared.http.body import PROBLEM_SCHEMA, Route
from services.shared.http.callers import Callers
from services.shared.http.connections import ConnectionGuard
from services.shared.http.context import ContextMiddleware
from services.shared.http.draining import Draining
from services.shared.http.health import Check, Readiness, health_routes
from services.shared.http.metrics import HttpMetrics
from services.shared.http.problem import HANDLERS

MAX_BODY = 1024 * 1024
MAX_IN_FLIGHT = 1024
MAX_CONNECTIONS = 4096

_STRING = {"type": "string"}
_FIELD_ERROR = {
    "type": "object",
    "required": ["pointer", "in", "detail"],
    "properties": {
        "pointer": _STRING | {"description": "JSON pointer (RFC 6901) into the body, or to the parameter."},
        "in": _STRING | {"enum": ["body", "query", "path", "header", "cookie"]},
        "detail": _STRING,
    },
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. May have extension members.",
    "required": ["type", "title", "status", "instance"],
    "properties": {
        "type": _STRING | {"format": "uri"},
        "title": _STRING,
        "status": {"type": "integer"},
        "detail": _STRING,
        "instance": _STRING | {"format": "uri-reference"},
        "request_id": _STRING,
        "errors": {"type": "array", "items": _FIELD_ERROR},
    },
}


class ServiceApp(FastAPI):
    """A FastAPI application that documents its errors as problems and holds the authenticator and the
    draining state."""

    authenticator: Authenticator
    callers: Callers
    guard: ConnectionGuard

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.draining = Draining()

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault(PROBLEM_SCHEMA, _PROBLEM)
        return schema


def create_app(
    *,
    service: str,
    routers: Sequence[APIRouter],
    registry: CollectorRegistry,
    authenticator: Authenticator,
    readiness: Mapping[str, Check],
    lifespan: Lifespan[FastAPI] | None = None,
    description: str = "",
    max_body: int = MAX_BODY,
    max_in_flight: int = MAX_IN_FLIGHT,
    max_in_flight_per_caller: int = MAX_IN_FLIGHT // 2,
    max_connections: int = MAX_CONNECTIONS,
    body_limits: Mapping[str, int] | None = None,
) -> ServiceApp:
    """Create the service's application.

    Routers must be `APIRouter(route_class=Route)`. Their routes are added one by one instead of including the
    routers: FastAPI matches an included router twice per request, which cost a third of an empty POST. This
    application serves `/docs`, but the page loads Swagger UI from a public CDN; `/openapi.json` needs no
    other host.

    Args:
        readiness: checks for `/readyz` by name, beside the authenticator's own.
        body_limits: limits in bytes that override `max_body` for exact paths (imports that stream).

    Raises:
        TypeError: a router has routes of another class, whose errors would be undocumented.
    """
    app = ServiceApp(
        title=f"Sangathan {service}",
        description=description,
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=HANDLERS,
        # The middleware traces requests; FastAPI's telemetry would export invalid values of requests.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.authenticator = authenticator
    draining, metrics = app.draining, HttpMetrics(registry)
    app.callers = Callers(metrics, max_in_flight_per_caller)
    app.guard = ConnectionGuard(metrics, max_connections)
    app.add_middleware(
        ContextMiddleware,
        metrics=metrics,
        draining=draining,
        callers=app.callers,
        max_in_flight=max_in_flight,
        max_body=max_body,
        body_limits=dict(body_limits or {}),
    )
    checks = Readiness({**readiness, "tokens": authenticator.ready}, draining)
    app.router.routes.extend(_ordered([route for router in routers for route in router.routes]))
    app.router.routes.extend(health_routes(checks, registry))
    app.router.routes.extend(_heads(app.routes))
    return app


def _heads(routes: Sequence[BaseRoute]) -> Iterator[Route]:
    """A route for HEAD beside each that answers GET (RFC 9110, 9.3.2); the server leaves the content out.

    They stand last, for few callers ask, and are undocumented, for nobody needs to be told.
    """
    for route in list(routes):
        if isinstance(route, Route) and "GET" in (route.methods or ()):
            head = copy(route)
            head.methods = {"HEAD"}
            head.include_in_schema = False
            yield head


def _ordered(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Fixed paths first: otherwise `/members/export` would match as a member's id. It also matches hot POSTs
    early."""
    for route in routes:
        if isinstance(route, APIRoute) and not isinstance(route, Route):
            raise TypeError(f"{route.path} must be on an APIRouter(route_class=Route)")
    return sorted(routes, key=lambda route: "{" in getattr(route, "path", "{"))
