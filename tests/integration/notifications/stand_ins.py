"""Stand-ins for members and groups on a real local port.

Their routes take and answer the models of the real services, so a change of those contracts is felt here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Header, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.groups.chat_groups.schemas import GroupOut, ResolveIn, ResolveOut
from services.members.directory.schemas import ConsentGiven, ContactShown, Ids, Resolved
from services.shared.contracts.vocabulary import Channel
from services.shared.ids import new_id


@dataclass
class Peers:
    """`down` are the peers that answer `status`, `delay` is how many seconds an answer takes.

    `spoilers` are ids that spoil every answer in which they are asked for, and how: `hangs`, `drips` (a byte
    now and then), `huge`, `nonsense`, `malformed` (that item alone), or a status.
    """

    url: str = ""
    people: dict[str, ContactShown] = field(default_factory=dict)
    groups: dict[str, GroupOut] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    spoilers: dict[str, str | int] = field(default_factory=dict)
    extra: list[dict[str, object]] = field(default_factory=list)
    """Items that are added to every answer."""
    silent_on_consents: bool = False
    """Members answers as release 0.1.0 does."""
    status: int = 503
    delay: float = 0.0
    calls: list[tuple[str, list[str]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def calm(self) -> None:
        """Forget how the test before behaved, and the calls of it."""
        self.down.clear()
        self.spoilers.clear()
        self.extra.clear()
        self.calls.clear()
        self.silent_on_consents, self.delay = False, 0.0

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
            "consents": [{"purpose": "welcome", "channel": channel.value} for channel in Channel],
            "own_number": True,
        }
        self.people[id_] = ContactShown.model_validate(person | changed)
        return id_

    def add_group(self, group_id: str | None = None, *, link: str | None = "", unit: str = "BR-SARAN") -> str:
        id_ = group_id or new_id()
        group = {
            "id": id_,
            "unit": unit,
            "kind": "general",
            "ordinal": 1,
            "name": {"hi": "सारण समूह", "en": "Saran group"},
            "capacity": 1024,
            "members": 1,
            "state": "open",
            "invite_link": link_of(id_) if link == "" else link,
            "invite_ready": link is not None,
            "admins": 2,
            "retired": None,
            "version": 1,
        }
        self.groups[id_] = GroupOut.model_validate(group)
        return id_

    def consents(self, member_id: str, *channels: str, purpose: str = "welcome") -> None:
        """From now on, the member has consented to these alone."""
        given = [{"purpose": purpose, "channel": channel} for channel in channels]
        self.people[member_id] = self.people[member_id].model_copy(
            update={"consents": [ConsentGiven.model_validate(each) for each in given]}
        )

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
    async def members(body: Ids, authorization: str = Header()) -> Response:
        peers.calls.append(("members", list(body.ids)))
        peers.tokens.add(authorization)
        items = [peers.people[id_] for id_ in body.ids if id_ in peers.people]
        answer = Resolved(items=items, missing=[id_ for id_ in body.ids if id_ not in peers.people])
        return await _spoilt(peers, body.ids, answer.model_dump(mode="json"))

    @app.post("/v1/groups/resolve")
    async def groups(body: ResolveIn, authorization: str = Header()) -> Response:
        peers.calls.append(("groups", list(body.ids)))
        peers.tokens.add(authorization)
        items = [peers.groups[id_] for id_ in body.ids if id_ in peers.groups]
        answer = ResolveOut(items=items, missing=[id_ for id_ in body.ids if id_ not in peers.groups])
        return await _spoilt(peers, body.ids, answer.model_dump(mode="json"))

    return app


async def _spoilt(peers: Peers, ids: list[str], answer: dict[str, Any]) -> Response:
    """The answer, or what the spoilers among the ids make of it."""
    answer["items"] += peers.extra
    if peers.silent_on_consents:
        for item in answer["items"]:
            item.pop("consents", None)
    for id_, how in ((id_, peers.spoilers[id_]) for id_ in ids if id_ in peers.spoilers):
        if isinstance(how, int):
            return JSONResponse({"detail": "+919876543210 is not well"}, how)
        if how == "hangs":
            await asyncio.sleep(60)
        if how == "drips":
            return StreamingResponse(_drops())
        if how == "huge":
            return Response(b'{"items": ["' + b"x" * (5 * 1024 * 1024) + b'"]}')
        if how == "nonsense":
            return Response(b'{"items": {"+919876543210"')
        answer["items"] = [item | {"name": None} if item["id"] == id_ else item for item in answer["items"]]
    return JSONResponse(answer)


async def _drops() -> AsyncIterator[bytes]:
    for _ in range(600):
        yield b" "
        await asyncio.sleep(0.1)


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
