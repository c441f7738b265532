"""Stand-ins for members and groups on a real local port.

Their routes take and answer the models of the real services, so a change of those contracts is felt here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI, Header, Request
from starlette.responses import JSONResponse, Response

from services.groups.chat_groups.schemas import GroupOut, ResolveIn, ResolveOut
from services.members.directory.schemas import ContactShown, Ids, Resolved
from services.shared.ids import new_id


@dataclass
class Peers:
    """`down` are the peers that answer 503, `delay` how many seconds an answer takes."""

    url: str = ""
    people: dict[str, ContactShown] = field(default_factory=dict)
    groups: dict[str, GroupOut] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    status: int = 503
    delay: float = 0.0
    calls: list[tuple[str, list[str]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def add_member(self, member_id: str | None = None, **changed: object) -> str:
        id_ = member_id or new_id()
        person = {
            "id": id_,
            "name": "आशा देवी",
            "phone": "+919876543210",
            "email": "asha@example.org",
            "language": "hi",
            "status": "active",
            "unit": "BR-SARAN",
        }
        self.people[id_] = ContactShown.model_validate(person | changed)
        return id_

    def add_group(self, group_id: str | None = None, *, link: str | None = "") -> str:
        id_ = group_id or new_id()
        group = {
            "id": id_,
            "unit": "BR-SARAN",
            "kind": "general",
            "ordinal": 1,
            "name": {"hi": "सारण समूह", "en": "Saran group"},
            "capacity": 1024,
            "members": 1,
            "state": "open",
            "invite_link": link_of(id_) if link == "" else link,
            "version": 1,
        }
        self.groups[id_] = GroupOut.model_validate(group)
        return id_

    def asked(self, peer: str) -> list[str]:
        return [id_ for name, ids in self.calls if name == peer for id_ in ids]


def link_of(group_id: str) -> str:
    return f"https://chat.whatsapp.com/{group_id}"


def _app(peers: Peers) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def maybe_down(request: Request, answer: object) -> Response:
        if request.url.path.split("/")[2] in peers.down:
            return JSONResponse({"detail": "+919876543210 is not well"}, peers.status)
        await asyncio.sleep(peers.delay)
        assert callable(answer)
        response: Response = await answer(request)
        return response

    @app.post("/v1/members/resolve")
    async def members(body: Ids, authorization: str = Header()) -> Resolved:
        peers.calls.append(("members", list(body.ids)))
        peers.tokens.add(authorization)
        items = [peers.people[id_] for id_ in body.ids if id_ in peers.people]
        return Resolved(items=items, missing=[id_ for id_ in body.ids if id_ not in peers.people])

    @app.post("/v1/groups/resolve")
    async def groups(body: ResolveIn, authorization: str = Header()) -> ResolveOut:
        peers.calls.append(("groups", list(body.ids)))
        peers.tokens.add(authorization)
        items = [peers.groups[id_] for id_ in body.ids if id_ in peers.groups]
        return ResolveOut(items=items, missing=[id_ for id_ in body.ids if id_ not in peers.groups])

    return app


@contextlib.asynccontextmanager
async def serving(port: int) -> AsyncIterator[Peers]:
    peers = Peers(url=f"http://127.0.0.1:{port}")
    config = uvicorn.Config(
        _app(peers), port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    try:
        yield peers
    finally:
        server.should_exit = True
        await task
