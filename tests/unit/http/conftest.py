"""A small service on the shared application, its key pair, and clients that call it in process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request
from joserfc import jwt
from joserfc.jwk import OKPKey
from prometheus_client import CollectorRegistry
from pydantic import Field
from starlette.responses import StreamingResponse

from services.shared.clock import ManualClock
from services.shared.errors import ConflictError
from services.shared.http.app import ServiceApp, create_app
from services.shared.http.auth import Authenticator, require
from services.shared.http.body import JSON, Body, Route, problems
from services.shared.http.context import current_context
from services.shared.http.etag import IfMatch, etag
from services.shared.http.idempotency import Idempotent
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import Problem
from services.shared.identity import Identity
from services.shared.text import Name

START = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
TokenMaker = Callable[..., str]


class Platform(Body):
    platform: str
    handle: str


class NewThing(Body):
    name: Name
    count: int = 0
    when: datetime | None = None
    platforms: list[Platform] = Field(default_factory=list)


class Thing(Body):
    id: str
    name: str
    subject: str


Writer = Annotated[Identity, Depends(require("things:write"))]
Reader = Annotated[Identity, Depends(require("things:read"))]


def things_router() -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.post("/things", status_code=201, response_model=Thing, responses=problems(409))
    async def create(caller: Writer, thing: NewThing, again: Idempotent) -> JSON:
        if thing.name == "Taken":
            raise ConflictError("taken", "the name is taken", extra={"existing_id": "1"})
        content = {"id": again.id.hex() if again else "1", "name": thing.name, "subject": caller.subject}
        return JSON(content, status_code=201, headers={"ETag": etag(1)})

    @router.get("/things/{id}")
    async def read(id: str, caller: Reader, unit: str = "BR-PAT") -> dict[str, Any]:
        caller.check_access(unit)
        return {"id": id}

    @router.patch("/things/{id}")
    async def change(id: str, caller: Writer, thing: NewThing, version: IfMatch) -> dict[str, Any]:
        return {"version": version}

    @router.get("/things")
    async def listing(paging: Paging, unit: str = "BR") -> Page[int]:
        window = paging.window("things", {"unit": unit}, (int,))
        start = window.after[0] if window.after else 0
        rows = [row for row in range(1, 8) if row > start][: window.limit + 1]
        items, cursor = window.cut(rows, lambda row: (row,))
        return Page(items=list(items), next=cursor)

    return router


def odd_router() -> APIRouter:
    router = APIRouter(route_class=Route)

    @router.get("/boom")
    async def boom() -> None:
        raise RuntimeError("Asha +919812345678")

    @router.get("/half")
    async def half() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("Asha")

        return StreamingResponse(body())

    @router.get("/teapot")
    async def teapot() -> None:
        raise Problem(418, "teapot", "Teapot", headers={"X-Brew": "no"})

    @router.get("/context")
    async def context() -> dict[str, str]:
        here = current_context()
        assert here is not None
        return {"request_id": here.request_id, "traceparent": here.traceparent}

    @router.post("/imports", status_code=202, openapi_extra={"requestBody": {"required": True}})
    async def imports(request: Request) -> dict[str, int]:
        return {"bytes": sum([len(chunk) async for chunk in request.stream()])}

    @router.get("/numbers/{n}")
    async def numbers(n: int, big: int = 0, flag: Annotated[bool, Header(alias="X-Flag")] = False) -> None:
        return None

    return router


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="session")
def key() -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": "k1", "use": "sig"})


@pytest.fixture
def claims() -> dict[str, Any]:
    now = int(START.timestamp())
    return {
        "iss": "sangathan",
        "aud": "sangathan",
        "sub": "user-1",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "scope": "things:read things:write",
        "unit": "BR",
    }


@pytest.fixture
def token(key: OKPKey, claims: dict[str, Any]) -> TokenMaker:
    """`token(unit="BR-PAT", exp=None)`: the usual claims with some replaced, or omitted when None."""

    def make(*, signed_by: Any = key, header: dict[str, Any] | None = None, **changes: Any) -> str:
        wanted = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        header = {"alg": "EdDSA", "kid": "k1"} if header is None else header
        return jwt.encode(header, wanted, signed_by, algorithms=[header["alg"]])

    return make


@pytest.fixture
def jwks_path(tmp_path, key: OKPKey):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    return path


@pytest.fixture
def authenticator(jwks_path, clock: ManualClock) -> Authenticator:
    return Authenticator(str(jwks_path), issuer="sangathan", audience="sangathan", clock=clock)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def make_app(authenticator: Authenticator, registry: CollectorRegistry) -> Callable[..., ServiceApp]:
    def make(**options: Any) -> ServiceApp:
        wanted: dict[str, Any] = {
            "routers": [things_router(), odd_router()],
            "readiness": {},
            "body_limits": {"/imports": 8 * 1024 * 1024},
            "registry": registry,
        } | options
        return create_app(service="things", authenticator=authenticator, **wanted)

    return make


def client_of(app: FastAPI, headers: dict[str, str] | None = None) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://things", headers=headers)


@pytest.fixture
async def anonymous(make_app: Callable[..., FastAPI]) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(make_app()) as client:
        yield client


@pytest.fixture
async def client(make_app: Callable[..., FastAPI], token: TokenMaker) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(make_app(), {"Authorization": f"Bearer {token()}"}) as client:
        yield client
