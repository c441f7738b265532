"""Operations of a consumer service: its dead letters and its fuse (scope `ops:*`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from services.shared.eventkit.dead_letters import DeadLetters, Filter, Place, place_of
from services.shared.eventkit.errors import PermanentError
from services.shared.eventkit.fuse import Fuse
from services.shared.eventkit.replay import Replayer
from services.shared.http.auth import Principal, require
from services.shared.http.body import JSON, Body, Route, problems
from services.shared.http.pagination import Page, PageParams, Paging, Window
from services.shared.http.problem import conflict, not_found
from services.shared.mongo import Document

operations = APIRouter(prefix="/v1/ops", route_class=Route)

Reader = Annotated[Principal, Depends(require("ops:read"))]
Operator = Annotated[Principal, Depends(require("ops:write"))]
LetterId = Annotated[str, Path(alias="id", max_length=300, description="topic:partition:offset")]
State = Literal["dead", "replayed", "discarded"]
BULK_DISCARD = 500
"""Letters that one call gives up at most."""


async def chosen(
    type_: Annotated[str | None, Query(alias="type", max_length=128)] = None,
    reason: Annotated[str | None, Query(max_length=128)] = None,
    since: Annotated[AwareDatetime | None, Query(description="Died then or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Died before then.")] = None,
) -> Filter:
    return Filter(type=type_, reason=reason, since=since, until=until)


Chosen = Annotated[Filter, Depends(chosen)]


class DeadLetterOut(BaseModel):
    """A record that could not be applied, without its value.

    `replayable`: its value was kept. The record of any other is read from its topic again, and may decode by then.
    `settled_at` and `settled_by` (a token's subject) say who replayed or discarded it.
    """

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
    settled_at: datetime | None
    settled_by: str | None


class KindOut(BaseModel):
    """Letters of one type and reason: how many, and when the first and the last of them died."""

    type: str | None
    reason: str
    count: int
    oldest: datetime
    newest: datetime


class SummaryOut(BaseModel):
    """`total` counts all; `items` are the 500 most frequent kinds."""

    total: int
    items: list[KindOut]


class FailureOut(BaseModel):
    id: str
    reason: str
    detail: str


class ReplayOut(BaseModel):
    """Counts of this call's letters, and why some stay dead. `remaining` come after them: go on with `next` until it is null.

    `withheld`: the value was not kept, and its record is gone or still does not decode.
    `held`: an earlier letter of the same subject failed again.
    """

    replayed: int
    failed: int
    withheld: int
    held: int
    remaining: int
    failures: list[FailureOut]
    next: str | None


class DiscardIn(Body):
    """Why. It is kept with the letters, so nothing personal belongs in it."""

    reason: Annotated[str, Field(min_length=3, max_length=200)]


class DiscardedOut(BaseModel):
    """`remaining` letters match as well: call again until there are none."""

    discarded: int
    remaining: int


class FuseOut(BaseModel):
    """Open since when, and why: `dead` of the last `of` records died, all in a `run` or more than the `ratio` allows."""

    open: bool
    since: datetime | None
    cause: Literal["run", "ratio"] | None
    dead: int | None
    of: int | None


@dataclass(frozen=True, slots=True)
class Operations:
    """What the routes work with: `app.state.operations`."""

    replayer: Replayer
    dead_letters: DeadLetters
    fuse: Fuse


def _operations(request: Request) -> Operations:
    return cast(Operations, request.app.state.operations)


@operations.get("/dead-letters", response_model=Page[DeadLetterOut])
async def list_dead_letters(
    request: Request,
    paging: Paging,
    chosen: Chosen,
    _: Reader,
    state: Annotated[State | None, Query()] = None,
) -> Response:
    """In the order of the log: topic, partition, offset."""
    wanted = replace(chosen, state=state)
    page, cursor = await _page(request, _window(paging, "dead-letters", wanted), wanted)
    return JSON({"items": [_out(row) for row in page], "next": cursor})


@operations.get("/dead-letters/summary", response_model=SummaryOut)
async def summarise_dead_letters(
    request: Request, chosen: Chosen, _: Reader, state: Annotated[State, Query()] = "dead"
) -> Response:
    """How many there are of which type and reason, the most frequent first."""
    letters, wanted = _operations(request).dead_letters, replace(chosen, state=state)
    return JSON({"total": await letters.count(wanted), "items": await letters.summary(wanted)})


@operations.post("/dead-letters/replay", response_model=ReplayOut)
async def replay_dead_letters(
    request: Request, paging: Paging, chosen: Chosen, operator: Operator
) -> Response:
    """Apply up to `limit` dead letters that match, in order; repeating it changes nothing."""
    ops, wanted = _operations(request), replace(chosen, state="dead")
    page, cursor = await _page(request, _window(paging, "replay", wanted), wanted)
    outcome = await ops.replayer.replay(wanted, page, by=operator.subject)
    remaining = await ops.dead_letters.count(wanted, after=place_of(page[-1])) if cursor else 0
    return JSON(
        {
            "replayed": outcome.replayed,
            "failed": len(outcome.failed),
            "withheld": len(outcome.withheld),
            "held": outcome.held,
            "remaining": remaining,
            "failures": [asdict(failure) for failure in (*outcome.failed, *outcome.withheld)],
            "next": cursor,
        }
    )


@operations.post("/dead-letters/discard", response_model=DiscardedOut)
async def discard_dead_letters(
    request: Request, chosen: Chosen, body: DiscardIn, operator: Operator
) -> Response:
    """Give up to 500 dead letters that match up, with a reason."""
    letters, wanted = _operations(request).dead_letters, replace(chosen, state="dead")
    ids = [row["_id"] for row in await letters.find(wanted, after=None, limit=BULK_DISCARD)]
    discarded = await letters.settle(ids, "discarded", by=operator.subject, note=body.reason)
    return JSON({"discarded": discarded, "remaining": await letters.count(wanted)})


@operations.get("/dead-letters/{id}", response_model=DeadLetterOut)
async def get_dead_letter(request: Request, letter_id: LetterId, _: Reader) -> Response:
    return JSON(_out(await _letter(request, letter_id)))


@operations.post("/dead-letters/{id}/replay", response_model=DeadLetterOut, responses=problems(409))
async def replay_dead_letter(request: Request, letter_id: LetterId, operator: Operator) -> Response:
    """Apply it now; repeating it changes nothing. 409 when it fails again, or its value was not kept and still does not decode."""
    await _letter(request, letter_id)
    try:
        await _operations(request).replayer.replay_one(letter_id, by=operator.subject)
    except PermanentError as error:
        raise conflict("replay-failed", f"{error.reason}: {error.detail}") from error
    return JSON(_out(await _letter(request, letter_id)))


@operations.post("/dead-letters/{id}/discard", response_model=DeadLetterOut)
async def discard_dead_letter(
    request: Request, letter_id: LetterId, body: DiscardIn, operator: Operator
) -> Response:
    """Give it up, with a reason; a letter that was replayed or discarded stays as it is."""
    await _letter(request, letter_id)
    letters = _operations(request).dead_letters
    await letters.settle([letter_id], "discarded", by=operator.subject, note=body.reason)
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


def _window(paging: PageParams, route: str, wanted: Filter) -> Window:
    return paging.window(route, asdict(wanted), (str, int, int))


async def _page(request: Request, window: Window, wanted: Filter) -> tuple[Sequence[Document], str | None]:
    letters = _operations(request).dead_letters
    after = cast(Place | None, window.after)
    return window.cut(await letters.find(wanted, after=after, limit=window.limit + 1), place_of)


async def _letter(request: Request, letter_id: str) -> Document:
    letter = await _operations(request).dead_letters.get(letter_id)
    if letter is None:
        raise not_found()
    return letter


def _out(row: Document) -> dict[str, Any]:
    derived = {"id", "replayable", "note", "settled_at", "settled_by"}
    out = {name: row[name] for name in DeadLetterOut.model_fields if name not in derived}
    later = {name: row.get(name) for name in ("note", "settled_at", "settled_by")}
    return {"id": row["_id"], **out, "replayable": row["key"] is not None, **later}
