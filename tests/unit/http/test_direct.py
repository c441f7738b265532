"""Dependencies that the route calls itself behave like any other, wherever they are declared."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, Query, Request
from fastapi.dependencies.models import Dependant

from services.shared.http.auth import require
from services.shared.http.body import Body, Route
from services.shared.identity import Identity
from tests.unit.http.conftest import Reader, Writer, client_of
from tests.unit.http.test_problem import assert_problem


async def agent(request: Request) -> str:
    return request.headers["user-agent"]


async def page(limit: Annotated[int, Query(ge=1)] = 5) -> int:
    return limit


class Note(Body):
    text: str


def router() -> APIRouter:
    guarded = [Depends(require("things:read"))]
    outer = APIRouter(prefix="/d", route_class=Route, dependencies=guarded)

    @outer.get("/router-level")
    async def router_level() -> str:
        return "ok"

    @outer.get("/all/{id}")
    async def everything(
        id: int,
        request: Request,
        who: Reader,
        seen: Annotated[str, Depends(agent)],
        limit: Annotated[int, Depends(page)],
    ) -> list[str | int]:
        return [id, request.url.path, who.subject, seen, limit]

    @outer.post("/body")
    async def body(note: Note, who: Writer) -> list[str]:
        return [note.text, who.subject]

    @outer.get("/sync")
    def synchronous(who: Reader) -> str:
        return who.subject

    inner = APIRouter(prefix="/inner", route_class=Route)

    @inner.get("/{id}")
    async def included(id: str, who: Annotated[Identity, Depends(require("things:write"))]) -> list[str]:
        return [id, who.subject]

    outer.include_router(inner)
    return outer


@pytest.fixture
def app(make_app):
    return make_app(routers=[router()])


async def test_values_reach_the_endpoint(app, token):
    headers = {"Authorization": f"Bearer {token()}", "User-Agent": "pytest"}
    async with client_of(app, headers) as client:
        assert (await client.get("/d/router-level")).json() == "ok"
        answer = (await client.get("/d/all/7?limit=3")).json()
        assert answer == [7, "/d/all/7", "user-1", "pytest", 3]
        assert (await client.post("/d/body", json={"text": "t"})).json() == ["t", "user-1"]
        assert (await client.get("/d/sync")).json() == "user-1"
        assert (await client.get("/d/inner/x")).json() == ["x", "user-1"]
        assert_problem(await client.get("/d/all/x?limit=0"), 422, "invalid-fields")


@pytest.mark.parametrize("path", ["/d/router-level", "/d/all/7", "/d/sync", "/d/inner/x"])
async def test_every_route_refuses_callers_without_token_or_scope(app, token, path):
    async with client_of(app) as client:
        assert_problem(await client.get(path), 401, "unauthenticated")
    async with client_of(app, {"Authorization": f"Bearer {token(scope='other:read')}"}) as client:
        assert_problem(await client.get(path), 403, "forbidden")


async def test_each_scope_is_checked(app, token):
    async with client_of(app, {"Authorization": f"Bearer {token(scope='things:read')}"}) as client:
        assert (await client.get("/d/router-level")).status_code == 200
        assert_problem(await client.post("/d/body", json={"text": "t"}), 403, "forbidden")
        assert_problem(await client.get("/d/inner/x"), 403, "forbidden")


async def test_openapi_covers_dependencies_of_the_whole_tree(app):
    async with client_of(app) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    for path, method in [("/d/router-level", "get"), ("/d/body", "post"), ("/d/inner/{id}", "get")]:
        operation = paths[path][method]
        assert operation["security"] == [{"bearer": []}]
        assert {"401", "403"} <= set(operation["responses"])
    assert [each["name"] for each in paths["/d/all/{id}"]["get"]["parameters"]] == ["id", "limit"]


def test_dependant_has_the_parts_that_direct_was_written_for():
    """A part that is unknown to direct.py may be one for which a dependency needs FastAPI's solver: read what
    it does, treat it in `_is_direct`, then name it here."""
    assert {part.name for part in dataclasses.fields(Dependant)} == {
        *("name", "call", "path", "scope", "use_cache", "concurrency", "dependencies"),
        *("path_params", "query_params", "header_params", "cookie_params", "body_params"),
        *("request_param_name", "websocket_param_name", "http_connection_param_name"),
        *("response_param_name", "background_tasks_param_name", "security_scopes_param_name"),
        *("own_oauth_scopes", "parent_oauth_scopes"),
    }
