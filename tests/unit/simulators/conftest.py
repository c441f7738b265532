"""A receiver of callbacks, a client, and the gateways, each on a port of 127.0.0.1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import orjson
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from infra.simulators.serving import HttpServer, body_of


@dataclass
class Received:
    """One callback as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass
class Receiver:
    """Keeps every callback and answers with the next of `answers`, or 200."""

    url: str = ""
    got: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    challenge_token: str = "sim-verify-token"

    async def __call__(self, request: Request) -> Response:
        query = dict(request.query_params)
        body = await body_of(request)
        self.got.append(Received(request.method, request.url.path, query, dict(request.headers), body))
        if "hub.challenge" in query:
            right = query["hub.verify_token"] == self.challenge_token and query["hub.mode"] == "subscribe"
            return Response(query["hub.challenge"], 200) if right else Response(b"", 403)
        return Response(b"", self.answers.pop(0) if self.answers else 200)

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """WhatsApp statuses of all webhooks, in the order of their coming."""
        return self._items("statuses")

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self._items("messages")

    @property
    def changes(self) -> list[dict[str, Any]]:
        return [c for each in self.got for entry in each.json["entry"] for c in entry["changes"]]

    def _items(self, section: str) -> list[dict[str, Any]]:
        return [item for change in self.changes for item in change["value"].get(section, ())]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()

    async def receive(request: Request) -> Response:
        return await receiver(request)

    async with HttpServer(Router([Route("/{path:path}", receive, methods=["GET", "POST"])])) as server:
        receiver.url = f"{server.url}/hooks"
        yield receiver


@pytest.fixture(scope="session")
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        yield client
