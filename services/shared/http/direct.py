"""Direct dependencies: those that need only the request are called by the route itself, bypassing FastAPI's
solver.

Written for FastAPI 0.165, whose `Dependant` is private. FastAPI solves each dependency in about 20 us, a
quarter of an empty POST (`python -m tests.bench ingest`). An asynchronous dependency that takes only a
`Request` (`require`, `Idempotent`) needs none of that work: the route awaits it and passes its value to the
endpoint. The documentation still comes from the whole tree of dependencies. tests/unit/http/test_direct.py
fails when FastAPI changes these internals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import Any

from fastapi.dependencies.models import Dependant
from starlette.requests import Request

_VALUES = "sangathan.direct"
_REQUEST = "sangathan_request"  # the name under which FastAPI passes the request when the endpoint takes none


def split(dependant: Dependant) -> tuple[list[Dependant], Dependant]:
    """The direct dependencies, and a dependant for FastAPI without them, whose call adds their values to the
    endpoint's."""
    direct = [inner for inner in dependant.dependencies if _is_direct(inner)]
    if not direct or not iscoroutinefunction(dependant.call):
        return [], dependant
    rest = replace(
        dependant,
        dependencies=[inner for inner in dependant.dependencies if inner not in direct],
        request_param_name=dependant.request_param_name or _REQUEST,
        call=_with_values(dependant.call, dependant.request_param_name),
    )
    return direct, rest


async def solve(direct: Sequence[Dependant], request: Request) -> None:
    """Await each dependency in order and store its value in the request's scope."""
    values = request.scope.setdefault(_VALUES, {})
    for dependant in direct:
        assert dependant.call is not None
        value = await dependant.call(request)
        if dependant.name is not None:
            values[dependant.name] = value


def _is_direct(dependant: Dependant) -> bool:
    call = dependant.call
    parameters = (
        dependant.path_params
        + dependant.query_params
        + dependant.header_params
        + dependant.cookie_params
        + dependant.body_params
    )
    others = (
        dependant.websocket_param_name,
        dependant.http_connection_param_name,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
        dependant.concurrency,
    )
    asynchronous = iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
    only_request = dependant.request_param_name is not None and not any(others)
    return asynchronous and only_request and not parameters and not dependant.dependencies


def _with_values(
    endpoint: Callable[..., Awaitable[Any]], request_param_name: str | None
) -> Callable[..., Awaitable[Any]]:
    async def call(**values: Any) -> Any:
        request = values[request_param_name] if request_param_name else values.pop(_REQUEST)
        return await endpoint(**values, **request.scope[_VALUES])

    return call
