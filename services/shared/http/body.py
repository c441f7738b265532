"""JSON requests and answers: strict bodies, safe parsing of hostile input, and documented errors of each
route."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from fastapi import params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.shared.errors import FieldError
from services.shared.http.auth import Require
from services.shared.http.direct import solve, split
from services.shared.http.problem import PROBLEM_JSON, Problem, invalid
from services.shared.http.strict import Strict, check_empty, check_keys

_JSON_TYPE = re.compile(r"\s*application/([\w.-]+\+)?json\s*(;.*)?", re.IGNORECASE)

PROBLEM_SCHEMA = "Problem"
"""Name of the schema in `components` that all documented errors refer to; `app` adds it."""


MAX_VALUES = 10_000
"""Most values in a JSON body, counted by its commas; the longest list that a route takes has 1,000."""


class Body(BaseModel):
    """The base of request bodies: refuses unknown fields, and its errors never quote the input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


ABSENT: Any = None
"""The default of every field of a merge patch (RFC 7396): what is absent stays, and `model_fields_set` tells
it from null.

Another default would be in the schema, and generators of clients would have them send it: a patch that sets a
link would set a capacity too.
"""


class JSON(JSONResponse):
    """An answer of plain values. Return it from a route to skip FastAPI's serialisation."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_UTC_Z)


class JsonRequest(Request):
    """A request parsed with orjson, which refuses deep nesting, lone surrogates, NaN and bad UTF-8 with one
    error type."""

    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            self._parsed = orjson.loads(await self.body())
        return self._parsed

    async def check_body(self) -> None:
        """Read the body. FastAPI refuses one that is missing or malformed.

        Raises: `Problem`, 413, or 422 for a repeated field.
        """
        if body := await self.body():
            try:
                parsed = await self.json()
            except ValueError:
                return
            check_keys(body, parsed)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route or router that raises these statuses; `Route` adds those that follow from
    its signature."""
    return {status: _documented(status) for status in statuses}


def _documented(status: int) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{PROBLEM_SCHEMA}"}
    return {"description": HTTPStatus(status).phrase, "content": {PROBLEM_JSON: {"schema": schema}}}


class Route(APIRoute):
    """The class of all routes (`APIRouter(route_class=Route)`): checks the caller, then refuses what the
    route does not take (`Strict`), then reads the body.

    It documents the errors that follow from the signature: 401 and 403 from `require`, 404 from a path
    parameter, 400 and 413 from a body, 412 and 428 from `If-Match`, 400 from a cursor or an idempotency key;
    415, 422 and 429 everywhere.
    """

    any_query: ClassVar[bool] = False
    """Whether it takes query parameters of whatever name: only where another party decides on them."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.openapi_extra = _with_parameters(self.openapi_extra, self.dependant)
        self.responses = {**problems(*sorted(self._statuses())), **self.responses}

    @property
    def takes_json(self) -> bool:
        return self.body_field is not None and not isinstance(self.body_field.field_info, params.Form)

    @property
    def _takes_body(self) -> bool:
        return self.body_field is not None or "requestBody" in (self.openapi_extra or {})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        takes_json = self.takes_json
        whole = self.dependant
        takes_body = self._takes_body
        strict = self._strict()
        direct, self.dependant = split(whole)
        handle = super().get_route_handler()
        self.dependant = whole
        guards = [inner for inner in direct if isinstance(inner.call, Require)]
        others = [inner for inner in direct if inner not in guards]

        async def guarded(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            await solve(guards, request)
            strict.check(request.scope)
            if not takes_body:
                await check_empty(request)
            if takes_json:
                _expect_json(request)
                # Read the body here: FastAPI would turn a 413 raised while reading into a 400.
                _expect_few_values(await request.body())
                await request.check_body()
            if others:
                await solve(others, request)
            return await handle(request)

        return guarded

    def _strict(self) -> Strict:
        query = None if self.any_query else self._query_names()
        return Strict.of(self.methods or (), query, self._header_names(), body=self._takes_body)

    def _query_names(self) -> set[str]:
        """Also those of models, such as `Annotated[SearchParams, Query()]`."""
        declared = [param for d in _flat(self.dependant) for param in d.query_params]
        return {field.alias for field in get_flat_params(Dependant(query_params=declared))}

    def _header_names(self) -> set[str]:
        declared = {param.alias for d in _flat(self.dependant) for param in d.header_params}
        own = {each["name"] for each in _own_parameters(self.dependant)}
        return {name.lower() for name in declared | own}

    def _statuses(self) -> Iterator[int]:
        everything = list(_flat(self.dependant))
        yield from (415, 422, 429)
        if any(isinstance(d.call, Require) for d in everything):
            yield from (401, 403, 503)
        if any(d.path_params for d in everything):
            yield 404
        if self.takes_json:
            yield from (400, 413)
        if "cursor" in self._query_names():
            yield 400
        if self._header_names() & {"idempotency-key", "if-match"}:
            yield 400
        if "if-match" in self._header_names():
            yield from (412, 428)


def _own_parameters(dependant: Dependant) -> list[dict[str, Any]]:
    """OpenAPI parameters of direct dependencies, which read them from the request themselves."""
    return [each for inner in _flat(dependant) for each in getattr(inner.call, "openapi_parameters", ())]


def _with_parameters(extra: dict[str, Any] | None, dependant: Dependant) -> dict[str, Any] | None:
    parameters = _own_parameters(dependant)
    if not parameters:
        return extra
    extra = extra or {}
    return {**extra, "parameters": [*extra.get("parameters", ()), *parameters]}


def _flat(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _flat(inner)


def _expect_json(request: Request) -> None:
    content_type = request.headers.get("content-type")
    if content_type is None:
        if not _has_body(request):
            return  # FastAPI reports the missing body
    elif _JSON_TYPE.fullmatch(content_type):
        return
    raise Problem(
        415, "unsupported-media-type", "Unsupported media type", "the body must be application/json"
    )


def _expect_few_values(body: bytes) -> None:
    """Refuse a body of so many values that finding each of them wrong would take seconds."""
    if body.count(b",") >= MAX_VALUES:
        raise invalid([FieldError("", f"must have fewer than {MAX_VALUES:,} values", "body")])


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
