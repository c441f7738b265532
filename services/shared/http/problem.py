"""Errors as `application/problem+json` (RFC 9457), and the exception handlers that produce them.

An answer is `{type, title, status, detail?, instance, request_id?, errors?, ...extra}`. Each entry of
`errors` is `{pointer, in, detail}`: an RFC 6901 pointer into the body or, for `in` = query, path, header or
cookie, to the parameter's name. No answer repeats a value from the request: `instance` is a URI of the
request's id.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from services.shared.errors import (
    ConflictError,
    FieldError,
    InvalidError,
    KeyReusedError,
    NotFoundError,
    ServiceError,
    StaleVersionError,
    TooManyError,
    UnavailableError,
)
from services.shared.ids import new_id
from services.shared.observability.correlation import current_context
from services.shared.validation import field_error, is_malformed_json

ALWAYS_SENT: Final = (
    (b"cache-control", b"no-store"),  # no proxy or browser keeps people's data
    (b"x-content-type-options", b"nosniff"),
)
"""Headers of every answer."""
PROBLEM_JSON = "application/problem+json"


class Problem(Exception):
    """An error of HTTP itself: a token, a header, a size. The type is `urn:sangathan:problem:<slug>`.

    Services raise `ServiceError` instead, which `problem_of` maps. `extra` are extension members (RFC 9457,
    3.2).
    """

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, str | int | bool | None] | None = None,
    ) -> None:
        super().__init__(f"{status} {slug}")
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def bad_request(slug: str, detail: str) -> Problem:
    return Problem(400, slug, "Bad request", detail)


def invalid(errors: Iterable[FieldError]) -> Problem:
    """422 for invalid fields."""
    return Problem(422, "invalid-fields", "The request has invalid fields", errors=tuple(errors))


def content_too_large(limit: int) -> Problem:
    # Close the connection instead of reading the rest of the body.
    headers = {"Connection": "close"}
    return Problem(
        413, "content-too-large", "Content too large", f"the limit is {limit} bytes", headers=headers
    )


def overloaded() -> Problem:
    detail = "the service is shedding load; try again shortly"
    return Problem(429, "overloaded", "Too many requests", detail, headers={"Retry-After": "1"})


def internal_error() -> Problem:
    return Problem(500, "internal-error", "Internal error")


def render(problem: Problem, scope: Scope) -> Response:
    """The answer to the request of `scope`."""
    document: dict[str, Any] = {
        "type": f"urn:sangathan:problem:{problem.slug}",
        "title": problem.title,
        "status": problem.status,
    }
    if problem.detail is not None:
        document["detail"] = problem.detail
    context = current_context()
    request_id = context.request_id if context else new_id()
    document["instance"] = f"urn:sangathan:request:{request_id}"
    document["request_id"] = request_id
    if problem.errors:
        document["errors"] = [
            {"pointer": error.pointer, "in": error.location, "detail": error.detail}
            for error in problem.errors
        ]
    for key, value in problem.extra.items():
        document.setdefault(key, value)
    return Response(orjson.dumps(document), problem.status, headers=problem.headers, media_type=PROBLEM_JSON)


_OF_SERVICES: Final[Mapping[type[ServiceError], tuple[int, str]]] = {
    NotFoundError: (404, "Not found"),
    ConflictError: (409, "Conflict"),
    StaleVersionError: (412, "Precondition failed"),
    InvalidError: (422, "The request has invalid fields"),
    KeyReusedError: (422, "Idempotency key reused"),
    TooManyError: (429, "Too many requests"),
    UnavailableError: (503, "Service unavailable"),
}


def problem_of(error: ServiceError) -> Problem:
    """The problem of a service's error: the only place where those errors become HTTP statuses."""
    status, title = next(_OF_SERVICES[kind] for kind in type(error).__mro__ if kind in _OF_SERVICES)
    return Problem(
        status,
        error.reason,
        error.title or title,
        error.detail or None,
        errors=error.fields,
        headers={"Retry-After": str(error.retry_seconds)}
        if isinstance(error, TooManyError | UnavailableError)
        else None,
        extra=error.extra,
    )


async def _on_service_error(request: Request, error: ServiceError) -> Response:
    return render(problem_of(error), request.scope)


async def _on_problem(request: Request, problem: Problem) -> Response:
    return render(problem, request.scope)


async def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    if is_malformed_json(found):
        return render(bad_request("malformed-json", "the body is not valid JSON"), request.scope)
    return render(invalid(map(field_error, found[:MAX_ERRORS])), request.scope)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """Handle the framework's errors: 404, 405, 400. Their detail is dropped, because it may quote the
    request."""
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    slug = status.phrase.lower().replace(" ", "-")
    return render(Problem(status, slug, status.phrase, headers=headers), request.scope)


def _allowed_methods(request: Request) -> list[str]:
    """The methods of every route on this path; the framework reports only those of the first."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] != Match.NONE:
            methods.update(getattr(route, "methods", None) or ())
    return sorted(methods)


MAX_ERRORS = 50
"""Most field errors in one answer; a body can have far more."""

HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    Problem: _on_problem,
    ServiceError: _on_service_error,
    RequestValidationError: _on_invalid_request,
    HTTPException: _on_http_exception,
}
"""The value for `FastAPI(exception_handlers=...)`. `ContextMiddleware` answers the last-resort 500, outside
of FastAPI."""
