"""Operations of a consumer service: its dead letters and its fuse (scope `ops:*`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from services.shared.eventkit.consumer import BatchConsumer
from services.shared.eventkit.dead_letters import DeadLetters
from services.shared.eventkit.errors import PermanentError
from services.shared.eventkit.fuse import Fuse
from services.shared.eventkit.outbox import Outbox, UnitOfWork
from services.shared.http.auth import Principal, require
from services.shared.http.body import JSON, Body, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import conflict, not_found
from services.shared.mongo import Document

operations = APIRouter(prefix="/v1/ops", route_class=Route)

Reader = Annotated[Principal, Depends(require("ops:read"))]
Operator = Annotated[Principal, Depends(require("ops:write"))]
LetterId = Annotated[str, Path(alias="id", max_length=300, description="topic:partition:offset")]
State = Literal["dead", "replayed", "discarded"]


class DeadLetterOut(BaseModel):
    """A record that could not be applied, without its value."""

    id: str
    type: str | None
    event_id: str | None
    reason: str
    detail: str
    attempts: int
    topic: str
    partition: int
    offset: int
    bytes: int
    sha256: str
    replayable: bool
    state: State
    note: str | None
    at: datetime


class DiscardIn(Body):
    reason: Annotated[str, Field(min_length=3, max_length=200)]


class FuseOut(BaseModel):
    open: bool
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Operations:
    """What the routes work with: `app.state.operations`."""

    consumer: BatchConsumer
    dead_letters: DeadLetters
    fuse: Fuse
    outbox: Outbox


def _operations(request: Request) -> Operations:
    return cast(Operations, request.app.state.operations)


@operations.get("/dead-letters", response_model=Page[DeadLetterOut])
async def list_dead_letters(
    request: Request,
    paging: Paging,
    _: Reader,
    type_: Annotated[str | None, Query(alias="type", max_length=128)] = None,
    reason: Annotated[str | None, Query(max_length=128)] = None,
    state: Annotated[State | None, Query()] = None,
) -> Response:
    window = paging.window("dead-letters", {"type": type_, "reason": reason, "state": state}, (str,))
    rows = await _operations(request).dead_letters.find(
        after=window.after_id,
        limit=window.limit + 1,
        type_=type_,
        reason=reason,
        state=state,
    )
    page, cursor = window.cut(rows, lambda row: (row["_id"],))
    return JSON({"items": [_out(row) for row in page], "next": cursor})


@operations.get("/dead-letters/{id}", response_model=DeadLetterOut)
async def get_dead_letter(request: Request, letter_id: LetterId, _: Reader) -> Response:
    return JSON(_out(await _letter(request, letter_id)))


@operations.post("/dead-letters/{id}/replay", response_model=DeadLetterOut, responses=problems(409))
async def replay_dead_letter(request: Request, letter_id: LetterId, _: Operator) -> Response:
    """Apply it now; repeating it changes nothing. 409 when it fails again or its value was not kept."""
    await _letter(request, letter_id)
    try:
        await _operations(request).consumer.replay(letter_id)
    except PermanentError as error:
        raise conflict("replay-failed", f"{error.reason}: {error.detail}") from error
    return JSON(_out(await _letter(request, letter_id)))


@operations.post("/dead-letters/{id}/discard", response_model=DeadLetterOut)
async def discard_dead_letter(
    request: Request, letter_id: LetterId, body: DiscardIn, _: Operator
) -> Response:
    """Give it up, with a reason; a letter that was replayed or discarded stays as it is."""
    letter = await _letter(request, letter_id)
    ops = _operations(request)

    async def discard(work: UnitOfWork) -> None:
        await ops.dead_letters.settle(letter_id, "discarded", work, note=body.reason)

    if letter["state"] == "dead":
        await ops.outbox.transact(discard)
    return JSON(_out(await _letter(request, letter_id)))


@operations.get("/fuse", response_model=FuseOut)
async def get_fuse(request: Request, _: Reader) -> Response:
    return JSON(await _operations(request).fuse.state())


@operations.post("/fuse/reset", response_model=FuseOut)
async def reset_fuse(request: Request, _: Operator) -> Response:
    """Close the fuse: consumption goes on where it stopped."""
    fuse = _operations(request).fuse
    await fuse.reset()
    return JSON(await fuse.state())


async def _letter(request: Request, letter_id: str) -> Document:
    letter = await _operations(request).dead_letters.get(letter_id)
    if letter is None:
        raise not_found()
    return letter


def _out(row: Document) -> dict[str, Any]:
    same = (
        "type",
        "event_id",
        "reason",
        "detail",
        "attempts",
        "topic",
        "partition",
        "offset",
        "bytes",
        "sha256",
        "state",
        "at",
    )
    out = {name: row[name] for name in same}
    return out | {"id": row["_id"], "replayable": row["key"] is not None, "note": row.get("note")}
